/*
 * The host engine: a lock is an abstract Unix socket address, and whoever has a socket bound to it holds the lock.
 *
 *  1. The address is in host-address.h, the type SOCK_SEQPACKET for ever: the kernel keeps equal addresses of different types
 *     apart, so another type would be another lock.
 *  2. socket, bind, listen. EADDRINUSE, and nothing else, means held. listen makes the holder visible: who connects is told
 *     the pid and the user of the process that listened last (SO_PEERCRED), without its help. So the command listens again
 *     before it is executed, with -o too: what everybody sees is the job.
 *  3. The command inherits the socket, and the me-only process keeps it: the lock survives the death of either. A keeper
 *     (keeper.h) is there against both at once.
 *  4. The descriptor is never 0, 1 or 2; the command's is 60 or above, where no script's "exec 3>log" finds it.
 *  5. Waiting is in host-queue.c, rules 5 to 8 there.
 *  9. The holding me-only accepts those who connect (people who ask, and the waiter who is next and waits for the hang-up),
 *     greets each with one message, never reads from them, keeps the live ones and closes those that have gone. At its limit
 *     of descriptors it stops looking at the listener. The name is closed before the connections, or the next waiter would
 *     wake up to a name that is still bound.
 * 14. Re-entry: the name is in use, and the caller has inherited its socket or descends from the process that listened last.
 *
 * unix(7) has the basics. Facts that are not in it, from net/unix/af_unix.c: listen() on a listening socket sets the
 * credentials anew; accept() passes SO_PASSCRED on; closing the last descriptor of a listener hangs up on all who are in its
 * backlog; a non-blocking connect fails with EAGAIN when the backlog is full.
 */
#include "lock-host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "deadline.h"
#include "host-holder.h"
#include "process.h"
#include "socket-table.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* The command's descriptor, where the limit allows: above what scripts use, within the 64 that need no bigger table in the kernel. */
#define PASSED_FD 60
#define SCRIPTS_FD 10

/* Where an inherited socket of ours can be: it was put on the first free descriptor from 60. */
#define INHERITED_FD_MAX 1024

/* The audience leaves so many descriptors free. */
#define KEPT_FDS 8

/* fcntl(2) for commands on descriptors. The raw call: libc's has cases for locks, which make 400 bytes. */
static int descriptor_control(int fd, int command, int argument)
{
#ifdef SYS_fcntl
	return (int)syscall(SYS_fcntl, fd, command, argument);
#else
	return (int)syscall(SYS_fcntl64, fd, command, argument);
#endif
}

/*
 * Moves FD away from standard input, output and error, which were closed when we were started, and fills their places, so that
 * no descriptor of ours is ever read or written instead. exec closes them again: the command finds them as they were.
 */
static int off_stdio(int fd)
{
	int moved = descriptor_control(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1), kept = errno, plug;

	close(fd);
	if (moved < 0)
		return -kept;
	/* O_PATH: reading and writing fail as on a closed descriptor. "/" is always there and needs no permission. */
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

int host_socket(void)
{
	/* Non-blocking from the start: everybody who has the socket shares that flag. */
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	return fd > STDERR_FILENO ? fd : off_stdio(fd);
}

int host_bind(struct lock *lock, int fd, const struct host_address *address)
{
	lock->failed = "cannot bind the name";
	if (bind(fd, (const struct sockaddr *)&address->un, address->length))
		return -errno;
	lock->failed = "cannot listen on the name";
	/* As long a backlog as the system allows: it is the line of waiters. */
	if (listen(fd, INT_MAX)) {
		int kept = errno == EADDRINUSE ? EINVAL : errno;

		return -kept;
	}
	return 0;
}

static int connect_to(const struct host_address *address, bool passcred)
{
	const int on = 1;
	int fd = host_socket();

	if (fd < 0)
		return fd;
	if ((passcred && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on)) ||
	    connect(fd, (const struct sockaddr *)&address->un, address->length)) {
		int kept = errno;

		close(fd);
		return -kept;
	}
	return fd;
}

int host_connect(const struct host_address *address)
{
	return connect_to(address, false);
}

int host_connect_passcred(const struct host_address *address)
{
	/* Before connecting: later, messages that are under way already would come without. */
	return connect_to(address, true);
}

