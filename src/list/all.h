/* --list: all locks of this host, or rather of this network namespace. */
#ifndef LIST_ALL_H
#define LIST_ALL_H

#include <stdbool.h>

/*
 * All locks as text or JSON into TEXT, to be freed. PROGRAM is the file of me-only. Returns 0 or a
 * negative errno.
 */
int all_locks(const char *program, bool json, char **text);

#endif
