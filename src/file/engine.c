/*
 * The file engine: a lock is an flock(2) on a file, so it excludes flock(1) and every other program
 * that locks the same file that way.
 *
 *  1. An existing file is opened for reading, or for writing where reading is not allowed, without
 *     blocking (a FIFO) and without changing anything. Only a missing file is created: O_CREAT on
 *     an existing one would be refused in /tmp by fs.protected_regular, even for root. The file is
 *     never written and never deleted.
 *  2. A symbolic link that another user has put into a sticky directory is not followed: that user
 *     would choose which file is created or locked. Where the kernel's fs.protected_symlinks is
 *     switched on, it enforces the same rule, also for links behind that link.
 *  3. The lock counts only if the path still leads to the locked file after it was granted:
 *     deleting or replacing the file makes it another lock. Otherwise we start again.
 *  4. EWOULDBLOCK, and nothing else, means held.
 *  5. The lock belongs to the open file description: the command inherits it, and me-only and the
 *     keeper have it as well, as with a host lock.
 *  6. The wait is the kernel's: first come, first served (since Linux 5.0), until a waiter is
 *     interrupted, as by a stop and a resume. So a separate thread waits in flock(2) while we do
 *     what is due. It is a thread, not a process, so that the kernel's table shows our pid, and so
 *     that it ends with us, whatever ends us.
 *  7. Re-entry: the caller has inherited a descriptor that has the lock, or one of its ancestors
 *     has one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/statx.h"
#include "base/trust.h"
#include "file/holder.h"
#include "file/path.h"
#include "file/reentry.h"
#include "file/waiter.h"
#include "host/places.h"
#include "lock.h"

/* How often the file may be replaced in between before we give up. */
#define OPEN_TRIES 1000

#define LONGEST_PAUSE (NS_PER_S / 4)

#define STACK_SIZE 16384
#define TIME_TO_QUEUE (1 * NS_PER_MS)
#define TELL_AGAIN_MS 10

/* --- opening ---------------------------------------------------------------------------------- */

/* The directory that PATH is in, into DIRECTORY. Returns 0 or a negative errno. */
static int directory_status(const char *path, struct statx *directory)
{
	const char *slash = strrchr(path, '/');
	size_t length = slash ? (size_t)(slash - path) + 1 : 0;
	char text[length + 2];

	memcpy(text, path, length);
	strcpy(text + length, ".");
	return file_status(AT_FDCWD, text, directory);
}

/* Rule 2: whether the symbolic link PATH is to be trusted. Returns 0 or a negative errno. */
static int check_link(const char *path)
{
	struct statx directory, link;
	int r = directory_status(path, &directory);

	if (r == 0 &&
	    syscall(SYS_statx, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &link))
		r = -errno;
	if (r)
		return r;
	if ((directory.stx_mode & S_ISVTX) && (directory.stx_mode & (S_IWGRP | S_IWOTH)) &&
	    link.stx_uid != geteuid() && link.stx_uid != directory.stx_uid)
		return -EACCES;
	return 0;
}

static int try_open(const char *path, int flags)
{
	int fd;

	do
		fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/*
 * Rules 1 and 2. WRITABLE: reading is not enough. Returns a descriptor, or LOCK_FAILED or a
 * negative errno with lock->failed.
 */
static int open_file(struct lock *lock, bool writable)
{
	int access = writable ? O_RDWR : O_RDONLY, follow = O_NOFOLLOW, fd = -ENOENT;

	lock->failed = "cannot open the file";
	/* Again if it was created or deleted in between. */
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		fd = try_open(lock->name, access | follow);
		if (fd == -EACCES && access == O_RDONLY) {
			fd = try_open(lock->name, O_WRONLY | follow);
			fd = fd == -EISDIR ? -EACCES : fd;
		}
		if (fd == -ELOOP && follow) {
			fd = check_link(lock->name);
			if (fd == -EACCES)
				lock->failed =
					"cannot open the file: another user placed a symbolic link there";
			if (fd)
				return fd;
			follow = 0;
			continue;
		}
		if (fd != -ENOENT)
			break;
		/* A dangling link is followed to create the file. */
		fd = try_open(lock->name, access | O_CREAT | (follow ? O_EXCL : 0));
		if (fd != -EEXIST) {
			if (fd < 0)
				lock->failed = "cannot create the file";
			break;
		}
	}
	/*
	 * open(2) fails like this for a lease (F_SETLEASE), since we do not block; no limit is the
	 * reason.
	 */
	if (fd == -EWOULDBLOCK) {
		lock->failed = "cannot open the file: another process holds a lease on it";
		return LOCK_FAILED;
	}
	return fd < 0 ? fd : descriptor_off_stdio(fd);
}

