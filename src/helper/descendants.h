/* A command's processes: what descends from me-only, and what bears the marks of its lock. For ending them. */
#ifndef HELPER_DESCENDANTS_H
#define HELPER_DESCENDANTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct family {
	pid_t ancestor;		/* me-only; as a subreaper it is the ancestor of all descendants of its command as long as it lives */
	int64_t since;		/* when its command was started (CLOCK_BOOTTIME, ns): children of the ancestor that are older are none of it */
	pid_t helper;		/* is no part of it, although it may descend from the ancestor; 0: none */
	const char *mark;	/* "NAME=value" in the environment of the command; NULL: do not look for it */
	uint64_t pipe;		/* inode of the lock pipe that the command inherits; 0: do not look for it */
};

/*
 * Sends SIGNAL (0: none) to every process of the family, and lets stopped ones go on to receive it. Returns how many there are that
 * have not ended; also those that this user may not signal.
 */
unsigned family_signal(const struct family *family, int signal);

#endif
