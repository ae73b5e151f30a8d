/* Rule 14: whether the caller already runs under a lock. Only proof counts. */
#ifndef HOST_REENTRY_H
#define HOST_REENTRY_H

#include <stdbool.h>

#include "host/address.h"
#include "lock.h"

/*
 * Whether the caller itself runs under one of the first SLOTS slots of the lock NAME, which the
 * kernel says are in use.
 */
bool host_is_reentry(const struct host_address *name, unsigned slots);

/* As lock_engine.is_ours(). */
int host_is_ours(struct lock *lock);

#endif
