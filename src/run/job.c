/*
 * The runner.
 *
 * All signals are blocked before the command is started and read from a signalfd: nothing can end us while it runs. The command
 * gets back exactly the mask and the dispositions that we were started with. Whatever fails is found before the command starts,
 * or has a way to go on without: once it runs, nothing makes us leave it.
 *
 * The mask is set by the raw system call: musl's sigprocmask() leaves signals 32 to 34 out, and they would be lost to the
 * command. SIGCHLD is set to its default, because of a child whose parent ignores it no status is kept.
 */
#include "run/job.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/exit-codes.h"
#include "base/message.h"
#include "base/number.h"
#include "base/start.h"
#include "helper/cgroup.h"
#include "run/exec.h"
#include "run/guard.h"
#include "run/keeper.h"
#include "trace.h"

/* Short jobs pay nothing for a keeper. */
#define KEEPER_AFTER (1 * NS_PER_S)

#define SIGNALS 64	/* the kernel's _NSIG on all machines but MIPS, where it is 128 */

/* A signal set as the kernel has it. */
struct kernel_sigset {
	unsigned long bits[_NSIG > 65 ? 128 / (8 * sizeof(long)) : SIGNALS / (8 * sizeof(long))];
};

/* A signal's disposition as the kernel has it, as far as SIG_DFL and SIG_IGN need it. */
struct kernel_sigaction {
#ifdef __mips__
	unsigned flags;
#endif
	void (*handler)(int);
	unsigned long rest[sizeof(struct kernel_sigset) / sizeof(long) + 4];
};

struct job {
	struct lock *lock;
	const struct options *options;
	struct kernel_sigset mask;	/* as we were started */
	bool child_signal_ignored;	/* as we were started */
	int signals;			/* the signalfd */
	int gate[2];			/* -o: the pipe at which the command waits for its keeper */
	pid_t command;
	int64_t since;			/* when the command was started */
	pid_t keeper;			/* 0: none */
	int command_fd, own_fd;		/* pidfds of the command and of this process; -1 before there was a keeper */
	bool keeper_missed;		/* it could not be started the last time */
	int64_t keeper_due;		/* DEADLINE_NEVER: there is one, or it cannot be */
	int status;			/* as wait(2) gives it */
	bool ended;
	bool released;			/* the lock: nothing of it is to be touched any more */
	bool lost;			/* ended, but how is not known */
	int refused;			/* LOCK_LOST: why the command was not executed */
	struct guard guard;		/* of a lock that lapses */
};

static int set_mask(const struct kernel_sigset *set, struct kernel_sigset *before)
{
	return syscall(SYS_rt_sigprocmask, SIG_SETMASK, set, before, sizeof *set) ? -errno : 0;
}

/* The raw call: musl's refuses the signals that it uses itself. Returns 0 or a negative errno. */
static int set_handler(int number, void (*handler)(int), struct kernel_sigaction *before)
{
	const struct kernel_sigaction action = { .handler = handler };

	return syscall(SYS_rt_sigaction, number, &action, before, sizeof(struct kernel_sigset)) ? -errno : 0;
}

/* Lets one signal through; all others stay blocked, and wait for the signalfd. */
static void unblock_for_a_moment(int number)
{
	const size_t bits = 8 * sizeof(long), at = (size_t)(number - 1);
	struct kernel_sigset others, all;

	memset(&others, 0xff, sizeof others);
	others.bits[at / bits] &= ~(1UL << (at % bits));
	set_mask(&others, &all);
	set_mask(&all, NULL);
}

/* --- the environment of the command -------------------------------------------------------------------------------------- */

/* Variables of a lock. Those that we inherited are another's. */
static bool is_lock_variable(const char *entry)
{
	static const char prefix[] = "ME_ONLY_";
	static const char *const names[] = { "LOCK=", "SLOT=", "TOKEN=" };

	if (strncmp(entry, prefix, sizeof prefix - 1) != 0)
		return false;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!strncmp(entry + sizeof prefix - 1, names[i], strlen(names[i])))
			return true;
	return false;
}

