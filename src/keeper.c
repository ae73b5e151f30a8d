#include "keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

_Noreturn static void keep(int lock, int command, int ready)
{
	struct pollfd ended = { .fd = command, .events = POLLIN };

	setsid();
	prctl(PR_SET_NAME, KEEPER_NAME);
	/* Nor does it hold a directory that somebody wants to unmount. */
	(void)!chdir("/");
	if (ready >= 0 && write(ready, "", 1) != 1)
		_exit(1);
	close_others(lock, command);
	while (poll(&ended, 1, -1) < 0 && errno == EINTR)
		;
	_exit(0);
}

pid_t keeper_start(int lock, pid_t command, int ready)
{
	int pidfd = (int)syscall(SYS_pidfd_open, command, 0), kept;
	pid_t keeper;

	if (pidfd < 0)
		return -errno;
	keeper = fork();
	if (keeper == 0)
		keep(lock, pidfd, ready);
	kept = errno;
	close(pidfd);
	return keeper < 0 ? -kept : keeper;
}

void keeper_end(pid_t keeper)
{
	kill(keeper, SIGKILL);
	while (waitpid(keeper, NULL, 0) < 0 && errno == EINTR)
		;
}
