/*
 * Random scripts of the system calls that fleet locks make, to be run on the real kernel and on the
 * simulated one: what they print has to be the same. Built twice: as a program, and as a part of
 * the simulator.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/start.h"

#define FIRST 3
#define LAST 16

enum type { CLOSED, SOCKET, PIPE_READ, PIPE_WRITE, TIMER, SIGNALS, PIDFD };
static enum type types[64];
static uint64_t state;
static int children, signals;

void conform_script(uint64_t seed, int steps);

static unsigned below(unsigned n)
{
	state = state * 6364136223846793005 + 1442695040888963407;
	return (unsigned)((state >> 33) % n);
}

static void show(const char *what, int fd, long result)
{
	printf("%s %d: %ld%s%s\n", what, fd, result, result < 0 ? " " : "",
	       result < 0 ? strerror(errno) : "");
}

/* A descriptor of TYPE, mostly; else -1. */
static int any(enum type type)
{
	int found[LAST], n = 0;

	for (int fd = FIRST; fd < LAST; fd++)
		if (types[fd] == type)
			found[n++] = fd;
	return n ? found[below((unsigned)n)] : -1;
}

static void note(int fd, enum type type)
{
	if (fd >= 0 && fd < 64)
		types[fd] = type;
}

static bool has_room(void)
{
	return any(CLOSED) >= 0 && any(CLOSED) < LAST - 4;
}

/* --- calls ------------------------------------------------------------------------------------ */

static void make_pair(void)
{
	int fds[2], r = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds);

	show("socketpair", fds[0] * 100 + fds[1], r);
	note(fds[0], SOCKET);
	note(fds[1], SOCKET);
}

static void make_pipe(void)
{
	int fds[2], r = pipe2(fds, O_CLOEXEC);

	show("pipe2", fds[0] * 100 + fds[1], r);
	note(fds[0], PIPE_READ);
	note(fds[1], PIPE_WRITE);
}

static void send_one(int fd)
{
	static const char text[] = "0123456789";

	show("send", fd, send(fd, text, 1 + below(10), MSG_DONTWAIT | MSG_NOSIGNAL));
}

static void receive_one(int fd)
{
	char text[32] = "";
	const long n = recv(fd, text, 4 + below(8), MSG_DONTWAIT);

	show("recv", fd, n);
	printf("  '%.*s'\n", n > 0 ? (int)n : 0, text);
}

static void send_descriptor(int fd, int passed)
{
	char room[CMSG_SPACE(sizeof(int))] = "";
	struct iovec part = { (void *)"x", 1 };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = room,
				  .msg_controllen = sizeof room };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_len = CMSG_LEN(sizeof fd);
	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	memcpy(CMSG_DATA(header), &passed, sizeof passed);
	show("sendmsg", fd, sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static enum type type_of(int fd)
{
	struct stat status;

	if (fstat(fd, &status))
		return CLOSED;
	return S_ISSOCK(status.st_mode) ? SOCKET : S_ISFIFO(status.st_mode) ? PIPE_WRITE : CLOSED;
}

static void receive_descriptor(int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	char text[32];
	struct iovec part = { text, sizeof text };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof control };
	const long n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int passed = -1;

	show("recvmsg", fd, n);
	if (n > 0 && CMSG_FIRSTHDR(&message)) {
		memcpy(&passed, CMSG_DATA(&control.header), sizeof passed);
		note(passed, type_of(passed));
	}
	printf("  passed %d\n", passed);
}

static void close_one(int fd)
{
	show("close", fd, close(fd));
	note(fd, CLOSED);
}

static void duplicate(int fd)
{
	const int to = FIRST + (int)below(LAST - FIRST),
		  r = below(2) ? dup2(fd, to) : fcntl(fd, F_DUPFD_CLOEXEC, to);

	show("dup", fd * 100 + to, r);
	if (r >= 0)
		note(r, types[fd]);
}

static void look(int fd)
{
	struct pollfd polled = { .fd = fd,
				 .events = (short)(below(2) ? POLLIN : POLLIN | POLLOUT) };
	const int r = poll(&polled, 1, 0);

	show("poll", fd, r);
	/* Since Linux 6.9 a pidfd is hung up when its process was reaped: nobody looks at that. */
	printf("  %#x\n",
	       (unsigned)(polled.revents & (types[fd < 0 ? 0 : fd] == PIDFD ? ~POLLHUP : ~0)));
}

