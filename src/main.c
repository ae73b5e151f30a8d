/*
 * me-only LOCK COMMAND [ARGUMENT]...: runs COMMAND as the only instance.
 *
 * The sources in the order in which a run calls them:
 *
 *   main.c           this page
 *   options.c        the command line; help.c prints it
 *     duration.c       "1.5h" and back
 *     number.c         decimal numbers
 *   helper.c         --who and --list are a program of their own: list/main.c
 *   lock.c           LOCK's engine; lock.h is THE interface of locks
 *   lock-host.c      the host engine: an abstract socket name
 *     host-address.c   NAME as a socket address; sha256.c for long ones
 *     host-queue.c     waiting, first come, first served
 *     host-holder.c    who holds a name, as the kernel, the holder and /proc say
 *     socket-table.c   the kernel's table of sockets
 *   job.c            the runner: starts the command, passes signals on, reports its end
 *     exec.c           PATH, scripts without "#!", why a command cannot be run
 *     keeper.c         holds the lock if we die
 *     story.c          --verbose
 *   holder.c         who holds a lock, in words
 *     process.c        what /proc tells
 *   message.c        lines on standard error
 *   deadline.c       times; exit-codes.h: the exit statuses of our own
 *
 * From here to the command's exec nothing is done that is not needed: this program is started for every job of a host.
 */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "deadline.h"
#include "exit-codes.h"
#include "help.h"
#include "helper.h"
#include "holder.h"
#include "job.h"
#include "lock.h"
#include "message.h"
#include "options.h"
#include "story.h"

#define LOCK_SHOWN 1024

static int usage(const struct options *options, const struct usage_error *error)
{
	struct line line;

	line_begin(&line);
	line_add(&line, error->text);
	if (error->subject) {
		line_add(&line, " '");
		line_escape(&line, error->subject, strlen(error->subject), LOCK_SHOWN);
		line_add(&line, "'");
	}
	line_add(&line, error->hint);
	if (error->hint_subject && error->subject)
		line_escape(&line, error->subject, strlen(error->subject), LOCK_SHOWN);
	line_add(&line, "; try 'me-only --help'");
	line_end(&line);
	return options_status(options, EXIT_USAGE);
}

static int third_party_failed(const struct lock *lock, const struct options *options, int error)
{
	message_failure(lock->spec, lock->failed, error);
	return options_status(options, EXIT_THIRD_PARTY);
}

/* "me-only: LOCK: " */
static void begin(struct line *line, const struct lock *lock)
{
	line_begin(line);
	line_escape(line, lock->spec, strlen(lock->spec), LOCK_SHOWN);
	line_add(line, ": ");
}

static void tell_whom_we_wait_for(const struct lock *lock, const struct options *options)
{
	struct holder holder;
	struct line line;

	if (!options->verbose && (options->quiet || !isatty(STDERR_FILENO)))
		return;
	lock->engine->find_holder(lock, &holder);
	begin(&line, lock);
	holder_describe(&holder, true, &line);
	line_end(&line);
}

/* With --quiet only a holder who is neither this user nor root is worth a line, nor one who has gone. Disturbs nobody. */
static bool is_silent(const struct lock *lock, const struct options *options)
{
	uid_t owner;
	int r;

	if (!options->quiet)
		return false;
	r = lock->engine->find_owner(lock, &owner);
	return r == -ENOENT || (r == 0 && holder_is_trusted(owner));
}

/* A job asks for a lock that it holds. That is a mistake in a script, so neither --quiet nor --conflict-exit-code hide it. */
static int refused_to_ourselves(const struct lock *lock, const struct options *options)
{
	struct holder holder;
	struct line line;

	lock->engine->find_holder(lock, &holder);
	begin(&line, lock);
	line_add(&line, "this job already holds it: ");
	holder_describe(&holder, false, &line);
	line_end(&line);
	return (int)options->exit_base + EXIT_HELD;
}

/* ERROR is what lock->engine->take() has returned. */
static int refused(const struct lock *lock, const struct options *options, int error)
{
	struct holder holder;
	struct line line;

	if (error == -EDEADLK)
		return refused_to_ourselves(lock, options);
	if (is_silent(lock, options))
		return options_status(options, EXIT_HELD);
	lock->engine->find_holder(lock, &holder);
	if (options->quiet && holder.uid_known && holder_is_trusted(holder.uid))
		return options_status(options, EXIT_HELD);
	begin(&line, lock);
	if (error == -ETIMEDOUT) {
		line_add(&line, "gave up after ");
		line_duration(&line, options->wait);
		line_add(&line, ": ");
	}
	holder_describe(&holder, false, &line);
	line_end(&line);
	return options_status(options, EXIT_HELD);
}

static int run(struct lock *lock, const struct options *options)
{
	int64_t began = options->verbose ? deadline_now() : 0;
	int r = lock->engine->take(lock, options->wait ? deadline_in(options->wait) : 0, tell_whom_we_wait_for, options);

	if (r == -EBUSY || r == -ETIMEDOUT || r == -EDEADLK)
		return refused(lock, options, r);
	if (r)
		return third_party_failed(lock, options, -r);
	if (options->verbose)
		story_held(options, lock, deadline_now() - began);
	return options->no_fork ? job_become(lock, options) : job_run(lock, options);
}

static int held(struct lock *lock, const struct options *options)
{
	int r = lock->engine->is_ours(lock);

	return r < 0 ? third_party_failed(lock, options, -r) : !r;
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
	int r = helper_become("list", argv, path);
	struct line line;

	line_begin(&line);
	line_escape(&line, path, strlen(path), LOCK_SHOWN);
	line_add(&line, ": the helper for --who and --list cannot be run: ");
	if (r == -EPERM)
		line_add(&line, "others can write it or its folder");
	else
		line_add(&line, strerror(-r));
	if (r == -ENOENT)
		line_add(&line, "; it comes with a me-only that was built with libsmartcols and libmnl");
	line_end(&line);
	return options_status(options, EXIT_THIRD_PARTY);
}

int main(int argc, char **argv)
{
	struct options options;
	struct usage_error error;
	struct lock lock;

	(void)argc;
	if (options_parse(argv, &options, &error))
		return usage(&options, &error);
	if (options.mode == MODE_HELP)
		return printed(help_print());
	if (options.mode == MODE_VERSION)
		return printed(version_print());
	if (options.mode == MODE_LIST)
		return ask_helper(argv, &options);
	if (lock_open(&lock, options.lock, &error))
		return usage(&options, &error);
	if (options.mode == MODE_WHO)
		return ask_helper(argv, &options);
	return options.mode == MODE_HELD ? held(&lock, &options) : run(&lock, &options);
}