/* Whether FD is a listening socket of the engine's type that is bound to ADDRESS. */
bool host_is_listener(int fd, const struct host_address *address)
{
	struct sockaddr_un name;
	socklen_t length = sizeof name, size = sizeof(int);
	int value;

	return getsockname(fd, (struct sockaddr *)&name, &length) == 0 && length == address->length &&
	       memcmp(&name, &address->un, length) == 0 && getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) == 0 &&
	       value == SOCK_SEQPACKET && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value;
}

/* Whether FD belongs to this network namespace: the same name in another one is another lock. */
static bool is_of_this_namespace(int fd)
{
	uint64_t here = 0, there = 0;
	socklen_t size = sizeof here;
	int own = host_socket();

	/* Before Linux 5.14 nothing tells; then the name has to do. */
	if (own < 0 || getsockopt(own, SOL_SOCKET, SO_NETNS_COOKIE, &here, &size) ||
	    getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &there, &size))
		here = there = 0;
	if (own >= 0)
		close(own);
	return here == there;
}

/* Rule 14, first half: whether a socket that is bound to ADDRESS was passed to us. */
static bool has_inherited(const struct host_address *address)
{
	struct pollfd fds[INHERITED_FD_MAX];

	for (int i = 0; i < INHERITED_FD_MAX; i++)
		fds[i] = (struct pollfd){ .fd = i };
	/* One poll tells which descriptors are open. If a lower limit forbids that, descriptors above it can still be: all are tried. */
	poll(fds, INHERITED_FD_MAX, 0);
	for (int i = 0; i < INHERITED_FD_MAX; i++)
		if (!(fds[i].revents & POLLNVAL) && host_is_listener(i, address) && is_of_this_namespace(i))
			return true;
	return false;
}

/* Rule 14, second half: whether the holder is an ancestor of ours. Its number alone is no proof: it can have been used again. */
static bool descends_from_holder(const struct host_address *address)
{
	struct host_peer peer;
	int fd = host_connect(address), r;

	if (fd < 0)
		return false;
	r = host_peer_read(fd, &peer);
	close(fd);
	if (r || peer.life == PEER_DEAD || !process_descends(getpid(), peer.cred.pid))
		return false;
	return peer.life == PEER_ALIVE || host_is_proved_holder(address, &host_kernel, peer.cred.pid);
}

bool host_is_reentry(const struct host_address *address)
{
	return has_inherited(address) || descends_from_holder(address);
}

/* Whether the lock at ADDRESS is this user's or root's. */
static bool is_trusted_owner(const struct host_address *address)
{
	struct socket_entry entry;
	struct host_peer peer;
	int fd, r;

	if (socket_table_find(address, &entry) == 0 && entry.uid != SOCKET_UID_UNKNOWN)
		return holder_is_trusted(entry.uid);
	fd = host_connect(address);
	if (fd < 0)
		return false;
	r = host_peer_read(fd, &peer);
	close(fd);
	return r == 0 && holder_is_trusted(peer.cred.uid);
}

/*
 * Who is told "yes" runs without taking the lock. So a stranger must not be able to hand it down: not to what he starts with
 * more rights than he has himself, by sudo for instance.
 */
static int host_is_ours(struct lock *lock)
{
	struct host_address address;

	host_address(&address, lock->name);
	return host_is_reentry(&address) && is_trusted_owner(&address);
}

static int host_take(struct lock *lock, struct lock_wait *wait)
{
	struct host_address address;
	int fd, r;

	host_address(&address, lock->name);
	if (wait->deadline)
		return host_wait(lock, &address, wait);
	fd = host_socket();
	if (fd < 0) {
		lock->failed = "cannot make a socket";
		return fd;
	}
	r = host_bind(lock, fd, &address);
	if (r == 0) {
		lock->fd = lock->watched = fd;
		return 0;
	}
	close(fd);
	if (r != -EADDRINUSE)
		return r;
	return host_is_reentry(&address) ? -EDEADLK : -EBUSY;
}

static int host_pass(struct lock *lock, bool inherit, bool new)
{
	lock->failed = "cannot pass the lock to the command";
	/* The duplicate is inherited, the original is closed by exec: one system call. */
	if (inherit && descriptor_control(lock->fd, F_DUPFD, PASSED_FD) < 0 && descriptor_control(lock->fd, F_DUPFD, SCRIPTS_FD) < 0 &&
	    descriptor_control(lock->fd, F_SETFD, 0) < 0)
		return -errno;
	/* SO_PEERCRED names whoever has listened last: from now on the command. */
	return new && listen(lock->fd, INT_MAX) ? -errno : 0;
}