static void make_timer(void)
{
	const int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);

	show("timerfd_create", fd, 0);
	note(fd, TIMER);
}

/* Long ago, in many years, or never. */
static void set_timer(int fd)
{
	static const time_t times[] = { 0, 1, 3000000 };
	const struct itimerspec at = { .it_value.tv_sec = times[below(3)] };

	show("timerfd_settime", fd, timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL));
}

static void read_timer(int fd)
{
	struct itimerspec left;
	uint64_t times;

	if (below(2)) {
		show("timerfd_gettime", fd, timerfd_gettime(fd, &left));
		printf("  %s\n", left.it_value.tv_sec || left.it_value.tv_nsec ? "some" : "none");
	} else {
		show("read", fd, read(fd, &times, sizeof times));
	}
}

static void end_child(void *argument)
{
	_exit(*(int *)argument);
}

static void start_child(void)
{
	int status = (int)below(100), r = start_process(end_child, &status);
	siginfo_t info;

	printf("start_process: %d\n", r > 0);
	/* The parent goes on before its child can be reaped: one after the other. */
	waitid(P_PID, (id_t)r, &info, WEXITED | WNOWAIT);
	children++;
	if (r > 0 && below(2) && has_room()) {
		const int fd = (int)syscall(SYS_pidfd_open, (long)r, 0L);

		show("pidfd_open", fd, 0);
		note(fd, PIDFD);
	}
}

static void reap(void)
{
	siginfo_t info = { .si_pid = 0 };
	int status = 0, r = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);

	show("waitid", info.si_pid > 0, r);
	r = waitpid(-1, &status, WNOHANG);
	show("waitpid", status, r > 0 ? 1 : r);
	children -= r > 0;
}

static void make_signals(void)
{
	const uint64_t all = ~0ULL;
	const int fd = (int)syscall(SYS_signalfd4, -1L, &all, 8L,
				    (long)(SFD_CLOEXEC | SFD_NONBLOCK));

	show("signalfd4", fd, 0);
	note(fd, SIGNALS);
	signals++;
}

static void read_signal(int fd)
{
	struct signalfd_siginfo info = { .ssi_signo = 0 };
	const long n = read(fd, &info, sizeof info);

	show("read", fd, n);
	printf("  signal %u\n", n > 0 ? info.ssi_signo : 0);
}

static void raise_one(void)
{
	static const int all[] = { SIGUSR1, SIGTERM, SIGHUP, SIGUSR2 };
	const int signal = all[below(4)];

	show("kill", signal, kill(getpid(), signal));
}

/* --- a script --------------------------------------------------------------------------------- */

static void make(void)
{
	switch (has_room() ? below(5) : 5) {
	case 0:
	case 1: make_pair(); break;
	case 2: make_pipe(); break;
	case 3: make_timer(); break;
	case 4: make_signals();
	}
}

/* For what a call needs; one that is closed now and then. */
static int pick(enum type type)
{
	return below(12) ? any(type) : any(CLOSED);
}

static void step(void)
{
	const int fd = pick((enum type)(below(6) + 1)), socket = pick(SOCKET), timer = pick(TIMER),
		  signal = any(SIGNALS), passed = any(PIPE_WRITE);

	switch (below(14)) {
	case 0:
	case 1: make(); break;
	case 2:
	case 3: send_one(socket); break;
	case 4: receive_one(socket); break;
	case 5:
		if (passed >= 0)
			send_descriptor(socket, passed);
		break;
	case 6:
		if (has_room())
			receive_descriptor(socket);
		break;
	case 7: close_one(fd); break;
	case 8:
		if (has_room())
			duplicate(fd);
		break;
	case 9:
		if (timer >= 0) {
			set_timer(timer);
			read_timer(timer);
		}
		break;
	case 10: start_child(); break;
	case 11: reap(); break;
	case 12:
		raise_one();
		if (signal >= 0)
			read_signal(signal);
		break;
	default: look(fd);
	}
}

void conform_script(uint64_t seed, int steps)
{
	const uint64_t all = ~0ULL;

	state = seed * 0x9e3779b97f4a7c15 + 1;
	memset(types, 0, sizeof types);
	children = signals = 0;
	syscall(SYS_close_range, (long)FIRST, ~0L, 0L);
	syscall(SYS_rt_sigprocmask, (long)SIG_SETMASK, &all, NULL, 8L);
	for (int i = 0; i < steps; i++)
		step();
	while (children > 0)
		reap();
	fflush(stdout);
}
