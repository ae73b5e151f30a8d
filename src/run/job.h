/* The command: becoming it, or starting it, passing signals on, and reporting its end. */
#ifndef RUN_JOB_H
#define RUN_JOB_H

#include "lock.h"
#include "options.h"

/* Becomes the command (-F), holding LOCK. Prints what failed, and returns the exit status. */
int job_become(struct lock *lock, const struct options *options);

/*
 * Starts the command, holds and serves LOCK while it runs, and passes signals on. Releases the
 * lock, and returns the command's exit status, or ends this process by the signal that ended the
 * command. If the command cannot be started, prints why and returns the status for that.
 */
int job_run(struct lock *lock, const struct options *options);

#endif
