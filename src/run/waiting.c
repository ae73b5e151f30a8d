#include "run/waiting.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/message.h"
#include "trace.h"

/* The line on a terminal shows seconds. */
#define REFRESH (1 * NS_PER_S)

#define MOST_COLUMNS 512

/* After this many looks, a holder that cannot be asked is searched for among all processes. */
#define THOROUGH_LOOK 2

/* A terminal shows this much of a lock's name, however long the rest is. */
#define LEAST_LOCK 8

/* Elsewhere a shorter wait is not worth a line. */
#define WORTH_A_LINE (1 * NS_PER_S)

/*
 * How often to check whether the command that was asked to exit has done so and left others
 * running.
 */
#define ASK_AGAIN (100 * NS_PER_MS)

/* When a descendant's proof that is missing is looked for again. */
#define PROOF_AGAIN (10 * NS_PER_MS)

/* How long killed processes may take before we look for more of them. */
#define FORCE_AGAIN (1 * NS_PER_S)

/* --- the line --------------------------------------------------------------------------------- */

/*
 * Whether we may write on the terminal without waiting. While we are in a shell's background, a
 * person types there; and a stopped terminal must not hold up the waiters behind us.
 */
static bool may_write(void)
{
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	pid_t foreground;

	if (poll(&out, 1, 0) <= 0)
		return false;
	return ioctl(STDERR_FILENO, TIOCGPGRP, &foreground) || foreground == getpgrp();
}

/* Erases the line. If a signal ends us it stays, and shows for whom we were waiting. */
static void erase(struct waiting *waiting)
{
	char blanks[MOST_COLUMNS + 2];

	if (waiting->columns == 0 || !may_write()) {
		waiting->columns = 0;
		return;
	}
	memset(blanks, ' ', sizeof blanks);
	blanks[0] = blanks[waiting->columns + 1] = '\r';
	line_write_if_ready(blanks, waiting->columns + 2);
	waiting->columns = 0;
}

/*
 * Cuts TEXT of *LENGTH bytes so that it needs at most COLUMNS, and returns how many it needs.
 * Characters from U+1100 may be twice as wide.
 */
static size_t fit(const char *text, size_t *length, size_t columns)
{
	size_t used = 0;

	for (size_t i = 0; i < *length; i++) {
		unsigned char c = (unsigned char)text[i];
		size_t wide = c >> 6 == 2 ? 0
			      : c > 0xe1 || (c == 0xe1 && i + 1 < *length &&
					     (unsigned char)text[i + 1] >= 0x84)
				      ? 2
				      : 1;

		if (used + wide > columns) {
			*length = i;
			break;
		}
		used += wide;
	}
	return used;
}

/*
 * The width of the terminal, or 0 if standard error is not one. The last column stays free: some
 * terminals would begin a new line.
 */
static size_t terminal_columns(void)
{
	struct winsize size;
	size_t columns = 79;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size))
		return 0;
	if (size.ws_col > 1)
		columns = size.ws_col - 1U;
	return columns < MOST_COLUMNS ? columns : MOST_COLUMNS;
}

/*
 * "me-only: LOCK: waiting for pid 4242 (root), 3m38s: backup.sh" in COLUMNS: the lock gives way to
 * what is behind it, up to the age.
 */
static size_t compose(struct line *line, const struct lock *lock, const struct holder *holder,
		      size_t columns)
{
	struct line rest = { .length = 0 };
	const char *command;
	size_t length, most = columns / 3, needed;

	holder_describe(holder, HOLDER_AWAITED_BRIEFLY, &rest);
	rest.text[rest.length] = 0;
	command = strstr(rest.text, ": ");
	length = command ? (size_t)(command - rest.text) : rest.length;
	needed = sizeof "me-only: : " - 1 + fit(rest.text, &length, columns);
	if (columns < needed + most)
		most = columns > needed + LEAST_LOCK ? columns - needed : LEAST_LOCK;
	line_begin(line);
	line_escape(line, lock->spec, strlen(lock->spec), most);
	line_add(line, ": ");
	line_add(line, rest.text);
	return fit(line->text, &line->length, columns);
}

/* "LOCK: waiting for pid 4242 ..." as of now; on a terminal, in place of the last such line. */
static void tell(struct waiting *waiting, const struct lock *lock)
{
	struct holder holder = waiting->holder;
	struct line line;

	if (holder.held >= 0)
		holder.held += deadline_now() - waiting->found;
	if (!waiting->on_terminal) {
		line_begin_about(&line, lock->spec);
		holder_describe(&holder, HOLDER_AWAITED, &line);
		line_end_if_ready(&line);
		return;
	}
	if (!may_write())
		return;
	erase(waiting);
	waiting->columns = compose(&line, lock, &holder, terminal_columns());
	line_write_if_ready(line.text, line.length);
}

/*
 * The holder may be another by now. The same holder is not asked twice: it may be one that does not
 * answer.
 */
static void find_out(struct waiting *waiting, const struct lock *lock)
{
	struct lock_identity identity = { .number = 0 };

	if (waiting->on_terminal) {
		int r = lock->engine->identify(lock, &identity);

		if (waiting->found && (r || identity.number == waiting->whom.number))
			return;
	}
	waiting->whom = identity;
	lock->engine->find_holder(lock, &waiting->holder, waiting->looks >= THOROUGH_LOOK);
	waiting->found = deadline_now();
}

