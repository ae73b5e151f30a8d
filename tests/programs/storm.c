/*
 * A storm: very many runs of me-only on 50 locks, of which everything is killed, stopped and
 * limited at random.
 *
 * usage: storm [--acquisitions N] [--seconds S] [--seed S] [--width N] [--patience S]
 *              [--broken] ME_ONLY JOB
 *
 * Half of the runs ask for the same lock, the others for one of the 49 others: plain ones, with
 * slots, on files, some that are replaced, some with commands that run for more than a second.
 * Their command is JOB (storm-job.c), which enters and leaves a witness in shared memory. All the
 * while SIGKILL, SIGTERM, SIGHUP and stops hit me-onlys, waiters, commands and keepers.
 *
 * A violation is: two commands in the same place, a command whose lock is free, a run that nobody
 * harmed and that ends with another status than it should, a run that never ends, and whatever is
 * left at the end: a name or a lock that is taken, a process, a socket, a descriptor.
 *
 * What a run is, and whom harm number N hits and how, follows from the seed alone; the moment is
 * the kernel's.
 *
 * One thing no program could survive: with -o the command has no part of the lock, so that killing
 * both me-only and its keeper frees it while the command lives. Of these two only one is ever
 * killed. Nobody is signalled by a number that could have been used again: runs have a pidfd from
 * their start, and of others it is looked that they still are who they were when there is one.
 */
#include "storm.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, HARM_EVERY = 8, MOST_FAILURES = 20 };

struct storm storm = { .seed = 1, .width = 16, .patience = 120 };

static uint64_t wanted = 1000000;
static double time_limit = 1e9, began;
static int log_fd;

double storm_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void storm_fail(const char *format, ...)
{
	va_list arguments;
	char line[400];
	int n;

	va_start(arguments, format);
	n = vsnprintf(line, sizeof line - 1, format, arguments);
	va_end(arguments);
	if (n > (int)sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	if (__atomic_fetch_add(&storm.memory->failures, 1, __ATOMIC_SEQ_CST) < STORM_RECORDS &&
	    write(STDOUT_FILENO, line, (size_t)n) < 0)
		exit(2);
}

_Noreturn void storm_die(const char *what)
{
	perror(what);
	exit(2);
}

/* --- ending ----------------------------------------------------------------------------------- */

static void end_of(struct run *run, int status)
{
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1, number = WIFSIGNALED(status)
									      ? WTERMSIG(status)
									  : code > 128 ? code - 128
										       : 0;
	uint64_t *count = NULL;

	if (code == 0)
		count = &storm.memory->ran;
	else if (code == 4 && (!run->waits || run->replaced))
		count = &storm.memory->held;
	/* A command that waits for its keeper, which was killed, is not started. */
	else if (run->closes && run->harmed && code == 1)
		count = &storm.memory->killed;
	else if (run->limited && (code == 1 || code == 3 || code == 127 || code == STORM_ERROR))
		count = &storm.memory->failed;
	else if ((run->harmed || run->replaced) &&
		 (number == SIGKILL || number == SIGTERM || number == SIGHUP))
		count = &storm.memory->killed;
	/* An overlap has been counted by who has found it. */
	else if (code != STORM_OVERLAP)
		storm_fail("lock %u: %s run%s%s ended with wait status %#x", run->lock,
			   run->harmed ? "a harmed" : "an unharmed", run->closes ? " with -o" : "",
			   run->limited ? " with limits" : "", (unsigned)status);
	if (count)
		__atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
	close(run->pidfd);
	run->pid = 0;
}

/*
 * Reaps whatever has ended: runs, and what they have left, which comes to us. Returns whether any
 * child is left.
 */
static bool reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct run *run = run_of((uint32_t)pid);

		if (run)
			end_of(run, status);
	}
	return pid == 0;
}

