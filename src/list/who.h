/* --who: who holds one lock, and who waits for it. */
#ifndef LIST_WHO_H
#define LIST_WHO_H

#include <stdbool.h>

#include "lock.h"

/*
 * The answer for LOCK as text or JSON into TEXT, to be freed; and into HELD whether it is held.
 * PROGRAM is the file of the me-only that asks. Returns 0 or a negative errno.
 */
int who(const struct lock *lock, const char *program, bool json, char **text, bool *held);

#endif
