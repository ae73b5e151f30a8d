#include "list/table.h"

#include <libsmartcols.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/number.h"
#include "list/text.h"

/* The version of the JSON: it grows when a member changes its meaning or goes. */
#define JSON_VERSION "1"

#define MOST_COLUMNS 10000

struct row {
	char **cells;
	size_t number;
};

struct table {
	const struct column *columns;
	size_t n;
	struct row *rows;
	size_t n_rows, room;
};

static void *need(void *got)
{
	return got ? got : memory_get((size_t)-1);
}

/* --- cells ------------------------------------------------------------------------------------ */

struct table *table_new(const struct column *columns, size_t n)
{
	struct table *table = memory_get(sizeof *table);

	*table = (struct table){ .columns = columns, .n = n };
	return table;
}

void table_add(struct table *table, char **cells)
{
	table->rows = memory_grow(table->rows, table->n_rows, &table->room, sizeof *table->rows);
	table->rows[table->n_rows] =
		(struct row){ memory_copy(cells, table->n * sizeof *cells), table->n_rows };
	table->n_rows++;
}

size_t table_rows(const struct table *table)
{
	return table->n_rows;
}

void table_set(struct table *table, size_t row, size_t column, char *cell)
{
	free(table->rows[row].cells[column]);
	table->rows[row].cells[column] = cell;
}

static int compare(const void *a, const void *b, void *argument)
{
	const struct row *x = a, *y = b;
	const size_t column = *(const size_t *)argument;
	int r = strcmp(x->cells[column], y->cells[column]);

	return r ? r : x->number < y->number ? -1 : x->number > y->number;
}

void table_sort(struct table *table, size_t column)
{
	if (table->n_rows > 0)
		qsort_r(table->rows, table->n_rows, sizeof *table->rows, compare, &column);
}

void table_free(struct table *table)
{
	for (size_t i = 0; i < table->n_rows; i++) {
		for (size_t j = 0; j < table->n; j++)
			free(table->rows[i].cells[j]);
		free(table->rows[i].cells);
	}
	free(table->rows);
	free(table);
}

/* --- what fits -------------------------------------------------------------------------------- */

size_t table_width(void)
{
	const char *variable = getenv("COLUMNS");
	struct winsize size;
	unsigned columns = 0;
	bool terminal = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;

	if (terminal && size.ws_col > 0)
		return size.ws_col;
	if (variable && number_parse(variable, MOST_COLUMNS, &columns) == 0 && columns > 0)
		return columns;
	return terminal ? 80 : 0;
}

/* A cell as it is shown, to be freed: the library does not come to an end with some characters. */
static char *shown_cell(const struct table *table, size_t row, size_t column)
{
	return text_printable(memory_string(table->rows[row].cells[column]));
}

/* Whether no cell in COLUMN says anything. */
static bool says_nothing(const struct table *table, size_t column)
{
	const char *nothing = table->columns[column].nothing;

	for (size_t i = 0; nothing && i < table->n_rows; i++) {
		const char *cell = table->rows[i].cells[column];

		if (cell && strcmp(cell, nothing) != 0)
			return false;
	}
	return nothing != NULL;
}

static size_t natural_width(const struct table *table, size_t column)
{
	size_t widest = strlen(table->columns[column].title);

	for (size_t i = 0; i < table->n_rows; i++) {
		char *cell = shown_cell(table, i, column);
		size_t width = cell ? text_width(cell) : 0;

		widest = width > widest ? width : widest;
		free(cell);
	}
	return widest;
}

/* The width of all columns, one blank between two. */
static size_t sum(const struct table *table, const size_t *widths)
{
	size_t all = 0;

	for (size_t i = 0; i < table->n; i++)
		all += widths[i] ? widths[i] + 1 : 0;
	return all ? all - 1 : 0;
}

static size_t widest(const struct table *table, const size_t *widths)
{
	size_t widest = 0;

	for (size_t i = 1; i < table->n; i++)
		widest = widths[i] > widths[widest] ? i : widest;
	return widest;
}

/* Takes the room that is missing from the columns, in the order of GIVE, and then from any. */
static void make_fit(const struct table *table, size_t *widths, const struct give *give,
		     size_t width)
{
	for (size_t all; give->least != SIZE_MAX && (all = sum(table, widths)) > width; give++) {
		size_t *one = &widths[give->column], excess = all - width;

		if (give->least == 0)
			*one = 0;
		else if (*one > give->least)
			*one = *one - give->least > excess ? *one - excess : give->least;
	}
	while (sum(table, widths) > width)
		widths[widest(table, widths)]--;
}

