#include "trace.h"

#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#include "base/deadline.h"

void trace(const struct lock *lock, const char *what)
{
	struct line line;

	line_begin_about(&line, lock->spec);
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

/* The command runs, even if a user of flock has locked that file. */
static void trace_name(const struct lock *lock)
{
	if (lock->engine->is_default && looks_like_path(lock->name))
		trace(lock, "a name of this host, no file; flock(1) locks file:PATH");
}

void trace_held(const struct options *options, const struct lock *lock, int64_t waited)
{
	struct line line;

	line_begin_about(&line, lock->spec);
	line_add(&line, "got the lock");
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
	trace_name(lock);
}

void trace_start(const struct options *options, const struct lock *lock, pid_t command)
{
	struct line line;

	line_begin_about(&line, lock->spec);
	line_add(&line, "started pid ");
	line_number(&line, (uint64_t)command);
	line_add(&line, ": ");
	line_escape(&line, options->command[0], strlen(options->command[0]), LINE_SUBJECT);
	line_end_if_ready(&line);
}

void trace_end(const struct lock *lock, int status, int64_t ran)
{
	struct line line;

	line_begin_about(&line, lock->spec);
	line_add(&line, WIFSIGNALED(status) ? "the command was killed by signal "
					    : "the command exited with status ");
	line_number(&line,
		    (uint64_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)));
	line_add(&line, " after ");
	line_duration(&line, ran);
	line_end_if_ready(&line);
}
