#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "conform.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define CRED_SPACE CMSG_SPACE(sizeof(struct ucred))

static const struct actor_state *state;

static int or_errno(int r)
{
	return r < 0 ? -errno : r;
}

static socklen_t make_name(struct sockaddr_un *un, int n)
{
	*un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   (size_t)sprintf(un->sun_path + 1, "conform-%d-%d-%d", state->self,
					   state->script, n));
}

static char letter(int pid)
{
	for (int i = 0; i < ACTORS; i++)
		if (state->pids[i] == pid)
			return (char)('A' + i);
	return pid ? '?' : '-';
}

/* --- messages --- */

static void receive(int fd, struct answer *answer, size_t control_size, size_t data_size)
{
	_Alignas(16) char control[256];
	char data[64] = "", *out = answer->text;
	struct iovec part = { data, data_size };
	struct msghdr msg = { .msg_iov = &part,
			      .msg_iovlen = 1,
			      .msg_control = control_size ? control : NULL,
			      .msg_controllen = control_size };
	int made = 0;

	answer->result = or_errno((int)recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
	if (answer->result < 0)
		return;
	out += sprintf(out, "flags %x control %zu",
		       (unsigned)msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC), msg.msg_controllen);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t size = c->cmsg_len - CMSG_LEN(0);
		struct ucred cred;

		if (c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&cred, CMSG_DATA(c), sizeof cred);
			out += sprintf(out, " from %c uid %d", letter(cred.pid),
				       cred.uid == geteuid() ? 0
				       : cred.uid == 65534   ? 65534
							     : -1);
		} else if (c->cmsg_type == SCM_RIGHTS) {
			out += sprintf(out, " fds %zu", size / sizeof(int));
			for (size_t i = 0; i < size / sizeof(int) && made < MOST_MADE; i++)
				memcpy(&answer->made[made++], CMSG_DATA(c) + i * sizeof(int),
				       sizeof(int));
		}
	}
}

static void receive_all(int fd, struct answer *answer)
{
	receive(fd, answer, CRED_SPACE + CMSG_SPACE(2 * sizeof(int)), 64);
}

static void send_some(int fd, const struct call *call, struct answer *answer)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control;
	struct iovec part = { (char *)(uintptr_t) "hello", (size_t)(1 + call->n % 5) };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };
	int fds[2] = { state->fds[call->a], state->fds[call->b] };
	size_t size = call->op == OP_SEND_FD ? (1 + (size_t)call->n % 2) * sizeof(int) : 0;

	if (size) {
		control.align = (struct cmsghdr){ .cmsg_len = CMSG_LEN(size),
						  .cmsg_level = SOL_SOCKET,
						  .cmsg_type = SCM_RIGHTS };
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(size);
		memcpy(CMSG_DATA(&control.align), fds, size);
	}
	answer->result = or_errno((int)sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT));
}

/* Until no more can be sent. How many messages that takes depends on the size of the kernel's
 * structures. */
static void flood(int fd, struct answer *answer)
{
	struct iovec part = { (char *)(uintptr_t) "hellowor", 8 };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };
	int n = 0;

	while (sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == 8)
		n++;
	answer->result = -errno;
	strcpy(answer->text, n > 200 ? "many" : n > 0 ? "some" : "none");
}

/* --- questions --- */

static void ask_cred(int fd, struct answer *answer)
{
	struct ucred cred;
	socklen_t size = sizeof cred;

	answer->result = or_errno(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size));
	sprintf(answer->text, "%c uid %d", letter(cred.pid),
		cred.uid == geteuid() ? 0 : (int)cred.uid);
}

static void ask_pidfd(int fd, struct answer *answer)
{
	struct pollfd p = { .fd = -1, .events = POLLIN };
	socklen_t size = sizeof p.fd;

	answer->result = or_errno(getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &p.fd, &size));
	if (answer->result)
		return;
	poll(&p, 1, 0);
	sprintf(answer->text, "poll %x", (unsigned)p.revents);
	close(p.fd);
}

/* What host_is_listener() asks. */
static void ask_name(int fd, struct answer *answer)
{
	int type = -1, accepts = -1, found = -1;
	socklen_t size = sizeof type, length = sizeof(struct sockaddr_un);
	struct sockaddr_un un = { 0 };

	getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
	getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size);
	answer->result = or_errno(getsockname(fd, (struct sockaddr *)&un, &length));
	for (int n = 0; n < 3; n++) {
		struct sockaddr_un other;

		if (length == make_name(&other, n) &&
		    !memcmp(other.sun_path, un.sun_path, length - 2))
			found = n;
	}
	sprintf(answer->text, "type %d accepts %d name %d length %d", type, accepts, found,
		found < 0 ? (int)length : 0);
}

