/* The command's environment: ours, with the variables of its own lock. */
#ifndef RUN_ENVIRONMENT_H
#define RUN_ENVIRONMENT_H

#include <stddef.h>

#include "base/number.h"
#include "lock.h"

#define ENVIRONMENT_ADDRESSEES 3

/* Entries that are other than ours. */
struct environment_texts {
	char pids[ENVIRONMENT_ADDRESSEES][sizeof "SYSTEMD_EXEC_PID=" + NUMBER_TEXT_SIZE];
	char id[sizeof "LISTEN_PIDFDID=" + NUMBER_TEXT_SIZE];
};

/* How many places environment_make() needs. */
size_t environment_size(const struct lock *lock);

/*
 * Fills ENVIRONMENT: our own, the variables LOCKED and SLOT (which may be NULL), and those of the
 * engine. In a child of me-only, with TEXTS: what a service manager has addressed to me-only by its
 * pid is for the command.
 */
void environment_make(char **environment, const struct lock *lock, char *locked, char *slot,
		      struct environment_texts *texts);

#endif
