#include "story.h"

#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "deadline.h"

static void two_digits(char *to, int n)
{
	to[0] = (char)('0' + n / 10 % 10);
	to[1] = (char)('0' + n % 10);
}

/* "2026-11-23T16:45:19Z". UTC: the local time would need files. */
static void add_time(struct line *line)
{
	char text[] = "2026-11-23T16:45:19Z";
	time_t now = (time_t)(clock_now(CLOCK_REALTIME) / NS_PER_S);
	struct tm tm;

	gmtime_r(&now, &tm);
	two_digits(text, (tm.tm_year + 1900) / 100);
	two_digits(text + 2, tm.tm_year);
	two_digits(text + 5, tm.tm_mon + 1);
	two_digits(text + 8, tm.tm_mday);
	two_digits(text + 11, tm.tm_hour);
	two_digits(text + 14, tm.tm_min);
	two_digits(text + 17, tm.tm_sec);
	line_add(line, text);
}

void story_begin(struct line *line, const struct options *options, const struct lock *lock)
{
	if (!options->verbose) {
		line_begin_about(line, lock->spec);
		return;
	}
	line_begin(line);
	add_time(line);
	line_add(line, " ");
	line_escape(line, lock->spec, strlen(lock->spec), LINE_SUBJECT);
	line_add(line, ": ");
}

void story(const struct options *options, const struct lock *lock, const char *what)
{
	struct line line;

	if (!options->verbose)
		return;
	story_begin(&line, options, lock);
	line_add(&line, what);
	line_end(&line);
}

void story_held(const struct options *options, const struct lock *lock, int64_t waited)
{
	struct line line;

	if (!options->verbose)
		return;
	story_begin(&line, options, lock);
	line_add(&line, "have the lock");
	if (options->wait) {
		line_add(&line, " after ");
		line_duration(&line, waited);
	}
	line_end(&line);
}

void story_start(const struct options *options, const struct lock *lock, pid_t command)
{
	struct line line;

	if (!options->verbose)
		return;
	story_begin(&line, options, lock);
	line_add(&line, "started pid ");
	line_number(&line, (uint64_t)command);
	line_add(&line, ": ");
	line_escape(&line, options->command[0], strlen(options->command[0]), LINE_SUBJECT);
	line_end(&line);
}

void story_end(const struct options *options, const struct lock *lock, int status, int64_t ran)
{
	struct line line;

	if (!options->verbose)
		return;
	story_begin(&line, options, lock);
	line_add(&line, WIFSIGNALED(status) ? "the command was ended by signal " : "the command ended with status ");
	line_number(&line, (uint64_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
	line_add(&line, " after ");
	line_duration(&line, ran);
	line_end(&line);
}
