/*
 * The file engine: a lock is an flock(2) on a file, so that flock(1), and whoever else locks the same file so, is excluded, too.
 *
 *  1. The file is opened if it is there, for reading, or where that is not allowed for writing, without blocking (a FIFO) and without
 *     changing anything; only if it is missing it is made. O_CREAT for a file that is there would be refused in /tmp by
 *     fs.protected_regular, even to root. It is never written, and never deleted.
 *  2. A symbolic link that another user has put into a sticky folder is not followed: he would choose which file is made or locked.
 *     The kernel's fs.protected_symlinks is the same rule, where it is switched on.
 *  3. The lock is had only if, after it was granted, the path still leads to the locked file: who has deleted or replaced it has made
 *     another lock of it. Otherwise all begins anew.
 *  4. EWOULDBLOCK, and nothing else, means held.
 *  5. The lock belongs to the open file description: the command inherits it, me-only and the keeper have it, too, as with a host lock.
 *  6. The wait is the kernel's: first come, first served, as long as nobody is interrupted. So a thread of its own waits in flock(2),
 *     without interruption, while we attend to what is due. It is a thread and not a process, so that the kernel's table has our
 *     pid, and so that it ends with us, whatever ends us.
 *  7. Re-entry: the caller has inherited a descriptor that has the lock, or one of its ancestors has one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/stat.h>
#include <poll.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "deadline.h"
#include "descriptor.h"
#include "file-holder.h"
#include "lines.h"
#include "lock.h"
#include "place.h"

/* So often a file may be replaced under our hands before we give up. */
#define OPEN_TRIES 1000

#define LONGEST_PAUSE (NS_PER_S / 4)

#define STACK_SIZE 16384

/* --- opening ------------------------------------------------------------------------------------------------------------------ */

/* The folder that PATH is in, into FOLDER. Returns 0 or a negative errno. */
static int folder_status(const char *path, struct statx *folder)
{
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) + 1 : 0;
	char text[length + 2];

	memcpy(text, path, length);
	strcpy(text + length, ".");
	return file_status(AT_FDCWD, text, folder);
}

/* Rule 2: whether the symbolic link PATH is to be trusted. Returns 0 or a negative errno. */
static int check_link(const char *path)
{
	struct statx folder, link;
	int r = folder_status(path, &folder);

	if (r == 0 && syscall(SYS_statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &link))
		r = -errno;
	if (r)
		return r;
	if ((folder.stx_mode & S_ISVTX) && (folder.stx_mode & (S_IWGRP | S_IWOTH)) && link.stx_uid != geteuid() && link.stx_uid != folder.stx_uid)
		return -EACCES;
	return 0;
}

static int try_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);

	return fd < 0 ? -errno : fd;
}

/* Rules 1 and 2. WRITABLE: where reading will not do. Returns a descriptor or a negative errno. */
static int open_file(struct lock *lock, bool writable)
{
	int access = writable ? O_RDWR : O_RDONLY, follow = O_NOFOLLOW, fd = -ENOENT;

	lock->failed = "cannot open the file";
	/* Again when it was made or deleted in between. */
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		fd = try_open(lock->name, access | follow);
		if (fd == -EACCES && access == O_RDONLY) {
			fd = try_open(lock->name, O_WRONLY | follow);
			fd = fd == -EISDIR ? -EACCES : fd;
		}
		if (fd == -ELOOP && follow) {
			fd = check_link(lock->name);
			if (fd == -EACCES)
				lock->failed = "cannot open the file: another user has put a symbolic link there";
			if (fd)
				return fd;
			follow = 0;
			continue;
		}
		if (fd != -ENOENT)
			break;
		/* Where a link leads to nothing, it is followed to make the file. */
		fd = try_open(lock->name, access | O_CREAT | (follow ? O_EXCL : 0));
		if (fd != -EEXIST) {
			if (fd < 0)
				lock->failed = "cannot make the file";
			break;
		}
	}
	return fd < 0 ? fd : descriptor_off_stdio(fd);
}

/* Rule 3: whether the path still leads to the file FD. */
static bool is_still_there(const struct lock *lock, int fd)
{
	struct statx status;
	struct file_id file;

	return file_identify(lock->name, &file) == 0 && file_status(fd, "", &status) == 0 && file_is(&status, &file);
}

/* --- re-entry ----------------------------------------------------------------------------------------------------------------- */

static bool is_locked(int fd, void *file)
{
	return process_is_flock(fd, file);
}

