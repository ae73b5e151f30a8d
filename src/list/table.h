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
	const char *name; /* in JSON in lower case */
	enum column_kind kind;
	bool right;    /* to the right */
	bool cut;      /* can be cut off where a terminal is too narrow */
	unsigned part; /* instead: it has at most one of so many parts of the terminal's width. 0:
			  no limit */
	bool sorted;   /* the rows are sorted by it */
	bool json_only;
};

struct table;

/* A table of N columns, which stay the caller's. NAME is for JSON. */
struct table *table_new(const char *name, const struct column *columns, size_t n, bool json);

/* Adds a row of a cell for each column; NULL: not known. Takes and frees the cells. */
void table_add(struct table *table, char **cells);

/* The whole table, to be freed; "" for an empty one that is no JSON. Frees TABLE. */
char *table_finish(struct table *table);

#endif
