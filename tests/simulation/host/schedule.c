/* Whose turn it is: by chance, by priorities (PCT: Burckhardt et al., ASPLOS 2010), or as a list of
 * deviations says. */
#include "schedule.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "world.h"

#define STACK_SIZE 65536
#define LONGEST_STEP (3 * US)

struct schedule schedule;
struct task *current;

static struct task tasks[MOST_TASKS], *live[MOST_TASKS], outside;
static int task_count, live_count;
static char *stacks;

uint32_t rnd(uint32_t n)
{
	return random_below(&schedule.random, n);
}

void fail(const char *format, ...)
{
	va_list list;

	if (schedule.over)
		return;
	va_start(list, format);
	vsnprintf(schedule.failure, sizeof schedule.failure, format, list);
	va_end(list);
	TRACE("VIOLATION: %s", schedule.failure);
	schedule.over = true;
}

void schedule_reset(void)
{
	task_count = live_count = 0;
	current = NULL;
	schedule.steps = 0;
	schedule.points = 0;
	schedule.over = false;
	schedule.failure[0] = 0;
	schedule.faults = schedule.changes = 0;
	schedule.woken = NULL;
}

/* --- tasks --- */

static void begin(void)
{
	current->body(current->argument);
	task_end();
}

struct task *task_new(struct proc *p, void (*body)(void *), void *argument)
{
	struct task *task = &tasks[task_count];

	if (task_count == MOST_TASKS)
		abort();
	if (!stacks)
		stacks = mmap(NULL, (size_t)STACK_SIZE * MOST_TASKS, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	*task = (struct task){ .proc = p,
			       .body = body,
			       .argument = argument,
			       .index = task_count,
			       .priority = 1000 + (int)rnd(1 << 20) };
	coroutine_make(&task->coroutine, stacks + (size_t)STACK_SIZE * (size_t)task_count++,
		       STACK_SIZE - 2048, begin);
	live[live_count++] = task;
	return task;
}

static void switch_to(struct task *next)
{
	struct task *from = current;

	if (next == from)
		return;
	from->saved_errno = errno;
	current = next;
	coroutine_switch(&from->coroutine, &next->coroutine);
	/* Back again. */
	errno = current->saved_errno;
}

/* --- time --- */

/* Moves time to what is due next. Returns whether anything is. */
static bool jump_to_next(void)
{
	int64_t next = NEVER;

	for (int i = 0; i < live_count; i++)
		if (live[i]->blocked && live[i]->until < next &&
		    !(live[i]->proc->stopped && !live[i]->proc->killed))
			next = live[i]->until;
	if (next == NEVER)
		return false;
	if (next > K.now)
		K.now = next;
	return true;
}

/* A step takes its time, and what is due at this step happens: a jump of time, a fault, a change of
 * priorities. */
static void tick(void)
{
	schedule.steps++;
	if (schedule.steps > schedule.limit)
		fail("ENDLESS: no end after %ld steps", schedule.steps);
	if (schedule.strategy == BY_LIST) {
		K.now += 2 * US;
		return;
	}
	K.now += 500 + rnd(LONGEST_STEP);
	if (schedule.jump && (int)rnd(1000000) < schedule.jump)
		K.now += schedule.longest_jump / 1000 * rnd(1000);
	while (schedule.faults > 0 && schedule.steps >= schedule.fault[schedule.faults - 1]) {
		schedule.faults--;
		fault_happens();
	}
	while (schedule.strategy == BY_PRIORITY && schedule.changes > 0 &&
	       schedule.steps >= schedule.change[schedule.changes - 1])
		current->priority = --schedule.changes;
}

/* --- the choice --- */

static bool can_run(struct task *task)
{
	const struct proc *p = task->proc;

	if (p->state == PROC_ALIVE && !task->in_kernel) {
		if (p->killed)
			return true;
		if (p->stopped)
			return false;
	}
	return !task->blocked || K.now >= task->until || (task->ready && task->ready(task));
}

/* AT: where in CHOICES whoever has run until now is; -1: it cannot go on. */
static int by_chance(struct task *const choices[], int n, int at)
{
	for (int i = 0; schedule.woken && i < n; i++)
		if (choices[i] == schedule.woken) {
			schedule.woken = NULL;
			if (rnd(8))
				return i;
		}
	if (at >= 0 && (int)rnd(1024) < schedule.stick)
		return at;
	return (int)rnd((uint32_t)n);
}

static int by_priority(struct task *const choices[], int n)
{
	int best = 0;

	for (int i = 1; i < n; i++)
		if (choices[i]->priority > choices[best]->priority)
			best = i;
	return best;
}

/* What the list says of this choice point, one of WIDTH. */
static int listed_choice(int width)
{
	int choice = 0;

	if (width < 2)
		return 0;
	if (schedule.points < schedule.most_points)
		schedule.width[schedule.points] = (unsigned char)width;
	for (int i = 0; i < schedule.deviations; i++)
		if (schedule.deviation[i].point == schedule.points)
			choice = schedule.deviation[i].choice;
	schedule.points++;
	return choice;
}

/*
 * By default whoever runs goes on, and if it cannot the next in turn. Other choices are the other
 * tasks, then a fault, then that time passes until something is due. -1: one of the last two, and
 * all begins anew.
 */
static int by_list(struct task *const choices[], int n, int at)
{
	bool has_fault = fault_is_left();
	int first = at, choice;

	for (int i = 0; first < 0 && i < n; i++)
		if (choices[i]->index >= current->index)
			first = i;
	if (first < 0)
		first = 0;
	choice = listed_choice(n + has_fault + (schedule.jump > 0));
	if (choice < n)
		return (first + choice) % n;
	if (choice == n && has_fault)
		fault_happens();
	else
		jump_to_next();
	return -1;
}

static int choose(struct task *const choices[], int n, int at)
{
	if (n == 1 && schedule.strategy != BY_LIST)
		return 0;
	if (schedule.strategy == BY_CHANCE)
		return by_chance(choices, n, at);
	return schedule.strategy == BY_PRIORITY ? by_priority(choices, n) : by_list(choices, n, at);
}

/* All that can run. AT: where among them the task is that has run until now, or -1. */
static int find_choices(struct task *choices[], int *at)
{
	int n = 0;

	*at = -1;
	for (int i = 0; i < live_count; i++)
		if (can_run(live[i])) {
			if (live[i] == current)
				*at = n;
			choices[n++] = live[i];
		}
	return n;
}

/* Nobody can run: time passes, or that was all. */
static void wait_for_time(void)
{
	const struct proc *lost;

	if (live_count == 0) {
		schedule.over = true;
	} else if (!jump_to_next()) {
		fail("LOST: %s is asleep for ever, and nobody else can run", live[0]->proc->name);
	} else if ((lost = world_lost())) {
		fail("LOST: %s still waits, long after the last fault", lost->name);
	}
}

static struct task *next_task(void)
{
	struct task *choices[MOST_TASKS];
	int at, i = -1;

