/*
 * The keeper: a process that holds the lock for the command and does nothing else.
 *
 * It is there against the death of me-only where the command does not hold the lock itself: with -o, or after it has closed
 * the descriptors it inherited. It lives in a session of its own, so that no terminal reaches it, with all signals blocked.
 * It shares me-only's descriptors. When me-only is gone it keeps two of them, the lock, and the command's pidfd, whose readiness
 * tells that the command has ended. A parent-death signal to the command would be no substitute: it does not reach what sudo, su,
 * setpriv or a grandchild run.
 */
#ifndef RUN_KEEPER_H
#define RUN_KEEPER_H

#include <sys/types.h>

struct keeper_start {
	int lock;	/* what is to be held */
	int command;	/* pidfd of the command */
	int parent;	/* pidfd of this process */
	int ready;	/* where the keeper writes a byte when it is in its own session; -1: nowhere */
};

/*
 * Starts a keeper. All signals must be blocked. It shares our table of descriptors until we have ended: so the lock is free at
 * the moment when we close it, and not when the keeper has woken up, too. Returns its pid or a negative errno; the descriptors
 * stay the caller's.
 */
pid_t keeper_start(const struct keeper_start *start);

/* Ends and reaps the keeper. */
void keeper_end(pid_t keeper);

#endif
