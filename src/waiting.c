#include "waiting.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "deadline.h"
#include "message.h"
#include "story.h"

/* The line on a terminal shows seconds. */
#define REFRESH (1 * NS_PER_S)

#define MOST_COLUMNS 512

/* Elsewhere a wait that is shorter is not worth a line. */
#define WORTH_A_LINE (1 * NS_PER_S)

/* How long those that were killed may take to let go before it is looked for more of them. */
#define FORCE_AGAIN (1 * NS_PER_S)

#define DEFAULT_KILL_AFTER (5 * NS_PER_S)

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* --- the line ---------------------------------------------------------------------------------------------------------------- */

/* Takes the line away. If a signal ends us it stays: then it says for what we had been waiting. */
static void erase(struct waiting *waiting)
{
	char blanks[MOST_COLUMNS + 2];

	if (waiting->columns == 0)
		return;
	memset(blanks, ' ', sizeof blanks);
	blanks[0] = blanks[waiting->columns + 1] = '\r';
	(void)!write(STDERR_FILENO, blanks, waiting->columns + 2);
	waiting->columns = 0;
}

/* Cuts LINE so that it needs at most COLUMNS, and returns how many it needs. Characters from U+1100 may be twice as wide. */
static size_t fit(struct line *line, size_t columns)
{
	size_t used = 0;

	for (size_t i = 0; i < line->length; i++) {
		unsigned char c = (unsigned char)line->text[i];
		size_t wide = c >> 6 == 2 ? 0 : c > 0xe1 || (c == 0xe1 && (unsigned char)line->text[i + 1] >= 0x84) ? 2 : 1;

		if (used + wide > columns) {
			line->length = i;
			break;
		}
		used += wide;
	}
	return used;
}

/* The width of the terminal, or 0 if standard error is none. The last column stays free: with it some would begin a new line. */
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

/* "LOCK: waiting for pid 4242 ..." as of now; on a terminal over the last such line. */
static void tell(struct waiting *waiting, const struct lock *lock)
{
	struct holder holder = waiting->holder;
	size_t columns = terminal_columns();
	struct line line;

	if (holder.held >= 0)
		holder.held += deadline_now() - waiting->found;
	if (!waiting->on_terminal) {
		story_begin(&line, waiting->options, lock);
		holder_describe(&holder, true, &line);
		line_end(&line);
		return;
	}
	line_begin(&line);
	line_escape(&line, lock->spec, strlen(lock->spec), columns / 3);
	line_add(&line, ": ");
	holder_describe(&holder, true, &line);
	erase(waiting);
	waiting->columns = fit(&line, columns);
	(void)!write(STDERR_FILENO, line.text, line.length);
}

/* The holder can be another by now. It is not asked again and again who it is: that would cost one who does not listen. */
static void find_out(struct waiting *waiting, const struct lock *lock)
{
	struct lock_identity identity = { .number = 0 };
	int r = lock->engine->identify(lock, &identity);

	if (waiting->found && (r || identity.number == waiting->whom.number))
		return;
	waiting->whom = identity;
	lock->engine->find_holder(lock, &waiting->holder);
	waiting->found = deadline_now();
}

/* Returns when the next line is due. */
static int64_t say_for_whom(struct waiting *waiting, const struct lock *lock)
{
	const struct options *options = waiting->options;
	int64_t missing;

	find_out(waiting, lock);
	missing = options->complain_after < 0 || waiting->holder.held < 0 ?
			  0 :
			  options->complain_after - (waiting->holder.held + deadline_now() - waiting->found);
	if (missing > 0)
		return deadline_in(missing);
	tell(waiting, lock);
	return waiting->on_terminal ? deadline_in(REFRESH) : DEADLINE_NEVER;
}

/* --- the end of the holder --------------------------------------------------------------------------------------------------- */

static void say(struct waiting *waiting, const struct lock *lock, const char *what, pid_t pid, const char *rest)
{
	struct line line;

	erase(waiting);
	story_begin(&line, waiting->options, lock);
	line_add(&line, what);
	line_number(&line, (uint64_t)pid);
	line_add(&line, rest);
	line_end(&line);
}

static int ask_holder(struct waiting *waiting, const struct lock *lock)
{
	const struct options *options = waiting->options;

	if (lock->engine->replace(lock, &waiting->replacement))
		return -ECANCELED;
	if (options->verbose && waiting->replacement.job)
		say(waiting, lock, "asked pid ", waiting->replacement.job, " to end");
	waiting->kill_due = deadline_in(options->kill_after < 0 ? DEFAULT_KILL_AFTER : options->kill_after);
	return 0;
}

static void use_force(struct waiting *waiting, const struct lock *lock)
{
	pid_t before = waiting->replacement.stubborn;

	lock->engine->replace_by_force(lock, &waiting->replacement);
	if (waiting->replacement.stubborn && waiting->replacement.stubborn != before)
		say(waiting, lock, "pid ", waiting->replacement.stubborn, " does not end, and this user may not kill it; still waiting");
	waiting->kill_due = deadline_in(FORCE_AGAIN);
}

/* --- the wait ---------------------------------------------------------------------------------------------------------------- */

static int64_t when_to_speak(struct waiting *waiting)
{
	const struct options *options = waiting->options;

	if (options->verbose)
		return waiting->began;
	if (options->quiet)
		return DEADLINE_NEVER;
	waiting->on_terminal = terminal_columns() > 0;
	if (waiting->on_terminal)
		return waiting->began;
	/* A wait that will be over by then is told by its end. */
	return waiting->wait.deadline - waiting->began > WORTH_A_LINE ? waiting->began + WORTH_A_LINE : DEADLINE_NEVER;
}

static int attend(struct lock_wait *wait, const struct lock *lock)
{
	struct waiting *waiting = (struct waiting *)((char *)wait - offsetof(struct waiting, wait));

	if (!waiting->began) {
		waiting->began = deadline_now();
		waiting->line_due = when_to_speak(waiting);
	}
	/* Before it is asked to end: then its command line is still there. */
	if (deadline_now() >= waiting->line_due)
		waiting->line_due = say_for_whom(waiting, lock);
	if (waiting->options->replace && !waiting->asked) {
		if (ask_holder(waiting, lock))
			return -ECANCELED;
		waiting->asked = true;
	}
	if (deadline_now() >= waiting->kill_due)
		use_force(waiting, lock);
	wait->due = earlier(waiting->kill_due, waiting->line_due);
	return 0;
}

void waiting_prepare(struct waiting *waiting, const struct options *options)
{
	waiting->wait = (struct lock_wait){ .attend = attend, .due = DEADLINE_NEVER };
	if (!options->wait)
		return;
	waiting->wait.deadline = deadline_in(options->wait);
	waiting->options = options;
	waiting->began = waiting->found = 0;
	waiting->columns = 0;
	waiting->on_terminal = waiting->asked = false;
	waiting->kill_due = waiting->line_due = DEADLINE_NEVER;
}

void waiting_end(struct waiting *waiting)
{
	erase(waiting);
	if (waiting->asked && waiting->replacement.job_fd >= 0)
		close(waiting->replacement.job_fd);
}
