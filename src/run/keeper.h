/*
 * The keeper: a process that holds the lock for the command and does nothing else.
 *
 * It is there in case me-only dies where the command does not hold the lock itself: with -o, or
 * after it has closed the descriptors that it inherited. It lives in a session of its own, so that
 * no terminal reaches it, with all signals blocked. It shares me-only's descriptors. When me-only
 * is gone it keeps two of them: the lock, and the command's pidfd, which tells when the command has
 * ended. A parent-death signal to the command would not do: it does not reach what sudo, su,
 * setpriv or a grandchild run.
 */
#ifndef RUN_KEEPER_H
#define RUN_KEEPER_H

#include <stdbool.h>
#include <sys/types.h>

struct custody_form;

struct keeper {
	pid_t pid;			/* 0: none */
	int gate[2];			/* -o: the pipe at which the command waits for its keeper */
	int command_fd, own_fd;		/* pidfds of the command and of this process; -1: not yet */
	bool missed;			/* it could not be started the last time */
};

/* Short jobs have no keeper. With -o the command does not start before its keeper is there. */
extern const struct custody_form keeper_custody;

#endif
