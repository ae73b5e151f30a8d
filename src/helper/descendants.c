#include "helper/descendants.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "base/process.h"

struct count {
	const struct descendants *descendants;
	int signal;
	unsigned left;
};

/* A process deeper than this below the ancestor does not count as a descendant. */
#define DEEPEST 10000

/* Whether PID descends from the ancestor through a child that is not older than the command. */
static bool descends(const struct descendants *descendants, pid_t pid)
{
	struct process process;

	for (int depth = 0; descendants->ancestor > 0 && pid > 1 && depth < DEEPEST; depth++) {
		if (process_read(pid, &process))
			return false;
		if (process.parent == descendants->ancestor)
			return process.start >= descendants->since && pid != descendants->helper;
		pid = process.parent;
	}
	return false;
}

static bool belongs(const struct descendants *descendants, pid_t pid)
{
	if (pid == descendants->ancestor || pid == descendants->helper)
		return false;
	return descends(descendants, pid) ||
	       (descendants->pipe && process_has_pipe(pid, descendants->pipe)) ||
	       (descendants->mark && process_has_variable(pid, descendants->mark, true));
}

static bool visit(pid_t pid, void *argument)
{
	struct count *count = argument;
	struct process process;

	/* The dead are still shown until they are reaped. */
	if (!belongs(count->descendants, pid) || process_read(pid, &process) ||
	    process.state == 'Z' || process.state == 'X')
		return true;
	kill(pid, count->signal);
	if (count->signal && count->signal != SIGKILL)
		kill(pid, SIGCONT);
	count->left++;
	return true;
}

unsigned descendants_signal(const struct descendants *descendants, int signal)
{
	struct count count = { .descendants = descendants, .signal = signal };

	process_walk(visit, &count);
	return count.left;
}
