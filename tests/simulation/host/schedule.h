/* Coroutines for processes, virtual time, and the choice whose turn it is. */
#ifndef SCHEDULE_H
#define SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "coroutine.h"
#include "kernel.h"
#include "random.h"
#include "journal.h"

#define MOST_TASKS 320
#define MOST_POLLED 40
#define MOST_CHANGES 16
#define MOST_FAULTS 8
#define MOST_DEVIATIONS 8

struct task {
	struct coroutine coroutine;
	struct proc *proc;
	void (*body)(void *);
	void *argument;
	bool blocked, in_kernel;
	bool (*ready)(struct task *); /* when blocked */
	int64_t until;
	int polled_count;
	struct {
		struct file *file;
		short events;
	} polled[MOST_POLLED];
	struct proc *child;	      /* being waited for */
	const struct address *wanted; /* connect() waits for room in the backlog of this one */
	int saved_errno, priority, index, joined;
};

/* RANDOM; by priorities that change now and then (PCT); or all by default but for some deviations.
 */
enum strategy { BY_CHANCE, BY_PRIORITY, BY_LIST };

struct schedule {
	bool running;
	enum strategy strategy;
	struct random random;
	long steps, limit;
	int stick;		   /* BY_CHANCE: in 1024, how often the same task goes on */
	struct task *woken;	   /* just now: mostly it runs at once */
	long change[MOST_CHANGES]; /* BY_PRIORITY: at these steps, the last first, whoever runs
				      comes last from then on */
	int changes;
	long fault[MOST_FAULTS]; /* at these steps, the last first, a fault happens */
	int faults;
	int jump; /* in 1,000,000 steps, how often time jumps */
	int64_t longest_jump;
	struct {
		int point, choice;
	} deviation[MOST_DEVIATIONS]; /* BY_LIST */
	int deviations;
	int points;	      /* choice points so far */
	unsigned char *width; /* how many choices each of them had */
	int most_points;
	bool over;
	char failure[400];
};

extern struct schedule schedule;
extern struct task *current;

/* The process whose turn it is. */
static inline struct proc *me(void)
{
	return current->proc;
}

/* What its descriptor FD is; NULL: it is closed. */
static inline struct file *k_file(int fd)
{
	const struct fdtable *table = me()->files;

	return fd >= 0 && fd < table->end ? table->file[fd] : NULL;
}

#define TRACE(...) \
	do { \
		if (trace_mode) \
			trace_line(K.now - EPOCH, \
				   current && current->proc ? current->proc->name : "-", \
				   __VA_ARGS__); \
	} while (0)

struct task *task_new(struct proc *p, void (*body)(void *), void *argument);
_Noreturn void task_end(void);

/*
 * As fork: CHILD, a new task, gets a copy of the stack of the current one, in which what points
 * into that stack points into the copy. Returns where in it ARGUMENT is.
 */
void *task_copy_stack(struct task *child, void *argument);

/* Ends all tasks of P but the current one: its threads. */
void task_end_others(const struct proc *p);

/* Others may run here. Comes back only if the process is alive; inside the kernel a process is
 * never ended. */
void point(bool in_kernel);

/* Sleeps until READY, if it is not NULL, or UNTIL. */
void block(bool (*ready)(struct task *), int64_t until);

/* As a process: sleeps until WHEN. */
void sleep_until(int64_t when);

void schedule_reset(void);
void schedule_run(void);

/* A random number below N, of this run. */
uint32_t rnd(uint32_t n);

/* What went wrong, the rule before a colon. The first counts, and ends the run. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