static void wait_for_end(double until)
{
	double seconds = until - storm_now();
	sigset_t child;

	if (seconds <= 0)
		return;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigtimedwait(&child, NULL,
		     &(struct timespec){ (time_t)seconds,
					 (long)((seconds - (double)(time_t)seconds) * 1e9) });
}

static uint64_t acquisitions(void)
{
	uint64_t n = 0;

	for (int lock = 0; lock < STORM_LOCKS; lock++)
		for (int slot = 0; slot < STORM_SLOTS; slot++)
			n += storm.memory->places[lock][slot].entered;
	return n;
}

/* Kills our children until there are none, and with them what they leave us. */
static void kill_all(void)
{
	pid_t pid;

	while (reap()) {
		/* Not reaped yet: so the number is that of our child. */
		for (unsigned n = 0; (pid = child_of(getpid(), n)) > 0; n++)
			kill(pid, SIGKILL);
		wait_for_end(storm_now() + 0.01);
	}
}

static bool is_over(void)
{
	return acquisitions() >= wanted || storm_now() >= began + time_limit ||
	       storm.memory->failures + storm.memory->violations >= MOST_FAILURES;
}

/* One of the processes that start runs. */
static int work(void)
{
	uint64_t number = 0, harms = 0;
	unsigned width = storm.width;
	bool more = true;
	double since = storm_now(); /* when the last run was started */

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	harm_prepare();
	for (;;) {
		for (unsigned i = 0; more && i < width; i++) {
			if (storm.runs[i].pid)
				continue;
			run_start(&storm.runs[i], number++);
			since = storm_now();
			if (number % HARM_EVERY == 0)
				harm(harms++);
			/* Few at once meet a free lock, many a queue: both are wanted. */
			if (number % 256 == 0)
				width = number % 1024 ? storm.width : 2;
			if (number % 32 == 0)
				more = !is_over();
		}
		if (!reap() && !more)
			break;
		wait_for_end(harm_end_stops(!more));
		if (storm_now() > since + storm.patience) {
			storm_fail("not all ends within %g s", storm.patience);
			kill_all();
			break;
		}
	}
	__atomic_fetch_add(&storm.memory->finished, 1, __ATOMIC_SEQ_CST);
	return 0;
}

/* --- main ------------------------------------------------------------------------------------- */

static void tell_runs(void)
{
	const struct storm_memory *m = storm.memory;

	printf("seed %lu, %.1f s, %lu runs: %lu ran, %lu found it held, %lu ended by a signal, "
	       "%lu failed for want of something\n",
	       storm.seed, storm_now() - began, m->started, m->ran, m->held, m->killed, m->failed);
	printf(
	    "harmed: %lu times me-only, %lu times a command, %lu times a keeper or another child\n",
	    m->harmed[0], m->harmed[1], m->harmed[2]);
}

static void tell_violations(void)
{
	static const char *const kinds[] = { "ran beside", "ran without its lock",
					     "ran in a slot that there is not" };

	for (unsigned i = 0; i < storm.memory->violations && i < STORM_RECORDS; i++) {
		const struct storm_record *r = &storm.memory->records[i];

		printf("lock %u, slot %u: pid %u %s", r->lock, r->slot, r->pid, kinds[r->kind]);
		printf(r->kind == STORM_BESIDE ? " pid %u\n" : "\n", r->other);
	}
}

static void tell_log(void)
{
	char text[2000];
	off_t size = lseek(log_fd, 0, SEEK_END);
	ssize_t n = pread(log_fd, text, sizeof text,
			  size > (off_t)sizeof text ? size - (off_t)sizeof text : 0);

	if (n > 0 && storm.memory->failures > 0)
		printf("the last that was said on standard error:\n%.*s\n", (int)n, text);
}

