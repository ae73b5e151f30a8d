#include "run/guard.h"

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
#include "helper/schedule.h"
#include "trace.h"

/* Who does not end by SIGKILL is in the kernel, waiting for a disk: it does nothing meanwhile. It is waited for so long. */
#define FORCE_LIMIT (10 * NS_PER_S)

static int64_t now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

static void wake_at(const struct guard *guard, int64_t when)
{
	/* 0 would switch it off. */
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(when / NS_PER_S), .tv_nsec = (long)(when % NS_PER_S) + 1 } };

	if (at.it_value.tv_nsec >= NS_PER_S)
		at.it_value.tv_nsec = NS_PER_S - 1;
	(void)timerfd_settime(guard->timer, TFD_TIMER_ABSTIME, &at, NULL);
}

static int64_t ask_due(const struct lock *lock)
{
	return lock->until - options_kill_after(lock->options);
}

int guard_prepare(struct guard *guard, struct lock *lock)
{
	/* We may have been stopped since it was taken. */
	lock->engine->serve(lock, 0, 0);
	if (lock->lost || now() >= ask_due(lock))
		return LOCK_LOST;
	guard->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	guard->force_due = DEADLINE_NEVER;
	if (guard->timer < 0)
		return -errno;
	guard->descendants = (struct descendants){ .ancestor = getpid(), .helper = lock->helper };
	if (prctl(PR_SET_CHILD_SUBREAPER, 1))
		return -errno;
	guard->cgroup = lock->cgroup;
	cgroup_make(guard->cgroup);
	wake_at(guard, ask_due(lock));
	return 0;
}

/* When to kill, if the lock is lost now. */
static int64_t grace_end(const struct lock *lock)
{
	return schedule_grace_end(lock->until, options_kill_after(lock->options));
}

static void ask(struct guard *guard, struct lock *lock)
{
	guard->asked = true;
	guard->known = lock->lost != NULL;
	guard->since = clock_now(CLOCK_REALTIME);
	guard->unconfirmed = now() - lock->confirmed;
	guard->force_due = guard->known ? grace_end(lock) : lock->until;
	guard->why = lock->lost ? lock->lost : lock->trouble ? lock->trouble : "it was not renewed in time";
	/* Who was frozen until the deadline must not go on for an instant, as it would to receive SIGTERM. */
	if (now() >= guard->force_due)
		return;
	guard->found = guard->told = descendants_signal(&guard->descendants, SIGTERM) > 0;
	if (lock->options->verbose && guard->found)
		story(lock->options, lock, "the lock is lost: asked the command to end");
}

static void force(struct guard *guard, struct lock *lock)
{
	/* It first: to find all others takes milliseconds. */
	if (guard->command > 0)
		kill(guard->command, SIGKILL);
	cgroup_kill(guard->cgroup);
	if (!descendants_signal(&guard->descendants, SIGKILL))
		return;
	if (lock->options->verbose && !guard->forced)
		story(lock->options, lock, "the lock is lost: killed the command");
	guard->forced = guard->found = true;
}

void guard_look(struct guard *guard, struct lock *lock)
{
	uint64_t times;

	(void)!read(guard->timer, &times, sizeof times);
	if (!guard->asked && (lock->lost || now() >= ask_due(lock)))
		ask(guard, lock);
	/* It was only a matter of time, and is certain now. */
	if (guard->asked && !guard->known && lock->lost) {
		guard->known = true;
		guard->why = lock->lost;
		guard->force_due = grace_end(lock);
	}
	if (guard->asked && now() >= guard->force_due) {
		force(guard, lock);
		/* One that has more rights than we have: that nobody stops it must not stay unsaid until it ends. */
		if (guard->pause >= SCHEDULE_LOOK_SELDOM && !guard->complained) {
			message(lock->spec, "lost, but not all of the command can be ended; waiting for it", 0);
			guard->complained = true;
		}
		guard->pause = schedule_pause(guard->pause);
		wake_at(guard, now() + guard->pause);
	} else {
		wake_at(guard, guard->asked ? guard->force_due : ask_due(lock));
	}
}

void guard_started(struct guard *guard, struct lock *lock, pid_t command)
{
	struct process process;

	guard->command = command;
	/* What this process had started before it became me-only is none of the command's. */
	if (process_read(command, &process) == 0)
		guard->descendants.since = process.start;
	lock->engine->serve(lock, command, 0);
	lock->engine->started(lock, command, guard->cgroup->path);
	if (!lock->lost)
		return;
	ask(guard, lock);
	guard->force_due = 0;
	guard_look(guard, lock);
}

void guard_ended(struct guard *guard)
{
	if (!guard->ended)
		guard->ended = now();
}

/* Waits until nobody is left, with force when that is due. */
static void end_descendants(struct guard *guard, struct lock *lock)
{
	int64_t limit = DEADLINE_NEVER;

	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!descendants_signal(&guard->descendants, 0) || now() >= limit)
			return;
		if (now() >= guard->force_due) {
			force(guard, lock);
			if (limit == DEADLINE_NEVER)
				limit = now() + FORCE_LIMIT;
		}
		poll(NULL, 0, (int)(SCHEDULE_LOOK_AGAIN / NS_PER_MS));
	}
}

static void tell(const struct guard *guard, const struct lock *lock)
{
	unsigned left = descendants_signal(&guard->descendants, 0);
	struct line line;

	line_begin_about(&line, lock->spec);
	line_add(&line, "lost at ");
	story_time(&line, guard->since / NS_PER_S);
	line_add(&line, ": ");
	line_add(&line, guard->why);
	line_add(&line, " (last confirmed ");
	line_duration(&line, guard->unconfirmed);
	line_add(&line, " before)");
	line_add(&line, !guard->found ? "; the command had just ended" :
			!guard->forced ? "; the command was stopped (SIGTERM)" :
			guard->told ? "; the command was stopped (SIGTERM, then SIGKILL)" : "; the command was stopped (SIGKILL)");
	if (left) {
		line_add(&line, ", but ");
		line_number(&line, left);
		line_add(&line, " of its processes do not end");
	}
	line_end(&line);
}

/*
 * The command has ended in time, but nobody has confirmed that the lock was given back, or is kept for what the command has left running.
 * That is watched until then. Returns whether it had to be ended.
 */
static bool watch_over(struct guard *guard, struct lock *lock)
{
	while (lock->until != DEADLINE_NEVER && descendants_signal(&guard->descendants, 0)) {
		if (lock->lost || now() >= lock->until)
			return true;
		poll(NULL, 0, (int)(SCHEDULE_LOOK_AGAIN / NS_PER_MS));
		lock->engine->serve(lock, 0, 0);
	}
	return false;
}

bool guard_finish(struct guard *guard, struct lock *lock, int status)
{
	bool lost = guard->asked || lock->lost || (guard->ended ? guard->ended : now()) >= lock->until;

	guard->command = 0;
	/* With -o the lock has ended with the command. */
	if (!lost && !lock->options->close)
		lost = watch_over(guard, lock);
	if (lost && !guard->asked)
		ask(guard, lock);
	if (lost) {
		end_descendants(guard, lock);
		/* The helper has done it, while we were stopped. */
		if (!guard->found && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
			guard->found = guard->forced = true;
		tell(guard, lock);
	}
	lock->engine->abandon(lock);
	cgroup_remove(guard->cgroup);
	return lost;
}
