/*
 * The system calls that the project's sources make, and a few functions of libc: names.txt gives
 * them these names. Each begins with task_enter_call(): there the process can be preempted,
 * stopped or killed. Here those on descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>

#include "descriptors.h"
#include "world.h"

#define PACKET_ROOM 4200

/* --- sockets and pipes ------------------------------------------------------------------------ */

int sim_socketpair(int domain, int type, int protocol, int fds[2])
{
	struct file *a = file_new(FILE_SOCKET), *b = file_new(FILE_SOCKET);

	(void)domain, (void)type, (void)protocol;
	task_enter_call();
	a->peer = b;
	b->peer = a;
	fds[0] = descriptor_install(current, a, 0, true);
	fds[1] = descriptor_install(current, b, 0, true);
	return 0;
}

int sim_pipe2(int fds[2], int flags)
{
	struct file *reader = file_new(FILE_PIPE_READ), *writer = file_new(FILE_PIPE_WRITE);

	task_enter_call();
	reader->pipe = writer->pipe = pipe_new();
	fds[0] = descriptor_install(current, reader, 0, flags & O_CLOEXEC);
	fds[1] = descriptor_install(current, writer, 0, flags & O_CLOEXEC);
	return 0;
}

ssize_t sim_send(int fd, const void *text, size_t n, int flags)
{
	char words[PACKET_ROOM];
	struct file *file;

	(void)flags;
	task_enter_call();
	/* Also what nobody is there to hear. */
	snprintf(words, sizeof words, "%.*s", (int)n, (const char *)text);
	if (current->kind == TASK_HELPER)
		check_word(current, words);
	file = file_of(fd);
	return file && socket_send(file, text, n, NULL) == 0 ? (ssize_t)n : -1;
}

ssize_t sim_sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct file *passed = NULL, *file;
	int one;

	(void)flags;
	task_enter_call();
	if (message->msg_control) {
		memcpy(&one, CMSG_DATA(CMSG_FIRSTHDR(message)), sizeof one);
		passed = file_of(one);
	}
	file = file_of(fd);
	if (!file ||
	    socket_send(file, message->msg_iov->iov_base, message->msg_iov->iov_len, passed))
		return -1;
	return (ssize_t)message->msg_iov->iov_len;
}

ssize_t sim_recvmsg(int fd, struct msghdr *message, int flags)
{
	struct cmsghdr *header = message->msg_control;
	struct file *passed = NULL, *file;
	ssize_t n;
	int one;

	task_enter_call();
	file = file_of(fd);
	n = file ? socket_receive(file, message->msg_iov->iov_base, message->msg_iov->iov_len,
				  &passed)
		 : -1;
	message->msg_controllen = 0;
	if (n <= 0 || !passed)
		return n;
	one = descriptor_install(current, passed, 0, flags & MSG_CMSG_CLOEXEC);
	file_close(passed);
	message->msg_controllen = CMSG_SPACE(sizeof one);
	*header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof one),
				     .cmsg_level = SOL_SOCKET,
				     .cmsg_type = SCM_RIGHTS };
	memcpy(CMSG_DATA(header), &one, sizeof one);
	return n;
}

ssize_t sim_recv(int fd, void *text, size_t n, int flags)
{
	struct file *passed = NULL, *file;
	ssize_t got;

	(void)flags;
	task_enter_call();
	file = file_of(fd);
	got = file ? socket_receive(file, text, n, &passed) : -1;
	/* Nobody takes it: it is closed. */
	if (got >= 0 && passed)
		file_close(passed);
	return got;
}

/* --- descriptors ------------------------------------------------------------------------------ */

int sim_close(int fd)
{
	task_enter_call();
	if (!file_of(fd))
		return -1;
	descriptor_close(current, fd);
	task_notify();
	return 0;
}

int sim_dup2(int from, int to)
{
	struct file *file;

	task_enter_call();
	file = file_of(from);
	if (!file || from == to)
		return file ? to : -1;
	file->references++;
	if (current->descriptors[to])
		descriptor_close(current, to);
	current->descriptors[to] = file;
	current->close_on_exec[to] = false;
	task_notify();
	return to;
}

int sim_open(const char *path, int flags, ...)
{
	(void)path;
	task_enter_call();
	return descriptor_install(current, file_new(FILE_NULL), 0, flags & O_CLOEXEC);
}

