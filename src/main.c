/*
 * me-only LOCK COMMAND [ARGUMENT]...: runs COMMAND as the only instance.
 *
 * The rooms, in the order in which a run enters them. Includes point down this list, never up:
 *
 *   main.c       options.c reads the command line, option-rows.c has its options, and
 *                help.c prints them
 *   run/         waiting.c      what a run prints and does while it waits; replacement.c: --replace
 *                job.c          starts the command, passes signals on, reports its end; signals.c
 *                exec.c         PATH, scripts without "#!", why it cannot be run; environment.c
 *                custody.h      what is done for the lock meanwhile, in one of two forms:
 *                keeper.c         holds the lock if we die
 *                guard.c          ends the command before a fleet lock can be another's
 *   lock.c       the engine for LOCK. lock.h is THE interface of locks; holder.c: who holds one, in
 *                words; trace.c: --verbose
 *   host/        NAME: an abstract socket name
 *                engine.c       takes and releases it; address.c, sha256.c, socket.c
 *                clients.c      those that connect to the holder; reentry.c: is the lock ours?
 *                queue.c        waiting, first come, first served: waiter.c has the states
 *                ahead.c        those ahead of a waiter; successors.c: those behind the first;
 *                               messages.c: between waiters
 *                slots.c        the names that the first in line waits for
 *                holder.c       who holds it, as the kernel, the holder and /proc say;
 *                               socket-table.c
 *                places.c       --queue
 *   file/        file:PATH: flock(2)
 *                engine.c       takes and releases it, waits; holder.c: who holds it; waiter.c:
 *                               what it shares with the thread that waits; path.c: a relative PATH;
 *                               reentry.c: is the lock ours?
 *   helper/      KIND:NAME: a lock that a helper keeps (PROTOCOL.md)
 *                engine.c       what me-only asks of the helper; replies.c, packets.c
 *                child.c        the helper's process; start.c finds it, and that of --who and
 *                               --list
 *                control.c      the helper's half, for any service: entry.c, queue.c, identity.c
 *                schedule.c     when a command has to end, for both halves
 *                descendants.c  finds all processes of a command; cgroup.c: in a group of its own
 *   base/        messages, our exit statuses, numbers, durations, deadlines, descriptors,
 *                processes, tables of /proc, whom to trust
 *
 * Programs of their own: the helper of each such kind, and list/main.c for --who and --list.
 *
 * From here to the command's exec nothing is done that is not needed: this program is started for
 * every job of a host.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/exit-codes.h"
#include "base/message.h"
#include "base/trust.h"
#include "help.h"
#include "helper/start.h"
#include "holder.h"
#include "lock.h"
#include "options.h"
#include "run/exec.h"
#include "run/job.h"
#include "run/waiting.h"
#include "trace.h"

/* The option that is wrong: of -abc=x only -b, if that is it; of --abc=x only --abc. */
static void add_option(struct line *line, const struct usage_error *error)
{
	const char only[] = { '-', error->letter, 0 };

	if (!error->option)
		return;
	/* Not half a character of UTF-8. */
	if (error->letter > 0)
		line_escape(line, only, strlen(only), LINE_SUBJECT);
	else
		line_escape(line, error->option, strcspn(error->option, "="), LINE_SUBJECT);
	line_add(line, ": ");
}

static int usage(const struct options *options, const struct usage_error *error)
{
	struct line line;

	line_begin(&line);
	add_option(&line, error);
	line_add(&line, error->text);
	if (error->subject) {
		line_add(&line, " '");
		line_escape(&line, error->subject, strlen(error->subject), LINE_SUBJECT);
		line_add(&line, "'");
	}
	line_add(&line, error->hint);
	if (error->hint_subject && error->subject)
		line_escape(&line, error->subject, strlen(error->subject), LINE_SUBJECT);
	if (error->meant) {
		line_add(&line, " (did you mean --");
		line_add(&line, error->meant);
		line_add(&line, "?)");
	}
	line_add(&line, "; try 'me-only --help'");
	line_end(&line);
	return options_status(options, EXIT_USAGE);
}

