#include "family.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "process.h"

struct count {
	const struct family *family;
	int signal;
	unsigned left;
};

static bool belongs(const struct family *family, pid_t pid)
{
	if (pid == family->ancestor || pid == family->helper)
		return false;
	return process_descends(pid, family->ancestor) || (family->pipe && process_has_pipe(pid, family->pipe)) ||
	       (family->mark && process_has_variable(pid, family->mark, true));
}

static bool visit(pid_t pid, void *argument)
{
	struct count *count = argument;
	struct process process;

	/* The dead are still shown until they are reaped. */
	if (!belongs(count->family, pid) || process_read(pid, &process) || process.state == 'Z' || process.state == 'X')
		return true;
	if (kill(pid, count->signal) && errno != ESRCH)
		return true;
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
