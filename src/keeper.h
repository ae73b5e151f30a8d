/*
 * The keeper: a process that holds the lock for the command and does nothing else.
 *
 * It is there against the death of me-only where the command does not hold the lock itself: with -o, or after it has closed
 * the descriptors it inherited. It lives in a session of its own, so that no terminal reaches it, with all signals blocked, and
 * has two descriptors: the lock, and the command's pidfd, whose readiness tells that the command has ended. A parent-death
 * signal to the command would be no substitute: it does not reach what sudo, su, setpriv or a grandchild run.
 */
#ifndef KEEPER_H
#define KEEPER_H

#include <sys/types.h>

/* The name in ps and in /proc/PID/comm. */
#define KEEPER_NAME "me-only keeper"

/*
 * Starts a keeper of the descriptor LOCK for COMMAND, a child of ours that has not been reaped. All signals must be blocked.
 * When it is in its own session it writes a byte to READY, unless that is -1. Returns its pid, or a negative errno: -ENOSYS
 * before Linux 5.3.
 */
pid_t keeper_start(int lock, pid_t command, int ready);

/* Ends and reaps the keeper. */
void keeper_end(pid_t keeper);

#endif
