/* Waiting for a host lock: first come, first served. */
#ifndef HOST_QUEUE_H
#define HOST_QUEUE_H

#include "host/address.h"
#include "lock.h"

/* Waits for the lock NAME in line. As lock_engine.take(). */
int host_wait(struct lock *lock, const struct host_address *name, struct lock_wait *wait);

/* As lock_engine.leave_line(). */
void host_leave_line(struct lock *lock);

#endif
