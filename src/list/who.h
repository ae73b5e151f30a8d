/* --who: the holders of one lock, and its waiters. */
#ifndef LIST_WHO_H
#define LIST_WHO_H

#include <stdbool.h>

#include "lock.h"

/*
 * Puts the answer for LOCK into TEXT, as text or JSON, to be freed, and whether it is held into
 * HELD. PROGRAM is the file of the me-only that asks. Returns 0 or a negative errno.
 */
int who(struct lock *lock, const char *program, bool json, char **text, bool *held);

#endif
