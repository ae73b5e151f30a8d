/* Tables as text, and JSON by libsmartcols. */
#ifndef LIST_TABLE_H
#define LIST_TABLE_H

#include <stdbool.h>
#include <stddef.h>

enum column_kind {
	COLUMN_TEXT,
	COLUMN_NUMBER,
	COLUMN_TRUTH /* "true" or "false" */
};

/* A column. */
struct column {
	const char *key;   /* in JSON */
	const char *title; /* in text */
	enum column_kind kind;
	bool right;	     /* to the right */
	const char *nothing; /* a cell that says nothing: with no other the column is left out */
};

struct table;

/* No rows yet, of N COLUMNS, which stay the caller's. */
struct table *table_new(const struct column *columns, size_t n);

/* Adds a row of a cell for each column; NULL: not known. Takes and frees the cells. */
void table_add(struct table *table, char **cells);

size_t table_rows(const struct table *table);

/* Puts CELL into a row that is there. Takes and frees it. */
void table_set(struct table *table, size_t row, size_t column, char *cell);

/* Sorts the rows by the text in COLUMN; equal ones stay in their order. */
void table_sort(struct table *table, size_t column);

/* How the columns of a text give way where there is no room for all, step by step. */
struct give {
	size_t column;
	size_t least; /* narrower than this only in a later step; 0: left out */
};

/*
 * The N columns SHOWN as text, WIDTH columns of a terminal wide at most (0: no limit), by the
 * steps of GIVE, which end with a least of SIZE_MAX. To be freed; "" if there are no rows.
 */
char *table_text(const struct table *table, const size_t *shown, size_t n, const struct give *give,
		 size_t width);

/* All columns as an array NAME of objects, to be freed. */
char *table_json(const struct table *table, const char *name);

void table_free(struct table *table);

/* The width of the terminal that standard output is, or else $COLUMNS; 0: no limit. */
size_t table_width(void);

#endif
