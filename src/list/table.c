#include "list/table.h"

#include <errno.h>
#include <libsmartcols.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/memory.h"
#include "list/text.h"

struct table {
	struct libscols_table *scols;
	const struct column *columns;
	size_t n;
	bool json;
	size_t width;			   /* of the terminal; 0: there is none */
	struct libscols_column *sorted_by; /* or NULL */
};

static void *need(void *got)
{
	return got ? got : memory_get((size_t)-1);
}

static size_t terminal_width(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size))
		return 0;
	return size.ws_col ? size.ws_col : 80;
}

static int type_of(enum column_kind kind)
{
	switch (kind) {
	case COLUMN_NUMBER: return SCOLS_JSON_NUMBER;
	case COLUMN_TRUTH: return SCOLS_JSON_BOOLEAN;
	default: return SCOLS_JSON_STRING;
	}
}

static bool is_shown(const struct table *table, const struct column *column)
{
	return table->json || !column->json_only;
}

struct table *table_new(const char *name, const struct column *columns, size_t n, bool json)
{
	struct table *table = memory_get(sizeof *table);

	*table = (struct table){ need(scols_new_table()),     columns, n, json,
				 json ? 0 : terminal_width(), NULL };
	scols_table_set_name(table->scols, name);
	scols_table_enable_json(table->scols, json);
	/* Harmful characters are already escaped; the library would escape the backslashes. */
	scols_table_enable_noencoding(table->scols, 1);
	for (size_t i = 0; i < n; i++) {
		struct libscols_column *column;

		if (!is_shown(table, &columns[i]))
			continue;
		column =
			need(scols_table_new_column(table->scols, columns[i].name, 0,
						    (columns[i].right ? SCOLS_FL_RIGHT : 0) |
							    (columns[i].cut ? SCOLS_FL_TRUNC : 0)));
		scols_column_set_json_type(column, type_of(columns[i].kind));
		if (columns[i].sorted) {
			scols_column_set_cmpfunc(column, scols_cmpstr_cells, NULL);
			table->sorted_by = column;
		}
	}
	return table;
}

void table_add(struct table *table, char **cells)
{
	struct libscols_line *line = need(scols_table_new_line(table->scols, NULL));
	size_t at = 0;

	for (size_t i = 0; i < table->n; i++) {
		/* The library splits characters that have no width, and loops for ever on some. */
		char *cell = table->json ? cells[i] : text_printable(cells[i]);

		if (cell && table->columns[i].part && table->width)
			text_cut(cell, table->width / table->columns[i].part);

		if (is_shown(table, &table->columns[i]) && cell &&
		    scols_line_set_data(line, at, cell))
			need(NULL);
		free(cell);
		at += is_shown(table, &table->columns[i]);
	}
}

char *table_finish(struct table *table)
{
	char *text = NULL;
	size_t length;

	if (table->sorted_by)
		scols_sort_table(table->scols, table->sorted_by);
	if (scols_print_table_to_string(table->scols, &text))
		need(NULL);
	scols_unref_table(table->scols);
	free(table);
	if (!text)
		text = memory_get(1);
	length = strlen(text);
	/* The library ends a table without its last newline. */
	if (length > 0 && text[length - 1] != '\n') {
		text = need(realloc(text, length + 2));
		memcpy(text + length, "\n", 2);
	}
	return text;
}
