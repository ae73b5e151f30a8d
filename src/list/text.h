/* Cells of a table as text; all that is returned is to be freed. What is not known is NULL. */
#ifndef LIST_TEXT_H
#define LIST_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "host/address.h"

/* N bytes that others chose, escaped as line_escape() does, all of them. */
char *text_escaped(const char *bytes, size_t n);

/*
 * What a terminal of ours cannot show is escaped, too: characters that the locale has not, or has
 * no width for.
 */
char *text_printable(char *text);

/*
 * Cuts TEXT, which is printable, so that it takes at most COLUMNS of a terminal; the last three are
 * then dots.
 */
void text_cut(char *text, size_t columns);

char *text_number(uint64_t n);

/* "(TEXT)" */
char *text_in_parentheses(const char *text);

/* NS nanoseconds as seconds with a fraction. */
char *text_seconds(int64_t ns);

/* "2h13m", with "<" before it where that is the most it can be. */
char *text_age(int64_t ns, bool at_most);

/* The local time of NS, of CLOCK_REALTIME. */
/*
 * The time of NS if that is today, else the day: for a table with little room. To be freed; NULL
 * where there is none.
 */
char *text_day_or_time(int64_t ns);

char *text_time(int64_t ns);

/* The name that /etc/passwd has for UID, or NULL. */
char *text_user(uid_t uid);

/* PID's command line; whole where UID is this user, or we are root. */
char *text_command(pid_t pid, uid_t uid);

/*
 * What the FILE "environ" or "cmdline" of PID has: N bytes, strings that end with a NUL, and one
 * NUL more. To be freed.
 */
char *text_strings(pid_t pid, const char *file, size_t *n);

/* What /proc calls the state LETTER. */
const char *text_state(char letter);

/*
 * The lock at ADDRESS as it is to be written on a command line. NAME is its name where that is
 * known, else NULL; JOB its command, which may know it where the address has only a part of it.
 */
char *text_lock(const struct host_address *address, const char *name, pid_t job);

#endif
