/*
 * The guard of a command under a lease: ends it and its descendants before the lock can be
 * another's.
 *
 * It trusts no helper, only the time until which the lock is safe. This process becomes the
 * subreaper of the command's descendants: while it lives, none of them escapes by forking twice or
 * in a session of its own.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/message.h"
#include "base/process.h"
#include "base/start.h"
#include "helper/cgroup.h"
#include "helper/schedule.h"
#include "run/custody.h"
#include "trace.h"

/*
 * A process that survives SIGKILL waits for a disk in the kernel and does nothing. We wait this
 * long for it.
 */
#define FORCE_LIMIT (10 * NS_PER_S)

static int64_t now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

static void wake_at(const struct custody *custody, int64_t when)
{
	/* 0 would disarm it. */
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(when / NS_PER_S),
					       .tv_nsec = (long)(when % NS_PER_S) + 1 } };

	if (at.it_value.tv_nsec >= NS_PER_S)
		at.it_value.tv_nsec = NS_PER_S - 1;
	(void)timerfd_settime(custody->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static int64_t ask_due(const struct lock *lock)
{
	return lock->lease->until - options_kill_after(lock->options);
}

/*
 * Returns 0; LOCK_LOST if there is no time left for the command, or the lock is lost already; or a
 * negative errno.
 */
static int prepare(struct custody *custody)
{
	struct guard *guard = &custody->guard;
	struct lock *lock = custody->lock;

	*guard = (struct guard){ .force_due = DEADLINE_NEVER };
	/* We may have been stopped since it was taken. */
	lock->engine->serve(lock, 0, 0);
	if (lock->lease->lost || now() >= ask_due(lock))
		return LOCK_LOST;
	custody->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (custody->timer < 0)
		return -errno;
	guard->descendants =
		(struct descendants){ .ancestor = getpid(), .helper = lock->lease->helper };
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		return -errno;
	guard->cgroup = lock->lease->cgroup;
	cgroup_make(guard->cgroup);
	wake_at(custody, ask_due(lock));
	return 0;
}

static int start(struct custody *custody, void (*function)(void *argument), void *argument)
{
	struct guard *guard = &custody->guard;
	int r = prepare(custody);

	if (r == 0) {
		pid_t pid = start_process(function, argument);

		custody->command = pid;
		r = pid < 0 ? pid : guard->refused;
		if (guard->refused)
			waitpid(pid, NULL, 0);
	}
	if (r && guard->cgroup)
		cgroup_remove(guard->cgroup);
	return r;
}

/* The new process shares our memory until its exec. */
static int enter(struct custody *custody)
{
	struct lock *lock = custody->lock;

	cgroup_enter(custody->guard.cgroup);
	custody->guard.refused = lock->engine->leased->confirm(lock);
	return custody->guard.refused;
}

static void failed(struct custody *custody)
{
	custody->lock->lease->unused = true;
}

/* When to kill, if the lock is lost now. */
static int64_t grace_end(const struct lock *lock)
{
	return schedule_grace_end(lock->lease->until, options_kill_after(lock->options));
}

static void ask(struct custody *custody)
{
	struct guard *guard = &custody->guard;
	struct lock *lock = custody->lock;

	lock->engine->leased->ending(lock);
	guard->asked = true;
	guard->known = lock->lease->lost != NULL;
	guard->since = clock_now(CLOCK_REALTIME);
	guard->unconfirmed = now() - lock->lease->confirmed;
	guard->force_due = guard->known ? grace_end(lock) : lock->lease->until;
	guard->why = lock->lease->lost	    ? lock->lease->lost
		     : lock->lease->trouble ? lock->lease->trouble
					    : "it was not renewed in time";
	/*
	 * A command that was frozen until the deadline must not run for an instant, as it would to
	 * receive SIGTERM.
	 */
	if (now() >= guard->force_due)
		return;
	guard->found = guard->told = descendants_signal(&guard->descendants, SIGTERM) > 0;
	if (lock->options->verbose && guard->found)
		trace(lock, "the lock is lost: asked the command to exit");
}

static void force(struct custody *custody)
{
	struct guard *guard = &custody->guard;
	struct lock *lock = custody->lock;

	/* The command first: finding all others takes milliseconds. */
	if (custody->command > 0)
		kill(custody->command, SIGKILL);
	cgroup_kill(guard->cgroup);
	if (!descendants_signal(&guard->descendants, SIGKILL))
		return;
	if (lock->options->verbose && !guard->forced)
		trace(lock, "the lock is lost: killed the command");
	guard->forced = guard->found = true;
}

/* Asks the command to end, or ends it, when that is due. */
static void see_to_it(struct custody *custody)
{
	struct guard *guard = &custody->guard;
	struct lock *lock = custody->lock;
	uint64_t times;

	(void)!read(custody->timer, &times, sizeof times);
	if (!guard->asked && (lock->lease->lost || now() >= ask_due(lock)))
		ask(custody);
	/* The loss was only a matter of time, and is certain now. */
	if (guard->asked && !guard->known && lock->lease->lost) {
		guard->known = true;
		guard->why = lock->lease->lost;
		guard->force_due = grace_end(lock);
	}
	if (guard->asked && now() >= guard->force_due) {
		force(custody);
		/* One with more rights than ours: report it now, not when it ends. */
		if (guard->pause >= SCHEDULE_LOOK_SELDOM && !guard->complained)
			guard->complained = message_if_ready(
				lock->spec,
				"lost, but some of the command's processes cannot be killed; waiting for them");
		guard->pause = schedule_pause(guard->pause);
		wake_at(custody, now() + guard->pause);
	} else {
		wake_at(custody, guard->asked ? guard->force_due : ask_due(lock));
	}
}

static void look(struct custody *custody, bool asked, bool time)
{
	struct lock *lock = custody->lock;

	/* What has come meanwhile may have moved the time. */
	if (asked || time)
		lock->engine->serve(lock, custody->command, custody->since);
	if (time || lock->lease->lost)
		see_to_it(custody);
}

/*
 * Tells the engine. We may have been stopped: if the lock was lost meanwhile, ends the command
 * again at once.
 */
static void started(struct custody *custody)
{
	struct guard *guard = &custody->guard;
	struct lock *lock = custody->lock;
	struct process process;

	/* Children that this process had before it became me-only are not the command's. */
	if (process_read(custody->command, &process) == 0)
		guard->descendants.since = process.start;
	lock->engine->serve(lock, custody->command, 0);
	lock->engine->leased->started(lock, custody->command, guard->cgroup->path);
	if (!lock->lease->lost)
		return;
	ask(custody);
	guard->force_due = 0;
	see_to_it(custody);
}

/*
 * Whether the lock is lost; the command has ended. If we were stopped, the time may be over and
 * nobody has asked yet, or the helper has moved it or released the lock.
 */
static bool is_lost(const struct custody *custody)
{
	const struct guard *guard = &custody->guard;
	struct lock *lock = custody->lock;

	lock->engine->serve(lock, 0, 0);
	return guard->asked || lock->lease->lost ||
	       (guard->ended ? guard->ended : now()) >= lock->lease->until;
}

/* A lost lock is released when all descendants of the command are gone as well. */
static bool ended(struct custody *custody)
{
	struct guard *guard = &custody->guard;

	if (is_lost(custody))
		return false;
	if (!guard->ended)
		guard->ended = now();
	return true;
}

/* Waits until nobody is left, with force when that is due. */
static void end_descendants(struct custody *custody)
{
	struct guard *guard = &custody->guard;
	int64_t limit = DEADLINE_NEVER;

	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!descendants_signal(&guard->descendants, 0) || now() >= limit)
			return;
		if (now() >= guard->force_due) {
			force(custody);
			if (limit == DEADLINE_NEVER)
				limit = now() + FORCE_LIMIT;
		}
		poll(NULL, 0, (int)(SCHEDULE_LOOK_AGAIN / NS_PER_MS));
	}
}

