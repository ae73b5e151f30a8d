/*
 * All descriptors but two are closed: by close_range(2), where that is forbidden by what /proc shows,
 * and without /proc by what poll(2) says. The limit is as high as it may be, and costs nothing.
 */
#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long __real_syscall(long number, long a, long b, long c, long d, long e, long f);
int __wrap_open(const char *path, int flags, ...);
int __real_open(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);
int __wrap_close(int fd);
int __real_close(int fd);

static int error;	/* of close_range(2); 0: it works */
static bool proc_hidden;
static int closes;

long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	if (number == SYS_close_range && error) {
		errno = error;
		return -1;
	}
	return __real_syscall(number, a, b, c, d, e, f);
}

int __wrap_open(const char *path, int flags, ...)
{
	if (proc_hidden && !strncmp(path, "/proc/", 6)) {
		errno = ENOENT;
		return -1;
	}
	return __real_open(path, flags);
}

int __wrap_open64(const char *path, int flags, ...)
{
	return __wrap_open(path, flags);
}

int __wrap_close(int fd)
{
	closes++;
	return __real_close(fd);
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* In a process of its own: the bits of its status tell which of these were open, 0x80: too many calls. */
static int try(int first, int a, int b)
{
	static const int opened[] = { 3, 4, 5, 60, 61, 300, 700 };
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int seen = 0;

		for (size_t i = 0; i < sizeof opened / sizeof *opened; i++)
			dup2(1, opened[i]);
		descriptor_close_others(first, a, b);
		for (size_t i = 0; i < sizeof opened / sizeof *opened; i++)
			seen |= is_open(opened[i]) << i;
		if (closes > 40)
			seen |= 0x80;
		_exit(seen);
	}
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_all(const char *how)
{
	printf("# %s\n", how);
	is_number(try(0, 4, 61), 0x12, "all but two are closed");
	is_number(try(0, 61, 4), 0x12, "in the other order, too");
	is_number(try(3, -1, -1), 0, "all from one on");
	is_number(try(5, -1, -1), 0x03, "those below stay");
	is_number(try(5, 3, 700), 0x43, "one that is kept is below, the other is the last");
	is_number(try(0, 3, 4), 0x03, "two that follow each other");
}

int main(void)
{
	struct rlimit limit = { 1000000, 1000000 };

	setrlimit(RLIMIT_NOFILE, &limit); /* as root */
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	test_all("close_range");
	error = ENOSYS;
	test_all("not before Linux 5.9");
	error = EPERM;
	test_all("a filter forbids it");
	proc_hidden = true;
	test_all("and there is no /proc");
	return tap_done();
}
