/*
 * The runner. A failure is found before the command starts, or we can continue without what failed:
 * once the command runs, nothing makes us leave it.
 */
#include "run/job.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/exit-codes.h"
#include "base/message.h"
#include "base/number.h"
#include "run/custody.h"
#include "run/environment.h"
#include "run/exec.h"
#include "run/replacement.h"
#include "run/signals.h"
#include "trace.h"

struct job {
	struct lock *lock;
	const struct options *options;
	int status; /* as wait(2) gives it */
	bool ended;
	bool lost; /* ended, but how is not known */
	int error; /* why the new process could not execute the command, to be explained; or 0 */
	struct signals signals;
	struct custody custody;
};

/* --- becoming the command --------------------------------------------------------------------- */

/* Executes the command. Returns the negative errno. */
static int execute(const struct lock *lock, const struct options *options)
{
	static const char variable[] = "ME_ONLY_LOCK=", number[] = "ME_ONLY_SLOT=";
	char locked[sizeof variable + strlen(lock_absolute(lock))],
		slot[sizeof number + NUMBER_TEXT_SIZE];
	char *environment[environment_size(lock)];
	struct environment_texts texts = { .id = "" };

	strcpy(stpcpy(locked, variable), lock_absolute(lock));
	number_format(lock->slot, stpcpy(slot, number));
	environment_make(environment, lock, locked, options->slots ? slot : NULL,
			 options->no_fork ? NULL : &texts);
	return exec_command(options->command, environment);
}

/*
 * Passes the lock to the command that this process is about to become. Returns 0; or prints what
 * failed, and returns the exit status.
 */
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

int job_become(struct lock *lock, const struct options *options)
{
	int r;

	lock_leave_line(lock);
	if (options->verbose)
		trace(lock, "becoming the command");
	r = pass(lock, options);
	if (r)
		return r;
	r = execute(lock, options);
	/* Writing can take long: first the lock, and its duplicate. */
	descriptor_close_others(STDERR_FILENO + 1, -1, -1);
	exec_explain(options->command, -r);
	return options_status(options, EXIT_COMMAND);
}

/* --- starting --------------------------------------------------------------------------------- */

/*
 * Closes the new process's copies. Exec would do that only at its end, after me-only has closed its
 * own: a waiter that comes in between would join a line that nobody leads.
 */
static void forget_line(const struct lock *lock)
{
	for (int i = 0; i < 3 && lock->line.fds[0] >= 0; i++)
		if (lock->line.fds[i] >= 0)
			close(lock->line.fds[i]);
}

/*
 * In the new process: everything but the lock is as when we were started. Exits with the status for
 * what failed.
 */
static void become_command(void *argument)
{
	struct job *job = argument;
	const struct custody_form *form = job->custody.form;
	int r;

	forget_line(job->lock);
	r = pass(job->lock, job->options);
	if (r)
		_exit(r);
	/*
	 * A stop between vfork and exec stops this process once signals get through, and also us:
	 * we wait in vfork and do not appear as stopped. SIGCONT ends that. The window is short.
	 */
	signals_restore(&job->signals);
	if (form->enter && form->enter(&job->custody))
		_exit(EXIT_THIRD_PARTY);
	r = execute(job->lock, job->options);
	/* Writing can take long: me-only does it once the lock is free. */
	if (job->custody.apart)
		exec_explain(job->options->command, -r);
	else
		job->error = -r;
	if (form->failed)
		form->failed(&job->custody);
	_exit(options_status(job->options, EXIT_COMMAND));
}

/* R is LOCK_LOST or a negative errno. */
static int cannot_start(const struct job *job, int r)
{
	if (r == LOCK_LOST) {
		message(job->lock->spec,
			"lost before the command could be started; nothing was run", 0);
		return options_status(job->options, EXIT_THIRD_PARTY);
	}
	message_failure(job->options->command[0], "cannot be run: cannot fork", -r);
	return options_status(job->options, EXIT_COMMAND);
}

/* --- running ---------------------------------------------------------------------------------- */

