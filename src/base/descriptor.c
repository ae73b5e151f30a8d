#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

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
