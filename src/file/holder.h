/*
 * Holders of and waiters for a file lock, from /proc/locks and the descriptors of processes
 * (proc(5), flock(2)).
 */
#ifndef FILE_HOLDER_H
#define FILE_HOLDER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/process.h"
#include "holder.h"
#include "lock.h"

/* The kernel's table of file locks, for one file. */
struct file_holders {
	unsigned n; /* how many hold it, as far as the table tells them apart: more than one share
		       it */
	uint64_t number; /* what tells one holding from the next: file_number() of whoever took it;
			    the sum, if several share it */
	pid_t last;	 /* added */
	pid_t taker; /* the process that took it; it may have ended, and its number may have been
			reused. If there are several: one that is neither this user's nor root's, or
			else one that is still there */
};

/* The number of a holding that TAKER took, by the pid that the kernel shows. Never 0. */
static inline uint64_t file_number(pid_t taker)
{
	return (uint64_t)taker + 1;
}

/* Puts the file that PATH leads to into FILE. Returns 0 or a negative errno. */
int file_identify(const char *path, struct file_id *file);

struct lines;

/*
 * Opens /proc/locks. Returns 0, or -ENODATA if it is not there, may not be read, or is something
 * else: then it does not tell that nobody has a lock. LINES is to be closed in any case.
 */
int file_table_open(struct lines *lines);

/* A line of /proc/locks about an flock(2). */
struct file_flock {
	pid_t pid; /* that took it, or waits for it */
	bool waits, shared;
	uint32_t major, minor;
	uint64_t inode;
};

/* Reads one line of /proc/locks. Returns whether it is about an flock(2). */
bool file_flock_read(char *line, struct file_flock *flock);

/* Whether FLOCK is on FILE. */
bool file_flock_is_on(const struct file_flock *flock, const struct file_id *file);

/* Adds to HOLDERS, of FILE, that TAKER took it. Nothing changes if it is the one added last. */
void file_holders_add(struct file_holders *holders, pid_t taker, const struct file_id *file);

/*
 * Reads /proc/locks. Returns 0; -ENOENT if nobody holds FILE; or -ENODATA if somebody may who is
 * not seen: in a pid namespace, or where the table cannot be read.
 */
int file_holders_read(const struct file_id *file, struct file_holders *holders);

/*
 * Whether the table shows all locks. In a pid namespace those of processes that have no number
 * there (any more) are left out.
 */
bool file_table_is_whole(void);

/*
 * Whether TAKER, a process in the table of file locks, is still there and has the lock, as far as
 * that can be seen.
 */
bool file_taker_lives(pid_t taker, const struct file_id *file);

/*
 * The command of the me-only WRAPPER, which has the lock on FILE; 0: it has none (yet), or it
 * cannot be told from its other children. Unless it is to be CERTAIN, the youngest of these will
 * do.
 */
pid_t file_job_of(pid_t wrapper, const struct file_id *file, bool certain);

/*
 * The command whose keeper has the lock on FILE: the keeper is there as long as the command is. 0:
 * none is seen.
 */
pid_t file_kept_job(const struct file_id *file);

/* Fills HOLDER in with the holder of FILE; looks at all processes only if THOROUGH. */
void file_find_holder(const struct file_id *file, struct holder *holder, bool thorough);

/* The same, where reading the table into HOLDERS returned READ. */
void file_name_holder(const struct file_id *file, int read, const struct file_holders *holders,
		      struct holder *holder, bool thorough);

/* As lock_engine.find_job(). */
int file_find_job(const struct lock *lock, struct lock_job *job);

#endif
