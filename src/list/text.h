/* Cells of a table as text; free whatever is returned. Unknown values are NULL. */
#ifndef LIST_TEXT_H
#define LIST_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "host/address.h"

/* All of N bytes that others chose, escaped as by line_escape(). */
char *text_escaped(const char *bytes, size_t n);

/*
 * Also escapes what the terminal cannot show: characters that the locale lacks or has no width for.
 */
char *text_printable(char *text);

/* How many columns of a terminal TEXT needs, which is printable. */
size_t text_width(const char *text);

/*
 * Cuts TEXT, which is printable, so that it takes at most COLUMNS of a terminal; the last three are
 * then dots.
 */
void text_cut(char *text, size_t columns);

/*
 * TEXT, which is printable and is freed, in lines of at most COLUMNS, the first one without an
 * indent. To be freed.
 */
char *text_wrapped(char *text, size_t columns);

char *text_number(uint64_t n);

/* "(TEXT)" */
char *text_in_parentheses(const char *text);

/* NS nanoseconds as seconds with a fraction. */
char *text_seconds(int64_t ns);

/* "2h13m", with "<" before it if that is an upper bound. */
char *text_age(int64_t ns, bool at_most);

/*
 * The local time of NS if that is today, else the day: for a table with little room. To be freed;
 * NULL where there is none.
 */
char *text_day_or_time(int64_t ns);

/* The name that /etc/passwd has for UID, or NULL. */
char *text_user(uid_t uid);

/* PID's command line; all of it if UID is this user or we are root. */
char *text_command(pid_t pid, uid_t uid);

/*
 * The contents of the FILE "environ" or "cmdline" of PID: N bytes of strings, each with its NUL,
 * and one more NUL. To be freed.
 */
char *text_strings(pid_t pid, const char *file, size_t *n);

/* The name in /proc of the state LETTER. */
const char *text_state(char letter);

/*
 * The lock at ADDRESS as one writes it on a command line. NAME is its name if known, else NULL. JOB
 * is its command, which may know the name if the address contains only a part of it.
 */
char *text_lock(const struct host_address *address, const char *name, pid_t job);

#endif
