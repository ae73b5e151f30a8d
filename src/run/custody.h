/*
 * Custody of a lock while its command runs. There are two forms:
 *
 *   keeper_custody   of a lock that lasts as long as it is open: a process holds it if we die
 *   guard_custody    of a lease: the command is ended before the lock can be another's
 *
 * The runner (run/job.c) calls what the form has; what is NULL needs nothing done.
 */
#ifndef RUN_CUSTODY_H
#define RUN_CUSTODY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/deadline.h"
#include "lock.h"
#include "run/guard.h"
#include "run/keeper.h"

struct custody {
	const struct custody_form *form;
	struct lock *lock;
	pid_t command;		/* 0: not started, or reaped */
	int64_t since;		/* when it was started (CLOCK_MONOTONIC, ns) */
	int timer;		/* to be polled for form->look(); -1: none */
	int64_t due;		/* when to call form->tend() */
	bool released;		/* the lock: nothing of it is to be touched any more */
	union {
		struct keeper keeper;
		struct guard guard;
	};
};

struct custody_form {
	/*
	 * Starts a process that calls FUNCTION(ARGUMENT), which must not return: custody->command.
	 * All signals are blocked. Returns 0; or, and then nothing runs, LOCK_LOST or a negative
	 * errno.
	 */
	int (*start)(struct custody *custody, void (*function)(void *argument), void *argument);

	/* In the new process, its last step before exec. Returns 0 or LOCK_LOST. */
	int (*enter)(struct custody *custody);

	/* In the new process: the command could not be executed. */
	void (*failed)(struct custody *custody);

	/* The command runs. */
	void (*started)(struct custody *custody);

	/*
	 * Something is readable: perhaps lock->watched (ASKED) or custody->timer (TIME). Called
	 * before signals are read: if all were frozen for too long, not even SIGCONT is to reach
	 * the command. NULL: the lock is served after the signals.
	 */
	void (*look)(struct custody *custody, bool asked, bool time);

	/* It is custody->due. */
	void (*tend)(struct custody *custody);

	/* PID, a child of ours but not the command, has been reaped. */
	void (*reaped)(struct custody *custody, pid_t pid);

	/*
	 * The command has ended, and is not reaped yet. Returns whether to release the lock at
	 * once; NULL: yes.
	 */
	bool (*ended)(struct custody *custody);

	/*
	 * The command has ended with STATUS, as wait(2) gives it. Releases the lock. Returns
	 * whether it was lost.
	 */
	bool (*finish)(struct custody *custody, int status);
};

static inline struct custody custody_of(struct lock *lock)
{
	const struct custody_form *form = lock->engine->leased ? &guard_custody : &keeper_custody;

	return (struct custody){ .form = form, .lock = lock, .timer = -1, .due = DEADLINE_NEVER };
}

static inline void custody_release(struct custody *custody)
{
	if (!custody->released)
		custody->lock->engine->release(custody->lock);
	custody->released = true;
}

#endif
