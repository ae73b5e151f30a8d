/*
 * Replacing the holder of a lock (--replace).
 *
 * Only the holder at the start is asked to exit, once. Later it is the turn of what is left of it:
 * if the command has ended and others have inherited the lock, they are asked first, and then all
 * are killed. A later holder is left alone.
 *
 * No process is signalled by its number alone, which may have been reused, but through a pidfd, and
 * only with proof:
 *  - the command is known by its engine (lock_engine.find_job), with a pidfd opened before the
 *    proof;
 *  - the me-only that runs it is its parent, runs this program, and holds the lock. It passes the
 *    signal on;
 *  - another process holds the lock, and descends from the command; or it is not older than the
 *    command, and either in a session that the command or its me-only started, or started with the
 *    lock's ME_ONLY_LOCK. The descriptor alone proves nothing: any process that has it can send it
 *    to a service that accepts descriptors.
 * The lock must be this user's or root's.
 *
 * The command and its descendants are killed, but no me-only among them, nor a keeper: they exit by
 * themselves when their command has ended, and not before.
 */
#include "run/replacement.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/process.h"
#include "base/trust.h"
#include "lock.h"

/*
 * The kernel counts the age of processes in steps of 1/100 s: two that were started in the same
 * step are equally old.
 */
#define AGE_STEP (10 * NS_PER_MS)

/*
 * A table that changes while it is read can leave a holder out: it counts as gone only after this
 * many readings.
 */
#define READINGS 3

/* How often a descendant's proof is looked for. */
#define ASK_TRIES 5

static const char unproved[] = "nothing proves that it was started under this lock";

/* A stopped process cannot exit, so it is also resumed. Returns 0 or a negative errno. */
static int end(int pidfd, int number)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0))
		return -errno;
	syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, NULL, 0);
	return 0;
}

static bool has_ended(int pidfd)
{
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };

	return poll(&ended, 1, 0) != 0;
}

/* Whether the holder that was seen at the start still holds the lock: 1, 0, or a negative errno. */
static int still_holds(const struct lock *lock, const struct replacement *replacement)
{
	for (int n = 0; n < READINGS; n++) {
		struct lock_identity identity;
		int r = lock->engine->identify(lock, &identity);

		if (r == 0 && identity.number == replacement->held)
			return 1;
		if (r && r != -ENOENT)
			return r;
	}
	return 0;
}

/* --- who is the holder ------------------------------------------------------------------------ */

/*
 * Fills in what is known of the command. What was read by its number counts only if it has not
 * ended since.
 */
static void know_job(struct replacement *replacement, pid_t job, int pidfd)
{
	struct process process;
	pid_t session = getsid(job);

	replacement->job = job;
	replacement->job_fd = pidfd;
	if (process_read(job, &process) == 0 && !has_ended(pidfd)) {
		if (session == job || session == process.parent)
			replacement->session = session;
		replacement->start = process.start;
	}
}

/*
 * Finds out which process is the command. Returns 0, also if it has ended, or -EPERM and the
 * reason.
 */
static int find_job(const struct lock *lock, struct replacement *replacement)
{
	struct lock_job job = { 0 };
	int pidfd = lock->engine->find_job(lock, &job);

	replacement->foreign = job.foreign;
	if (pidfd == -EPERM)
		replacement->refused = job.refused;
	if (pidfd >= 0)
		know_job(replacement, job.pid, pidfd);
	return pidfd >= 0 || pidfd == -ESRCH ? 0 : pidfd;
}

/*
 * Finds out who holds the lock. Returns 0, -ENOENT if nobody does any more, or -EPERM and the
 * reason.
 */
static int identify(const struct lock *lock, struct replacement *replacement)
{
	struct lock_identity identity;
	/* Only once: the next time it may be another holder, which came after us. */
	int r = lock->engine->identify(lock, &identity);

	if (r)
		return r == -ENOENT ? r : lock_refuse_unproved(&replacement->refused);
	replacement->held = identity.number;
	if (identity.uid_known && !trust_user(identity.uid))
		return lock_refuse_stranger(&replacement->refused);
	r = find_job(lock, replacement);
	if (r)
		return r;
	/* Again: the process that we looked at may be the next holder. */
	r = still_holds(lock, replacement);
	return r == 1 ? 0 : r == 0 ? -ENOENT : lock_refuse_unproved(&replacement->refused);
}