/* Reaps what has ended: the command, its keeper, and (as process 1) orphans. */
static void reap(struct job *job)
{
	struct custody *custody = &job->custody;
	const pid_t command = custody->command;
	siginfo_t info = { .si_pid = 0 };
	int status;
	pid_t pid;

	/* The lock first: its waiters need not wait until the kernel has reaped the command. */
	if (waitid(P_PID, (id_t)command, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	    info.si_pid == command && (!custody->form->ended || custody->form->ended(custody)))
		custody_release(custody);
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR)) {
		if (pid == command) {
			job->status = status;
			job->ended = true;
		} else if (pid > 0 && custody->form->reaped) {
			custody->form->reaped(custody, pid);
		}
	}
	/*
	 * There are no children, and the command was not among them; or a filter forbids the call.
	 * Do not wait for ever.
	 */
	if (pid < 0 && !job->ended) {
		job->ended = true;
		job->lost = waitpid(command, &job->status, WNOHANG) != command;
	}
}

/* A signal is the end of the command by another --replace: says by whose. */
static void tell_replaced(const struct job *job, const struct signalfd_siginfo *info)
{
	const struct holder other = {
		.pid = (pid_t)info->ssi_pid, .uid = info->ssi_uid, .uid_known = true, .held = -1
	};
	struct line line;

	if (info->ssi_signo != SIGTERM || job->options->quiet ||
	    !replacement_is_by((pid_t)info->ssi_pid))
		return;
	line_begin_about(&line, job->lock->spec);
	holder_describe(&other, HOLDER_REPLACER, &line);
	line_end_if_ready(&line);
}

static void pass_on(const struct job *job, const struct signalfd_siginfo *info)
{
	signals_pass_on(info, job->custody.command);
	tell_replaced(job, info);
}

static void read_signals(struct job *job)
{
	struct signalfd_siginfo info;

	while (!job->ended && signals_read(&job->signals, &info)) {
		if (info.ssi_signo == SIGCHLD)
			reap(job);
		else
			pass_on(job, &info);
	}
}

static void run(struct job *job)
{
	struct lock *lock = job->lock;
	struct custody *custody = &job->custody;
	const struct custody_form *form = custody->form;

	while (!job->ended) {
		struct pollfd fds[] = { { .fd = job->signals.fd, .events = POLLIN },
					{ .fd = lock->watched, .events = POLLIN },
					{ .fd = custody->timer, .events = POLLIN } };

		if (deadline_now() >= custody->due)
			form->tend(custody);
		if (poll(fds, 3,
			 deadline_poll_timeout(deadline_earlier(custody->due, lock->serve_due))) <
		    0)
			continue;
		if (form->look)
			form->look(custody, fds[1].revents, fds[2].revents);
		if (fds[0].revents)
			read_signals(job);
		if (!form->look && !job->ended &&
		    (fds[1].revents || deadline_now() >= lock->serve_due))
			lock->engine->serve(lock, custody->command, custody->since);
	}
}

static int finish(struct job *job)
{
	const bool lost = job->custody.form->finish(&job->custody, job->status);

	if (job->error)
		exec_explain(job->options->command, job->error);
	if (job->lost) {
		message(job->options->command[0], "has exited with an unknown status", ECHILD);
		return options_status(job->options, EXIT_THIRD_PARTY);
	}
	if (job->options->verbose)
		trace_end(job->lock, job->status, deadline_now() - job->custody.since);
	if (lost)
		return options_status(job->options, EXIT_LOST);
	if (WIFSIGNALED(job->status)) {
		signals_die_by(WTERMSIG(job->status));
		return 128 + WTERMSIG(job->status);
	}
	return WEXITSTATUS(job->status);
}

int job_run(struct lock *lock, const struct options *options)
{
	struct job job = { .lock = lock, .options = options, .custody = custody_of(lock) };
	struct custody *custody = &job.custody;
	int r = custody->form->prepare ? custody->form->prepare(custody) : 0;

	if (r == 0)
		r = signals_block(&job.signals);
	if (r == 0)
		r = custody->form->start(custody, become_command, &job);
	if (r)
		return cannot_start(&job, r);
	custody->since = deadline_now();
	custody->form->started(custody);
	lock_leave_line(lock);
	if (options->verbose)
		trace_start(options, lock, custody->command);
	run(&job);
	return finish(&job);
}