static size_t environment_size(const struct lock *lock)
{
	size_t n = 0;

	while (environ[n])
		n++;
	for (const char *const *entry = lock->variables; entry && *entry; entry++)
		n++;
	return n + 3;
}

/* Whether one of VARIABLES has the name of ENTRY. */
static bool is_replaced(const char *const *variables, const char *entry)
{
	size_t length = strcspn(entry, "=");

	for (; *variables; variables++)
		if (!strncmp(*variables, entry, length) && ((*variables)[length] == '=' || (*variables)[length] == 0))
			return true;
	return false;
}

/* Fills NEW, of environment_size() places, with our environment, the variables OWN and SLOT (that one may be NULL), and those of LOCK. */
static void environment_make(char **new, const struct lock *lock, char *own, char *slot)
{
	for (char **entry = environ; *entry; entry++)
		if (!is_lock_variable(*entry) && (!lock->variables || !is_replaced(lock->variables, *entry)))
			*new++ = *entry;
	*new++ = own;
	if (slot)
		*new++ = slot;
	for (const char *const *entry = lock->variables; entry && *entry; entry++)
		if (strchr(*entry, '='))
			*new++ = (char *)(uintptr_t)*entry;
	*new = NULL;
}

/* Executes the command. Returns the exit status after it has said what failed. */
static int execute(const struct lock *lock, const struct options *options)
{
	static const char variable[] = "ME_ONLY_LOCK=", number[] = "ME_ONLY_SLOT=";
	char own[sizeof variable + strlen(lock->spec)], slot[sizeof number + NUMBER_TEXT_SIZE], *environment[environment_size(lock)];
	int r;

	strcpy(stpcpy(own, variable), lock->spec);
	number_format(lock->slot, stpcpy(slot, number));
	environment_make(environment, lock, own, options->slots ? slot : NULL);
	r = exec_command(options->command, environment);
	exec_explain(options->command, -r);
	return options_status(options, EXIT_COMMAND);
}

/* --- starting -------------------------------------------------------------------------------------------------------------- */

/* Passes the lock to the command that this process is about to become. Returns 0, or the exit status after it has said what failed. */
static int pass(struct lock *lock, const struct options *options)
{
	int r = options->close ? 0 : descriptor_pass(lock->fd);

	if (r == 0 && lock->engine->claim && !options->no_fork)
		r = lock->engine->claim(lock);
	if (r == 0)
		return 0;
	message_failure(lock->spec, "cannot pass the lock to the command", -r);
	return options_status(options, EXIT_THIRD_PARTY);
}

/* Who has not waited has none: most runs. */
static void leave_line(struct lock *lock)
{
	if (lock->line[0] >= 0)
		lock->engine->leave_line(lock);
}

int job_become(struct lock *lock, const struct options *options)
{
	int r;

	leave_line(lock);
	if (options->verbose)
		trace(options, lock, "becoming the command");
	r = pass(lock, options);
	return r ? r : execute(lock, options);
}

/*
 * Closes the new process's copies. Exec would do that only at its end, after me-only has closed its
 * own: a waiter that comes in between would join a line that nobody leads.
 */
static void forget_line(const struct lock *lock)
{
	for (int i = 0; i < 3 && lock->line[0] >= 0; i++)
		if (lock->line[i] >= 0)
			close(lock->line[i]);
}

