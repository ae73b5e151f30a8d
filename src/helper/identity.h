/* A me-only as others see it on other hosts, and how we recognize one that we run under. */
#ifndef HELPER_IDENTITY_H
#define HELPER_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct identity {
	char host[256], boot[64], user[256], command[256]; /* "" where not known */
	uint64_t pid_namespace;
	uint64_t pid, start; /* of the me-only; start is CLOCK_BOOTTIME, ns, in 1/100 s */
	uint64_t pipe;	     /* inode of the lock pipe */
};

/* Fills in what is known of this host and user, and of the me-only PID. */
void identity_read(struct identity *identity, pid_t pid);

/*
 * Whether CALLER descends from the me-only that IDENTITY names, or has inherited its lock pipe. ME
 * is the identity of this host.
 */
bool identity_is_above(const struct identity *identity, const struct identity *me, pid_t caller);

/* Whether the user is that of ME, by name, or root. */
bool identity_is_trusted(const struct identity *identity, const struct identity *me);

#endif