/* R is LOCK_FAILED or a negative errno. */
static int third_party_failed(const struct lock *lock, const struct options *options, int r)
{
	int error = r == LOCK_FAILED ? 0 : -r;

	/* What is known of sockets does not help with a file. */
	if (lock->engine->by_socket || (error != EACCES && error != EPERM))
		message_failure(lock->spec, lock->failed, error);
	else
		message(lock->spec, lock->failed, error);
	return options_status(options, EXIT_THIRD_PARTY);
}

/*
 * Whether the refusal is not worth a line: with --quiet if the holder is this user or root, or has
 * gone; with --complain-after if it is one of these and has not held the lock that long. An unknown
 * holder is not taken for harmless.
 */
static bool is_silent(const struct options *options, const struct holder *holder)
{
	if (!holder->uid_known || !trust_user(holder->uid))
		return false;
	return options->quiet || (holder->held >= 0 && holder->held < options->complain_after);
}

/*
 * With --quiet it is mostly enough to look whose the lock is, which disturbs nobody. A holder that
 * has gone is not worth a line.
 */
static bool is_silent_at_a_glance(const struct lock *lock, const struct options *options)
{
	struct lock_identity identity;
	int r;

	if (!options->quiet && options->complain_after < 0)
		return false;
	r = lock->engine->identify(lock, &identity);
	return r == -ENOENT ||
	       (r == 0 && options->quiet && identity.uid_known && trust_user(identity.uid));
}

/* Whether there is something to report about the HOLDER of the lock, which is looked up then. */
static bool is_worth_a_line(const struct lock *lock, const struct options *options,
			    struct holder *holder)
{
	if (is_silent_at_a_glance(lock, options))
		return false;
	/* One that nothing is known of may have gone meanwhile, and another may have come. */
	for (int looks = 0; looks < 3; looks++) {
		lock->engine->find_holder(lock, holder, true);
		if (holder->pid || holder->uid_known)
			break;
		if (is_silent_at_a_glance(lock, options))
			return false;
	}
	return !is_silent(options, holder);
}

/* Of a lock with slots one holder is named. */
static void describe(const struct lock *lock, const struct holder *holder, struct line *line)
{
	if (lock->slots > 1 && (!holder->remote || holder->slots)) {
		line_add(line, "all ");
		line_number(line, lock->slots);
		line_add(line, " slots are in use, slot ");
		line_number(line, holder->slot);
		line_add(line, " ");
	}
	holder_describe(holder, HOLDER_HELD, line);
}

/*
 * A job asks for a lock that it holds, or a holder may not be replaced: REASON. That must be seen,
 * so --quiet and --complain-after do not hide it, nor --conflict-exit-code.
 */
static int refused_in_any_case(const struct lock *lock, const struct options *options,
			       const char *reason, const char *more)
{
	struct holder holder;
	struct line line;

	lock->engine->find_holder(lock, &holder, true);
	line_begin_about(&line, lock->spec);
	line_add(&line, reason);
	line_add(&line, more);
	line_add(&line, ": ");
	describe(lock, &holder, &line);
	line_end(&line);
	return (int)options->exit_base + EXIT_HELD;
}

/*
 * RESULT is LOCK_HELD or LOCK_TIMED_OUT. Its line, as that of the next, touches a page of the stack
 * that a run which gets the lock does not need.
 */
__attribute__((noinline)) static int refused(const struct lock *lock, const struct options *options,
					     int result)
{
	struct holder holder;
	struct line line;

	if (!is_worth_a_line(lock, options, &holder))
		return options_status(options, EXIT_HELD);
	line_begin_about(&line, lock->spec);
	if (result == LOCK_TIMED_OUT) {
		line_add(&line, "gave up after ");
		line_duration(&line, options->wait);
		line_add(&line, ": ");
	}
	describe(lock, &holder, &line);
	line_end(&line);
	return options_status(options, EXIT_HELD);
}

/* Enough waiters already: this one is not needed, or not wanted. */
__attribute__((noinline)) static int
queue_full(const struct lock *lock, const struct options *options, const struct lock_wait *wait)
{
	struct holder holder;
	struct line line;

	if (!is_worth_a_line(lock, options, &holder))
		return options_status(options, EXIT_HELD);
	line_begin_about(&line, lock->spec);
	line_add(&line, "the queue is full, ");
	holder_describe_waiter(&wait->waiter, wait->waiters, &line);
	if (holder.pid) {
		line_add(&line, "; ");
		describe(lock, &holder, &line);
	}
	line_end(&line);
	return options_status(options, EXIT_HELD);
}