/* In the new process, with everything but the lock as it was when we were started. Ends by the status for what failed. */
static void become_command(void *argument)
{
	struct job *job = argument;
	int r = pass(job->lock, job->options);

	if (r)
		_exit(r);
	if (job->lock->engine->lapses)
		cgroup_enter(job->guard.cgroup);
	if (job->child_signal_ignored)
		set_handler(SIGCHLD, SIG_IGN, NULL);
	/*
	 * Last: a stop that comes between vfork and exec stops this process here, and us, who wait for it in vfork, where nobody
	 * sees us stopped. SIGCONT ends that. The time for it is short, with a long PATH on slow disks a little longer.
	 */
	set_mask(&job->mask, NULL);
	if (job->lock->engine->lapses && (job->refused = job->lock->engine->confirm(job->lock)))
		_exit(EXIT_THIRD_PARTY);
	r = execute(job->lock, job->options);
	/* The memory is shared, but with -o's gate, behind which no lock lapses. */
	job->lock->unused = true;
	_exit(r);
}

/* The command's process, which shares our memory but not our descriptors. */
static void begin(void *argument)
{
	struct job *job = argument;

	forget_line(job->lock);
	become_command(job);
}

/* R is LOCK_LOST or a negative errno. */
static int cannot_start(const struct job *job, int r)
{
	if (job->guard.cgroup)
		cgroup_remove(job->guard.cgroup);
	if (r == LOCK_LOST) {
		message(job->lock->spec, "lost before the command could be started; nothing was run", 0);
		return options_status(job->options, EXIT_THIRD_PARTY);
	}
	message_failure(job->options->command[0], "cannot be run: cannot start a process", -r);
	return options_status(job->options, EXIT_COMMAND);
}

/*
 * Opens the signalfd, the gate if there is to be one, and blocks all signals, that last of all: a signal that the terminal sends before there is a command ends
 * or stops us, and it is not ours to pass on. Returns 0 or a negative errno.
 */