	while (!schedule.over) {
		int n = find_choices(choices, &at);

		if (n == 0)
			wait_for_time();
		else if ((i = choose(choices, n, at)) >= 0)
			return choices[i];
	}
	return &outside;
}

/* --- where others may run --- */

void point(bool in_kernel)
{
	if (!schedule.running)
		return;
	/* Before a fault comes, which may ask who is in the middle of something. */
	current->in_kernel = in_kernel;
	tick();
	switch_to(next_task());
	current->in_kernel = false;
	if (!in_kernel && me()->killed && me()->state == PROC_ALIVE)
		k_exit(me()->killed);
}

void block(bool (*ready)(struct task *), int64_t until)
{
	current->ready = ready;
	current->until = until;
	current->blocked = true;
	switch_to(next_task());
	current->blocked = false;
}

void sleep_until(int64_t when)
{
	while (K.now < when) {
		block(NULL, when);
		if (me()->killed)
			k_exit(me()->killed);
	}
	point(false);
}

void *task_copy_stack(struct task *child, void *argument)
{
	uintptr_t low = (uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)15,
		  high = (uintptr_t)(stacks + (size_t)STACK_SIZE * (size_t)(current->index + 1));
	uintptr_t *copy = (uintptr_t *)(void *)(stacks + (size_t)STACK_SIZE * (size_t)child->index),
		  moved = (uintptr_t)copy - low;

	if (high - low > STACK_SIZE / 2)
		abort();
	memcpy(copy, (const void *)low, high - low);
	for (uintptr_t *word = copy; word < copy + (high - low) / sizeof *copy; word++)
		if (*word >= low && *word < high)
			*word += moved;
	return (uintptr_t)argument >= low && (uintptr_t)argument < high
		       ? (void *)((uintptr_t)argument + moved)
		       : argument;
}

static void take_out(const struct task *task)
{
	int i = 0;

	while (live[i] != task)
		i++;
	live_count--;
	memmove(live + i, live + i + 1, sizeof *live * (size_t)(live_count - i));
}

void task_end_others(const struct proc *p)
{
	for (int i = live_count - 1; i >= 0; i--)
		if (live[i]->proc == p && live[i] != current) {
			struct task *task = live[i];

			k_flock_forget(task);
			take_out(task);
			while (task->polled_count > 0)
				k_file_put(task->polled[--task->polled_count].file);
		}
}

void task_end(void)
{
	take_out(current);
	switch_to(next_task());
	abort();
}

void schedule_run(void)
{
	schedule.running = true;
	current = &outside;
	switch_to(next_task());
	schedule.running = false;
	current = &outside;
}
