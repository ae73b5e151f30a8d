#include "storm.h"

#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ARGUMENTS = 20 };

/* The locks, by number: up to and without these. */
enum {
	PLAIN = 25,
	SLOTS = 35,
	FILES = 43,
	REPLACED = 46,
	REPLACED_FILE = 47,
	LONG = 48,
	LONG_FILE = 49,
	LONG_SLOTS = 50
};

static uint64_t random_state;

/* splitmix64: each number of anything begins a sequence of its own. */
static uint64_t next_random(void)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

void random_begin(unsigned what, uint64_t number)
{
	random_state = storm.seed * 1000003 + storm.worker * 101 + what;
	random_state = next_random() + number;
	next_random();
}

unsigned random_below(unsigned n)
{
	return (unsigned)(next_random() % n);
}

/* What a new process is to become. */
struct start {
	const char *arguments[ARGUMENTS];
	char texts[8][100];
	unsigned n, used;
	unsigned descriptors; /* its limit; 0: ours */
	bool few_processes;
};

static void add(struct start *start, const char *argument)
{
	start->arguments[start->n++] = argument;
	start->arguments[start->n] = NULL;
}

__attribute__((format(printf, 2, 3))) static void add_text(struct start *start, const char *format,
							   ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(start->texts[start->used], sizeof start->texts[0], format, arguments);
	va_end(arguments);
	add(start, start->texts[start->used++]);
}

bool lock_is_file(unsigned lock)
{
	return (lock >= SLOTS && lock < FILES) || lock == REPLACED_FILE - 1 ||
	       lock == LONG_FILE - 1;
}

unsigned lock_slots(unsigned lock)
{
	return lock == LONG_SLOTS - 1          ? 3
	       : lock >= PLAIN && lock < SLOTS ? 2 + lock % (STORM_SLOTS - 1)
					       : 1;
}

static bool is_long(unsigned lock)
{
	return lock >= REPLACED_FILE;
}

static unsigned choose_lock(void)
{
	unsigned r = random_below(1000);

	if (r < 500)
		return 0;
	if (r < 570)
		return FILES + random_below(REPLACED_FILE - FILES);
	if (r < 590)
		return REPLACED_FILE + random_below(STORM_LOCKS - REPLACED_FILE);
	return 1 + random_below(FILES - 1);
}

/* How to wait, if at all. */
static void add_wait(struct start *start, struct run *run)
{
	unsigned r = random_below(100);
	/* For what takes long most are refused, or all would wait there. */
	bool for_ever = r >= 60 && !is_long(run->lock);

	if (r < 25)
		return;
	if (r < 35) {
		add(start, "-n");
		return;
	}
	if (run->replaced && random_below(2)) {
		add(start, "--replace");
		add(start, "-k");
		add(start, "50ms");
	}
	add(start, "-w");
	add(start, for_ever ? "inf" : r < 50 ? "5ms" : "100ms");
	run->waits = for_ever && r < 88;
	if (r >= 88)
		add_text(start, "--queue=%u", 1 + random_below(4));
}

/* The options of a run of me-only, and its lock. */
static void add_options(struct start *start, struct run *run)
{
	static const char *const forms[] = { "-F", "-o" };
	unsigned form = random_below(4);

	add(start, "-q");
	if (form < 2)
		add(start, forms[form]);
	run->closes = form == 1;
	add_wait(start, run);
	if (lock_slots(run->lock) > 1)
		add_text(start, "-j%u", lock_slots(run->lock));
	if (lock_is_file(run->lock))
		add_text(start, "file:%s/%u", storm.directory, run->lock);
	else
		add_text(start, "%s/%u", storm.name, run->lock);
}

static void add_command(struct start *start, const struct run *run)
{
	unsigned us = is_long(run->lock) ? 1000000 + random_below(500000)
		      : random_below(4)  ? 0
		      : random_below(8)  ? random_below(300)
					 : random_below(3000);
	unsigned r = random_below(64);

	add(start, storm.job);
	add_text(start, "%u", run->lock);
	add_text(start, "%u", us);
	if (r == 0 && !run->closes)
		add(start, "child");
	if (r >= 48 && lock_slots(run->lock) == 1 && !lock_is_file(run->lock)) {
		add(start, "look");
		add_text(start, "me-only:%s/%u", storm.name, run->lock);
	}
}

static void plan(struct start *start, struct run *run, uint64_t number)
{
	random_begin(1, number);
	*run = (struct run){ .lock = choose_lock() };
	run->replaced = run->lock >= FILES && run->lock < REPLACED_FILE;
	start->n = start->used = start->descriptors = 0;
	start->few_processes = false;
	if (storm.broken && number % 50 == 49) {
		add_command(start, run);
		return;
	}
	add(start, storm.me_only);
	add_options(start, run);
	add_command(start, run);
	if (random_below(50) == 0) {
		start->descriptors = 4 + random_below(20);
		start->few_processes = geteuid() != 0 && random_below(4) == 0;
		run->limited = true;
	}
}

/* In the new process, which shares our memory. */
static int become(void *argument)
{
	const struct start *start = argument;
	const char *file = start->arguments[0];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* The memory's descriptor is above the limit already. */
	if (start->descriptors)
		setrlimit(RLIMIT_NOFILE,
			  &(struct rlimit){ start->descriptors, start->descriptors });
	if (start->few_processes)
		setrlimit(RLIMIT_NPROC, &(struct rlimit){ 1, 1 });
	execv(file, (char *const *)(uintptr_t)start->arguments);
	_exit(97);
}

void run_start(struct run *run, uint64_t number)
{
	static _Alignas(16) char stack[16384];
	static struct start start;

	plan(&start, run, number);
	run->pid = clone(become, stack + sizeof stack,
			 CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &start, &run->pidfd);
	if (run->pid < 0)
		storm_die("clone");
	__atomic_fetch_add(&storm.memory->started, 1, __ATOMIC_RELAXED);
}