/* --- waiting ---------------------------------------------------------------------------------- */

/* The waiter must be told, or it would hold the lock and wait for ever. */
static void tell(const struct file_waiter *w)
{
	while (write(w->done, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0)
		poll(NULL, 0, TELL_AGAIN_MS);
}

static void *wait_for_lock(void *argument)
{
	struct file_waiter *w = argument;

	while (flock(w->fd, w->operation) && (w->error = errno) == EINTR)
		w->error = 0;
	/* If we gave up meanwhile, nobody may find us holding it. */
	if (w->error == 0 && atomic_exchange(&w->settled, 1))
		flock(w->fd, LOCK_UN);
	else
		tell(w);
	return NULL;
}

/* Returns 0 or a negative errno. */
static int start_thread(pthread_t *thread, struct file_waiter *w)
{
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK_SIZE);
	pthread_attr_setguardsize(&small,
				  0); /* one page more, and a call whose result musl ignores */
	return -pthread_create(thread, &small, wait_for_lock, w);
}

/*
 * Does what is due until the thread has ended or the wait is over. Returns 0, or what ends the
 * wait. Begins only when the thread has had time to join the line: with --replace the holder ends
 * then, and existing waiters come first.
 */
static int attend_until_done(const struct lock *lock, struct lock_wait *wait,
			     const struct file_waiter *w, bool *begun)
{
	struct pollfd done = { .fd = w->done, .events = POLLIN };
	int64_t soon = *begun ? DEADLINE_NEVER : deadline_in(TIME_TO_QUEUE);
	int r = 0;

	while (r == 0 && poll(&done, 1,
			      deadline_poll_timeout(deadline_earlier(
				      soon, deadline_earlier(wait->deadline, wait->due)))) <= 0) {
		if (!*begun || deadline_now() >= wait->due)
			r = wait->attend(wait, lock);
		*begun = true;
		soon = DEADLINE_NEVER;
		if (r == 0 && deadline_now() >= wait->deadline)
			r = LOCK_TIMED_OUT;
	}
	return r;
}

