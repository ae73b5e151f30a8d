/*
 * The guard of a command under a lease: ends it, with all that descends from it, before the lock
 * can be another's.
 *
 * It trusts no helper: it goes by the time until which the lock is safe. This process becomes the
 * subreaper of the command's descendants, so that none of them escapes by forking twice or in a
 * session of its own, as long as this process lives.
 */
#ifndef RUN_GUARD_H
#define RUN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "helper/descendants.h"

struct cgroup;
struct custody_form;

/* The largest member is the last: what is near the beginning needs shorter instructions. */
struct guard {
	bool asked;		/* it was time to end the command */
	bool told, forced;	/* it was: SIGTERM, SIGKILL */
	bool complained;	/* that it does not end */
	bool known;		/* the lock is known to be lost, not only about to be */
	bool found;		/* there was something to be ended */
	const char *why;
	int64_t force_due;	/* CLOCK_BOOTTIME, ns */
	int64_t ended;		/* when the command was seen to have (CLOCK_BOOTTIME); 0: not yet */
	int64_t pause;		/* until the next look for processes that do not end */
	int64_t since;		/* when the loss was known, or certain to come (CLOCK_REALTIME) */
	int64_t unconfirmed;	/* for how long it had not been confirmed then, ns */
	struct cgroup *cgroup;	/* of the command */
	int refused;		/* LOCK_LOST: why the new process did not execute the command */
	struct family family;
};

extern const struct custody_form guard_custody;

#endif