/* --- asking ----------------------------------------------------------------------------------- */

struct hunt {
	struct replacement *replacement;
	const struct lock *lock;
	int number; /* what to send to those that are found */
	int found;  /* how many belong to the holder */
	int unproved;
};

static bool has_lock(const struct lock *lock, const struct replacement *replacement, pid_t pid)
{
	return lock->engine->has(lock, replacement->held, pid);
}

/*
 * Whether PID is not older than the command, as far as that is known: not if the command had ended
 * before we came.
 */
static bool is_young(const struct replacement *replacement, pid_t pid)
{
	struct process process;

	return process_read(pid, &process) == 0 && process.start + AGE_STEP > replacement->start;
}

/*
 * Whether PID is in a session that the command or its me-only started. A session that a shell
 * started proves nothing.
 */
static bool is_of_session(const struct replacement *replacement, pid_t pid)
{
	return replacement->session > 0 && getsid(pid) == replacement->session;
}

/* Whether PID was started with the lock's ME_ONLY_LOCK, with or without the engine's prefix. */
static bool has_variable(const struct lock *lock, pid_t pid)
{
	static const char variable[] = "ME_ONLY_LOCK=";
	const char *name = lock_absolute(lock) + (lock->name - lock->spec);
	char entry[sizeof variable + strlen(lock->engine->prefix) + 1 + strlen(name)];

	strcpy(stpcpy(stpcpy(stpcpy(entry, variable), lock->engine->prefix), ":"), name);
	if (process_has_variable(pid, entry, true))
		return true;
	strcpy(stpcpy(entry, variable), name);
	return lock->engine->is_default && process_has_variable(pid, entry, true);
}

/*
 * Whether PID has inherited the lock, runs for a process that has, or is a me-only that keeps it.
 */
static bool belongs(const struct hunt *hunt, pid_t pid)
{
	const struct replacement *r = hunt->replacement;

	if (r->job && process_descends(pid, r->job) && !has_ended(r->job_fd))
		return true;
	return has_lock(hunt->lock, r, pid) &&
	       (process_is_me_only(pid) ||
		(is_young(r, pid) && (is_of_session(r, pid) || has_variable(hunt->lock, pid))));
}

/*
 * Whether PID must not be killed: a me-only, and any program that runs the command and holds the
 * lock.
 */
static bool is_spared(const struct hunt *hunt, pid_t pid)
{
	struct process job;

	return process_seems_me_only(pid) ||
	       (process_read(hunt->replacement->job, &job) == 0 && job.parent == pid &&
		has_lock(hunt->lock, hunt->replacement, pid));
}

/*
 * Sends hunt->number to PID. A me-only is never killed: it exits when its command has ended. It may
 * have none yet, and ignore SIGTERM: so later it gets a signal that nobody ignores, which does not
 * matter to a command that was killed already.
 */
static void strike(const struct hunt *hunt, pid_t pid, int pidfd)
{
	struct replacement *replacement = hunt->replacement;
	int number = hunt->number, r;

	if (number == SIGKILL && is_spared(hunt, pid))
		number = replacement->forced ? SIGVTALRM : SIGCONT;
	r = end(pidfd, number);
	if (r == -EPERM)
		replacement->stubborn = pid;
	if (r == 0 && (number == SIGTERM || number == SIGKILL))
		replacement->struck = pid;
}

/*
 * Signals PID if it belongs to the holder. The pidfd is opened before the proof, so it cannot be
 * another process's.
 */
static bool visit(pid_t pid, void *argument)
{
	struct hunt *hunt = argument;
	struct replacement *r = hunt->replacement;
	int pidfd;

	/* Once the command has ended, nothing descends from it any more: its turn comes last. */
	if (pid == r->job)
		return true;
	pidfd = process_pidfd(pid);
	if (pidfd < 0)
		return true;
	if (belongs(hunt, pid)) {
		hunt->found++;
		strike(hunt, pid, pidfd);
	} else if ((!r->job || has_ended(r->job_fd)) && has_lock(hunt->lock, r, pid)) {
		hunt->unproved++;
	}
	close(pidfd);
	return true;
}

/*
 * A program that does not pass signals on: its descendants, and those that have the lock from it,
 * are asked as well.
 */
