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

struct cgroup;
struct lock_engine;
struct pollfd;

/*
 * How an attempt to take a lock ends, unless a system call fails. All but LOCK_TAKEN are below
 * every negative errno, so a function can return either, and no errno is mistaken for one of these.
 */
enum lock_result {
	LOCK_HELD = -5000,	/* somebody holds it */
	LOCK_TIMED_OUT,		/* somebody held it until the deadline */
	LOCK_QUEUE_FULL,	/* wait->places are taken */
	LOCK_NESTED,		/* the caller runs under it */
	LOCK_NOT_REPLACED,	/* wait->attend() found that the holder may not be replaced */
	LOCK_FAILED,		/* lock->failed is the whole message, there is no errno */
	LOCK_LOST,		/* it has lapsed, or no time is left for the command: after it was taken */
	LOCK_RETRY,		/* internal to an engine: try again */
	LOCK_TAKEN = 0,
};

/* Keeps the line of waiters together behind a holder that has waited, until engine->leave_line(). */
struct lock_line {
	int fds[3];		/* the first is -1: we lead no line */
	pid_t successors[2];	/* to whom the last two of these lead; 0: not known */
};

/* Others keep the lock for us until a time, which has to be moved again and again. */
struct lock_lease {
	int64_t until;		/* the command has to be gone by then (CLOCK_BOOTTIME, ns). serve() moves it; DEADLINE_NEVER once it is
				 * confirmed that the lock was given back, or that others keep it for what the command has left */
	int64_t confirmed;	/* when that was said the last time (CLOCK_BOOTTIME, ns) */
	const char *trouble;	/* why it has not been moved for a while; NULL: not known */
	const char *lost;	/* why the lock is lost already; NULL: it is not. Also set by release() */
	bool unused;		/* the command could not be run */
	pid_t helper;		/* a child of ours that is not the command's; 0: none */
	struct cgroup *cgroup;	/* where the command may get its own */
};

struct lock {
	const struct lock_engine *engine;
	const char *spec;	/* as the user wrote it */
	const char *name;	/* without the engine's prefix */
	bool shared;		/* with other shared holders */
	unsigned slots;		/* so many can hold it at a time */
	unsigned slot;		/* which of them we are, once it is held */
	int fd;			/* what holding it is: open as long as it is held; -1 before. Close-on-exec */
	int watched;		/* to be polled while it is held: POLLIN calls for engine->serve(), which may change it; -1: nothing to do */
	struct lock_line line;
	const struct pollfd *heed;	/* in wait->attend(): what ends waiting for an answer */
	unsigned long heeded;	/* how many there are */
	const char *failed;	/* after LOCK_FAILED or an errno: what could not be done */
	const struct options *options;
	const char *const *variables;	/* for the command's environment: "NAME=value", or "NAME" for one that it is not to have; NULL: none */
	struct lock_lease *lease;	/* of an engine with leases, once the lock is taken */
};

/* How to wait, and what is to be done meanwhile. */
struct lock_wait {
	int64_t deadline;	/* 0: do not wait */
	int64_t due;		/* when to call attend() again, at the latest; DEADLINE_NEVER: not */
	unsigned places;	/* not if so many others wait that said this, too; 0: however many do */
	struct holder waiter;	/* after LOCK_QUEUE_FULL: one of them */
	unsigned waiters;	/* after LOCK_QUEUE_FULL: how many wait */
	int place;		/* ours among those that wait with --queue, to be closed when the wait is over; -1: none */

	/* Called once when the wait begins, and again whenever it is due. Returns 0, or what ends the wait. */
	int (*attend)(struct lock_wait *wait, const struct lock *lock);
};

/* What tells one holding of a lock from the next. */
struct lock_identity {
	uint64_t number;
	uid_t uid;		/* whose it is; valid if uid_known */
	bool uid_known;
};

/* The command that holds a lock. */
struct lock_job {
	pid_t pid;
	bool foreign;		/* another program that runs one, and does not pass signals on */
	const char *refused;	/* why it may not be replaced */
};

