/*
 * /proc/locks has a line for each flock(2): "1: FLOCK  ADVISORY  WRITE 4242 fe:00:131 0 EOF",
 * followed by one for each waiter, with "->" after the number. The pid is that of the process that
 * called flock(2), even if it has ended and others have inherited the lock. In a pid namespace
 * other than the first, the line is missing then, and so are lines of processes outside. The device
 * is that of the file system, which differs from stat(2) on btrfs and overlayfs.
 *
 * So the table only says where to look. What proves that a process has the lock is its descriptor:
 * it leads to the file, and /proc/PID/fdinfo shows the lock that its open file description has.
 */
#include "file/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/lines.h"
#include "base/statx.h"
#include "base/trust.h"

/* How often the table is read until two readings agree. */
#define MOST_READINGS 5

int file_identify(const char *path, struct file_id *file)
{
	struct statx status;
	int r = file_status(AT_FDCWD, path, &status);

	if (r == 0) {
		*file = (struct file_id){ status.stx_dev_major, status.stx_dev_minor,
					  status.stx_ino, 0 };
		if (status.stx_mask & STATX_MNT_ID)
			memcpy(&file->mount,
			       (char *)&status + offsetof(struct statx, stx_dev_minor) +
				       sizeof status.stx_dev_minor,
			       sizeof file->mount);
	}
	return r;
}

/* --- the kernel's table of file locks --------------------------------------------------------- */

int file_table_open(struct lines *lines)
{
	struct statx status;

	/* A device in its place, as containers mount /dev/null over what they hide, is no table. */
	return lines_open(lines, AT_FDCWD, "/proc/locks") == 0 &&
			       file_status(lines->fd, "", &status) == 0 && S_ISREG(status.stx_mode)
		       ? 0
		       : -ENODATA;
}

/*
 * Whether MAJOR and MINOR are those of the file system that FILE is on, as /proc/self/mountinfo has
 * it: "47 125 0:39 / /mnt rw - overlay ...".
 */
static bool is_on_device(const struct file_id *file, uint32_t major, uint32_t minor)
{
	struct lines lines;
	bool found = false;
	char *line;

	if (!file->mount)
		return false;
	lines_open(&lines, AT_FDCWD, "/proc/self/mountinfo");
	while ((line = lines_next(&lines))) {
		const char *at;

		if (number_at(next_word(&line), 10, NULL) != file->mount)
			continue;
		next_word(&line);
		found = number_at(next_word(&line), 10, &at) == major && *at &&
			number_at(at + 1, 10, NULL) == minor;
		break;
	}
	lines_close(&lines);
	return found;
}

bool file_flock_read(char *line, struct file_flock *flock)
{
	const char *at;
	char *word;

	next_word(&line);
	word = next_word(&line);
	flock->waits = !strcmp(word, "->");
	if (flock->waits)
		word = next_word(&line);
	if (strcmp(word, "FLOCK") != 0)
		return false;
	next_word(&line);
	flock->shared = *next_word(&line) == 'R';
	flock->pid = (pid_t)number_at(next_word(&line), 10, NULL);
	at = next_word(&line);
	flock->major = (uint32_t)number_at(at, 16, &at);
	flock->minor = *at ? (uint32_t)number_at(at + 1, 16, &at) : 0;
	flock->inode = *at ? number_at(at + 1, 10, NULL) : 0;
	return true;
}

bool file_flock_is_on(const struct file_flock *flock, const struct file_id *file)
{
	return flock->inode == file->inode &&
	       ((flock->major == file->major && flock->minor == file->minor) ||
		is_on_device(file, flock->major, flock->minor) ||
		(flock->waits ? process_has_file(flock->pid, file)
			      : process_has_flock(flock->pid, file)));
}

bool file_table_is_whole(void)
{
	static const char first[] = "pid:[4026531836]"; /* the kernel's PROC_PID_INIT_INO */
	char namespace[sizeof first];

	return readlink("/proc/self/ns/pid", namespace, sizeof namespace) == sizeof first - 1 &&
	       !memcmp(namespace, first, sizeof first - 1);
}

/* How well TAKER suits to be named, if there are several. */
static int rank(pid_t taker, const struct file_id *file)
{
	uid_t uid;

	if (!file_taker_lives(taker, file))
		return 0;
	return process_user(taker, &uid) == 0 && !trust_user(uid) ? 2 : 1;
}

static bool has_flock(pid_t pid, const void *file)
{
	return process_has_flock(pid, file);
}

/*
 * Where the table does not show it, as in pid namespaces and where its numbers are not those of
 * stat(2), some process may.
 */
