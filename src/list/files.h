/*
 * File locks: holders and waiters, from the kernel's table of file locks and the descriptors of all
 * processes.
 */
#ifndef LIST_FILES_H
#define LIST_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/process.h"
#include "file/holder.h"

/* The kernel's table of file locks, as far as it is about flock(2). */
struct flocks {
	struct file_flock *all;
	size_t n, room;
	bool unreadable;
};

/* Reads it. FLOCKS is to be freed. */
void flocks_read(struct flocks *flocks);

void flocks_free(struct flocks *flocks);

struct pids {
	pid_t *all;
	size_t n, room;
};

/* What can be seen of the lock on one file. */
struct seen_file {
	struct file_id file;
	struct pids takers;  /* the processes that took it, by the kernel's table: several if it is
				shared. They may have ended */
	struct pids waiters; /* in their order */
	struct pids owners;  /* who has it; this process left out */
	bool shared;	     /* the takers share it */
	bool denied;	     /* there are processes whose descriptors we may not see */
	const char *blind;   /* why others may hold it who are not seen; NULL: no others do */
};

/*
 * Looks for FILE in FLOCKS. OWNERS: and at all processes. SEEN is to be freed.
 */
void file_see(struct seen_file *seen, const struct flocks *flocks, const struct file_id *file,
	      bool owners);

/* In which mode it is held; NULL: not known. */
const char *file_mode(const struct seen_file *seen);

void file_forget(struct seen_file *seen);

bool pids_has(const struct pids *pids, pid_t pid);

/* A file lock that some me-only or one of its descendants names. */
struct file_lock {
	struct file_id file;
	char *name; /* as LOCK, absolute */
};

struct file_locks {
	struct file_lock *all;
	size_t n, room;
};

/*
 * Finds all that are in FLOCKS. LOCKS is to be freed. Returns why there may be others, in words, or
 * NULL.
 */
const char *file_locks_find(struct file_locks *locks, const struct flocks *flocks);

void file_locks_free(struct file_locks *locks);

#endif
