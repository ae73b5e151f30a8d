/*
 * Locks on files: who holds and who waits, by the kernel's table of file locks and the descriptors
 * of all processes.
 */
#ifndef LIST_FILES_H
#define LIST_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/process.h"

struct pids {
	pid_t *all;
	size_t n, room;
};

/* What can be seen of the lock on one file. */
struct seen_file {
	struct file_id file;
	struct pids takers; /* who took it, as the kernel's table has it: several share it. May have
			       ended */
	struct pids waiters; /* in their order */
	struct pids owners;  /* who has it; this process left out */
	bool denied;	     /* there are processes whose descriptors we may not see */
};

/*
 * Looks at FILE. OWNERS: at all processes, too. SEEN is to be freed. Returns 0 or a negative errno.
 */
int file_see(struct seen_file *seen, const struct file_id *file, bool owners);

void file_forget(struct seen_file *seen);

bool pids_has(const struct pids *pids, pid_t pid);

/* A lock on a file that some me-only, or what it has started, speaks of. */
struct file_lock {
	struct file_id file;
	char *name; /* as LOCK, absolute */
};

struct file_locks {
	struct file_lock *all;
	size_t n, room;
};

/* Finds them all. LOCKS is to be freed. */
void file_locks_find(struct file_locks *locks);

void file_locks_free(struct file_locks *locks);

#endif
