#include "helper/descendants.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "base/process.h"

struct count {
	const struct family *family;
	int signal;
	unsigned left;
};

/* A process that is deeper than this below the ancestor is taken to be none of its descendants. */
#define DEEPEST 10000

/* Whether PID descends from the ancestor by a child of it that is not older than the command. */
static bool descends(const struct family *family, pid_t pid)
{
	struct process process;

	for (int depth = 0; family->ancestor > 0 && pid > 1 && depth < DEEPEST; depth++) {
		if (process_read(pid, &process))
			return false;
		if (process.parent == family->ancestor)
			return process.start >= family->since && pid != family->helper;
		pid = process.parent;
	}
	return false;
}

static bool belongs(const struct family *family, pid_t pid)
{
	if (pid == family->ancestor || pid == family->helper)
		return false;
	return descends(family, pid) || (family->pipe && process_has_pipe(pid, family->pipe)) ||
	       (family->mark && process_has_variable(pid, family->mark, true));
}

static bool visit(pid_t pid, void *argument)
{
	struct count *count = argument;
	struct process process;

	/* The dead are still shown until they are reaped. */
	if (!belongs(count->family, pid) || process_read(pid, &process) || process.state == 'Z' || process.state == 'X')
		return true;
	kill(pid, count->signal);
	if (count->signal && count->signal != SIGKILL)
		kill(pid, SIGCONT);
	count->left++;
	return true;
}

unsigned family_signal(const struct family *family, int signal)
{
	struct count count = { .family = family, .signal = signal };

	process_walk(visit, &count);
	return count.left;
}
