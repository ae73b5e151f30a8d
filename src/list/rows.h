/* The rows of --who: one process each, or what is known of a hidden one. */
#ifndef LIST_ROWS_H
#define LIST_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct row {
	const char *role;
	int slot;     /* -1: none, or unknown */
	size_t place; /* 0: none, or unknown */
	pid_t pid;    /* 0: hidden */
	uid_t uid;    /* SOCKET_UID_UNKNOWN: unknown */
	char state;   /* 0: unknown */
	int64_t age;  /* ns; -1: unknown */
	int64_t at;   /* when that was its age: CLOCK_REALTIME, ns */
	bool at_most;
	const char *hidden;
};

struct rows;

/*
 * Starts without rows, for the lock NAME in the form of text_lock(), which stays the caller's; with
 * a column for the slot or (text only) without.
 */
struct rows *rows_new(const char *name, bool slots, bool json);

/* A row of ROLE for PID, with nothing else known. */
struct row row_of(const char *role, pid_t pid);

/* Adds what /proc shows of row->pid. Returns whether it exists. */
bool row_describe(struct row *row);

void rows_add(struct rows *rows, const struct row *row);

/* The whole answer, to be freed: JSON, or the text BEFORE and the table. Frees ROWS. */
char *rows_finish(struct rows *rows, const char *before);

#endif
