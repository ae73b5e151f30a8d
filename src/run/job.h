/* The command: becoming it, or starting it, passing signals on, and reporting its end. */
#ifndef RUN_JOB_H
#define RUN_JOB_H

#include "lock.h"
#include "options.h"

/* Becomes the command (-F), holding LOCK. Returns the exit status after it has said what failed. */
int job_become(struct lock *lock, const struct options *options);

/*
 * Starts the command, holds LOCK while it runs, serves the lock and passes signals on. Releases the lock, and returns the exit
 * status for what the command ended with, or ends this process by the signal that ended the command. If the command cannot
 * be started says why and returns the status for that.
 */
int job_run(struct lock *lock, const struct options *options);

#endif