static int find_holder(const struct file_id *file, struct file_holders *holders)
{
	bool own_kind;
	pid_t owner = process_find(has_flock, file, &own_kind);

	if (!owner)
		return file_table_is_whole() ? -ENOENT : -ENODATA;
	holders->n = 1;
	holders->taker = process_flock_taker(owner, file);
	holders->number = file_number(holders->taker);
	return 0;
}

void file_holders_add(struct file_holders *holders, pid_t taker, const struct file_id *file)
{
	if (holders->n > 0 && taker == holders->last)
		return;
	holders->last = taker;
	holders->n++;
	holders->number += file_number(taker);
	if (holders->n == 1 || rank(taker, file) > rank(holders->taker, file))
		holders->taker = taker;
}

/* Reads the table once. Returns from how many pieces, or a negative errno. */
static int read_table(const struct file_id *file, struct file_holders *holders)
{
	struct lines lines;
	int r = file_table_open(&lines);
	struct file_flock flock;
	char *line;

	*holders = (struct file_holders){ 0 };
	/* A line appears twice if others were added before it between two pieces. */
	while ((line = lines_next(&lines)))
		if (file_flock_read(line, &flock) && !flock.waits && file_flock_is_on(&flock, file))
			file_holders_add(holders, flock.pid, file);
	lines_close(&lines);
	return r ? r : (int)lines.fills;
}

int file_holders_read(const struct file_id *file, struct file_holders *holders)
{
	int r = read_table(file, holders);

	/*
	 * Lines can appear twice or not at all if others came or went while the table was read in
	 * pieces.
	 */
	for (int tries = 0; r > 1 && tries < MOST_READINGS; tries++) {
		struct file_holders before = *holders;

		r = read_table(file, holders);
		if (before.n == holders->n && before.number == holders->number)
			break;
	}
	/* A missing table does not mean that the lock is free. */
	if (r < 0)
		return r;
	return holders->n > 0 ? 0 : find_holder(file, holders);
}

bool file_taker_lives(pid_t taker, const struct file_id *file)
{
	char path[PROCESS_PATH_SIZE];
	struct process process;

	if (process_read(taker, &process))
		return false;
	/* Where its descriptors are hidden, its number has to do. */
	return process_has_flock(taker, file) ||
	       access(process_path(path, taker, "fd"), R_OK | X_OK) != 0;
}

/* --- who it is -------------------------------------------------------------------------------- */

struct child {
	pid_t parent, found;
	const struct file_id *file; /* that it has the lock on; NULL: any, the youngest */
	int64_t start;
};

static bool look_at(pid_t pid, void *argument)
{
	struct child *child = argument;
	struct process process;

	if (process_read(pid, &process) || process.parent != child->parent ||
	    process_is_keeper(pid))
		return true;
	if (child->file ? process_has_flock(pid, child->file) : process.start >= child->start) {
		child->found = pid;
		child->start = process.start;
	}
	return !child->file || !child->found;
}

pid_t file_job_of(pid_t wrapper, const struct file_id *file, bool certain)
{
	struct child child = { .parent = wrapper, .found = process_kept_by(wrapper), .file = file };
	struct process process;

	/*
	 * Before it starts its command it may have pidfds of others: with --replace, of those it
	 * examines.
	 */
	if (child.found && (process_read(child.found, &process) || process.parent != wrapper))
		child.found = 0;
	/*
	 * A me-only may have children from the shell that became it: the command is the child that
	 * has inherited the lock, and younger than these. (Process 1 also adopts other children.)
	 */
	if (!child.found)
		process_walk(look_at, &child);
	child.file = NULL;
	if (!child.found && !certain && wrapper != 1)
		process_walk(look_at, &child);
	return child.found;
}

/*
 * Any process can have the name of a keeper, and a pidfd of any process. What proves it is the
 * program that it runs, as this user or root.
 */
static bool is_keeper(pid_t pid, const void *file)
{
	uid_t uid;

	return process_is_me_only(pid) && process_is_keeper(pid) && process_user(pid, &uid) == 0 &&
	       trust_user(uid) && process_has_flock(pid, file);
}

pid_t file_kept_job(const struct file_id *file)
{
	bool own_kind;
	pid_t keeper = process_find(is_keeper, file, &own_kind);

	return keeper ? process_kept_by(keeper) : 0;
}

/* Finds a process that has the lock when the one that took it is gone. */
static void find_descendant(const struct file_id *file, struct holder *holder)
{
	struct file_holders holders;
	bool own_kind = true;

	holder->pid = file_kept_job(file);
	if (!holder->pid) {
		holder->pid = process_find(has_flock, file, &own_kind);
		/*
		 * Others, such as a shell that has called flock(1), may hold a lock that a process
		 * took that has ended.
		 */
		holder->descendant = holder->pid && !own_kind &&
				     process_has_variable(holder->pid, "ME_ONLY_LOCK=file:", false);
	}
	if (!holder->pid)
		holder->hidden = file_holders_read(file, &holders) == -ENOENT
					 ? "it has just released the lock"
					 : "/proc does not show its process";
}