/* What more there is to say of a job that asks for its own lock: why --held does not know it. */
static const char *unproved(struct lock *lock)
{
	if (lock->unproved)
		return lock->unproved;
	return !lock->engine->leased && !trust_is_self(geteuid()) && !lock->engine->is_ours(lock)
		       ? ", which --held cannot prove where all users look the same"
		       : "";
}

static int run(struct lock *lock, const struct options *options)
{
	int64_t began = options->verbose ? deadline_now() : 0;
	struct waiting waiting;
	int r;

	if (exec_reads_nothing(options->command)) {
		message(options->command[0],
			"has nothing to read: a script that is piped to a shell cannot lock itself",
			0);
		return options_status(options, EXIT_COMMAND);
	}
	if (options->wait)
		waiting_prepare(&waiting, options);
	else
		waiting.wait = (struct lock_wait){ .due = DEADLINE_NEVER, .place = -1 };
	r = lock->engine->take(lock, &waiting.wait);
	if (options->wait)
		waiting_end(&waiting);
	switch (r) {
	case LOCK_TAKEN:
		/* Before the command starts: whoever finds us waiting relies on that. */
		if (waiting.wait.place >= 0)
			close(waiting.wait.place);
		if (options->verbose)
			trace_held(options, lock, deadline_now() - began);
		if (options->replace)
			waiting_tell_ended(&waiting, lock);
		return options->no_fork ? job_become(lock, options) : job_run(lock, options);
	case LOCK_HELD:
	case LOCK_TIMED_OUT: return refused(lock, options, r);
	case LOCK_QUEUE_FULL: return queue_full(lock, options, &waiting.wait);
	case LOCK_NESTED:
		return refused_in_any_case(lock, options, "this job already holds it",
					   unproved(lock));
	case LOCK_NOT_REPLACED:
		return refused_in_any_case(lock, options, "not replaced, ",
					   waiting.replacement.refused);
	default: return third_party_failed(lock, options, r);
	}
}

static int held(struct lock *lock, const struct options *options)
{
	int r = lock->engine->is_ours(lock);

	return r < 0 ? third_party_failed(lock, options, r) : !r;
}

static int printed(int error)
{
	if (error)
		message("standard output", "cannot write", -error);
	return error ? EXIT_THIRD_PARTY : 0;
}

/* What needs more than libc is a program of its own. */
static int ask_helper(char **argv, const struct options *options)
{
	char path[PATH_MAX];
	int r = helper_become("list", NULL, argv, path);
	struct line line;

	line_begin_about(&line, path);
	if (r == HELPER_REFUSED) {
		line_add(&line, "refusing to run the helper for --who and --list: "
				"it or its directory is writable by others");
	} else {
		line_add(&line, "cannot run the helper for --who and --list: ");
		line_add(&line, strerror(-r));
		line_add(&line, message_limit(-r));
	}
	if (r == -ENOENT)
		line_add(&line, "; it is built with libsmartcols and libmnl");
	line_end(&line);
	return options_status(options, EXIT_THIRD_PARTY);
}

int main(int argc, char **argv)
{
	struct options options;
	struct usage_error error;
	struct lock lock;
	int r;

	(void)argc;
	r = options_parse(argv, &options, &error);
	if (options.verbose)
		message_with_times();
	if (r)
		return usage(&options, &error);
	if (options.mode == MODE_HELP || options.mode == MODE_SHORT_HELP)
		return printed(help_print(options.mode == MODE_SHORT_HELP));
	if (options.mode == MODE_VERSION)
		return printed(version_print());
	if (options.mode == MODE_LIST)
		return ask_helper(argv, &options);
	if (lock_open(&lock, options.lock, &error) || lock_shape(&lock, &options, &error))
		return usage(&options, &error);
	if (options.mode == MODE_WHO)
		return ask_helper(argv, &options);
	return options.mode == MODE_HELD ? held(&lock, &options) : run(&lock, &options);
}