/* Returns when the next line is due. */
static int64_t say_for_whom(struct waiting *waiting, const struct lock *lock)
{
	const struct options *options = waiting->options;
	int64_t missing = REFRESH;

	find_out(waiting, lock);
	/*
	 * In a line that moves, holders change quickly: not worth a walk over all processes, unless
	 * somebody watches.
	 */
	if (!waiting->holder.pid && waiting->looks++ < THOROUGH_LOOK) {
		waiting->found = 0;
		return deadline_in(REFRESH);
	}
	/* An unknown holder may have let go: the end of the wait will show it. */
	if (waiting->holder.held >= 0)
		missing = options->complain_after -
			  (waiting->holder.held + deadline_now() - waiting->found);
	if (options->complain_after >= 0 && missing > 0)
		return deadline_in(missing);
	tell(waiting, lock);
	return waiting->on_terminal ? deadline_in(REFRESH) : DEADLINE_NEVER;
}

/* --- the end of the holder -------------------------------------------------------------------- */

static void say(struct waiting *waiting, const struct lock *lock, const char *what, pid_t pid,
		const char *rest)
{
	struct line line;

	erase(waiting);
	line_begin_about(&line, lock->spec);
	line_add(&line, what);
	line_number(&line, (uint64_t)pid);
	line_add(&line, rest);
	line_end_if_ready(&line);
}

/* Asks the holder to exit. Returns as replacement_press(). */
static int ask(struct waiting *waiting, const struct lock *lock)
{
	struct replacement *replacement = &waiting->replacement;
	struct holder *ended = &waiting->ended;
	int r = replacement->found ? 0 : replacement_find(lock, replacement);

	/* Before the end: now its command line is still there. */
	if (r == 0 && !waiting->options->quiet) {
		lock->engine->find_holder(lock, ended, true);
		waiting->found_ended = deadline_now();
		holder_keep_command(ended, waiting->command, sizeof waiting->command);
	}
	if (r == 0)
		r = replacement_press(lock, replacement, false);
	if (r || ended->pid != replacement->struck) {
		*ended = (struct holder){ .pid = r ? 0 : replacement->struck, .held = -1 };
		ended->command = "";
	}
	return r;
}

/* Asks the holder to exit, and kills it when its time is over. Returns 0 or what ends the wait. */
static int press(struct waiting *waiting, const struct lock *lock)
{
	const struct options *options = waiting->options;
	struct replacement *replacement = &waiting->replacement;
	pid_t before = replacement->stubborn;
	bool by_force = replacement->asked && deadline_now() >= waiting->kill_due;
	int r = replacement->asked ? replacement_press(lock, replacement, by_force)
				   : ask(waiting, lock);

	if (waiting->kill_due == DEADLINE_NEVER)
		waiting->kill_due = deadline_in(options_kill_after(options));
	waiting->look_due = DEADLINE_NEVER;
	if (r)
		return r == -ENOENT ? 0 : LOCK_NOT_REPLACED;
	waiting->look_due = !replacement->asked ? deadline_in(PROOF_AGAIN)
			    : by_force		? deadline_in(FORCE_AGAIN)
			    : replacement->descendants_asked || !replacement->job
				    ? waiting->kill_due
				    : deadline_earlier(waiting->kill_due, deadline_in(ASK_AGAIN));
	if (options->verbose && replacement->struck)
		say(waiting, lock, by_force ? "killed pid " : "asked pid ", replacement->struck,
		    by_force ? "" : " to exit");
	if (replacement->stubborn != before)
		say(waiting, lock, "pid ", replacement->stubborn,
		    " does not exit, and this user may not kill it; still waiting");
	return 0;
}

/* --- the wait --------------------------------------------------------------------------------- */

static int64_t when_to_speak(struct waiting *waiting)
{
	const struct options *options = waiting->options;

	waiting->looks = THOROUGH_LOOK;
	if (options->verbose)
		return waiting->began;
	if (options->quiet)
		return DEADLINE_NEVER;
	waiting->on_terminal = terminal_columns() > 0;
	if (waiting->on_terminal)
		return waiting->began;
	waiting->looks = 0;
	/* A short wait is reported only by its end. */
	return waiting->wait.deadline - waiting->began > WORTH_A_LINE
		       ? waiting->began + WORTH_A_LINE
		       : DEADLINE_NEVER;
}

static int attend(struct lock_wait *wait, const struct lock *lock)
{
	struct waiting *waiting = (struct waiting *)((char *)wait - offsetof(struct waiting, wait));
	int r = 0;

	if (!waiting->began) {
		waiting->began = deadline_now();
		waiting->line_due = when_to_speak(waiting);
	}
	/* Before the holder is asked to exit, while its command line is still there. */
	if (deadline_now() >= waiting->line_due)
		waiting->line_due = say_for_whom(waiting, lock);
	if (deadline_now() >= waiting->look_due)
		r = press(waiting, lock);
	wait->due = deadline_earlier(waiting->look_due, waiting->line_due);
	return r;
}

void waiting_prepare(struct waiting *waiting, const struct options *options)
{
	*waiting = (struct waiting){
		.wait = { .deadline = options->wait ? deadline_in(options->wait) : 0,
			  .due = DEADLINE_NEVER,
			  .places = options->queue,
			  .place = -1,
			  .attend = attend },
		.options = options,
		.look_due = options->replace ? 0 : DEADLINE_NEVER,
		.kill_due = DEADLINE_NEVER,
		.line_due = DEADLINE_NEVER,
	};
}

void waiting_end(struct waiting *waiting)
{
	erase(waiting);
	if (waiting->replacement.job)
		close(waiting->replacement.job_fd);
}

void waiting_tell_ended(const struct waiting *waiting, const struct lock *lock)
{
	struct holder ended = waiting->ended;
	struct line line;

	if (waiting->options->quiet || !ended.pid)
		return;
	if (ended.held >= 0)
		ended.held += deadline_now() - waiting->found_ended;
	line_begin_about(&line, lock->spec);
	holder_describe(&ended, HOLDER_ENDED, &line);
	line_end_if_ready(&line);
}
