/*
 * Custody of a lock while its command runs. There are two forms:
 *
 *   keeper_custody   of a lock that lasts as long as it is open: a process holds it if me-only
 *                    dies
 *   guard_custody    of a lease: the command is ended before the lock can be another's
 *
 * The runner (run/job.c) calls the form's functions; NULL: nothing to do.
 */
#ifndef RUN_CUSTODY_H
#define RUN_CUSTODY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/deadline.h"
#include "helper/descendants.h"
#include "lock.h"

struct cgroup;
struct custody_form;

/* Private to keeper.c. */
struct keeper {
	pid_t pid;		/* 0: none */
	int gate[2];		/* -o: the pipe on which the command waits for its keeper */
	int command_fd, own_fd; /* pidfds of the command and of this process; -1: not yet */
	bool missed;		/* it could not be started the last time */
};

/* Private to guard.c. The largest member is last: what is near the beginning needs shorter code. */
struct guard {
	bool asked;	   /* it was time to end the command */
	bool told, forced; /* SIGTERM was sent, SIGKILL was */
	bool complained;   /* it was reported that it does not end */
	bool known;	   /* the lock is known to be lost, not only about to be */
	bool found;	   /* something had to be ended */
	const char *why;
	int64_t force_due; /* CLOCK_BOOTTIME, ns */
	int64_t ended; /* when the command was seen to have ended (CLOCK_BOOTTIME); 0: not yet */
	int64_t pause; /* until the next look for processes that do not end */
	int64_t since; /* when the loss was known or certain (CLOCK_REALTIME) */
	int64_t unconfirmed;   /* how long it had not been confirmed by then, ns */
	struct cgroup *cgroup; /* of the command */
	int refused;	       /* LOCK_LOST: why the new process did not execute the command */
	struct descendants descendants;
};

struct custody {
	const struct custody_form *form;
	struct lock *lock;
	pid_t command; /* 0: not started; a guard has reaped it */
	int64_t since; /* when it was started (CLOCK_MONOTONIC, ns) */
	int timer;     /* to be polled for form->look(); -1: none */
	int64_t due;   /* when to call form->tend() */
	bool released; /* the lock is lost: do not touch it any more */
	bool apart;    /* of the new process: me-only does not see what it writes */
	union {
		struct keeper keeper;
		struct guard guard;
	};
};

struct custody_form {
	/*
	 * Does what it can while a typed signal still ends us: before there is a command, we have
	 * nobody to pass it on to. Returns 0 or a negative errno.
	 */
	int (*prepare)(struct custody *custody);

	/*
	 * Starts a process that calls FUNCTION(ARGUMENT), which must not return: custody->command.
	 * All signals are blocked. Returns 0; or LOCK_LOST or a negative errno, and nothing runs.
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
	 * before signals are read: if everything was frozen for too long, not even SIGCONT may
	 * reach the command. NULL: the lock is served after the signals.
	 */
	void (*look)(struct custody *custody, bool asked, bool time);

	/* It is custody->due. */
	void (*tend)(struct custody *custody);

	/* PID, a child of ours but not the command, has been reaped. */
	void (*reaped)(struct custody *custody, pid_t pid);

	/*
	 * The command has ended but is not reaped yet. Returns whether to release the lock at once;
	 * NULL: yes.
	 */
	bool (*ended)(struct custody *custody);

	/*
	 * The command has ended with STATUS, as wait(2) gives it. Releases the lock. Returns
	 * whether it was lost.
	 */
	bool (*finish)(struct custody *custody, int status);
};

/* Short jobs have no keeper. With -o the command starts only when its keeper is there. */
extern const struct custody_form keeper_custody;

extern const struct custody_form guard_custody;

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
