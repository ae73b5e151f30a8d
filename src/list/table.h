/* Tables, as text or JSON, by libsmartcols. */
#ifndef LIST_TABLE_H
#define LIST_TABLE_H

#include <stdbool.h>
#include <stddef.h>

enum column_kind {
	COLUMN_TEXT,
	COLUMN_NUMBER,
	COLUMN_TRUTH
};

struct column {
	const char *name; /* in lower case in JSON */
	enum column_kind kind;
	bool right;    /* right-aligned */
	bool cut;      /* may be cut off if the terminal is too narrow */
	unsigned part; /* instead: its width is at most the terminal's divided by this. 0: no limit
			*/
	bool sorted;   /* the rows are sorted by it */
	bool json_only;
};

struct table;

/* A table of N columns, which stay the caller's. NAME is for JSON. */
struct table *table_new(const char *name, const struct column *columns, size_t n, bool json);

/* Adds a row of a cell for each column; NULL: not known. Takes and frees the cells. */
void table_add(struct table *table, char **cells);

/* The whole table, to be freed; "" for an empty one as text. Frees TABLE. */
char *table_finish(struct table *table);

#endif