static void poll_all(struct answer *answer)
{
	char *out = answer->text;

	for (int i = 0; i < SLOTS; i++) {
		struct pollfd p = { state->fds[i], POLLIN | POLLOUT, 0 };

		if (state->fds[i] < 0)
			continue;
		poll(&p, 1, 0);
		out += sprintf(out, " %d:%x", i, (unsigned)p.revents);
	}
}

static void wait_epoll(int fd, struct answer *answer)
{
	struct epoll_event events[16];
	unsigned set[SLOTS] = { 0 };
	char *out = answer->text;

	answer->result = or_errno(epoll_wait(fd, events, 16, 0));
	for (int i = 0; i < answer->result; i++)
		set[events[i].data.fd] = events[i].events;
	for (int i = 0; i < SLOTS; i++)
		if (set[i])
			out += sprintf(out, " %d:%x", i, set[i]);
}

static void read_pipe(int fd, struct answer *answer)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char byte;

	answer->result = poll(&p, 1, 0) ? or_errno((int)read(fd, &byte, 1)) : -EAGAIN;
}

static int change_epoll(int fd, const struct call *call)
{
	struct epoll_event event = { .events = call->n % 2 ? EPOLLIN : 0, .data.fd = call->a };

	return or_errno(epoll_ctl(fd, call->op == OP_EPOLL_ADD ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
				  state->fds[call->a], &event));
}

/* --- all --- */

/* Calls that make a descriptor. */
static bool makes(int fd, const struct call *call, struct answer *answer)
{
	int *made = answer->made;

	switch (call->op) {
	case OP_SOCKET:
		made[0] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		break;
	case OP_ACCEPT:
		answer->result =
			(made[0] = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) < 0
				? -errno
				: 0;
		break;
	case OP_SOCKETPAIR:
		answer->result = or_errno(socketpair(
			AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, made));
		break;
	case OP_EPOLL: made[0] = epoll_create1(EPOLL_CLOEXEC); break;
	case OP_PIPE: answer->result = or_errno(pipe2(made, O_CLOEXEC)); break;
	case OP_DUP: made[0] = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3); break;
	default: return false;
	}
	return true;
}

void conform_execute(const struct actor_state *of, const struct call *call, struct answer *answer)
{
	int fd = of->fds[call->fd];
	struct sockaddr_un un;
	socklen_t size;

	state = of;
	*answer = (struct answer){ .made = { -1, -1, -1 } };
	size = make_name(&un, call->n);
	if (makes(fd, call, answer))
		return;
	switch (call->op) {
	case OP_BIND: answer->result = or_errno(bind(fd, (struct sockaddr *)&un, size)); break;
	case OP_LISTEN: answer->result = or_errno(listen(fd, call->n)); break;
	case OP_CONNECT:
		answer->result = or_errno(connect(fd, (struct sockaddr *)&un, size));
		break;
	case OP_PASSCRED:
		answer->result =
			or_errno(setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &(int){ 1 }, sizeof(int)));
		break;
	case OP_SEND:
	case OP_SEND_FD: send_some(fd, call, answer); break;
	case OP_RECEIVE: receive_all(fd, answer); break;
	case OP_RECEIVE_SMALL: receive(fd, answer, CRED_SPACE + CMSG_LEN(sizeof(int)), 3); break;
	case OP_RECEIVE_BARE: receive(fd, answer, 0, 64); break;
	case OP_RECEIVE_LIMITED: conform_receive_limited(receive_all, fd, answer); break;
	case OP_SHUTDOWN: answer->result = or_errno(shutdown(fd, call->n)); break;
	case OP_CLOSE: answer->result = or_errno(close(fd)); break;
	case OP_PEERCRED: ask_cred(fd, answer); break;
	case OP_PEERPIDFD: ask_pidfd(fd, answer); break;
	case OP_ASK: ask_name(fd, answer); break;
	case OP_EPOLL_ADD:
	case OP_EPOLL_DEL: answer->result = change_epoll(fd, call); break;
	case OP_EPOLL_WAIT: wait_epoll(fd, answer); break;
	case OP_PIPE_WRITE: answer->result = or_errno((int)write(fd, "x", 1)); break;
	case OP_PIPE_READ: read_pipe(fd, answer); break;
	case OP_FLOOD: flood(fd, answer); break;
	case OP_POLL_ALL: poll_all(answer); break;
	default: break;
	}
}
