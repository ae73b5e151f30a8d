#include "trace.h"

#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "base/deadline.h"

static void add_two_digits(struct line *line, int64_t n)
{
	if (n < 10)
		line_add(line, "0");
	line_number(line, (uint64_t)n);
}

static bool is_leap(int64_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

void trace_time(struct line *line, int64_t now)
{
	static const char lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int64_t day = now / 86400, second = now % 86400, year = 1970;
	int month = 0;

	/* A loop is slow, and short. Libc's gmtime() would be a fiftieth of the whole program. */
	for (; day >= 365 + is_leap(year); year++)
		day -= 365 + is_leap(year);
	for (; day >= lengths[month] + (month == 1 && is_leap(year)); month++)
		day -= lengths[month] + (month == 1 && is_leap(year));
	line_number(line, (uint64_t)year);
	line_add(line, "-");
	add_two_digits(line, month + 1);
	line_add(line, "-");
	add_two_digits(line, day + 1);
	line_add(line, "T");
	add_two_digits(line, second / 3600);
	line_add(line, ":");
	add_two_digits(line, second / 60 % 60);
	line_add(line, ":");
	add_two_digits(line, second % 60);
	line_add(line, "Z");
}

void trace_begin(struct line *line, const struct options *options, const struct lock *lock)
{
	if (!options->verbose) {
		line_begin_about(line, lock->spec);
		return;
	}
	line_begin(line);
	trace_time(line, clock_now(CLOCK_REALTIME) / NS_PER_S);
	line_add(line, " ");
	line_escape(line, lock->spec, strlen(lock->spec), LINE_SUBJECT);
	line_add(line, ": ");
}

void trace(const struct options *options, const struct lock *lock, const char *what)
{
	struct line line;

	trace_begin(&line, options, lock);
	line_add(&line, what);
	line_end_if_ready(&line);
}

/* A name that its user may take for a file. */
static bool looks_like_path(const char *name)
{
	static const char *const endings[] = { ".lock", ".lck", ".pid" };
	size_t length = strlen(name);

	for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++)
		if (length > strlen(endings[i]) &&
		    !strcmp(name + length - strlen(endings[i]), endings[i]))
			return true;
	return strchr(name, '/') != NULL;
}

void trace_name(const struct options *options, const struct lock *lock)
{
	if (lock->engine->is_default && looks_like_path(lock->name))
		trace(options, lock, "a name of this host, no file; flock(1) locks file:PATH");
}

void trace_held(const struct options *options, const struct lock *lock, int64_t waited)
{
	struct line line;

	trace_begin(&line, options, lock);
	line_add(&line, "have the lock");
	if (options->slots) {
		line_add(&line, ", slot ");
		line_number(&line, lock->slot);
		line_add(&line, options->wait ? "," : "");
	}
	if (options->wait) {
		line_add(&line, " after ");
		line_duration(&line, waited);
	}
	line_end_if_ready(&line);
}

void trace_start(const struct options *options, const struct lock *lock, pid_t command)
{
	struct line line;

	trace_begin(&line, options, lock);
	line_add(&line, "started pid ");
	line_number(&line, (uint64_t)command);
	line_add(&line, ": ");
	line_escape(&line, options->command[0], strlen(options->command[0]), LINE_SUBJECT);
	line_end_if_ready(&line);
}

void trace_end(const struct options *options, const struct lock *lock, int status, int64_t ran)
{
	struct line line;

	trace_begin(&line, options, lock);
	line_add(&line, WIFSIGNALED(status) ? "the command was ended by signal "
					    : "the command ended with status ");
	line_number(&line,
		    (uint64_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
	line_add(&line, " after ");
	line_duration(&line, ran);
	line_end_if_ready(&line);
}