int sim_fstat(int fd, struct stat *status)
{
	const struct file *file;

	task_enter_call();
	memset(status, 0, sizeof *status);
	file = file_of(fd);
	if (!file)
		return -1;
	status->st_mode = file->type == FILE_SOCKET ? S_IFSOCK : file->pipe ? S_IFIFO : S_IFREG;
	status->st_ino = file->pipe ? file->pipe->inode : 1;
	return 0;
}

long descriptor_control(int fd, int command, int argument)
{
	struct file *file = file_of(fd);

	if (!file)
		return -1;
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC)
		return descriptor_install(current, file, argument, command == F_DUPFD_CLOEXEC);
	if (command == F_SETFD)
		current->close_on_exec[fd] = argument & FD_CLOEXEC;
	return 0;
}

int sim_fcntl(int fd, int command, ...)
{
	va_list list;
	int argument;

	va_start(list, command);
	argument = va_arg(list, int);
	va_end(list);
	task_enter_call();
	return (int)descriptor_control(fd, command, argument);
}

int sim_poll(struct pollfd *polled, nfds_t n, int timeout)
{
	task_enter_call();
	return descriptors_poll(polled, (unsigned)n,
				timeout < 0 ? NEVER : clock_monotonic(current->host) + timeout * MS,
				false);
}

/* --- timers and signalfds --------------------------------------------------------------------- */

int sim_timerfd_create(int clock, int flags)
{
	struct file *timer = file_new(FILE_TIMER);

	if (clock != CLOCK_BOOTTIME)
		abort();
	task_enter_call();
	timer->host = current->host;
	return descriptor_install(current, timer, 0, flags & TFD_CLOEXEC);
}

int sim_timerfd_settime(int fd, int flags, const struct itimerspec *new, struct itimerspec *old)
{
	const struct timespec *at = &new->it_value;
	struct file *timer;

	(void)old;
	task_enter_call();
	timer = file_of(fd);
	if (!timer || !(flags & TFD_TIMER_ABSTIME))
		return -1;
	/* 0 switches it off. */
	timer_set(timer, at->tv_sec > (time_t)4e8 || (!at->tv_sec && !at->tv_nsec)
				 ? NEVER
				 : at->tv_sec * S + at->tv_nsec);
	return 0;
}

/* What is left; 0: it is switched off, or its time has come. */
int sim_timerfd_gettime(int fd, struct itimerspec *current_value)
{
	const struct file *timer;
	ns left = 0;

	task_enter_call();
	timer = file_of(fd);
	if (!timer)
		return -1;
	if (timer->expiry != NEVER)
		left = timer->expiry - clock_boottime(timer->host);
	left = left > 0 ? left : 0;
	*current_value = (struct itimerspec){ .it_value = { .tv_sec = left / S,
							     .tv_nsec = left % S } };
	return 0;
}

static ssize_t read_signal(struct file *file, void *buffer, size_t n)
{
	const uint64_t due = file->task->signals & file->task->mask;
	const int signal = __builtin_ctzll(due) + 1;
	struct signalfd_siginfo info = { .ssi_signo = (uint32_t)signal,
					 .ssi_pid = 1,
					 .ssi_code = signal == SIGCHLD ? CLD_EXITED : SI_USER };

	file->task->signals &= ~(1ULL << (signal - 1));
	memcpy(buffer, &info, n < sizeof info ? n : sizeof info);
	return sizeof info;
}

ssize_t sim_read(int fd, void *buffer, size_t n)
{
	struct file *file;

	task_enter_call();
	file = file_of(fd);
	if (!file)
		return -1;
	if (file->type == FILE_SIGNALS && file_readiness(file))
		return read_signal(file, buffer, n);
	if (file->type == FILE_TIMER && file_readiness(file)) {
		const uint64_t times = 1;

		file->expiry = NEVER;
		memcpy(buffer, &times, sizeof times);
		return sizeof times;
	}
	if (file->type == FILE_PIPE_READ && !file->pipe->writers)
		return 0;
	errno = EAGAIN;
	return -1;
}

/* Only messages are written, to standard error. */
ssize_t sim_write(int fd, const void *text, size_t n)
{
	char line[PACKET_ROOM];

	(void)fd;
	task_enter_call();
	snprintf(line, sizeof line, "%.*s", (int)(n > 0 ? n - 1 : 0), (const char *)text);
	trace("stderr: %s", line);
	world_message(current, line);
	return (ssize_t)n;
}