static bool visit_started(pid_t pid, void *argument)
{
	const struct hunt *hunt = argument;

	return pid == hunt->replacement->job || !has_lock(hunt->lock, hunt->replacement, pid) ||
	       visit(pid, argument);
}

/*
 * Asks the command to exit, through its me-only, which then knows that the signal was meant for it.
 */
static int ask_job(const struct lock *lock, struct replacement *replacement)
{
	struct hunt hunt = { .replacement = replacement, .lock = lock, .number = SIGTERM };
	struct process process = { .parent = 0 };
	int wrapper, r = -ESRCH;

	/*
	 * The program exits with them. If it were terminated itself, nothing would prove any more
	 * that they belong to it.
	 */
	replacement->foreign = replacement->foreign && !has_variable(lock, replacement->job);
	if (replacement->foreign)
		process_walk(visit_started, &hunt);
	process_read(replacement->job, &process);
	wrapper = hunt.found > 0 ? -ESRCH : process_pidfd(process.parent);
	if (wrapper >= 0) {
		if (process_seems_me_only(process.parent) &&
		    has_lock(lock, replacement, process.parent))
			r = end(wrapper, SIGTERM);
		close(wrapper);
	}
	if (r == -ESRCH && hunt.found == 0)
		r = end(replacement->job_fd, SIGTERM);
	if (!replacement->struck)
		replacement->struck = replacement->job;
	if (r == 0 || r == -ESRCH)
		return 0;
	return lock_refuse(&replacement->refused, "this user may not signal it");
}

static int ask_descendants(const struct lock *lock, struct replacement *replacement)
{
	struct hunt hunt = { .replacement = replacement, .lock = lock, .number = SIGTERM };

	process_walk(visit, &hunt);
	if (replacement->stubborn)
		return lock_refuse(&replacement->refused, "this user may not signal it");
	replacement->asked = hunt.found > 0 || still_holds(lock, replacement) == 0;
	/*
	 * A process that is about to exit still holds the lock, but has no environment any more: it
	 * is gone the next time.
	 */
	replacement->doubts = replacement->asked ? 0 : replacement->doubts + 1;
	if (replacement->doubts < ASK_TRIES)
		return 0;
	return hunt.unproved > 0 ? lock_refuse(&replacement->refused, unproved)
				 : lock_refuse_unproved(&replacement->refused);
}

/*
 * Asks the descendants of a command that has ended meanwhile to exit, or kills BY_FORCE all that is
 * left.
 */
static int press(const struct lock *lock, struct replacement *replacement, bool by_force)
{
	struct hunt hunt = { .replacement = replacement,
			     .lock = lock,
			     .number = by_force ? SIGKILL : SIGTERM };
	int r;

	if (!by_force && (replacement->descendants_asked || !replacement->job ||
			  !has_ended(replacement->job_fd)))
		return 0;
	r = still_holds(lock, replacement);
	if (r <= 0)
		return r == 0 ? -ENOENT : 0;
	process_walk(visit, &hunt);
	/* For a moment, a process that is about to exit no longer proves anything. */
	if (hunt.found == 0 && hunt.unproved > 0 && ++replacement->doubts == ASK_TRIES)
		return lock_refuse(&replacement->refused, unproved);
	replacement->descendants_asked = hunt.found > 0 || hunt.unproved == 0;
	if (by_force && replacement->job)
		strike(&hunt, replacement->job, replacement->job_fd);
	replacement->forced = by_force;
	return 0;
}

int replacement_find(const struct lock *lock, struct replacement *replacement)
{
	replacement->found = true;
	return identify(lock, replacement);
}

int replacement_press(const struct lock *lock, struct replacement *replacement, bool by_force)
{
	replacement->struck = 0;
	if (replacement->asked)
		return press(lock, replacement, by_force);
	if (!replacement->job)
		return ask_descendants(lock, replacement);
	replacement->asked = true;
	return ask_job(lock, replacement);
}

bool replacement_is_by(pid_t pid)
{
	char command[4096];

	if (pid <= 0 || pid == getppid() || !process_seems_me_only(pid))
		return false;
	command[process_command(pid, true, command, sizeof command - 1)] = 0;
	return strstr(command, " --replace ") != NULL;
}
