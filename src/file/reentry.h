/* Rule 7: whether the caller already runs under a file lock. Only proof counts. */
#ifndef FILE_REENTRY_H
#define FILE_REENTRY_H

#include <stdbool.h>

#include "lock.h"

/*
 * Whether a caller that waits for the file FD would wait for itself. Sets lock->unproved if its
 * program cannot know that.
 */
bool file_is_reentry(struct lock *lock, int fd);

/*
 * "me-only --held L || exec me-only -s -F L $0": nothing else refuses a share to a job that has
 * one, and where --held can never prove it such a script would start itself for ever. Returns 0,
 * LOCK_NESTED with lock->unproved, or LOCK_FAILED with lock->failed.
 */
int file_check_share(struct lock *lock, int fd);

/* As lock_engine.is_ours(). */
int file_is_ours(struct lock *lock);

#endif