/* Whether an ancestor of ours has the lock. */
static bool descends_from_holder(const struct file_id *file)
{
	struct file_holders holders;
	struct process process;

	for (pid_t pid = getppid(); pid > 0; pid = process.parent)
		if (process_has_flock(pid, file))
			return true;
		else if (process_read(pid, &process))
			break;
	/* Of one that has more rights than we only the number is seen. */
	return file_holders_read(file, &holders) == 0 && process_descends(getpid(), holders.taker) && file_taker_lives(holders.taker, file);
}

static bool is_reentry(struct file_id *file)
{
	return descriptor_inherited(is_locked, file) || descends_from_holder(file);
}

/*
 * A stranger must not be able to hand his lock down, by sudo for instance: so who took it must be proved to be this user or root.
 * Of a process with more rights than ours nothing is: its number can have been used again.
 */
static int file_is_ours(struct lock *lock)
{
	struct file_holders holders;
	struct file_id file;
	uid_t uid;
	int r = file_identify(lock->name, &file);

	lock->failed = "cannot look at the file";
	if (r)
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	return is_reentry(&file) && file_holders_read(&file, &holders) == 0 && process_has_flock(holders.taker, &file) &&
	       process_user(holders.taker, &uid) == 0 && holder_is_trusted(uid);
}

/* --- waiting ------------------------------------------------------------------------------------------------------------------ */

/* The thread that waits in flock(2). What it and we share. */
struct waiter {
	int fd, operation;
	int error;		/* once it has ended */
	atomic_int settled;	/* by whoever comes first: the thread, with the lock, or we, when we give up */
	int thread;		/* its number; 0 once it has ended: the kernel says so and wakes us up */
};

static int wait_for_lock(void *argument)
{
	struct waiter *w = argument;

	w->error = 0;
	while (flock(w->fd, w->operation))
		if (errno != EINTR) {
			w->error = errno;
			return 0;
		}
	/* We have given up meanwhile: then nobody is to find us holding it. */
	if (atomic_exchange(&w->settled, 1))
		flock(w->fd, LOCK_UN);
	return 0;
}

/* Returns 0 or a negative errno. */
static int start_thread(struct waiter *w)
{
	/* Not on our stack: after we have given up it goes on until we have ended. */
	char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	if (stack == MAP_FAILED)
		return -errno;
	return clone(wait_for_lock, stack + STACK_SIZE,
		     CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
		     w, &w->thread, NULL, &w->thread) < 0 ? -errno : 0;
}

/* Sleeps until WHEN, or the thread has ended. */
static void sleep_until(struct waiter *w, int64_t when)
{
	int64_t left = when == DEADLINE_NEVER ? NS_PER_S * 3600 : when - deadline_now();
	long timeout[2] = { (long)(left / NS_PER_S), (long)(left % NS_PER_S) };
	int thread = __atomic_load_n(&w->thread, __ATOMIC_ACQUIRE);

	if (thread && left > 0)
		syscall(SYS_futex, &w->thread, FUTEX_WAIT, thread, timeout, NULL, 0);
}

/* Whether the caller itself runs under the lock is looked up once, and then it is told that we wait. */
static int attend(const struct lock *lock, struct lock_wait *wait, bool *begun)
{
	struct file_id file;

	if (*begun && deadline_now() < wait->due)
		return 0;
	if (!*begun && file_identify(lock->name, &file) == 0 && is_reentry(&file))
		return -EDEADLK;
	*begun = true;
	return wait->attend(wait, lock);
}

/* Waits for the lock on FD. Returns 0, -EAGAIN: try again; or as file_take(). */
static int wait_in_kernel(struct lock *lock, struct lock_wait *wait, int fd, bool *begun)
{
	static struct waiter w;	/* as long as the thread */
	int r = attend(lock, wait, begun);

	if (r)
		return r;
	w = (struct waiter){ .fd = fd, .operation = lock->shared ? LOCK_SH : LOCK_EX };
	lock->failed = "cannot wait";
	r = start_thread(&w);
	while (r == 0 && __atomic_load_n(&w.thread, __ATOMIC_ACQUIRE)) {
		sleep_until(&w, deadline_earlier(wait->deadline, wait->due));
		r = attend(lock, wait, begun);
		if (r == 0 && deadline_now() >= wait->deadline)
			r = -ETIMEDOUT;
	}
	/* It is ours when the thread was first, even if our time is over by now. */
	if (r == -ETIMEDOUT && atomic_exchange(&w.settled, 1))
		r = 0;
	else if (r && r != -ETIMEDOUT)
		atomic_exchange(&w.settled, 1);
	return r == 0 && w.error ? -EAGAIN : r;
}

