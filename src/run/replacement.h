/* The holder of a lock that is to make place for us: whom --replace has seen at the start, and signals, and nobody else. */
#ifndef RUN_REPLACEMENT_H
#define RUN_REPLACEMENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct lock;

struct replacement {
	uint64_t held;		/* which holding of the lock it is (struct lock_identity) */
	pid_t job;		/* the command; 0: it has ended, others have inherited the lock */
	int job_fd;		/* its pidfd */
	bool foreign;		/* the command is another program that runs one, and does not pass signals on */
	pid_t session;		/* the command's, if it or its me-only has begun it; else 0 */
	int64_t start;		/* when the command was started (CLOCK_BOOTTIME, ns) */
	bool heirs_asked;	/* so were those who inherited the lock from it */
	int doubts;		/* how often there were only heirs without proof */
	bool forced;		/* force was used */
	pid_t struck;		/* who was signalled the last time, one of them; 0: nobody */
	const char *refused;	/* why it may not be replaced */
	pid_t stubborn;		/* whom we may not signal, although it has to end; 0: nobody */
};

/*
 * Asks the holder that is there at the first call, with REPLACEMENT all zero, to end; or ends BY_FORCE what is left of it.
 * To be called again and again as long as it returns 0. -ENOENT: that one holds the lock no more; -EPERM: it may not be replaced,
 * and why is in REPLACEMENT.
 */
int replacement_press(const struct lock *lock, struct replacement *replacement, bool by_force);

#endif
