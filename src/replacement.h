/* The holder of a lock that is to make place for us: whom --replace has seen at the start, and signals, and nobody else. */
#ifndef REPLACEMENT_H
#define REPLACEMENT_H

#include <stdint.h>
#include <sys/types.h>

struct replacement {
	uint64_t held;		/* which holding of the lock it is (struct lock_identity) */
	pid_t job;		/* the command; 0: it has ended, others have inherited the lock */
	int job_fd;		/* its pidfd, or -1 */
	pid_t parent;		/* its parent: the me-only that runs it, if it lives */
	pid_t session;		/* the command's */
	const char *refused;	/* why it may not be replaced */
	pid_t stubborn;		/* whom we may not signal, although it has to end; 0: nobody */
};

#endif