static int prepare(struct job *job, bool has_gate)
{
	struct kernel_sigset all;
	struct kernel_sigaction old;
	int r;

	memset(&all, 0xff, sizeof all);
	job->signals = (int)syscall(SYS_signalfd4, -1, &all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (job->signals < 0)
		return -errno;
	if (has_gate && pipe2(job->gate, O_CLOEXEC))
		return -errno;
	r = set_handler(SIGCHLD, SIG_DFL, &old);
	if (r)
		return r;
	job->child_signal_ignored = old.handler == SIG_IGN;
	return set_mask(&all, &job->mask);
}

/*
 * Starts the command. The new process shares our memory until it executes it: nothing is copied.
 * Returns 0, LOCK_LOST or a negative errno.
 */
static int start(struct job *job)
{
	pid_t pid = start_process(begin, job);

	if (pid < 0)
		return pid;
	if (job->refused)
		waitpid(pid, NULL, 0);
	job->command = pid;
	return job->refused;
}

static int open_pidfd(int *fd, pid_t pid)
{
	if (*fd < 0)
		*fd = (int)syscall(SYS_pidfd_open, pid, 0);
	return *fd < 0 ? -errno : 0;
}

/* Returns 0 or a negative errno: -ENOSYS before Linux 5.3. */
static int start_keeper(struct job *job, int ready)
{
	struct keeper_start start = { .lock = job->lock->fd, .ready = ready };
	int r = open_pidfd(&job->command_fd, job->command);
	pid_t keeper;

	if (r == 0)
		r = open_pidfd(&job->own_fd, getpid());
	if (r)
		return r;
	start.command = job->command_fd;
	start.parent = job->own_fd;
	keeper = keeper_start(&start);
	if (keeper < 0)
		return keeper;
	job->keeper = keeper;
	return 0;
}

/* The command's process with -o: waits at the gate, which its keeper opens. */
static int wait_at_gate(void *argument)
{
	struct job *job = argument;
	char byte;
	ssize_t n;

	close(job->gate[1]);
	do
		n = read(job->gate[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		become_command(job);
	message(job->options->command[0], "cannot be run: the keeper of the lock has not started", n < 0 ? errno : 0);
	_exit(options_status(job->options, EXIT_COMMAND));
}

/*
 * -o: the command does not hold the lock, so it must not start before its keeper is there. It waits at a gate, a pipe: the
 * keeper's byte opens it, and if the keeper dies before, the pipe's end does not. That end is the keeper's, too: it stays open
 * until the keeper has ended. Returns 0, or a negative errno after which nothing was started.
 */
static int start_with_keeper(struct job *job)
{
	int r = 0;

	/*
	 * Now: the new process has copies of the line until it runs, and a waiter that joined
	 * meanwhile would lose its place.
	 */
	leave_line(job->lock);
	job->command = start_clone(wait_at_gate, job, 0);
	if (job->command < 0)
		r = job->command;
	close(job->gate[0]);
	if (r == 0) {
		r = start_keeper(job, job->gate[1]);
		/* Killed, so that only we say why. */
		if (r) {
			kill(job->command, SIGKILL);
			waitpid(job->command, NULL, 0);
		}
	}
	return r;
}

/* --- signals --------------------------------------------------------------------------------------------------------------- */

/*
 * Whether the command has got this signal too: a terminal sends to the whole group in its foreground, the command among it
 * unless it has gone to a group of its own, as timeout(1) does.
 */
static bool has_reached_command(const struct job *job, const struct signalfd_siginfo *info)
{
	if (info->ssi_code != SI_KERNEL || getpgid(job->command) != getpgrp())
		return false;
	switch (info->ssi_signo) {
	case SIGINT:
	case SIGQUIT:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGWINCH:
		return true;
	case SIGHUP:
	case SIGCONT:
		/* A hang-up goes to the leader of the session alone: then nobody but us can tell the command. */
		return getsid(0) != getpid();
	default:
		return false;
	}
}

/* Stops us as the blocked signal NUMBER does, unless the caller has it ignored. */
static void stop_by(int number)
{
	kill(getpid(), number);
	unblock_for_a_moment(number);	/* stops here, until SIGCONT */
}

static void handle_signal(const struct job *job, const struct signalfd_siginfo *info)
{
	int number = (int)info->ssi_signo;

	/* SIGPIPE and the like that we have sent ourselves are nobody's. */
	if (info->ssi_code <= 0 && info->ssi_pid == (uint32_t)getpid())
		return;
	if (!has_reached_command(job, info))
		kill(job->command, number);
	if (number == SIGTSTP || number == SIGTTIN || number == SIGTTOU)
		stop_by(number);
}

static void release(struct job *job)
{
	if (!job->released)
		job->lock->engine->release(job->lock);
	job->released = true;
}

/* Reaps whoever has ended: the command, the keeper, and (as process 1) orphans. */
static void reap(struct job *job)
{
	siginfo_t info = { .si_pid = 0 };
	int status;
	pid_t pid;

	/*
	 * The lock first: who waits for it does not have to wait until the kernel has put the command away. A lock that is lost is let go
	 * when what the command has left is gone, too.
	 */
	if (!job->lock->lost && !job->guard.asked && waitid(P_PID, (id_t)job->command, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	    info.si_pid == job->command) {
		if (job->lock->engine->lapses)
			guard_ended(&job->guard);
		release(job);
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR)) {
		if (pid == job->command) {
			job->status = status;
			job->ended = true;
		} else if (pid > 0 && pid == job->keeper) {
			job->keeper = 0;
			job->keeper_due = deadline_in(KEEPER_AFTER);
			/* Should the command still wait at the gate, it is not to wait for ever. */
			if (job->gate[1] >= 0)
				close(job->gate[1]);
			job->gate[1] = -1;
		}
	}
	/* No children, and the command was not among them; or a filter forbids the call. Waiting for ever would be worse. */
	if (pid < 0 && !job->ended) {
		job->ended = true;
		job->lost = waitpid(job->command, &job->status, WNOHANG) != job->command;
	}
}

static void read_signals(struct job *job)
{
	struct signalfd_siginfo info;

	while (!job->ended && read(job->signals, &info, sizeof info) == (ssize_t)sizeof info) {
		if (info.ssi_signo == SIGCHLD)
			reap(job);
		else
			handle_signal(job, &info);
	}
}

/* --- running --------------------------------------------------------------------------------------------------------------- */

static void run(struct job *job)
{
	struct lock *lock = job->lock;
	const bool lapses = lock->engine->lapses;

	while (!job->ended) {
		struct pollfd fds[] = { { .fd = job->signals, .events = POLLIN }, { .fd = lock->watched, .events = POLLIN },
					{ .fd = job->guard.timer, .events = POLLIN } };

		if (deadline_now() >= job->keeper_due) {
			int r = start_keeper(job, -1);

			/* Out of processes: again later. Without pidfds (before Linux 5.3): never. */
			if (r && !job->keeper_missed && job->options->verbose)
				trace(job->options, lock, "cannot start the keeper: if me-only is killed, the command alone has the lock");
			job->keeper_missed = r != 0;
			job->keeper_due = r == 0 || r == -ENOSYS ? DEADLINE_NEVER : deadline_in(KEEPER_AFTER);
		}
		if (poll(fds, 3, deadline_poll_timeout(job->keeper_due)) < 0)
			continue;
		/* The guard first: if all were frozen for too long, no signal (SIGCONT) is to reach the command any more. */
		if (lapses && fds[1].revents)
			lock->engine->serve(lock, job->command, job->since);
		if (lapses && (fds[2].revents || lock->lost))
			guard_look(&job->guard, lock);
		if (fds[0].revents)
			read_signals(job);
		if (!lapses && fds[1].revents && !job->ended)
			lock->engine->serve(lock, job->command, job->since);
	}
}

/* Ends this process by the signal that ended the command. Returns where that cannot be: as process 1. */
static void die_by(int number)
{
	/* The command has left its core file. A core handler behind a pipe does not look at the limit, but at this. */
	prlimit(0, RLIMIT_CORE, &(struct rlimit){ 0 }, NULL);	/* not setrlimit(): musl's brings in what only threads need */
	prctl(PR_SET_DUMPABLE, 0);
	set_handler(number, SIG_DFL, NULL);
	kill(getpid(), number);
	/* Nothing else that is pending may end us first. */
	unblock_for_a_moment(number);
}

static int finish(struct job *job)
{
	const bool lost = job->lock->engine->lapses && guard_finish(&job->guard, job->lock, job->status);

	/* The keeper shares our descriptors: the lock is free when we close it. */
	release(job);
	if (job->keeper > 0)
		keeper_end(job->keeper);
	if (job->lost) {
		message(job->options->command[0], "has ended, how cannot be known", ECHILD);
		return options_status(job->options, EXIT_THIRD_PARTY);
	}
	if (job->options->verbose)
		trace_end(job->options, job->lock, job->status, deadline_now() - job->since);
	if (lost)
		return options_status(job->options, EXIT_LOST);
	if (WIFSIGNALED(job->status)) {
		die_by(WTERMSIG(job->status));
		return 128 + WTERMSIG(job->status);
	}
	return WEXITSTATUS(job->status);
}

int job_run(struct lock *lock, const struct options *options)
{
	struct job job = { .lock = lock, .options = options, .gate = { -1, -1 }, .command_fd = -1, .own_fd = -1, .guard.timer = -1 };
	/* What lapses is kept by a helper. */
	const bool has_keeper = options->close && !lock->engine->lapses;
	int r = prepare(&job, has_keeper);

	if (r == 0 && lock->engine->lapses)
		r = guard_prepare(&job.guard, lock);
	if (r == 0)
		r = has_keeper ? start_with_keeper(&job) : start(&job);
	if (r)
		return cannot_start(&job, r);
	job.since = deadline_now();
	job.keeper_due = options->close || lock->engine->lapses ? DEADLINE_NEVER : deadline_in(KEEPER_AFTER);
	leave_line(lock);
	if (lock->engine->lapses)
		guard_started(&job.guard, lock, job.command);
	if (options->verbose)
		trace_start(options, lock, job.command);
	run(&job);
	return finish(&job);
}