static void describe_loss(const struct guard *guard, const struct lock *lock, struct line *line)
{
	unsigned left = descendants_signal(&guard->descendants, 0);

	line_begin_about(line, lock->spec);
	line_add(line, "lost at ");
	line_time(line, guard->since / NS_PER_S);
	line_add(line, ": ");
	line_add(line, guard->why);
	line_add(line, " (last confirmed ");
	line_duration(line, guard->unconfirmed);
	line_add(line, " earlier)");
	line_add(line, !guard->found	? "; the command had just ended"
		       : !guard->forced ? "; the command was ended by SIGTERM"
		       : guard->told	? "; the command was ended by SIGTERM and SIGKILL"
					: "; the command was ended by SIGKILL");
	if (left) {
		line_add(line, ", but ");
		line_number(line, left);
		line_add(line, " of its processes do not exit");
	}
}

/*
 * The command has ended in time, but nobody has confirmed yet that the lock was released, or is
 * kept for what the command has left running. Until then we watch that. Returns whether it has to
 * be ended.
 */
static bool watch_over(const struct guard *guard, struct lock *lock)
{
	while (lock->lease->until != DEADLINE_NEVER && descendants_signal(&guard->descendants, 0)) {
		if (lock->lease->lost || now() >= lock->lease->until)
			return true;
		poll(NULL, 0, (int)(SCHEDULE_LOOK_AGAIN / NS_PER_MS));
		lock->engine->serve(lock, 0, 0);
	}
	return false;
}

static bool finish(struct custody *custody, int status)
{
	struct guard *guard = &custody->guard;
	struct lock *lock = custody->lock;
	bool told = true, lost = is_lost(custody);
	struct line line;

	custody->command = 0;
	/* With -o the lock has ended with the command. */
	if (!lost && !lock->options->close)
		lost = watch_over(guard, lock);
	if (lost && !guard->asked)
		ask(custody);
	if (lost) {
		end_descendants(custody);
		/* The helper ended it while we were stopped. */
		if (!guard->found && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			guard->found = guard->forced = true;
		describe_loss(guard, lock, &line);
		told = line_end_if_ready(&line);
	}
	/* Not yet, if the command was reaped before it was seen to have ended. */
	if (!lost)
		custody_release(custody);
	lock->engine->leased->abandon(lock);
	cgroup_remove(guard->cgroup);
	custody_release(custody);
	/* Nobody reads. To wait for that delays nothing any more. */
	if (!told)
		line_end(&line);
	return lost;
}

const struct custody_form guard_custody = {
	.start = start,
	.enter = enter,
	.failed = failed,
	.started = started,
	.look = look,
	.ended = ended,
	.finish = finish,
};