/* Rule 9. The first connection costs an epoll instance; before, the listener itself is watched. */
static int audience_open(struct lock *lock)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = lock->fd };
	int audience = epoll_create1(EPOLL_CLOEXEC);

	if (audience < 0)
		return -1;
	if (epoll_ctl(audience, EPOLL_CTL_ADD, lock->fd, &event)) {
		close(audience);
		return -1;
	}
	return audience;
}

static void greet(int fd, const struct lock *lock, pid_t job, int64_t since)
{
	struct host_greeting greeting = { .held = deadline_now() - since, .job = (uint32_t)job, .name_length = (uint32_t)strlen(lock->name) };
	struct iovec parts[] = { { &greeting, sizeof greeting }, { (void *)(uintptr_t)lock->name, greeting.name_length } };
	struct msghdr greets = { .msg_iov = parts, .msg_iovlen = 2 };

	memcpy(greeting.magic, HOST_GREETING_MAGIC, sizeof greeting.magic);
	/* Fails when the other end has gone, or a name is too long for one message: then nobody is greeted. */
	(void)sendmsg(fd, &greets, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Whether so few descriptors are left behind FD that the audience must have no more of them: a keeper needs some. */
static bool is_near_limit(int fd)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) || (rlim_t)fd + KEPT_FDS >= limit.rlim_cur;
}

/* Takes one connection in. Returns whether there can be more. */
static bool admit(struct lock *lock, pid_t job, int64_t since)
{
	struct epoll_event gone = { .events = 0 };	/* hang-up is always told; data are never looked at */
	int fd = accept4(lock->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return errno != EAGAIN;
	/* No descriptors left, or no memory: look away until one of the audience has gone. */
	if (fd < 0 || is_near_limit(fd)) {
		epoll_ctl(lock->watched, EPOLL_CTL_DEL, lock->fd, NULL);
		if (fd >= 0)
			close(fd);
		return false;
	}
	greet(fd, lock, job, since);
	gone.data.fd = fd;
	if (epoll_ctl(lock->watched, EPOLL_CTL_ADD, fd, &gone))
		close(fd);
	return true;
}

static void dismiss(struct lock *lock, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = lock->fd };

	close(fd);
	/* There is room again. Fails with EEXIST where we have not looked away. */
	epoll_ctl(lock->watched, EPOLL_CTL_ADD, lock->fd, &event);
}

static void host_serve(struct lock *lock, pid_t job, int64_t since)
{
	struct epoll_event events[16];
	int n;

	if (lock->watched == lock->fd)
		lock->watched = audience_open(lock);
	if (lock->watched < 0)
		return;
	n = epoll_wait(lock->watched, events, sizeof events / sizeof *events, 0);
	for (int i = 0; i < n; i++) {
		if (events[i].data.fd != lock->fd) {
			dismiss(lock, events[i].data.fd);
			continue;
		}
		/* Somebody who has inherited it has shut it down: nobody can connect any more, and that would be told for ever. */
		if (events[i].events & EPOLLHUP) {
			epoll_ctl(lock->watched, EPOLL_CTL_DEL, lock->fd, NULL);
			continue;
		}
		/* A few at a time: a flood must not keep us from the command. */
		for (int more = 16; more > 0 && admit(lock, job, since); more--)
			;
	}
}

static void host_release(struct lock *lock)
{
	close(lock->fd);
	/* The audience, the front among it: now the name is free. */
	syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0);
}

static int host_identify(const struct lock *lock, struct lock_identity *identity)
{
	struct host_address address;
	struct socket_entry entry;
	int r;

	host_address(&address, lock->name);
	r = socket_table_find(&address, &entry);
	if (r == 0)
		*identity = (struct lock_identity){ entry.inode, entry.uid, entry.uid != SOCKET_UID_UNKNOWN };
	return r;
}

static void find_holder(const struct lock *lock, struct holder *holder, bool thorough)
{
	struct host_address address;

	host_address(&address, lock->name);
	host_find_holder(&address, holder, thorough);
}

const struct lock_engine lock_host = {
	.prefix = "host",
	.take = host_take,
	.leave_line = host_leave_line,
	.pass = host_pass,
	.serve = host_serve,
	.release = host_release,
	.is_ours = host_is_ours,
	.identify = host_identify,
	.find_holder = find_holder,
	.replace = host_replace,
};
