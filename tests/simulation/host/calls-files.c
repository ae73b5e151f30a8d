/* System calls on descriptors of any kind: close, poll, epoll, read and write. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>

#include "calls.h"
#include "file/waiter.h"
#include "hooks.h"
#include "procfs.h"
#include "world.h"

int __wrap_close(int fd);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_epoll_create1(int flags);
int __wrap_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event);
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int most, int timeout);
ssize_t __wrap_read(int fd, void *data, size_t n);
ssize_t __wrap_write(int fd, const void *data, size_t n);
int __wrap_pipe2(int ends[2], int flags);
int __wrap_eventfd(unsigned value, int flags);
int __wrap_flock(int fd, int operation);
struct file_waiter *__wrap_file_waiter(void);

/* --- what all calls do --- */

void enter(void)
{
	me()->calls++;
	point(false);
}

long result(long r)
{
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

const char *show_result(long r)
{
	static char texts[2][24];
	static int used;
	const char *name = r < 0 && r > -200 ? strerrorname_np((int)-r) : NULL;

	if (name)
		return name;
	used ^= 1;
	snprintf(texts[used], sizeof *texts, "%ld", r);
	return texts[used];
}

bool is_refused(const char *what)
{
	if (!W.inject || !schedule.running || me()->role == ROLE_COMMAND ||
	    (int)rnd(1000) >= W.inject)
		return false;
	TRACE("%s is made to fail", what);
	return true;
}

void not_simulated(const char *call, long number)
{
	fprintf(stderr, "%s(%ld) is not simulated: add it to tests/simulation/host\n", call,
		number);
	abort();
}

int __wrap_close(int fd)
{
	struct file *file = k_file(fd);

	/* Nobody else can tell when a text of /proc is closed. */
	if (file && file->kind == FILE_TEXT)
		return k_close(fd);
	enter();
	TRACE("close(%d)", fd);
	return (int)result(k_close(fd));
}

/* --- poll --- */

static bool is_ready(struct task *task)
{
	struct task *kept = current;
	bool ready = false;

	current = task; /* a signalfd looks at whoever asks */
	for (int i = 0; i < task->polled_count && !ready; i++)
		ready = k_poll(task->polled[i].file) &
			((unsigned)task->polled[i].events | POLLERR | POLLHUP);
	current = kept;
	return ready;
}

static int poll_once(struct pollfd *fds, nfds_t n)
{
	int ready = 0;

	for (nfds_t i = 0; i < n; i++) {
		const struct file *file = k_file(fds[i].fd);

		if (file)
			fds[i].revents = (short)(k_poll(file) &
						 ((unsigned)fds[i].events | POLLERR | POLLHUP));
		else
			fds[i].revents = fds[i].fd < 0 ? 0 : POLLNVAL;
		if (file && file->kind == FILE_SOCKET) {
			file->sock->looked_by = fds[i].revents & POLLIN ? NULL : me();
			file->sock->looked_at = me()->calls;
		}
		ready += fds[i].revents != 0;
	}
	return ready;
}

/* While a process sleeps in poll it has the files, even if others close the descriptors. */
static void sleep_in_poll(const struct pollfd *fds, nfds_t n, int64_t until)
{
	int polled = 0;

	for (nfds_t i = 0; i < n; i++) {
		struct file *file = k_file(fds[i].fd);

		if (!file)
			continue;
		if (polled == MOST_POLLED)
			abort();
		file->refs++;
		current->polled[polled].file = file;
		current->polled[polled++].events = fds[i].events;
	}
	current->polled_count = polled;
	on_sleep(me());
	TRACE("poll(%d descriptors) sleeps", polled);
	block(is_ready, until);
	for (int i = 0; i < polled; i++)
		k_file_put(current->polled[i].file);
	current->polled_count = 0;
	if (me()->killed)
		k_exit(me()->killed);
}

static void show_poll(const struct pollfd *fds, nfds_t n, int r)
{
	char text[256] = "";

	for (nfds_t i = 0; i < n && n < 100; i++)
		if (fds[i].fd >= 0 && strlen(text) < 220)
			sprintf(text + strlen(text), " %d%s%s%s%s", fds[i].fd,
				fds[i].revents & POLLIN ? " IN" : "",
				fds[i].revents & POLLHUP ? " HUP" : "",
				fds[i].revents & POLLERR ? " ERR" : "",
				fds[i].revents & POLLNVAL ? " NVAL" : "");
	TRACE("poll(%s ) = %d", text, r);
}

int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
	int64_t until = timeout < 0 ? NEVER : K.now + timeout * MS;
	int r;

	enter();
	if (n > (nfds_t)me()->files->limit)
		return (int)result(-EINVAL);
	while ((r = poll_once(fds, n)) == 0 && timeout != 0 && K.now < until && schedule.running)
		sleep_in_poll(fds, n, until);
	if (trace_mode)
		show_poll(fds, n, r);
	return r;
}

/* --- epoll --- */

int __wrap_epoll_create1(int flags)
{
	int r;

	(void)flags;
	me()->calls++;
	r = is_refused("epoll_create") ? -EMFILE : k_install_new(k_file_new(FILE_EPOLL), true);
	TRACE("epoll_create() = %s", show_result(r));
	return (int)result(r);
}