/* Waits for the lock on FD. Returns 0 if we got it; LOCK_RETRY; or as file_take(). */
static int wait_in_kernel(struct lock *lock, struct lock_wait *wait, int fd, bool *begun)
{
	struct file_waiter *w = file_waiter();
	pthread_t thread = 0;
	int r;

	lock->failed = "cannot wait";
	*w = (struct file_waiter){ .fd = fd,
				   .operation = lock->shared ? LOCK_SH : LOCK_EX,
				   .done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	r = w->done < 0 ? -errno : start_thread(&thread, w);
	if (r) {
		if (w->done >= 0)
			close(w->done);
		return r;
	}
	r = attend_until_done(lock, wait, w, begun);
	/*
	 * It is ours if the thread was first, even if our time is over by now, or if the holder
	 * could not be replaced.
	 */
	if (r && !atomic_exchange(&w->settled, 1))
		return r;
	pthread_join(thread, NULL);
	close(w->done);
	return w->error ? LOCK_RETRY : 0;
}

/* --- taking ----------------------------------------------------------------------------------- */

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
static int lock_file_at(struct lock *lock, struct lock_wait *wait, int fd, bool *begun)
{
	int64_t pause = NS_PER_MS;
	int r;

	while ((r = try_lock(lock, fd)) == -EWOULDBLOCK && wait->deadline) {
		if (!*begun && file_is_reentry(lock, fd))
			return LOCK_NESTED;
		r = wait_in_kernel(lock, wait, fd, begun);
		if (r != LOCK_RETRY)
			return r;
		/* The kernel ended the wait: another try shows the reason, or it has passed. */
		if (deadline_now() >= wait->deadline)
			return LOCK_TIMED_OUT;
		pause = pause < LONGEST_PAUSE ? pause * 2 : pause;
		poll(NULL, 0,
		     deadline_poll_timeout(deadline_earlier(deadline_in(pause), wait->deadline)));
	}
	lock->failed = "cannot lock the file";
	return r != -EWOULDBLOCK ? r : file_is_reentry(lock, fd) ? LOCK_NESTED : LOCK_HELD;
}

static int take_place(struct lock *lock, struct lock_wait *wait, int fd)
{
	struct host_address name;
	struct statx status;
	int r = file_status(fd, "", &status);

	lock->failed = "cannot inspect the file";
	if (r)
		return r;
	/* Not for an instant by somebody who will not wait: another would give up because of it. */
	if (file_is_reentry(lock, fd))
		return LOCK_NESTED;
	host_address_of_file(&name, status.stx_dev_major, status.stx_dev_minor, status.stx_ino);
	return place_take(lock, &name, wait);
}

/* Rule 3: whether the path still leads to the file FD: 1, 0, or a negative errno. */
static int is_still_there(struct lock *lock, int fd)
{
	struct statx status;
	struct file_id file;
	int r = file_identify(lock->name, &file);

	lock->failed = "cannot inspect the file";
	if (r)
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	r = file_status(fd, "", &status);
	return r ? r : file_is(&status, &file);
}

/*
 * Opens and locks the file once. Returns 1: done; 0: the file was replaced meanwhile; or as
 * file_take().
 */
static int take_once(struct lock *lock, struct lock_wait *wait, bool writable, bool *begun)
{
	int fd = open_file(lock, writable), r = fd < 0 ? fd : 0;

	if (r == 0 && wait->places && wait->place < 0)
		r = take_place(lock, wait, fd);
	if (r == 0 && lock->shared && !*begun)
		r = file_check_share(lock, fd);
	if (r == 0)
		r = lock_file_at(lock, wait, fd, begun);
	if (r == 0)
		r = is_still_there(lock, fd);
	if (r == 1)
		lock->fd = fd;
	/* After a wait that we gave up, the thread may still be there. */
	else if (fd >= 0 && r != LOCK_TIMED_OUT && r != LOCK_NOT_REPLACED)
		close(fd);
	return r;
}

static int file_take(struct lock *lock, struct lock_wait *wait)
{
	bool writable = false, begun = false;
	int r = file_path_absolute(lock);

	if (r)
		return r;
	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		r = take_once(lock, wait, writable, &begun);
		/*
		 * On NFS the kernel makes it a record lock, and an exclusive one needs a file open
		 * for writing.
		 */
		if ((r == -EBADF || r == -EIO) && !writable)
			writable = true;
		else if (r < 0)
			return r;
		else if (r)
			/* Again after a wait: the directory may have been moved meanwhile. */
			return begun ? file_path_absolute(lock) : 0;
	}
	lock->failed = "the file keeps being replaced";
	return -ESTALE;
}

/* --- the engine ------------------------------------------------------------------------------- */

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
	identity->uid_known = file_taker_lives(holders.taker, &file) &&
			      process_user(holders.taker, &identity->uid) == 0;
	return 0;
}

static void find_holder(const struct lock *lock, struct holder *holder, bool thorough)
{
	struct file_id file;

	*holder = (struct holder){ .held = -1, .hidden = "the file cannot be inspected" };
	if (file_identify(lock->name, &file) == 0)
		file_find_holder(&file, holder, thorough);
}

static bool file_has(const struct lock *lock, uint64_t number, pid_t pid)
{
	struct file_id file;

	return file_identify(lock->name, &file) == 0 &&
	       file_number(process_flock_taker(pid, &file)) == number;
}

const struct lock_engine lock_file = {
	.prefix = "file",
	.shared = true,
	.queue = true,
	.take = file_take,
	.release = file_release,
	.is_ours = file_is_ours,
	.identify = file_identify_holding,
	.find_holder = find_holder,
	.find_job = file_find_job,
	.has = file_has,
};
