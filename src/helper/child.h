/* The helper as a process: how me-only starts and ends it. */
#ifndef HELPER_CHILD_H
#define HELPER_CHILD_H

#include <stdbool.h>

#include "helper/session.h"

#define MOST_ARGUMENTS 16

struct child_start {
	struct helper_session *session;
	const char *name; /* of the helper */
	char *argv[MOST_ARGUMENTS];
	char command[1024];
	char text[1024]; /* the texts of numeric arguments */
	char *end;
	unsigned n;
	const char *program;	 /* the file of me-only, if that is not this program; NULL */
	int socket, pipe, timer; /* passed to the helper; pipe and timer may be -1 */
	int failed;		 /* of the new process: HELPER_REFUSED or a negative errno */
};

/* Prepares the arguments for TASK; and for "take". */
void child_prepare(struct child_start *start, const struct lock *lock, const char *task);
void child_prepare_take(struct child_start *start, const struct lock *lock,
			const struct lock_wait *wait);

/*
 * Opens the socket, and the lock pipe if TAKE, and starts the helper. Returns 0, or LOCK_FAILED or
 * a negative errno with lock->failed.
 */
int child_begin(struct lock *lock, struct child_start *start, bool take);

void child_end(struct helper_session *session);

/* Whether the helper, alive or dead, is still our child: run/job.c reaps every child. */
bool child_is_there(const struct helper_session *session);

/* The helper has closed the socket: ends it. Returns how it ended, in words. */
const char *child_last_words(struct helper_session *session);

#endif
