/* --who and --list for locks that a helper keeps, from what it reports. */
#ifndef LIST_FLEET_H
#define LIST_FLEET_H

#include <stdbool.h>

#include "lock.h"

/*
 * The answer for LOCK (WHO), or for all locks whose names begin with its, as text or JSON into
 * TEXT, to be freed; and into HELD whether LOCK is held. PROGRAM is the file of me-only. Returns 0,
 * or a negative errno with lock->failed.
 */
int fleet(struct lock *lock, bool who, const char *program, bool json, char **text, bool *held);

#endif
