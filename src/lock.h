/*
 * THE interface of locks. A held lock is an open descriptor, whatever third party keeps it; engines are rows of one table.
 * Whoever uses a lock knows no more of engines than this file says.
 */
#ifndef LOCK_H
#define LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "holder.h"
#include "options.h"
#include "replacement.h"

struct lock_engine;

struct lock {
	const struct lock_engine *engine;
	const char *spec;	/* as the user wrote it */
	const char *name;	/* without the engine's prefix */
	int fd;			/* what holding it is: open as long as it is held; -1 before. Close-on-exec */
	int watched;		/* to be polled while it is held: POLLIN calls for engine->serve(); -1: nothing to do. May change then */
	int line[3];		/* descriptors that keep the line of waiters behind us; -1: none. engine->leave_line() closes them */
	const char *failed;	/* after an error that is none of the documented ones: what could not be done */
};

/* How to wait, and what is to be done meanwhile. */
struct lock_wait {
	int64_t deadline;	/* 0: do not wait */
	int64_t due;		/* when to call attend() again, at the latest; DEADLINE_NEVER: not */

	/* Called once when the wait begins, and again whenever it is due. Returns 0, or a negative errno that ends the wait. */
	int (*attend)(struct lock_wait *wait, const struct lock *lock);
};

/* What tells one holding of a lock from the next. */
struct lock_identity {
	uint64_t number;
	uid_t uid;		/* whose it is; valid if uid_known */
	bool uid_known;
};

struct lock_engine {
	const char *prefix;	/* "host": the part of LOCK before the colon */

	/*
	 * Takes the lock, waiting as WAIT says if it is held. Returns 0; -EBUSY: it is held; -ETIMEDOUT: it was held until the
	 * deadline; -EDEADLK: the caller itself runs under it; -ECANCELED: what wait->attend() has returned; or another negative
	 * errno with lock->failed. Never called for a lock that was taken.
	 */
	int (*take)(struct lock *lock, struct lock_wait *wait);

	/* Lets the next waiter come to the front. To be called once the command has started, or just before we become it. */
	void (*leave_line)(struct lock *lock);

	/*
	 * Passes the lock to the command, in the process that is about to become it: with INHERIT a descriptor of it stays open
	 * in exec; in a NEW process, not the one that took the lock, the command is from now on named as the holder.
	 * Returns 0, or a negative errno with lock->failed.
	 */
	int (*pass)(struct lock *lock, bool inherit, bool new);

	/* Serves those who ask: lock->watched is readable. JOB is the command's pid; SINCE when it was started (CLOCK_MONOTONIC, ns). */
	void (*serve)(struct lock *lock, pid_t job, int64_t since);

	/* Gives our part of the lock back. */
	void (*release)(struct lock *lock);

	/* Whether the caller runs under the lock: 1, 0, or a negative errno with lock->failed. Only proof counts. */
	int (*is_ours)(struct lock *lock);

	/* Says which holding of the lock this is, without disturbing the holder. Returns 0 or a negative errno: -ENOENT if it is free now. */
	int (*identify)(const struct lock *lock, struct lock_identity *identity);

	/* Says who holds the lock, as far as that can be seen; unless THOROUGH only what a look at the holder itself tells. */
	void (*find_holder)(const struct lock *lock, struct holder *holder, bool thorough);

	/*
	 * Asks the holder that is there at the first call, with REPLACEMENT all zero, to end; or ends BY_FORCE what is left of it.
	 * To be called again and again as long as it returns 0. -ENOENT: that one holds the lock no more; -EPERM, at the first
	 * call: it may not be replaced, and why.
	 */
	int (*replace)(const struct lock *lock, struct replacement *replacement, bool by_force);
};

/* Finds the engine for SPEC and fills LOCK in. Returns 0, or -EINVAL and what is wrong in ERROR. Nothing is locked. */
int lock_open(struct lock *lock, const char *spec, struct usage_error *error);

extern const struct lock_engine lock_host;

#endif
