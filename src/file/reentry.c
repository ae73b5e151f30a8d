#include "file/reentry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/process.h"
#include "base/statx.h"
#include "base/trust.h"
#include "file/holder.h"

/* Why --held does not say that the lock is the caller's. */
static const char by_exec[] = ", which --held cannot prove after -F where others can open the file";
static const char unseen[] = ", which --held cannot prove for lack of rights to look at me-only";

/* A search for a holding under which the caller runs: TEST says of whoever took it if it counts. */
struct own {
	const struct file_id *file;
	bool (*test)(pid_t taker, void *file);
};

static bool counts(pid_t taker, void *argument)
{
	const struct own *own = argument;

	return own->test(taker, (void *)(uintptr_t)own->file);
}

static bool is_locked(int fd, void *argument)
{
	const struct own *own = argument;
	pid_t taker = process_own_flock_taker(fd, own->file);

	return taker >= 0 && counts(taker, argument);
}

/*
 * Rule 7: whether one of our descriptors, or of our ancestors', has a lock on FILE of which TEST is
 * true. If it is shared there can be several, taken one under the other.
 */
static bool find_own(const struct file_id *file, bool (*test)(pid_t taker, void *file))
{
	struct own own = { file, test };
	struct process process;

	if (descriptor_inherited(is_locked, &own))
		return true;
	for (pid_t pid = getppid(); pid > 0; pid = process.parent)
		if (process_find_flock(pid, file, counts, &own))
			return true;
		else if (process_read(pid, &process))
			break;
	return false;
}

static bool is_anyones(pid_t taker, void *file)
{
	(void)taker, (void)file;
	return true;
}

/* Whether we run for the command of a keeper, which need not have the lock itself. */
static bool is_kept(const struct file_id *file)
{
	pid_t job = file_kept_job(file);

	return job && process_descends(getpid(), job);
}

/*
 * Whether nobody but root and this user can open FILE, at the path NAME: then a lock on it is
 * theirs.
 */
static bool is_private(const char *name, const struct file_id *file)
{
	struct statx status;

	/*
	 * The permissions of a group are the most that an access control list can give to anybody.
	 */
	return file_status(AT_FDCWD, name, &status) == 0 && file_is(&status, file) &&
	       trust_user(status.stx_uid) && !(status.stx_mode & (S_IRWXG | S_IRWXO));
}

static bool is_own_number(pid_t taker, void *file)
{
	(void)file;
	return taker == getpid();
}

/* Whether we took it ourselves, by -F, and what we became asks again: --held has said no. */
static bool has_own_number(const struct file_id *file)
{
	return descriptor_inherited(is_locked, &(struct own){ file, is_own_number });
}

static bool identify(int fd, struct file_id *file)
{
	struct statx status;

	if (file_status(fd, "", &status))
		return false;
	*file = (struct file_id){ status.stx_dev_major, status.stx_dev_minor, status.stx_ino, 0 };
	return true;
}

static bool is_number(pid_t taker, void *number)
{
	return taker == *(const pid_t *)number;
}

/*
 * A stranger must not be able to hand his lock down, by sudo for instance: so who took it must be
 * proved to be this user or root. What a process is now is no proof: it can have taken the lock
 * before it became a program with more rights. A me-only is one, as no such program is (but not we:
 * we can be what it has become). Otherwise strangers must not be able to open the file.
 */
static bool is_proved(pid_t taker, void *argument)
{
	const struct file_id *file = argument;
	uid_t uid;

	return taker != getpid() && process_is_me_only(taker) &&
	       process_find_flock(taker, file, is_number, &taker) &&
	       process_user(taker, &uid) == 0 && trust_user(uid);
}

bool file_is_reentry(struct lock *lock, int fd)
{
	struct file_holders holders;
	struct file_id file;

	if (!identify(fd, &file))
		return false;
	if (find_own(&file, is_anyones)) {
		if (lock->options->no_fork && !is_private(lock->name, &file) &&
		    !find_own(&file, is_proved))
			lock->unproved = by_exec;
		return true;
	}
	if (is_kept(&file))
		return true;
	/* Of an ancestor that has more rights than we only the number is seen. */
	return file_holders_read(&file, &holders) == 0 &&
	       process_descends(getpid(), holders.taker) && file_taker_lives(holders.taker, &file);
}

int file_is_ours(struct lock *lock)
{
	struct file_id file;
	int r = file_identify(lock->name, &file);

	lock->failed = "cannot inspect the file";
	if (r)
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	return find_own(&file, is_proved) ||
	       (is_private(lock->name, &file) && find_own(&file, is_anyones)) || is_kept(&file);
}

/* Whether the caller says that it runs under FILE. That is a hint, and forgotten by "env -i". */
static bool says_so(const struct file_id *file)
{
	static const char prefix[] = "file:";
	const char *spec = getenv("ME_ONLY_LOCK");
	struct statx status;

	return spec && !strncmp(spec, prefix, sizeof prefix - 1) &&
	       file_status(AT_FDCWD, spec + sizeof prefix - 1, &status) == 0 &&
	       file_is(&status, file);
}

/* Whether /proc shows what we have open. */
static bool may_look(void)
{
	char path[PROCESS_PATH_SIZE];

	return access(process_path(path, getpid(), "fd"), R_OK | X_OK) == 0;
}

/* Whether others of this user can look at us, so that --held can prove what we have taken. */
static bool can_be_proved(void)
{
	return trust_is_self(geteuid()) && prctl(PR_GET_DUMPABLE) == 1 && may_look();
}

int file_check_share(struct lock *lock, int fd)
{
	const bool no_fork = lock->options->no_fork;
	struct file_id file;
	bool said;

	if (!identify(fd, &file))
		return 0;
	said = says_so(&file);
	if ((!said && !no_fork) || (!no_fork && can_be_proved()) || is_private(lock->name, &file))
		return 0;
	if (said ? file_is_reentry(lock, fd) : has_own_number(&file)) {
		lock->unproved = no_fork ? by_exec : unseen;
		return file_is_ours(lock) == 1 ? 0 : LOCK_NESTED;
	}
	if (!said || (no_fork && may_look()))
		return 0;
	lock->failed = "cannot tell whether this job has it already: /proc does not show me-only";
	return LOCK_FAILED;
}
