/*
 * --queue=N: places to wait in, so that only few wait and the others give up. A place is an
 * abstract socket name as the lock of host/address.h is, so it is free as soon as its waiter is
 * gone; it listens, so that it can be seen who that is.
 *
 * Anybody can bind such a name: a place that neither this user nor root has taken does not count.
 *
 * The holder leaves its place before its command starts. So a caller that finds all places taken is
 * told to give up only while one that waits has not started yet: that one's command does what this
 * one's would have done (if it does not give up, too).
 */
#ifndef HOST_PLACES_H
#define HOST_PLACES_H

#include "host/address.h"
#include "lock.h"

/*
 * Takes a place for the lock NAME and keeps it in wait->place, unless strangers have all. Returns
 * 0; LOCK_QUEUE_FULL if that many others wait, with one of them in wait->waiter; or a negative
 * errno with lock->failed.
 */
int place_take(struct lock *lock, const struct host_address *name, struct lock_wait *wait);

#endif