/* What a column that was left out has left over is for those that were cut, the first in GIVE. */
static void give_back(const struct table *table, size_t *widths, const size_t *natural,
		      const struct give *give, size_t width)
{
	for (; give->least != SIZE_MAX; give++) {
		size_t *one = &widths[give->column], all = sum(table, widths), room;

		if (*one == 0 || all >= width)
			continue;
		room = width - all;
		*one = natural[give->column] - *one > room ? *one + room : natural[give->column];
	}
}

/* --- text ------------------------------------------------------------------------------------- */

struct text {
	char *bytes;
	size_t length, room;
};

static void add_bytes(struct text *text, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		text->bytes = memory_grow(text->bytes, text->length, &text->room, 1);
		text->bytes[text->length++] = bytes[i];
	}
}

static void add_blanks(struct text *text, size_t n)
{
	while (n-- > 0)
		add_bytes(text, " ", 1);
}

/* Adds CELL, or what of it fits into WIDTH, and the blanks that fill it up, unless it is LAST. */
static void add_cell(struct text *text, char *cell, bool right, size_t width, bool last)
{
	size_t missing;

	text_cut(cell, width);
	missing = width - text_width(cell);
	if (right)
		add_blanks(text, missing);
	add_bytes(text, cell, strlen(cell));
	if (!right && !last)
		add_blanks(text, missing);
	add_bytes(text, last ? "\n" : " ", 1);
}

/* Adds row ROW, or with SIZE_MAX the titles, of the N columns SHOWN. */
static void add_row(const struct table *table, struct text *text, const size_t *shown, size_t n,
		    const size_t *widths, size_t row)
{
	size_t last = 0;

	for (size_t i = 0; i < n; i++)
		last = widths[shown[i]] ? i : last;
	for (size_t i = 0; i <= last && i < n; i++) {
		const struct column *column = &table->columns[shown[i]];
		char *cell = row == SIZE_MAX ? memory_string(column->title)
					     : shown_cell(table, row, shown[i]);

		if (widths[shown[i]]) {
			cell = cell ? cell : memory_get(1);
			add_cell(text, cell, column->right, widths[shown[i]], i == last);
		}
		free(cell);
	}
}

char *table_text(const struct table *table, const size_t *shown, size_t n, const struct give *give,
		 size_t width)
{
	size_t natural[table->n], widths[table->n];
	struct text text = { .length = 0 };

	memset(widths, 0, sizeof widths);
	for (size_t i = 0; i < n; i++)
		if (!says_nothing(table, shown[i]))
			widths[shown[i]] = natural_width(table, shown[i]);
	memcpy(natural, widths, sizeof widths);
	if (width) {
		make_fit(table, widths, give, width);
		give_back(table, widths, natural, give, width);
	}
	if (table->n_rows > 0)
		add_row(table, &text, shown, n, widths, SIZE_MAX);
	for (size_t i = 0; i < table->n_rows; i++)
		add_row(table, &text, shown, n, widths, i);
	add_bytes(&text, "", 1);
	return text.bytes;
}

/* --- JSON ------------------------------------------------------------------------------------- */

static int type_of(enum column_kind kind)
{
	/* What is true or false is written as it is: the library's booleans are never null. */
	return kind == COLUMN_TEXT ? SCOLS_JSON_STRING : SCOLS_JSON_NUMBER;
}

/* The library's array NAME, to be freed: an object with that one member. */
static char *print_array(const struct table *table, const char *name)
{
	struct libscols_table *scols = need(scols_new_table());
	char *text = NULL;

	scols_table_set_name(scols, name);
	scols_table_enable_json(scols, 1);
	/* What is harmful is escaped already; the library would escape the backslashes. */
	scols_table_enable_noencoding(scols, 1);
	for (size_t i = 0; i < table->n; i++)
		scols_column_set_json_type(
			need(scols_table_new_column(scols, table->columns[i].key, 0, 0)),
			type_of(table->columns[i].kind));
	for (size_t i = 0; i < table->n_rows; i++) {
		struct libscols_line *line = need(scols_table_new_line(scols, NULL));

		for (size_t j = 0; j < table->n; j++)
			if (table->rows[i].cells[j] &&
			    scols_line_set_data(line, j, table->rows[i].cells[j]))
				need(NULL);
	}
	if (scols_print_table_to_string(scols, &text) || !text)
		need(NULL);
	scols_unref_table(scols);
	return text;
}

char *table_json(const struct table *table, const char *name)
{
	char *array = print_array(table, name), *all,
	     *member = memory_format("{\n   \"version\": " JSON_VERSION ",");

	/* The library knows no members beside the array: ours takes the place of its brace. */
	all = memory_format("%s%s\n", member, array + 1);
	free(array);
	free(member);
	return all;
}
