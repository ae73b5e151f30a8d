#include "task.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "coroutine.h"
#include "world.h"

#define INIT 1

/* So many calls at the same instant are no work any more: the process spins. */
#define MOST_CALLS_NOW 3000

struct task *current, *tasks[TASKS];
int n_tasks;
double task_preemption, task_slow_wakes;

/* Those that are alive, in the order of their pids. */
static struct task *living[TASKS];
static int n_living;

/* A coroutine that has left for good, to be freed once nothing runs on its stack. */
static struct coroutine *left;

struct task *task_find(int pid)
{
	struct task *task;

	if (pid < FIRST_PID || pid >= FIRST_PID + n_tasks)
		return NULL;
	task = tasks[pid - FIRST_PID];
	return task->alive || task->zombie ? task : NULL;
}

bool task_is_still(const struct task *task)
{
	return task->stopped || clocks[task->host].frozen;
}

/* A parent in vfork(2) sleeps in the kernel: a stop shows only when it comes out of it. */
char task_state(const struct task *task)
{
	return !task->alive ? 'Z' : task->borrower ? 'D' : task->stopped ? 'T' : 'S';
}

/* --- beginning -------------------------------------------------------------------------------- */

struct task *task_new(enum kind kind, int host, int parent, void (*main)(struct task *), int job)
{
	struct task *task = arena_get(sizeof *task);

	if (n_tasks == TASKS)
		abort();
	*task = (struct task){ .pid = FIRST_PID + n_tasks,
				.kind = kind,
				.host = host,
				.parent = parent,
				.main = main,
				.job = job,
				.alive = true,
				.born = now,
				.thawed = -3600 * S,
				.pace = task_preemption,
				.random = random_number() };
	tasks[n_tasks++] = living[n_living++] = task;
	return task;
}

static void run_main(void *argument)
{
	struct task *task = argument;

	task->main(task);
	task->exited = true;
	task_end(task, 0);
}

void task_start(struct task *task, ns delay)
{
	task->coroutine = coroutine_new(run_main, task);
	task->blocked = true;
	task->waking = false;
	task_wake(task, delay);
}

struct task *task_fork(enum kind kind, void (*main)(struct task *))
{
	struct task *child = task_new(kind, current->host, current->pid, main, current->job);

	descriptors_inherit(child, current);
	memcpy(child->mark, current->mark, sizeof child->mark);
	child->token = current->token;
	task_start(child, random_between(100 * US, 1 * MS));
	return child;
}

/* The parent in vfork(2) goes on when its child has executed a program or ended. */
static void give_back_memory(struct task *child)
{
	struct task *parent = child->lender;

	child->lender = NULL;
	if (!parent)
		return;
	parent->borrower = NULL;
	task_wake(parent, random_between(5 * US, 50 * US));
}

_Noreturn static void leave_for_good(struct task *task)
{
	left = task->coroutine;
	task->coroutine = NULL;
	coroutine_leave(left, 1);
	abort();
}

/* start_process() of src/base/start.h: vfork(2), the child being a coroutine of its own. */
int start_process(void (*function)(void *), void *argument);

struct start {
	void (*function)(void *);
	void *argument;
};

static void run_start(void *argument)
{
	struct start *start = argument;

	start->function(start->argument);
	abort();
}

int start_process(void (*function)(void *), void *argument)
{
	struct start *start = arena_get(sizeof *start);
	struct task *parent = current, *child;

	task_enter_call();
	child = task_new(TASK_COMMAND, parent->host, parent->pid, NULL, parent->job);
	*start = (struct start){ function, argument };
	child->mask = parent->mask;
	descriptors_inherit(child, parent);
	child->lender = parent;
	parent->borrower = child;
	child->coroutine = coroutine_new(run_start, start);
	child->blocked = true;
	task_wake(child, random_between(10 * US, 100 * US));
	world_event(EVENT_STARTING, parent->job, 0);
	/* Nothing but the child, and SIGKILL, ends this sleep. */
	while (parent->borrower)
		task_block(NEVER);
	return child->pid;
}

_Noreturn void task_exec(enum kind kind, void (*main)(struct task *), ns delay)
{
	struct task *task = current;
	struct coroutine *before = task->coroutine;

	task->kind = kind;
	task->main = main;
	descriptors_close_all(task, true);
	task_notify();
	give_back_memory(task);
	task->generation++;
	task_start(task, delay);
	left = before;
	coroutine_leave(before, 1);
	abort();
}

