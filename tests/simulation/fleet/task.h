/* Simulated processes: how they run, sleep, are stopped and end, and what they have. */
#ifndef SIM_TASK_H
#define SIM_TASK_H

#include <poll.h>

#include "base.h"

#define TASKS 4000
#define DESCRIPTORS 80
#define FIRST_PID 100

enum kind { TASK_ME_ONLY, TASK_HELPER, TASK_COMMAND, TASK_CHILD, TASK_RIVAL };
struct file;
struct coroutine;

struct task {
	int pid, host, parent; /* parent: a pid; 1 is init */
	int job;	       /* index; -1: of none */
	enum kind kind;

	/* What ps(1) shows. */
	bool alive;
	bool zombie; /* it has ended and was not reaped */
	bool stopped;
	int status;  /* as of wait(2), when it has ended */
	bool exited; /* by itself, not killed */
	ns born;
	char *arguments[20];
	char mark[160]; /* the variable in its environment that names its lock; "" */

	/* How it runs. */
	struct coroutine *coroutine;
	void (*main)(struct task *);
	bool blocked;	     /* it waits in a system call */
	bool waking;	     /* an event for its wake-up is under way */
	bool pending;	     /* it is to run, but is stopped or frozen */
	uint64_t generation; /* of its waits: an event for an earlier one does nothing */
	ns limit;	     /* of its wait, on its CLOCK_MONOTONIC */
	ns thawed;	     /* when it has last continued after a stop or a freeze */
	double pace;	     /* how often it is preempted */

	/* Between vfork and exec: the parent, whose memory it uses; and that parent's child. */
	struct task *lender, *borrower;

	struct file *descriptors[DESCRIPTORS];
	bool close_on_exec[DESCRIPTORS];

	/* What it waits for. */
	struct pollfd *polled;
	unsigned n_polled;
	bool wants_child, wants_net;
	bool net_ready; /* something has come from the network */

	/* Signals: those that are blocked, those that are pending. Only me-only has any but
	 * SIGKILL. */
	uint64_t mask, signals;
	int death_signal; /* prctl(PR_SET_PDEATHSIG) */
	bool subreaper;
	bool asked_to_end; /* a command has got SIGTERM */

	/* Memory that it has allocated. */
	size_t blocks, bytes;

	uint64_t token;
	uint64_t random;    /* the state of what getrandom(2) gives it */
	unsigned calls_now; /* system calls at the same instant */
	ns last_call;

	/* A fault that hits it between two system calls: after so many of them, by this signal. */
	int countdown, countdown_signal;
	ns countdown_for;

	/* Requests that it has sent, for the checks. */
	unsigned requests, requests_in_second;
	unsigned questions; /* of these about the leases of others */
	ns second;
};

extern struct task *current;	  /* NULL: an event of the world runs */
extern struct task *tasks[TASKS]; /* all that this run has seen, by pid */
extern int n_tasks;

/* How often a system call takes longer, and how often a wake-up does. */
extern double task_preemption, task_slow_wakes;

struct task *task_new(enum kind kind, int host, int parent, void (*main)(struct task *), int job);
void task_start(struct task *task, ns delay);

/* As fork(2) of the current process: a child that runs MAIN with its descriptors and environment.
 */
struct task *task_fork(enum kind kind, void (*main)(struct task *));

/* The current process runs MAIN from its beginning after DELAY, as another program. */
_Noreturn void task_exec(enum kind kind, void (*main)(struct task *), ns delay);

/* The process with this pid that is alive or a zombie, or NULL. */
struct task *task_find(int pid);

/* Ends TASK with STATUS, which is as of wait(2). Does not return if it is the current one. */
void task_end(struct task *task, int status);

/* Sends SIGNAL, with what follows from it. */
void task_signal(struct task *task, int signal);

/* Whether it cannot run: stopped, or its host is frozen. */
bool task_is_still(const struct task *task);

/* The state in /proc/PID/stat. */
char task_state(const struct task *task);

/* Waits until it is woken, or its CLOCK_MONOTONIC shows LIMIT. */
void task_block(ns limit);
void task_sleep(ns duration);
void task_wake(struct task *task, ns delay);

/* The time from an event until the process runs that it wakes up. */
ns task_latency(void);

/* Something has changed that somebody may poll. */
void task_notify(void);

/* Every system call begins here. */
void task_enter_call(void);

/* The same for one at which nothing can happen: a process that makes only such calls spins. */
void task_count_call(void);

/* Its mask has changed: a signal that is pending and not blocked any more ends it. */
void task_look_at_signals(struct task *task);

/* It may run again, if nothing else keeps it from that. */
void task_go_on(struct task *task);

void host_freeze(int host, bool suspend, bool unseen);
void host_thaw(int host);

void task_reset(void);

/* --- descriptors (descriptors.c) -------------------------------------------------------------- */

/* Polls. Returns how many are ready; 0 too if LIMIT is over, or (NET) something came from the
 * network. */
int descriptors_poll(struct pollfd *polled, unsigned n, ns limit, bool net);
bool descriptors_ready(struct task *task);
void descriptors_close_all(struct task *task, bool only_on_exec);
void descriptors_inherit(struct task *child, const struct task *parent);
void descriptors_open_stdio(struct task *task);
void descriptors_reset(void);

/* --- what else ends with a process, and what the world wants to know -------------------------- */

void network_forget(struct task *task);	  /* network.c */
void check_task_ended(struct task *task); /* checks.c */
void check_spinning(struct task *task);
void check_leak(struct task *task);

/* explore.c: called at each system call; may stop or kill the current process. */
void explore_call(void);

/* calls.c: what the project's sources call instead of malloc(3) and _exit(2). */
void *sim_malloc(size_t n);
void sim_free(void *p);
char *sim_strdup(const char *text);
_Noreturn void sim__exit(int status);
int sim_poll(struct pollfd *polled, nfds_t n, int timeout);

#endif