int __wrap_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
	bool add = op == EPOLL_CTL_ADD;
	int r;

	enter();
	r = add && is_refused("epoll_ctl")
		    ? -ENOSPC
		    : k_epoll_change(epoll_fd, add, fd, add ? event->events : 0,
				     add ? event->data.u64 : 0);
	TRACE("epoll_ctl(%s, %d) = %s", add ? "ADD" : "DEL", fd, show_result(r));
	return (int)result(r);
}

/* Which of them come first if there are many is left open. */
int __wrap_epoll_wait(int epoll_fd, struct epoll_event *events, int most, int timeout)
{
	const struct file *file;
	struct epoll *epoll;
	int n = 0;

	(void)timeout;
	enter();
	file = k_file(epoll_fd);
	if (!file || file->kind != FILE_EPOLL)
		return (int)result(file ? -EINVAL : -EBADF);
	epoll = file->epoll;
	for (int i = 0; i < epoll->count && n < most; i++) {
		int at = (epoll->start + i) % epoll->count;
		unsigned mask =
			k_poll(epoll->item[at].file) & (epoll->item[at].events | POLLERR | POLLHUP);

		if (!mask)
			continue;
		events[n].events = mask;
		events[n++].data.u64 = epoll->item[at].data;
	}
	epoll->start = epoll->count ? (int)rnd((uint32_t)epoll->count) : 0;
	TRACE("epoll_wait() = %d", n);
	return n;
}

/* --- read and write --- */

/* fs/signalfd.c: the lowest first. */
static ssize_t read_signal(struct signalfd_siginfo *info)
{
	struct proc *p = me();
	uint64_t set = p->pending & p->blocked;
	int number = set ? __builtin_ctzll(set) + 1 : 0;

	if (!number)
		return -EAGAIN;
	memset(info, 0, sizeof *info);
	info->ssi_signo = (uint32_t)number;
	info->ssi_code = p->code[number];
	info->ssi_pid = (uint32_t)p->sender[number];
	p->pending &= ~(UINT64_C(1) << (number - 1));
	TRACE("read(signalfd) = signal %d", number);
	return sizeof *info;
}

static bool pipe_is_ready(struct task *task)
{
	const struct pipe *pipe = task->polled[0].file->pipe;

	return pipe->bytes || !pipe->writers;
}

/* One byte, or the end when nobody has the other end any more. */
static ssize_t read_pipe(struct file *file)
{
	current->polled[0].file = file;
	while (!pipe_is_ready(current)) {
		block(pipe_is_ready, NEVER);
		if (me()->killed)
			k_exit(me()->killed);
	}
	TRACE("read(pipe) = %d", file->pipe->bytes > 0);
	if (file->pipe->bytes == 0)
		return 0;
	file->pipe->bytes--;
	return 1;
}

ssize_t __wrap_read(int fd, void *data, size_t n)
{
	struct file *file = k_file(fd);

	/* The rest of a text is what it was when it was first read. */
	if (file && file->kind == FILE_TEXT && file->cursor > 0)
		return procfs_read(file, data, n);
	enter();
	file = k_file(fd);
	if (!file)
		return result(-EBADF);
	switch (file->kind) {
	case FILE_SIGNALS: return result(read_signal(data));
	case FILE_PIPE: return read_pipe(file);
	case FILE_TEXT: return result(procfs_read(file, data, n));
	default: return 0;
	}
}

ssize_t __wrap_write(int fd, const void *data, size_t n)
{
	struct file *file;

	enter();
	file = k_file(fd);
	if (!file)
		return result(-EBADF);
	if (file->kind == FILE_PIPE && !file->pipe->readers) {
		k_signal(me(), SIGPIPE, 0, me());
		return result(-EPIPE);
	}
	if (file->kind == FILE_EVENT)
		file->events++;
	if (file->kind == FILE_PIPE)
		file->pipe->bytes++;
	if (file->kind == FILE_NULL) {
		TRACE("says: %.*s", (int)n - 1, (const char *)data);
		on_said(me(), data, n);
	}
	return (ssize_t)n;
}

int __wrap_pipe2(int ends[2], int flags)
{
	(void)flags;
	me()->calls++;
	return (int)result(k_pipe(ends));
}

int __wrap_eventfd(unsigned value, int flags)
{
	(void)value, (void)flags;
	me()->calls++;
	return (int)result(is_refused("eventfd") ? -EMFILE
						 : k_install_new(k_file_new(FILE_EVENT), true));
}

/* Each process has its own, as it has with a kernel that keeps their memory apart. */
struct file_waiter *__wrap_file_waiter(void)
{
	static struct file_waiter waiters[MOST_PROCS];

	return &waiters[me()->index];
}

int __wrap_flock(int fd, int operation)
{
	struct file *file;
	int r;

	enter();
	file = k_file(fd);
	if (!file)
		return (int)result(-EBADF);
	r = k_flock(file, operation & ~LOCK_NB, !(operation & LOCK_NB));
	TRACE("flock(%d, %s%s) = %s", fd,
	      operation & LOCK_UN   ? "UN"
	      : operation & LOCK_EX ? "EX"
				    : "SH",
	      operation & LOCK_NB ? " NB" : "", show_result(r));
	return (int)result(r);
}