/* --- running ---------------------------------------------------------------------------------- */

static void run(struct task *task)
{
	if (!task->alive || !task->blocked)
		return;
	task->waking = false;
	if (task_is_still(task)) {
		task->pending = true;
		return;
	}
	task->blocked = false;
	task->generation++;
	current = task;
	coroutine_enter(task->coroutine);
	current = NULL;
	if (left)
		coroutine_free(left);
	left = NULL;
}

static void wake_event(void *argument, int64_t generation)
{
	struct task *task = argument;

	if (task->alive && task->generation == (uint64_t)generation)
		run(task);
}

void task_wake(struct task *task, ns delay)
{
	if (!task->alive || !task->blocked || task->waking)
		return;
	task->waking = true;
	event_at(now + delay, wake_event, task, (int64_t)task->generation);
}

ns task_latency(void)
{
	if (!random_chance(task_slow_wakes))
		return random_between(10 * US, 150 * US);
	return random_between(1 * MS, random_chance(0.1) ? 200 * MS : 20 * MS);
}

static void timeout_event(void *argument, int64_t generation)
{
	struct task *task = argument;
	ns left_over;

	if (!task->alive || task->generation != (uint64_t)generation || !task->blocked)
		return;
	/* The host may have been suspended: poll(2) counts CLOCK_MONOTONIC. */
	left_over = task->limit - clock_monotonic(task->host);
	if (left_over > 0)
		event_at(now + clock_duration(task->host, left_over) + 1000, timeout_event, task,
			 generation);
	else
		task_wake(task, task_latency());
}

void task_block(ns limit)
{
	struct task *task = current;

	task->blocked = true;
	task->waking = task->pending = false;
	task->limit = limit;
	if (limit != NEVER)
		event_at(now + clock_duration(task->host, limit - clock_monotonic(task->host)),
			 timeout_event, task, (int64_t)task->generation);
	coroutine_leave(task->coroutine, 0);
}

void task_sleep(ns duration)
{
	task_block(clock_monotonic(current->host) + duration);
}

void task_notify(void)
{
	for (int i = 0; i < n_living; i++) {
		struct task *task = living[i];

		if (task->blocked && !task->waking && !task->pending &&
		    (task->n_polled || task->wants_net) && descriptors_ready(task))
			task_wake(task, task_latency());
	}
}

/* --- stopping --------------------------------------------------------------------------------- */

static void signal_event(void *argument, int64_t signal)
{
	struct task *task = argument;

	if (task->alive)
		task_signal(task, (int)signal);
}

void task_go_on(struct task *task)
{
	task->thawed = now;
	if (task->pending && !task_is_still(task)) {
		task->pending = false;
		task_wake(task, random_between(10 * US, 5 * MS));
	}
}

/* SIGNAL hits the current process between two calls; if it stops, then for so long. */
static void hit(int signal, ns duration)
{
	struct task *task = current;

	trace("hit by signal %d between two calls, for %.3f s", signal, (double)duration / 1e9);
	if (signal == SIGKILL)
		task_end(task, SIGKILL);
	task->stopped = true;
	event_at(now + duration, signal_event, task, SIGCONT);
	task->blocked = task->pending = true;
	task->waking = false;
	task->limit = NEVER;
	coroutine_leave(task->coroutine, 0);
}

void task_count_call(void)
{
	struct task *task = current;

	if (task->last_call != now) {
		task->calls_now = 0;
		task->last_call = now;
	} else if (++task->calls_now > MOST_CALLS_NOW) {
		check_spinning(task);
		task->calls_now = 0;
		task_sleep(10 * MS);
	}
}

void task_enter_call(void)
{
	struct task *task = current;

	if (!task)
		return;
	task_count_call();
	explore_call();
	if (task->countdown > 0 && --task->countdown == 0)
		hit(task->countdown_signal, task->countdown_for);
	if (random_chance(task->pace)) {
		ns most = random_chance(0.02) ? 100 * MS : 500 * US;

		task_sleep(random_between(most == 100 * MS ? 1 * MS : 1 * US, most));
	}
}

/* --- signals ---------------------------------------------------------------------------------- */

