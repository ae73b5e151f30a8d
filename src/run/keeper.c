/*
 * The keeper: a process that holds the lock for the command and does nothing else.
 *
 * It is for the case that me-only dies while the command does not hold the lock itself: with -o, or
 * after the command has closed its inherited descriptors. It runs in a session of its own, so that
 * no terminal reaches it, with all signals blocked. It shares me-only's descriptors. When me-only
 * is gone it keeps two of them: the lock, and the command's pidfd, which shows the command's end. A
 * parent-death signal to the command would not do: it does not reach what sudo, su, setpriv or a
 * grandchild run.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/exit-codes.h"
#include "base/message.h"
#include "base/process.h"
#include "base/start.h"
#include "options.h"
#include "run/custody.h"
#include "trace.h"

/* Short jobs do not pay for a keeper. */
#define KEEPER_AFTER (1 * NS_PER_S)

/* A keeper's arguments. */
struct start {
	int lock;    /* the lock to hold */
	int command; /* pidfd of the command */
	int parent;  /* pidfd of this process */
	int ready;   /* where to write a byte once in a session of its own; -1: nowhere */
};

/* --- the keeper's process --------------------------------------------------------------------- */

static int keep(void *argument)
{
	const struct start *start = argument;
	/*
	 * While the parent lives, it handles the command's end. We watch it as well only if we were
	 * there from the start, so that the parent of a short job finds us ended. Later, waking us
	 * up would only delay the waiters.
	 */
	const int command = start->ready >= 0 ? start->command : -1;
	struct pollfd ended[] = { { .fd = start->parent, .events = POLLIN },
				  { .fd = command, .events = POLLIN } };
	ssize_t n = 1;

	setsid();
	prctl(PR_SET_NAME, KEEPER_NAME);
	/* The keeper must not keep a file system from being unmounted. */
	(void)!chdir("/");
	while (start->ready >= 0 && (n = write(start->ready, "", 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		_exit(1);
	while (poll(ended, 2, -1) < 0 || !(ended[0].revents | ended[1].revents))
		;
	/* POLLNVAL: the parent lives, and closed everything before we looked for the first time. */
	if (ended[1].revents || (ended[0].revents & POLLNVAL))
		_exit(0);
	/* The table of descriptors that we shared is ours alone now. */
	descriptor_close_others(0, start->lock, start->command);
	ended[0].fd = start->command;
	while (poll(ended, 1, -1) < 0)
		;
	_exit(0);
}

/* --- starting it ------------------------------------------------------------------------------ */

static int open_pidfd(int *fd, pid_t pid)
{
	if (*fd < 0)
		*fd = process_pidfd(pid);
	return *fd < 0 ? *fd : 0;
}

/*
 * Starts a keeper. It shares our table of descriptors until we have ended, so the lock is free as
 * soon as we close it, not when the keeper has woken up. Returns 0 or a negative errno: -ENOSYS
 * before Linux 5.3.
 */
static int start_keeper(struct custody *custody, int ready)
{
	struct keeper *keeper = &custody->keeper;
	struct start start = { .lock = custody->lock->fd, .ready = ready };
	int r = open_pidfd(&keeper->command_fd, custody->command);
	pid_t pid;

	if (r == 0)
		r = open_pidfd(&keeper->own_fd, getpid());
	if (r)
		return r;
	start.command = keeper->command_fd;
	start.parent = keeper->own_fd;
	pid = start_clone(keep, &start, CLONE_FILES);
	if (pid < 0)
		return pid;
	keeper->pid = pid;
	return 0;
}

/* --- the gate (-o) ---------------------------------------------------------------------------- */

/* What the command's process needs. */
struct entrance {
	struct custody *custody;
	void (*function)(void *argument);
	void *argument;
};

static int wait_at_gate(void *argument)
{
	const struct entrance *entrance = argument;
	const int *gate = entrance->custody->keeper.gate;
	const struct options *options = entrance->custody->lock->options;
	char byte;
	ssize_t n;

	entrance->custody->apart = true;
	close(gate[1]);
	do
		n = read(gate[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		entrance->function(entrance->argument);
	message(options->command[0], "cannot be run: the lock's keeper did not start",
		n < 0 ? errno : 0);
	_exit(options_status(options, EXIT_COMMAND));
}

/*
 * The command does not hold the lock, so it must not start before its keeper is there. It waits at
 * a gate, a pipe, which the keeper's byte opens. If the keeper dies first, end of file does not
 * open it; that comes only when the keeper, which has the writing end as well, has ended.
 */
static int start_behind_gate(struct custody *custody, void (*function)(void *), void *argument)
{
	struct entrance entrance = { custody, function, argument };
	const int *gate = custody->keeper.gate;
	int r = 0;

	/*
	 * Before the start: the new process has copies of the line until its exec, and a waiter
	 * that joined meanwhile would lose its place.
	 */
	lock_leave_line(custody->lock);
	custody->command = start_clone(wait_at_gate, &entrance, 0);
	if (custody->command < 0)
		r = custody->command;
	close(gate[0]);
	if (r == 0) {
		r = start_keeper(custody, gate[1]);
		/* Killed, so that only we report why. */
		if (r) {
			kill(custody->command, SIGKILL);
			waitpid(custody->command, NULL, 0);
		}
	}
	return r;
}

/* --- the custody ------------------------------------------------------------------------------ */

static int prepare(struct custody *custody)
{
	struct keeper *keeper = &custody->keeper;

	*keeper = (struct keeper){ .gate = { -1, -1 }, .command_fd = -1, .own_fd = -1 };
	return custody->lock->options->close && pipe2(keeper->gate, O_CLOEXEC) ? -errno : 0;
}

static int start(struct custody *custody, void (*function)(void *argument), void *argument)
{
	if (custody->lock->options->close)
		return start_behind_gate(custody, function, argument);
	custody->command = start_process(function, argument);
	return custody->command < 0 ? custody->command : 0;
}

static void started(struct custody *custody)
{
	custody->due = custody->lock->options->close ? DEADLINE_NEVER : deadline_in(KEEPER_AFTER);
}

static void tend(struct custody *custody)
{
	const struct lock *lock = custody->lock;
	int r = start_keeper(custody, -1);

	/* Out of processes: try again later. Without pidfds (before Linux 5.3): never. */
	if (r && !custody->keeper.missed && lock->options->verbose)
		trace(lock, "cannot start the keeper: "
			    "if me-only is killed, only the command holds the lock");
	custody->keeper.missed = r != 0;
	custody->due = r == 0 || r == -ENOSYS ? DEADLINE_NEVER : deadline_in(KEEPER_AFTER);
}

static void reaped(struct custody *custody, pid_t pid)
{
	int *gate = custody->keeper.gate;

	if (pid != custody->keeper.pid)
		return;
	custody->keeper.pid = 0;
	custody->due = deadline_in(KEEPER_AFTER);
	/* A command that still waits at the gate must not wait for ever. */
	if (gate[1] >= 0)
		close(gate[1]);
	gate[1] = -1;
}

static bool finish(struct custody *custody, int status)
{
	const pid_t keeper = custody->keeper.pid;

	(void)status;
	/* The keeper shares our descriptors: the lock is free when we close it. */
	custody_release(custody);
	/* A keeper that cannot be killed ends by itself once we have. */
	if (keeper > 0 && kill(keeper, SIGKILL) == 0)
		while (waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
			;
	return false;
}

const struct custody_form keeper_custody = {
	.prepare = prepare,
	.start = start,
	.started = started,
	.tend = tend,
	.reaped = reaped,
	.finish = finish,
};
