#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/process.h"

/*
 * The command's descriptor, if the limit allows: above those of scripts, within the 64 that need no
 * larger table.
 */
#define PASSED_FD 60
#define SCRIPTS_FD 10

/* An inherited descriptor of ours is below this: it was the first free one from 60. */
#define INHERITED_FD_MAX 1024

/*
 * fcntl(2) for commands on descriptors. The raw call: libc's handles locks as well, in 400 bytes.
 */
static int control(int fd, int command, int argument)
{
#ifdef SYS_fcntl
	return (int)syscall(SYS_fcntl, fd, command, argument);
#else
	return (int)syscall(SYS_fcntl64, fd, command, argument);
#endif
}

int descriptor_off_stdio(int fd)
{
	int moved, kept, plug;

	if (fd > STDERR_FILENO)
		return fd;
	moved = control(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	kept = errno;
	close(fd);
	if (moved < 0)
		return -kept;
	/*
	 * O_PATH: reading and writing fail as on a closed descriptor. "/" always exists and needs
	 * no permission.
	 */
	do
		plug = open("/", O_PATH | O_CLOEXEC);
	while (plug >= 0 && plug < STDERR_FILENO);
	if (plug < 0) {
		kept = errno;
		close(moved);
		return -kept;
	}
	if (plug > STDERR_FILENO)
		close(plug);
	return moved;
}

int descriptor_pass(int fd)
{
	/* The duplicate is inherited, the original is closed by exec: one system call. */
	if (control(fd, F_DUPFD, PASSED_FD) < 0 && control(fd, F_DUPFD, SCRIPTS_FD) < 0 &&
	    control(fd, F_SETFD, 0) < 0)
		return -errno;
	return 0;
}

bool descriptor_inherited(bool (*test)(int fd, void *argument), void *argument)
{
	struct pollfd fds[INHERITED_FD_MAX];

	for (int i = 0; i < INHERITED_FD_MAX; i++)
		fds[i] = (struct pollfd){ .fd = i };
	/* One poll shows which descriptors are open. If a lower limit forbids it, all are tried. */
	poll(fds, INHERITED_FD_MAX, 0);
	for (int i = 0; i < INHERITED_FD_MAX; i++)
		if (!(fds[i].revents & POLLNVAL) && test(i, argument))
			return true;
	return false;
}

/* The range of descriptors that are to be closed, with two exceptions. */
struct closing {
	int first, a, b;
};

static void close_unless_kept(int fd, void *argument)
{
	const struct closing *closing = argument;

	if (fd >= closing->first && fd != closing->a && fd != closing->b)
		close(fd);
}

/* Neither close_range(2) nor /proc: poll(2) tells of many at a time which are open. */
static void close_up_to_limit(struct closing *closing)
{
	struct pollfd fds[256];
	struct rlimit limit;
	rlim_t n;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	for (rlim_t from = 0; from < limit.rlim_cur; from += n) {
		for (n = 0; n < sizeof fds / sizeof *fds && from + n < limit.rlim_cur; n++)
			fds[n] = (struct pollfd){ .fd = (int)(from + n) };
		/* If it fails, all are tried. */
		poll(fds, n, 0);
		for (rlim_t i = 0; i < n; i++)
			if (!(fds[i].revents & POLLNVAL))
				close_unless_kept(fds[i].fd, closing);
	}
}

static bool close_range_of(int64_t low, int64_t high)
{
	return low > high || syscall(SYS_close_range, (unsigned)low, (unsigned)high, 0) == 0;
}

void descriptor_close_others(int first, int a, int b)
{
	const int64_t low = a < b ? a : b, high = a < b ? b : a;
	struct closing closing = { first, a, b };

	if (close_range_of(first, low - 1) &&
	    close_range_of(low < first ? first : low + 1, high - 1) &&
	    close_range_of(high < first ? first : high + 1, ~0U))
		return;
	/* Before Linux 5.9, or where a filter forbids it. A limit can be a million. */
	if (!process_own_descriptors(close_unless_kept, &closing))
		close_up_to_limit(&closing);
}
