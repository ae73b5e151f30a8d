/* Faults: processes that are killed or stopped, at steps that the scheduler chooses. */
#include <signal.h>
#include <string.h>

#include "world.h"

/* How long after the last fault everybody must have ended. */
#define TIME_TO_END (400 * S)

enum fault_kind { KILL, STOP, TERMINATE, KILL_KEEPER, KILL_COMMAND };

static struct fault {
	enum fault_kind kind;
	struct run *run;
	int64_t pause; /* until it is continued */
	int64_t when;  /* in scenes */
} faults[MOST_FAULTS];
static int count, next;

static void note_fault(void)
{
	W.last_fault = K.now;
	W.end = K.now + TIME_TO_END;
}

bool fault_is_left(void)
{
	return next < count;
}

/* --- making them --- */

static enum fault_kind draw_kind(void)
{
	switch (W.kind->mix) {
	case STOPS: return STOP;
	case KILLS_AND_STOPS: return rnd(3) ? KILL : STOP;
	case ALL_KINDS:
		if (rnd(6) == 0)
			return rnd(2) ? TERMINATE : KILL_COMMAND;
		return rnd(3) ? KILL : STOP;
	case KILLS_OF_KEEPERS: return rnd(3) ? KILL_KEEPER : KILL;
	case KEEPER_OR_FIRST: return rnd(2) ? KILL_KEEPER : KILL;
	default: return KILL;
	}
}

/* Short ones, long ones, and for good. */
static int64_t draw_pause(void)
{
	if (rnd(3))
		return rnd(2000) * MS;
	return rnd(4) ? rnd(30) * S : 1000 * S;
}

void faults_reset(void)
{
	count = next = 0;
	note_fault();
}

void faults_draw(void)
{
	bool of_first = W.kind->mix == KILLS_OF_FIRST || W.kind->mix == KEEPER_OR_FIRST;
	int most = W.kind->faults;

	count = W.kind->mix == NO_FAULTS ? 0 : most < 0 ? (int)rnd((uint32_t)-most + 1) : most;
	for (int i = 0; i < count; i++)
		faults[i] =
			(struct fault){ draw_kind(), &W.run[of_first ? 0 : rnd((uint32_t)W.runs)],
					draw_pause(), 0 };
	/* A lock whose me-only and keeper are both killed is lost: that is documented. */
	if (W.kind->mix == KILLS_OF_KEEPERS && count > 1)
		count = 1;
}

/* --- what they hit --- */

static struct proc *relative(const struct run *run, enum role role)
{
	for_each_proc(p)
		if (p->run == run && p->role == role && p->state == PROC_ALIVE)
			return p;
	return NULL;
}

static struct proc *victim(const struct fault *fault)
{
	if (fault->kind == KILL_KEEPER)
		return relative(fault->run, ROLE_KEEPER);
	return fault->kind == KILL_COMMAND ? relative(fault->run, ROLE_COMMAND) : fault->run->proc;
}

/*
 * Documented: a command that gives its lock away loses it, if me-only is killed before there is a
 * keeper. That comes after a second; a little later where nothing is scheduled in time, and not at
 * all where no process can be started.
 */
static bool is_documented_loss(const struct run *run)
{
	const struct proc *keeper = relative(run, ROLE_KEEPER);
	bool is_late = run->exec_step && K.now - run->exec_time > 1500 * MS && !W.kind->inject &&
		       !W.kind->few_fds && !W.kind->wild && !W.stops;

	return run->gives_away && !run->gate && run->forked && (keeper ? keeper->killed : !is_late);
}

static bool is_asleep(const struct task *task)
{
	return task->blocked && K.now < task->until &&
	       !(task->ready && task->ready((struct task *)(uintptr_t)task));
}

/* How many wait in the queue of RUN, and whether they all sleep. */
static int count_waiters(const struct run *run, bool *all_asleep)
{
	int waiting = 0;

	for_each_run(r) {
		bool has_queue, in_line;

		if (!r->proc || !r->joins || r->exec_step || r->proc->state != PROC_ALIVE ||
		    r->lock != run->lock || r->uid != run->uid || r->slots != run->slots)
			continue;
		look_at_line(r->proc, &has_queue, &in_line);
		waiting += has_queue || in_line;
		/* Also of one that has not read yet that it is given the queue. */
		*all_asleep &= is_asleep(r->proc->task) && r->got <= r->join_last;
	}
	return waiting;
}

/* Whether a line of three or more is at rest: then two deaths must not cost the queue. */
static bool line_is_at_rest(const struct run *run)
{
	bool at_rest = true;

	if (count_waiters(run, &at_rest) < 3)
		return false;
	/* Nobody is closing anything, and whoever has the lock has left the line. */
	for_each_proc(p) {
		if (p->state >= PROC_ZOMBIE)
			continue;
		at_rest &= !(p->task && p->task->in_kernel);
		at_rest &= !p->run || !p->run->exec_step || has_left_line(p);
	}
	return at_rest;
}

/* --- what they do --- */

/* Continues what was stopped, when its time is over. */
static void alarm_main(void *argument)
{
	const struct fault *fault = argument;

	sleep_until(K.now + fault->pause);
	TRACE("SIGCONT to %s", fault->run->proc->name);
	note_fault();
	k_signal(fault->run->proc, SIGCONT, 0, NULL);
	k_exit(0);
}

static void stop(struct fault *fault, struct proc *p)
{
	W.stops++;
	p->stopped = true;
	k_flock_interrupt(p);
	actor_new("alarm", 0, 16, alarm_main, fault);
}

static void end(const struct fault *fault, struct proc *p)
{
	if (fault->kind == KILL && W.kills == 0) {
		W.at_rest = line_is_at_rest(fault->run) ? fault->run : NULL;
		W.commands_at_kill = W.commands;
	}
	W.kills++;
	k_signal(p, fault->kind == TERMINATE ? SIGTERM : SIGKILL, 0, NULL);
}

static void hit(struct fault *fault)
{
	struct proc *p = victim(fault);

	if (!p || p->state != PROC_ALIVE || p->killed || (fault->kind == STOP && p->stopped))
		return;
	if (fault->kind == KILL && is_documented_loss(fault->run))
		return;
	TRACE("%s of %s",
	      fault->kind == STOP	 ? "SIGSTOP"
	      : fault->kind == TERMINATE ? "SIGTERM"
					 : "SIGKILL",
	      p->name);
	note_fault();
	if (fault->kind == KILL_KEEPER) {
		fault->run->keeper_killed = true;
		k_signal(p, SIGKILL, 0, NULL);
		return;
	}
	fault->run->faulted = true;
	if (fault->kind == STOP)
		stop(fault, p);
	else
		end(fault, p);
}

void fault_happens(void)
{
	if (next < count)
		hit(&faults[next++]);
}

static void fault_main(void *argument)
{
	struct fault *fault = argument;

	sleep_until(fault->when);
	hit(fault);
	k_exit(0);
}

void fault_at(int64_t when, struct run *run, bool stops, int64_t pause)
{
	faults[count] = (struct fault){ stops ? STOP : KILL, run, pause, EPOCH + when };
	actor_new("fault", 0, 16, fault_main, &faults[count++]);
	next = count;
}
