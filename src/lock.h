/*
 * THE interface of locks. A held lock is an open descriptor, whatever keeps it; engines are rows of
 * one table. The users of a lock know no more of engines than this file says.
 */
#ifndef LOCK_H
#define LOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "holder.h"
#include "kinds.h"
#include "options.h"

struct cgroup;
struct lock_engine;
struct pollfd;

/*
 * How an attempt to take a lock ends, unless a system call fails. All but LOCK_TAKEN are below
 * every negative errno, so a function can return either, and no errno is mistaken for one of these.
 */
enum lock_result {
	LOCK_HELD = -5000, /* somebody holds it */
	LOCK_TIMED_OUT,	   /* somebody held it until the deadline */
	LOCK_QUEUE_FULL,   /* wait->places are taken */
	LOCK_NESTED,	   /* the caller runs under it */
	LOCK_NOT_REPLACED, /* wait->attend(): the holder may not be replaced */
	LOCK_FAILED,	   /* lock->failed is the whole message, there is no errno */
	LOCK_LOST,	   /* after it was taken: it is lost, or no time is left to run */
	LOCK_RETRY,	   /* internal to an engine: try again */
	LOCK_TAKEN = 0,
};

/* What keeps the line of waiters together behind a holder that has waited, until leave_line(). */
struct lock_line {
	int fds[3];	     /* the first is -1: we lead no line */
	pid_t successors[2]; /* to whom the last two of these lead; 0: not known */
	pid_t passed[2];     /* who was passed over, and may not know yet; 0: nobody */
};

/* Others keep the lock for us until a time that has to be moved again and again. */
struct lock_lease {
	/*
	 * The command has to be gone by then (CLOCK_BOOTTIME, ns). serve() moves it; DEADLINE_NEVER
	 * once it is confirmed that the lock was given back, or is kept for what the command has
	 * left.
	 */
	int64_t until;
	int64_t confirmed;     /* when that was confirmed the last time (CLOCK_BOOTTIME, ns) */
	const char *trouble;   /* why it has not been moved for a while; NULL: not known */
	const char *lost;      /* why it is lost; NULL: it is not. release() sets it, too */
	bool unused;	       /* the command could not be run */
	pid_t helper;	       /* a child of ours that is not the command's; 0: none */
	struct cgroup *cgroup; /* where the command may get its own */
};

struct lock {
	const struct lock_engine *engine;
	const char *spec;     /* as the user wrote it */
	const char *absolute; /* the same for those who stand elsewhere; NULL: SPEC is */
	const char *name;     /* without the engine's prefix */
	bool shared;	      /* with other shared holders */
	unsigned slots;	      /* so many can hold it at a time */
	unsigned slot;	      /* which of them we are, once it is held */
	int fd;		      /* close-on-exec; -1: not taken, or only the command has it */
	int watched;	      /* POLLIN calls for serve(), which may change it; -1: none */
	int64_t serve_due;    /* when to call serve() in any case, which may change it */
	struct lock_line line;
	/* In wait->attend(): what ends waiting for an answer, behind an entry for the answer. */
	struct pollfd *heed;
	unsigned long heeded; /* how many there are, without that one */
	const char *failed;   /* after LOCK_FAILED or an errno: what could not be done */
	const struct options *options;
	const char *unproved; /* after LOCK_NESTED: why --held says no; NULL: it does not, or all
				 users look the same */
	/*
	 * For the command's environment: "NAME=value", or "NAME" for one to leave out; NULL: none.
	 */
	const char *const *variables;
	struct lock_lease *lease; /* of an engine with leases, once the lock is taken */
};

/* How to wait, and what is to be done meanwhile. */
struct lock_wait {
	int64_t deadline;     /* 0: do not wait */
	int64_t due;	      /* when to call attend() again, at the latest, or DEADLINE_NEVER */
	unsigned places;      /* not if that many that set this wait already; 0: any number */
	struct holder waiter; /* after LOCK_QUEUE_FULL: one of them */
	unsigned waiters;     /* after LOCK_QUEUE_FULL: how many wait */
	int place;	      /* ours, with --queue; to be closed after the wait; -1: none */

	/*
	 * Called once when the wait begins, and whenever it is due. Returns 0, or what ends the
	 * wait.
	 */
	int (*attend)(struct lock_wait *wait, const struct lock *lock);
};

/* What tells one holding of a lock from the next. */
struct lock_identity {
	uint64_t number;
	uid_t uid; /* whose it is; valid if uid_known */
	bool uid_known;
};

/* The command that holds a lock. */
struct lock_job {
	pid_t pid;
	bool foreign;	     /* another program that runs one, and does not pass signals on */
	const char *refused; /* why it may not be replaced */
};

/*
 * What only an engine with leases has: the command needs a guard (run/guard.c), and we have to
 * stay.
 */
