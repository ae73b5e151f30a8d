/* The processes of a command, found by descent from me-only and by the marks of its lock. */
#ifndef HELPER_DESCENDANTS_H
#define HELPER_DESCENDANTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct descendants {
	pid_t ancestor;	  /* me-only, a subreaper: the ancestor of all while it lives */
	int64_t since;	  /* the start of the command (CLOCK_BOOTTIME, ns) */
	pid_t helper;	  /* does not count, though it may descend from me-only; 0: none */
	const char *mark; /* "NAME=value" in its environment; NULL: not looked for */
	uint64_t pipe;	  /* inode of the lock pipe; 0: not looked for */
};

/*
 * Sends SIGNAL (0: none) to each of them, and resumes stopped ones so that they receive it. Returns
 * how many have not ended, including those that this user may not signal.
 */
unsigned descendants_signal(const struct descendants *descendants, int signal);

#endif
