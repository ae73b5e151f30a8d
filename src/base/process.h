/*
 * Processes, as /proc shows them. Everything here may fail: /proc can be missing or hide others'
 * processes.
 */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct statx;

/*
 * As statx(2) for PATH below the directory DIRECTORY, or for DIRECTORY itself where PATH is "".
 * Returns 0 or a negative errno.
 */
int file_status(int directory, const char *path, struct statx *status);

/* Identifies a file. */
struct file_id {
	uint32_t major, minor; /* of its device */
	uint64_t inode;
	uint64_t mount; /* by which it was found, as this process numbers them; 0: not known */
};

/* Whether STATUS is that of FILE. */
bool file_is(const struct statx *status, const struct file_id *file);

#define PROCESS_PATH_SIZE 64

/*
 * Puts "/proc/PID/FILE" into PATH, for a FILE of at most 30 bytes, and returns it; or, where /proc
 * is another pid namespace's and PID another process there, the name of something that does not
 * exist.
 */
const char *process_path(char path[PROCESS_PATH_SIZE], pid_t pid, const char *file);

struct process {
	char state; /* R, S, T (stopped), Z ... */
	pid_t parent;
	bool headless; /* its first thread has ended, others run: the state is then S */
	bool exiting;  /* it, or its first thread, has begun to end */
	int64_t start; /* when it was started (CLOCK_BOOTTIME, ns, in steps of 1/100 s); exec does
			  not change it */
	int64_t age;   /* nanoseconds since then */
};

/* Reads /proc/PID/stat. Returns 0 or a negative errno. */
int process_read(pid_t pid, struct process *process);

/*
 * Whether PID is known to be stopped by a signal. (Under a debugger the state is 't': with
 * strace(1) only for an instant.)
 */
bool process_is_stopped(pid_t pid);

/* Whether PID is ANCESTOR or descends from it, as far as can be seen. */
bool process_descends(pid_t pid, pid_t ancestor);

/* Whether PID runs the same program file as this process, or as process_set_me_only() has said. */
bool process_is_me_only(pid_t pid);

/* For the helpers, which are other programs: PATH is that of me-only, and stays the caller's. */
void process_set_me_only(const char *path);

/* A pidfd of PID, or a negative errno. */
int process_pidfd(pid_t pid);

/* Whether the process of PIDFD is known to be about to end. */
bool process_pidfd_exits(int pidfd);

/*
 * The number of a pidfd of PID, which no other process ever has (Linux 6.9); 0 where there is none
 * to have.
 */
uint64_t process_pidfd_number(pid_t pid);

/* process_is_me_only() or another version: a file of that name. (A keeper's has a second word.) */
bool process_seems_me_only(pid_t pid);

/*
 * Whether PID was started with ENTRY ("NAME=value", WHOLE or its beginning) in its environment, as
 * far as can be seen.
 */
bool process_has_variable(pid_t pid, const char *entry, bool whole);

/* Calls VISIT for every process except this one, until it returns false. */
void process_walk(bool (*visit)(pid_t pid, void *argument), void *argument);

/*
 * Calls VISIT, which may close it, for every open descriptor of this process. Returns whether /proc
 * showed them.
 */
bool process_own_descriptors(void (*visit)(int fd, void *argument), void *argument);

/* Whether PID is seen to have the socket INODE open. */
bool process_has_socket(pid_t pid, uint32_t inode);

/* The same for a pipe. */
bool process_has_pipe(pid_t pid, uint64_t inode);

/*
 * The process that took the flock(2) on FILE that PID is seen to have, through its own or an
 * inherited descriptor. The kernel shows 0 if that process has no number here (any more). -1 if PID
 * is not seen to have one.
 */
pid_t process_flock_taker(pid_t pid, const struct file_id *file);

/*
 * Whether TEST is true of the process that took one of the flock(2)s on FILE that PID is seen to
 * have: where a lock is shared it can have several.
 */
bool process_find_flock(pid_t pid, const struct file_id *file,
			bool (*test)(pid_t taker, void *argument), void *argument);

/* process_flock_taker() for our own descriptor FD. */
pid_t process_own_flock_taker(int fd, const struct file_id *file);

/* Whether PID is seen to have one. */
bool process_has_flock(pid_t pid, const struct file_id *file);

/*
 * The process of which PID, a keeper or a me-only that has one, has a pidfd: its command. 0 if none
 * is seen.
 */
pid_t process_kept_by(pid_t pid);

/* Whether PID is seen to have FILE open. */
bool process_has_file(pid_t pid, const struct file_id *file);

/* The name of a keeper (run/keeper.c) in ps and in /proc/PID/comm. */
#define KEEPER_NAME "me-only keeper"

/* Whether PID has the name of a keeper. */
bool process_is_keeper(pid_t pid);

/*
 * Finds a process, other than this one, of which HAS is true; a me-only only if there is no other.
 * Returns its pid, and in OWN_KIND whether it is a me-only; 0 if none was seen.
 */
pid_t process_find(bool (*has)(pid_t pid, const void *argument), const void *argument,
		   bool *own_kind);

/* The same for a process that has the socket INODE open. */
pid_t process_find_socket(uint32_t inode, bool *own_kind);

/* The user that PID runs as. Returns 0 or a negative errno. */
int process_user(pid_t pid, uid_t *uid);

/*
 * Reads PID's command line with blanks for the NULs between its arguments, or (WHOLE is false) the
 * program's name alone. Returns its length, 0 if it cannot be seen.
 */
size_t process_command(pid_t pid, bool whole, char *text, size_t size);

#endif
