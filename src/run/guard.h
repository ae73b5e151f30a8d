/*
 * The guard of a command whose lock lapses: ends it, with all that descends from it, before the lock can be another's.
 *
 * It trusts no helper: it goes by the time until which the lock is safe. This process becomes the subreaper of the command's
 * descendants, so that none of them gets away by forking twice or in a session of its own, as long as this process lives.
 */
#ifndef RUN_GUARD_H
#define RUN_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/deadline.h"
#include "helper/cgroup.h"
#include "helper/descendants.h"
#include "lock.h"

struct guard {
	int timer;		/* to be polled: POLLIN calls for guard_look(). -1: the lock does not lapse */
	struct descendants descendants;
	struct cgroup *cgroup;	/* of the command */
	pid_t command;		/* 0: not started yet, or it has ended */
	int64_t ended;		/* when its end was seen (CLOCK_BOOTTIME, ns); 0: not yet */
	int64_t pause;		/* until it is looked again for those who do not end */
	int64_t force_due;	/* CLOCK_BOOTTIME, ns */
	int64_t since;		/* when it was known that the lock is lost, or would be (CLOCK_REALTIME, ns) */
	int64_t unconfirmed;	/* for how long it had not been confirmed then, ns */
	const char *why;
	bool asked;		/* it was time to end the command */
	bool told, forced;	/* it was: SIGTERM, SIGKILL */
	bool complained;	/* that it does not end */
	bool known;		/* the lock is known to be lost, not only about to be */
	bool found;		/* there was something to be ended */
};

/*
 * Before the command is started. Returns 0, LOCK_LOST if there is no time left for it or the lock
 * is lost already, or a negative errno.
 */
int guard_prepare(struct guard *guard, struct lock *lock);

/* The command was started: the engine is told. It is ended again at once if the lock was lost meanwhile, for we can have been stopped. */
void guard_started(struct guard *guard, struct lock *lock, pid_t command);

/* The command's end was seen: what follows is not its fault. */
void guard_ended(struct guard *guard);

/* To be called whenever the timer is readable, or the lock has served: asks the command to end, or ends it, when that is due. */
void guard_look(struct guard *guard, struct lock *lock);

/*
 * The command has ended with STATUS, as wait(2) gives it. If the lock is lost, ends what is left of its descendants, and says what has
 * happened. Returns whether it is lost.
 */
bool guard_finish(struct guard *guard, struct lock *lock, int status);

#endif