/* --- taking ------------------------------------------------------------------------------------------------------------------- */

/* Rule 4. Returns 0, -EWOULDBLOCK, or another negative errno. */
static int try_lock(const struct lock *lock, int fd)
{
	int r;

	do
		r = flock(fd, (lock->shared ? LOCK_SH : LOCK_EX) | LOCK_NB);
	while (r && errno == EINTR);
	return r ? -errno : 0;
}

/* Takes the lock on FD. Returns as file_take(). */
static int take(struct lock *lock, struct lock_wait *wait, int fd, bool *begun)
{
	int64_t pause = NS_PER_MS, failed_at;
	int r;

	while ((r = try_lock(lock, fd)) == -EWOULDBLOCK && wait->deadline) {
		r = wait_in_kernel(lock, wait, fd, begun);
		if (r != -EAGAIN)
			return r;
		/* The kernel has ended the wait for a reason that trying tells, or that has passed. */
		failed_at = deadline_now();
		if (failed_at >= wait->deadline)
			return -ETIMEDOUT;
		pause = pause < LONGEST_PAUSE ? pause * 2 : pause;
		poll(NULL, 0, deadline_poll_timeout(deadline_earlier(failed_at + pause, wait->deadline)));
	}
	lock->failed = "cannot lock the file";
	return r;
}

static int busy(int fd)
{
	struct statx status;
	struct file_id file;

	if (file_status(fd, "", &status))
		return -EBUSY;
	file = (struct file_id){ status.stx_dev_major, status.stx_dev_minor, status.stx_ino };
	return is_reentry(&file) ? -EDEADLK : -EBUSY;
}

static int take_place(struct lock *lock, struct lock_wait *wait, int fd)
{
	struct host_address name;
	struct statx status;
	int r = file_status(fd, "", &status);

	lock->failed = "cannot look at the file";
	if (r)
		return r;
	host_address_of_file(&name, status.stx_dev_major, status.stx_dev_minor, status.stx_ino);
	return place_take(lock, &name, wait);
}

static int file_take(struct lock *lock, struct lock_wait *wait)
{
	bool writable = false, begun = false;
	int fd, r = 0;

	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		fd = open_file(lock, writable);
		if (fd < 0)
			return fd;
		if (wait->places && lock->place < 0)
			r = take_place(lock, wait, fd);
		if (r == 0)
			r = take(lock, wait, fd, &begun);
		if (r == 0 && is_still_there(lock, fd)) {
			lock->fd = fd;
			return 0;
		}
		if (r == -EWOULDBLOCK)
			r = busy(fd);
		/* On NFS, where the kernel makes a record lock of it, an exclusive one is only for who may write. */
		if ((r == -EBADF || r == -EIO) && !writable)
			writable = true;
		else if (r)
			return r;	/* with the file open: the thread that waits for it may still be there */
		close(fd);
	}
	lock->failed = "the file is replaced again and again";
	return -ESTALE;
}

/* --- the engine --------------------------------------------------------------------------------------------------------------- */

static void file_release(struct lock *lock)
{
	close(lock->fd);
}

static int file_identify_holding(const struct lock *lock, struct lock_identity *identity)
{
	struct file_holders holders;
	struct file_id file;
	int r = file_identify(lock->name, &file);

	if (r == 0)
		r = file_holders_read(&file, &holders);
	if (r)
		return r;
	*identity = (struct lock_identity){ .number = holders.number };
	identity->uid_known = file_taker_lives(holders.taker, &file) && process_user(holders.taker, &identity->uid) == 0;
	return 0;
}

static void find_holder(const struct lock *lock, struct holder *holder, bool thorough)
{
	struct file_id file;

	*holder = (struct holder){ .held = -1, .hidden = "the file cannot be looked at" };
	if (file_identify(lock->name, &file) == 0)
		file_find_holder(&file, holder, thorough);
}

static bool file_has(const struct lock *lock, uint64_t number, pid_t pid)
{
	struct file_id file;

	return file_identify(lock->name, &file) == 0 && file_number(process_flock_taker(pid, &file)) == number;
}

const struct lock_engine lock_file = {
	.prefix = "file",
	.can_share = true,
	.take = file_take,
	.release = file_release,
	.is_ours = file_is_ours,
	.identify = file_identify_holding,
	.find_holder = find_holder,
	.find_job = file_find_job,
	.has = file_has,
};