/* SIGNAL becomes pending: a signalfd is readable, a wait for a child ends. */
static void raise_signal(struct task *task, int signal)
{
	if (task->kind != TASK_ME_ONLY)
		return;
	task->signals |= 1ULL << (signal - 1);
	if (task->wants_child && task->blocked && !task->borrower)
		task_wake(task, task_latency());
	task_notify();
}

static void end_event(void *argument, int64_t status)
{
	struct task *task = argument;

	if (task->alive)
		task_end(task, (int)status);
}

static void stop_or_continue(struct task *task, bool stop)
{
	if (task->stopped == stop)
		return;
	trace("process %d %s", task->pid, stop ? "is stopped" : "goes on");
	task->stopped = stop;
	if (!stop)
		task_go_on(task);
}

/* The helper ignores what can be ignored (etcd/main.c); a command is told of SIGTERM; me-only
 * blocks all. */
void task_signal(struct task *task, int signal)
{
	if (!task->alive || signal == 0)
		return;
	if (signal == SIGKILL) {
		if (task == current)
			task_end(task, SIGKILL);
		/* The end of a process takes a moment. */
		event_at(now + random_between(5 * US, 300 * US), end_event, task, SIGKILL);
	} else if (signal == SIGSTOP || signal == SIGCONT) {
		stop_or_continue(task, signal == SIGSTOP);
	} else if (task->kind == TASK_ME_ONLY) {
		if (task->mask & 1ULL << (signal - 1))
			raise_signal(task, signal);
		else
			event_at(now + random_between(5 * US, 100 * US), end_event, task, signal);
	} else if (task->lender) {
		task->signals |= 1ULL << (signal - 1);
	} else if (task->kind == TASK_COMMAND || task->kind == TASK_CHILD) {
		task->asked_to_end = true;
		task_wake(task, task_latency());
	}
}

void task_look_at_signals(struct task *task)
{
	const uint64_t due = task->signals & ~task->mask & ~(1ULL << (SIGCHLD - 1));

	if (due)
		task_end(task, __builtin_ctzll(due) + 1);
}

/* --- end -------------------------------------------------------------------------------------- */

/* The nearest living ancestor that is a subreaper, or init: prctl(PR_SET_CHILD_SUBREAPER). */
static int reaper_of(const struct task *task)
{
	struct task *above = task_find(task->parent);

	while (above && (!above->subreaper || !above->alive))
		above = task_find(above->parent);
	return above ? above->pid : INIT;
}

static void leave_children(const struct task *task)
{
	const int reaper = reaper_of(task);

	for (int i = 0; i < n_tasks; i++) {
		struct task *child = tasks[i];

		if (child->parent != task->pid || child == task)
			continue;
		child->parent = reaper;
		if (reaper == INIT)
			child->zombie = false;
		if (child->alive && child->death_signal)
			task_signal(child, child->death_signal);
	}
}

static void remove_living(const struct task *task)
{
	int i = 0;

	while (living[i] != task)
		i++;
	memmove(&living[i], &living[i + 1], (size_t)(--n_living - i) * sizeof *living);
}

void task_end(struct task *task, int status)
{
	struct task *parent = task_find(task->parent);

	trace("process %d ends with status %#x", task->pid, (unsigned)status);
	hash_add((uint64_t)task->pid << 16 ^ (uint64_t)status);
	task->alive = false;
	task->status = status;
	remove_living(task);
	network_forget(task);
	descriptors_close_all(task, false);
	leave_children(task);
	task->zombie = parent && parent->alive;
	if (task->zombie)
		raise_signal(parent, SIGCHLD);
	check_task_ended(task);
	if (task->blocks && task->exited && task->kind == TASK_HELPER)
		check_leak(task);
	task_notify();
	give_back_memory(task);
	if (task == current)
		leave_for_good(task);
	/* A child before its exec still uses this stack: it is not given to others. */
	if (task->borrower)
		task->borrower->lender = NULL;
	else if (task->coroutine)
		coroutine_free(task->coroutine);
	if (!task->borrower)
		task->coroutine = NULL;
}

void task_reset(void)
{
	current = NULL;
	for (int i = 0; i < n_tasks; i++)
		if (tasks[i]->coroutine)
			coroutine_free(tasks[i]->coroutine);
	n_tasks = n_living = 0;
	descriptors_reset();
}
