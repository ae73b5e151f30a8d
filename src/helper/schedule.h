/*
 * When a command whose lock can be lost has to end: one schedule for me-only (run/guard.c) and for
 * its helper (helper/control.c), either of which may be stopped. Times are CLOCK_BOOTTIME, ns.
 */
#ifndef HELPER_SCHEDULE_H
#define HELPER_SCHEDULE_H

#include <stdint.h>

#include "base/deadline.h"

/* Once the lock is lost another may hold it: the command has this long, less than waiters wait. */
#define SCHEDULE_LOST_GRACE (2 * NS_PER_S)

/* How soon we look again for processes that have to end, and how soon if they do not. */
#define SCHEDULE_LOOK_AGAIN (20 * NS_PER_MS)
#define SCHEDULE_LOOK_SELDOM (1 * NS_PER_S)

/* When to kill, if the lock is lost now and another may hold it from END on. */
int64_t schedule_grace_end(int64_t end, int64_t kill_after);

/* The pause before the next attempt to kill, after one of PAUSE; 0: after the first attempt. */
int64_t schedule_pause(int64_t pause);

#endif
