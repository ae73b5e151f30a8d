/*
 * What a run does while it waits for its lock: it reports the holder, and with --replace terminates
 * it.
 */
#ifndef RUN_WAITING_H
#define RUN_WAITING_H

#include <stdbool.h>
#include <stdint.h>

#include "lock.h"
#include "options.h"
#include "run/replacement.h"

struct waiting {
	struct lock_wait wait; /* for lock->engine->take() */
	const struct options *options;
	int64_t began;
	int64_t look_due; /* --replace: when to look for what is left of the holder */
	int64_t kill_due; /* --replace: when to use force */
	struct replacement replacement;
	bool on_terminal;	   /* one line, kept up to date */
	size_t columns;		   /* that it has at present */
	int64_t line_due;	   /* when to report (again) for whom we wait */
	struct lock_identity whom; /* which holder the line is about */
	struct holder holder;
	int64_t found;	     /* when that was so */
	struct holder ended; /* --replace: who was asked to exit; pid 0: nobody */
	int64_t found_ended; /* when it was as there */
	char command[256];   /* its */
	unsigned looks;	     /* how often nobody was found */
};

/* Prepares WAITING. Nothing is done before the wait starts: a free lock costs nothing. */
void waiting_prepare(struct waiting *waiting, const struct options *options);

/* The wait is over: erases the line from the terminal. */
void waiting_end(struct waiting *waiting);

/* The lock is ours: says whom --replace has ended. */
void waiting_tell_ended(const struct waiting *waiting, const struct lock *lock);

#endif