/* What only an engine with leases has: the command needs a guard (run/guard.h), and we have to stay. */
struct lock_leased {
	/*
	 * Whether we still hold the lock. The new process's last step before exec, for we may have been
	 * stopped since the guard looked. Returns 0 or LOCK_LOST.
	 */
	int (*confirm)(struct lock *lock);

	/* The command has been started. CGROUP is the directory of a control group of its own, or "". */
	void (*started)(struct lock *lock, pid_t job, const char *cgroup);

	/* Nobody needs the lock any more. Whoever has not confirmed the release by now is ended. */
	void (*abandon)(struct lock *lock);
};

struct lock_engine {
	const char *prefix;	/* "host": the part of LOCK before the colon */
	bool can_share, can_have_slots;
	bool is_default;	/* LOCK needs no prefix */
	bool by_socket;		/* what is said of a socket that is refused holds for it */
	const struct lock_leased *leased;	/* NULL: the lock lasts as long as anybody has it open */

	/*
	 * Takes the lock; if it is held, waits as WAIT says. Returns an enum lock_result, or a
	 * negative errno with lock->failed. Never called for a lock that was taken.
	 */
	int (*take)(struct lock *lock, struct lock_wait *wait);

	/*
	 * Makes the next waiter the front. If we lead a line, call this once the command has
	 * started, or just before we become it or start a process that does not execute it at once.
	 */
	void (*leave_line)(struct lock *lock);

	/*
	 * The process that calls this, a NEW one, not that which took the lock, is from now on named as the holder. NULL: no need.
	 * Returns 0 or a negative errno.
	 */
	int (*claim)(struct lock *lock);

	/* Serves those who ask: lock->watched is readable. JOB is the command's pid; SINCE when it was started (CLOCK_MONOTONIC, ns). */
	void (*serve)(struct lock *lock, pid_t job, int64_t since);

	/* Gives our part of the lock back. */
	void (*release)(struct lock *lock);

	/* Whether the caller runs under the lock: 1, 0, or LOCK_FAILED or a negative errno with lock->failed. Only proof counts. */
	int (*is_ours)(struct lock *lock);

	/* Says which holding of the lock this is, without disturbing the holder. Returns 0 or a negative errno: -ENOENT if it is free now. */
	int (*identify)(const struct lock *lock, struct lock_identity *identity);

	/*
	 * Says who holds the lock, as far as that can be seen; unless THOROUGH only what a look at the holder itself tells. Of several
	 * it is one that is neither this user nor root, or else the one that has held it for the longest time.
	 */
	void (*find_holder)(const struct lock *lock, struct holder *holder, bool thorough);

	/*
	 * Finds the command that holds the lock (--replace). Returns a pidfd of it, with the proof that
	 * it is it, and fills JOB in; -ESRCH: it has ended, others have inherited the lock; or -EPERM
	 * with job->refused. NULL: no holder of such a lock can be replaced.
	 */
	int (*find_job)(const struct lock *lock, struct lock_job *job);

	/* Whether PID is seen to have the holding NUMBER of the lock. */
	bool (*has)(const struct lock *lock, uint64_t number, pid_t pid);
};

/* Finds the engine for SPEC and fills LOCK in. Returns 0, or -EINVAL and what is wrong in ERROR. Nothing is locked. */
int lock_open(struct lock *lock, const char *spec, struct usage_error *error);

/* Says in LOCK what OPTIONS ask for. Returns 0, or -EINVAL and in ERROR what its engine cannot do, and what to do instead. */
int lock_shape(struct lock *lock, const struct options *options, struct usage_error *error);

/* Only runs that have waited have a line, and touch the code that leaves it. */
static inline void lock_leave_line(struct lock *lock)
{
	if (lock->line.fds[0] >= 0)
		lock->engine->leave_line(lock);
}

/* Sets *REFUSED to REASON. Returns -EPERM. */
int lock_refuse(const char **refused, const char *reason);

/* For when something is missing that would prove who the holder is: a descriptor, /proc, a table of the kernel, pidfds. */
int lock_refuse_unproved(const char **refused);

/* For when the lock is neither this user's nor root's. */
int lock_refuse_stranger(const char **refused);

extern const struct lock_engine lock_host, lock_file, lock_etcd;

#endif
