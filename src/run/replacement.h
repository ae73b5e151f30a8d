/* The holder that --replace found at the start: nothing else is ever signalled. */
#ifndef RUN_REPLACEMENT_H
#define RUN_REPLACEMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct lock;

struct replacement {
	bool found;    /* replacement_find() was called */
	bool asked;    /* the holder was asked to exit, or is about to */
	uint64_t held; /* which holding of the lock it is (struct lock_identity) */
	pid_t job;     /* the command; 0: it has ended, and others have inherited the lock */
	int job_fd;    /* its pidfd */
	bool foreign;  /* the command runs another, and passes no signals on */
	pid_t session; /* the command's, if it or its me-only started it; else 0 */
	int64_t start; /* when the command was started (CLOCK_BOOTTIME, ns) */
	bool descendants_asked; /* and so were those that inherited the lock from it */
	int doubts;		/* how often there were only descendants without proof */
	bool forced;		/* force was used */
	pid_t struck;		/* one of those that were signalled last; 0: none */
	const char *refused;	/* why it may not be replaced */
	pid_t stubborn;		/* one that has to end, but that we may not signal; 0: none */
};

/*
 * Finds the current holder, with REPLACEMENT all zero. Returns 0; -ENOENT: nobody holds the lock;
 * -EPERM: it may not be replaced, and REPLACEMENT says why.
 */
int replacement_find(const struct lock *lock, struct replacement *replacement);

/*
 * Asks that holder to exit; later, asks what it has left running, or kills BY_FORCE all that is
 * left. Call it again as long as it returns 0; otherwise it is as replacement_find().
 */
int replacement_press(const struct lock *lock, struct replacement *replacement, bool by_force);

/*
 * Whether a signal from PID comes from a me-only that replaces us, as far as that can be seen: not
 * from one that passes its own on.
 */
bool replacement_is_by(pid_t pid);

#endif