static void prepare(void)
{
	int fd = memfd_create("storm", 0), empty = open("/dev/null", O_RDWR);
	sigset_t child;

	snprintf(storm.name, sizeof storm.name, "/storm/%d", (int)getpid());
	snprintf(storm.directory, sizeof storm.directory, "/tmp/me-only-storm-XXXXXX");
	log_fd = memfd_create("log", MFD_CLOEXEC);
	if (fd < 0 || empty < 0 || log_fd < 0 || ftruncate(fd, sizeof *storm.memory) ||
	    dup2(fd, STORM_FD) < 0 || !mkdtemp(storm.directory))
		storm_die("prepare");
	close(fd);
	storm.memory =
	    mmap(NULL, sizeof *storm.memory, PROT_READ | PROT_WRITE, MAP_SHARED, STORM_FD, 0);
	if (storm.memory == MAP_FAILED)
		storm_die("mmap");
	for (unsigned lock = 0; lock < STORM_LOCKS; lock++)
		storm.memory->slots[lock] = lock_slots(lock);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	dup2(empty, STDIN_FILENO);
	close(empty);
}

static bool read_options(int argc, char **argv)
{
	static const struct option options[] = { { "acquisitions", 1, NULL, 'a' },
						 { "seconds", 1, NULL, 's' },
						 { "seed", 1, NULL, 'r' },
						 { "width", 1, NULL, 'w' },
						 { "patience", 1, NULL, 'p' },
						 { "broken", 0, NULL, 'b' },
						 { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0)
		if (c == 'a')
			wanted = strtoull(optarg, NULL, 10);
		else if (c == 's')
			time_limit = atof(optarg);
		else if (c == 'r')
			storm.seed = strtoull(optarg, NULL, 10);
		else if (c == 'w')
			storm.width = (unsigned)atoi(optarg);
		else if (c == 'p')
			storm.patience = atof(optarg);
		else if (c == 'b')
			storm.broken = true;
		else
			return false;
	if (argc != optind + 2 || storm.width < 1 || storm.width > WIDTH_MAX)
		return false;
	storm.me_only = argv[optind];
	storm.job = argv[optind + 1];
	return true;
}

/*
 * Where there is nobody else all sockets can be counted, and whoever walks through /proc is soon at
 * an end: for root only. Returns whether we are there, as its first process; who has started it
 * waits for it.
 */
static bool go_apart(void)
{
	int status;
	pid_t pid;

	if (geteuid() != 0 || unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET))
		return false;
	pid = fork();
	if (pid < 0)
		storm_die("fork");
	if (pid > 0) {
		if (waitpid(pid, &status, 0) < 0)
			storm_die("waitpid");
		exit(WIFEXITED(status) ? WEXITSTATUS(status) : 2);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", "/proc", "proc", 0, NULL))
		storm_die("mount");
	return true;
}

int main(int argc, char **argv)
{
	bool apart;
	struct count before;
	uint32_t bad;

	if (!read_options(argc, argv)) {
		fprintf(stderr, "usage: storm [--acquisitions N] [--seconds S] [--seed S] [--width "
				"N] [--broken] ME_ONLY JOB\n");
		return 2;
	}
	apart = go_apart();
	setvbuf(stdout, NULL, _IOLBF, 0);
	prepare();
	before = left_count();
	began = storm_now();
	for (storm.worker = 0; storm.worker < WORKERS; storm.worker++) {
		pid_t pid = fork();

		if (pid < 0)
			storm_die("fork");
		if (pid == 0) {
			/* What is said by runs is kept for when something is wrong. */
			dup2(log_fd, STDERR_FILENO);
			_exit(work());
		}
	}
	for (storm.worker = 0; storm.worker < WORKERS; storm.worker++)
		wait(NULL);
	if (storm.memory->finished != WORKERS)
		storm_fail("a part of the storm has ended before its time");
	tell_runs();
	left_check(&before, apart);
	tell_violations();
	tell_log();
	bad = storm.memory->violations + storm.memory->failures;
	printf("%lu acquisitions, %u violations\n", acquisitions(), bad);
	return bad > 0;
}