struct lock_leased {
	/*
	 * Whether we still hold the lock. The new process's last step before exec, for we may have
	 * been stopped since the guard looked. Returns 0 or LOCK_LOST.
	 */
	int (*confirm)(struct lock *lock);

	/*
	 * The command has been started. CGROUP is the directory of a control group of its own, or
	 * "".
	 */
	void (*started)(struct lock *lock, pid_t job, const char *cgroup);

	/* The lock is lost, and its command is about to be asked to end. */
	void (*ending)(struct lock *lock);

	/* Nobody needs the lock any more. Whoever has not confirmed the release by now is ended. */
	void (*abandon)(struct lock *lock);
};

struct lock_engine {
	const char *prefix; /* "host": the part of LOCK before the colon */
	bool is_default;    /* LOCK needs no prefix */
	bool by_socket;	    /* it is held by a socket: what is known of sockets applies */
	/* The options that it supports. */
	bool shared, slots, queue, ttl, hold_for;
	const char *missing;		  /* the message if its helper is missing; NULL: none */
	const struct lock_leased *leased; /* NULL: the lock lasts as long as it is open */

	/*
	 * Takes the lock; if it is held, waits as WAIT says. Returns an enum lock_result, or a
	 * negative errno with lock->failed. Never called for a lock that was taken.
	 */
	int (*take)(struct lock *lock, struct lock_wait *wait);

	/*
	 * Makes the next waiter the front. If we lead a line, call this once the command has
	 * started, or just before we become it, or start a process that does not execute it at
	 * once.
	 */
	void (*leave_line)(struct lock *lock);

	/*
	 * Names the calling process as the holder from now on: a NEW one, not that which took the
	 * lock. NULL: not needed. Returns 0 or a negative errno.
	 */
	int (*claim)(struct lock *lock);

	/*
	 * Serves clients: lock->watched is readable, or it is lock->serve_due. JOB is the command's
	 * pid; SINCE when it was started (CLOCK_MONOTONIC, ns).
	 */
	void (*serve)(struct lock *lock, pid_t job, int64_t since);

	/* Gives our part of the lock back. */
	void (*release)(struct lock *lock);

	/*
	 * Whether the caller runs under the lock: 1, 0, or LOCK_FAILED or a negative errno with
	 * lock->failed. Only proof counts.
	 */
	int (*is_ours)(struct lock *lock);

	/*
	 * Says which holding of the lock this is, without disturbing the holder. Returns 0 or a
	 * negative errno: -ENOENT if the lock is free now.
	 */
	int (*identify)(const struct lock *lock, struct lock_identity *identity);

	/*
	 * Says who holds the lock, as far as that can be seen; unless THOROUGH, only from a look at
	 * the holder itself. Of several it is one that is neither this user nor root, or else the
	 * one that has held it longest.
	 */
	void (*find_holder)(const struct lock *lock, struct holder *holder, bool thorough);

	/*
	 * Finds the command that holds the lock (--replace), and fills JOB in. Returns a pidfd of
	 * it, opened before the proof; -ESRCH: it has ended, others have inherited the lock; or
	 * -EPERM with job->refused. NULL: holders of such locks cannot be replaced.
	 */
	int (*find_job)(const struct lock *lock, struct lock_job *job);

	/* Whether PID is seen to have the holding NUMBER of the lock. */
	bool (*has)(const struct lock *lock, uint64_t number, pid_t pid);
};

/*
 * Finds the engine for SPEC and fills LOCK in. Locks nothing. Returns 0, or -EINVAL and what is
 * wrong in ERROR.
 */
int lock_open(struct lock *lock, const char *spec, struct usage_error *error);

/*
 * Sets in LOCK what OPTIONS ask for. Returns 0, or -EINVAL and in ERROR what its engine cannot do,
 * and what to do instead.
 */
int lock_shape(struct lock *lock, const struct options *options, struct usage_error *error);

/* The lock as it is called wherever one stands. */
static inline const char *lock_absolute(const struct lock *lock)
{
	return lock->absolute ? lock->absolute : lock->spec;
}

/* Only runs that have waited have a line, and touch the code that leaves it. */
static inline void lock_leave_line(struct lock *lock)
{
	if (lock->line.fds[0] >= 0)
		lock->engine->leave_line(lock);
}

/* Sets *REFUSED to REASON. Returns -EPERM. */
int lock_refuse(const char **refused, const char *reason);

/*
 * The same, where something is missing that would prove who the holder is: a descriptor, /proc, a
 * table of the kernel, pidfds.
 */
int lock_refuse_unproved(const char **refused);

/* The same, where the lock is neither this user's nor root's. */
int lock_refuse_stranger(const char **refused);

extern const struct lock_engine lock_host, lock_file;

/* Those that a helper keeps: "consul" is lock_consul. */
#define KIND(kind) extern const struct lock_engine lock_##kind;
KINDS_ALL(KIND)
#undef KIND

#endif
