/* The command's environment: ours, with the variables of its own lock. */
#ifndef RUN_ENVIRONMENT_H
#define RUN_ENVIRONMENT_H

#include <stddef.h>

#include "lock.h"

/* How many entries environment_make() needs. */
size_t environment_size(const struct lock *lock);

/*
 * Fills ENVIRONMENT: our own, the variables LOCKED and SLOT (which may be NULL), and those of the
 * engine.
 */
void environment_make(char **environment, const struct lock *lock, char *locked, char *slot);

#endif
