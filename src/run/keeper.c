#include "run/keeper.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/process.h"
#include "base/start.h"

/* Closes all descriptors but A and B. */
static void close_others(int a, int b)
{
	unsigned low = (unsigned)(a < b ? a : b), high = (unsigned)(a < b ? b : a);
	struct rlimit limit;
	bool closed = true;

	if (low > 0)
		closed = syscall(SYS_close_range, 0U, low - 1, 0) == 0;
	if (high > low + 1)
		closed &= syscall(SYS_close_range, low + 1, high - 1, 0) == 0;
	closed &= syscall(SYS_close_range, high + 1, ~0U, 0) == 0;
	/* Before Linux 5.9. */
	if (!closed && getrlimit(RLIMIT_NOFILE, &limit) == 0)
		for (int fd = 0; (rlim_t)fd < limit.rlim_cur; fd++)
			if (fd != a && fd != b)
				close(fd);
}

static int keep(void *argument)
{
	const struct keeper_start *start = argument;
	/*
	 * As long as the parent lives the end of the command is its business. Only where we were there from the beginning it is ours,
	 * too: so the parent of a short job finds us ended. Later we would only be woken up in the way of who waits for the lock.
	 */
	struct pollfd ended[] = { { .fd = start->parent, .events = POLLIN }, { .fd = start->ready >= 0 ? start->command : -1, .events = POLLIN } };
	ssize_t n = 1;

	setsid();
	prctl(PR_SET_NAME, KEEPER_NAME);
	/* Nor does it hold a directory that somebody wants to unmount. */
	(void)!chdir("/");
	while (start->ready >= 0 && (n = write(start->ready, "", 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		_exit(1);
	while (poll(ended, 2, -1) < 0 || !(ended[0].revents | ended[1].revents))
		;
	/* POLLNVAL: the parent lives and has let go of everything, while we were about to look for the first time. */
	if (ended[1].revents || (ended[0].revents & POLLNVAL))
		_exit(0);
	/* The table that we shared is ours alone now. */
	close_others(start->lock, start->command);
	ended[0].fd = start->command;
	while (poll(ended, 1, -1) < 0)
		;
	_exit(0);
}

pid_t keeper_start(const struct keeper_start *start)
{
	return start_clone(keep, (void *)(uintptr_t)start, CLONE_FILES);
}

void keeper_end(pid_t keeper)
{
	/* If that fails it ends by itself, when we have. */
	if (kill(keeper, SIGKILL))
		return;
	while (waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
		;
}
