/*
 * The helper for me-only --who and --list. me-only becomes it, with its arguments; the first of
 * them is me-only's own file.
 *
 * The sources in the order in which a question calls them:
 *
 *   main.c            this page
 *   who.c             --who
 *     records.c         what is known, as JSON or a table
 *     who-file.c        --who file:PATH
 *   all.c             --list
 *   fleet.c           both for fleet locks, from what their helper reports
 *   files.c           file locks
 *   view.c            what can be seen of locks at one moment; host/holder.c draws the conclusions
 *     sockets.c         the kernel's table of sockets, by libmnl
 *     processes.c       which processes have which of them open
 *   line.c            who waits, and in which order
 *   table.c           tables that fit, and JSON by libsmartcols
 *     text.c            their cells
 *
 * Nothing is ever bound here, and no queue is ever connected to: asking takes no lock and no place
 * in line.
 */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/exit-codes.h"
#include "base/message.h"
#include "base/process.h"
#include "list/all.h"
#include "list/fleet.h"
#include "list/who.h"
#include "lock.h"
#include "options.h"

/* If standard output is closed, no socket of ours may take its place: writing must fail. */
static void fill_stdio(void)
{
	int fd;

	do
		fd = open("/", O_PATH | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* Writes all of TEXT to standard output. Returns 0 or a negative errno. */
static int print(const char *text)
{
	size_t left = strlen(text);

	/* A file at its limit: that is an error to report. */
	(void)signal(SIGXFSZ, SIG_IGN);
	while (left > 0) {
		ssize_t n = write(STDOUT_FILENO, text, left);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		text += n;
		left -= (size_t)n;
	}
	return 0;
}

/* Why there is no answer: R is LOCK_FAILED or a negative errno. */
static void failed(const struct lock *lock, int r)
{
	const int error = r == LOCK_FAILED ? 0 : -r;

	if (!lock || (lock->engine->by_socket && error))
		message_failure("the kernel's socket table", "cannot be read", error);
	/* What is known of sockets does not help with a file. */
	else if (!lock->engine->leased && (error == EACCES || error == EPERM))
		message(lock->spec, lock->failed, error);
	else
		message_failure(lock->spec, lock->failed, error);
}

static int answer(struct lock *lock, const char *program, const struct options *options)
{
	char *text = NULL;
	bool held = false;
	int r;

	if (lock && lock->engine->leased)
		r = fleet(lock, options->mode == MODE_WHO, program, options->json, &text, &held);
	else
		r = lock ? who(lock, program, options->json, &text, &held)
			 : all_locks(program, options->json, &text);

	if (r) {
		failed(lock, r);
		return options_status(options, EXIT_THIRD_PARTY);
	}
	r = print(text);
	free(text);
	if (r) {
		message("standard output", "cannot write", -r);
		return options_status(options, EXIT_THIRD_PARTY);
	}
	return held ? options_status(options, EXIT_HELD) : 0;
}

/* --list KIND: lists all of its locks, though no lock has an empty name. */
static int open_lock(struct lock *lock, const struct options *options, struct usage_error *error)
{
	int r = lock_open(lock, options->lock, error);

	if (r && options->mode == MODE_LIST && lock->engine)
		r = 0;
	lock->options = options;
	return r;
}

int main(int argc, char **argv)
{
	struct options options;
	struct usage_error error;
	struct lock lock;

	(void)argc;
	fill_stdio();
	/* The locale of messages, whatever the user's: names are shown as they are. */
	if (!setlocale(LC_CTYPE, "C.UTF-8"))
		(void)setlocale(LC_CTYPE, "");
	/* me-only has checked all this before. */
	if (options_parse(argv, &options, &error) ||
	    (options.mode != MODE_WHO && options.mode != MODE_LIST) ||
	    (options.lock && open_lock(&lock, &options, &error))) {
		message("list", "part of me-only; use me-only --who or me-only --list", 0);
		return EXIT_USAGE;
	}
	process_set_me_only(argv[0]);
	return answer(options.lock ? &lock : NULL, argv[0], &options);
}
