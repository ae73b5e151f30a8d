/* The holder that --replace found at the start: it is signalled, and nobody else. */
#ifndef RUN_REPLACEMENT_H
#define RUN_REPLACEMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct lock;

struct replacement {
	uint64_t held;	     /* which holding of the lock it is (struct lock_identity) */
	pid_t job;	     /* the command; 0: it has ended, others have inherited the lock */
	int job_fd;	     /* its pidfd */
	bool foreign;	     /* the command runs another, and passes no signals on */
	pid_t session;	     /* the command's, if it or its me-only has begun it; else 0 */
	int64_t start;	     /* when the command was started (CLOCK_BOOTTIME, ns) */
	bool heirs_asked;    /* so were those who inherited the lock from it */
	int doubts;	     /* how often there were only heirs without proof */
	bool forced;	     /* force was used */
	pid_t struck;	     /* who was signalled the last time, one of them; 0: nobody */
	const char *refused; /* why it may not be replaced */
	pid_t stubborn;	     /* whom we may not signal, although it has to end; 0: nobody */
};

/*
 * Asks the current holder, at the first call, with REPLACEMENT all zero, to exit; or kills BY_FORCE
 * what is left of it. To be called again as long as it returns 0. -ENOENT: that one does not hold
 * the lock any more; -EPERM: it may not be replaced, and REPLACEMENT says why.
 */
int replacement_press(const struct lock *lock, struct replacement *replacement, bool by_force);

#endif