void file_name_holder(const struct file_id *file, int read, const struct file_holders *holders,
		      struct holder *holder, bool thorough)
{
	struct process process;
	pid_t job;

	*holder = (struct holder){ .held = -1, .hidden = "/proc/locks cannot be read" };
	if (read == 0 && file_taker_lives(holders->taker, file)) {
		holder->pid = holders->taker;
		holder->uid_known = process_user(holder->pid, &holder->uid) == 0;
		/*
		 * The command that a me-only runs is named, and that is at most as old as the
		 * holding.
		 */
		job = process_seems_me_only(holders->taker)
			      ? file_job_of(holders->taker, file, false)
			      : 0;
		if (job)
			holder->pid = job;
	} else if (thorough) {
		find_descendant(file, holder);
		holder->uid_known = holder->pid && process_user(holder->pid, &holder->uid) == 0;
	} else if (read == 0 || read == -ENOENT || read == -ENODATA) {
		holder->hidden = "the process that took it has exited";
	}
	if (holder->pid && process_read(holder->pid, &process) == 0) {
		holder->held = process.age;
		holder->at_most = true;
	}
}

void file_find_holder(const struct file_id *file, struct holder *holder, bool thorough)
{
	struct file_holders holders;
	int r = file_holders_read(file, &holders);

	file_name_holder(file, r, &holders, holder, thorough);
}

/* --- the command, to be replaced -------------------------------------------------------------- */

/* A pidfd of the command that the me-only WRAPPER runs, or a negative errno. */
static int open_job(pid_t wrapper, const struct file_id *file, pid_t *job)
{
	struct process process;
	int pidfd;

	*job = file_job_of(wrapper, file, true);
	pidfd = *job ? process_pidfd(*job) : -ESRCH;
	/* The pidfd came first: what is read now is about its process. */
	if (pidfd >= 0 && (process_read(*job, &process) || process.parent != wrapper ||
			   file_job_of(wrapper, file, true) != *job)) {
		close(pidfd);
		pidfd = -ESRCH;
	}
	return pidfd;
}

/*
 * The process that took the lock is gone: a pidfd of the command that its keeper has a pidfd of.
 * -ESRCH if there is none; or -EPERM and the reason.
 */
static int open_kept(const struct file_id *file, struct lock_job *job)
{
	bool own_kind;
	pid_t owner = process_find(has_flock, file, &own_kind);
	uid_t uid;
	int pidfd;

	/* Only the current holders tell whose the lock was. */
	if (owner && process_user(owner, &uid) == 0 && !trust_user(uid))
		return lock_refuse_stranger(&job->refused);
	job->pid = file_kept_job(file);
	pidfd = job->pid ? process_pidfd(job->pid) : -ESRCH;
	if (pidfd >= 0 && file_kept_job(file) != job->pid) {
		close(pidfd);
		pidfd = -ESRCH;
	}
	return pidfd < 0 ? -ESRCH : pidfd;
}

int file_find_job(const struct lock *lock, struct lock_job *job)
{
	struct file_holders holders;
	struct file_id file;
	int taker, pidfd, r = file_identify(lock->name, &file);
	uid_t uid;

	if (r == 0)
		r = file_holders_read(&file, &holders);
	if (r)
		return r == -ENOENT    ? -ESRCH
		       : r == -ENODATA ? open_kept(&file, job)
				       : lock_refuse_unproved(&job->refused);
	if (holders.n > 1)
		return lock_refuse(&job->refused, "several processes share it");
	taker = process_pidfd(holders.taker);
	if (taker < 0 && taker != -ESRCH)
		return lock_refuse_unproved(&job->refused);
	if (taker >= 0 && process_user(holders.taker, &uid) == 0 && !trust_user(uid) &&
	    file_taker_lives(holders.taker, &file)) {
		close(taker);
		return lock_refuse_stranger(&job->refused);
	}
	if (taker < 0 || !process_has_flock(holders.taker, &file)) {
		if (taker >= 0)
			close(taker);
		return open_kept(&file, job);
	}
	if (process_seems_me_only(holders.taker)) {
		pidfd = open_job(holders.taker, &file, &job->pid);
		close(taker);
		return pidfd >= 0 || pidfd == -ESRCH ? pidfd : lock_refuse_unproved(&job->refused);
	}
	job->pid = holders.taker;
	job->foreign = true;
	return taker;
}
