/*
 * The host engine: a lock is an abstract Unix socket address, and whoever has a socket bound to it holds the lock.
 *
 *  1. The address is in host/address.h, the type SOCK_SEQPACKET for ever: the kernel keeps equal addresses of different types
 *     apart, so another type would be another lock.
 *  2. socket, bind, listen. EADDRINUSE, and nothing else, means held. listen makes the holder visible: who connects is told
 *     the pid and the user of the process that listened last (SO_PEERCRED), without its help. So the command listens again
 *     before it is executed, with -o too: what everybody sees is the job.
 *  3. The command inherits the socket, and the me-only process keeps it: the lock survives the death of either. A keeper
 *     (run/keeper.h) is there against both at once.
 *  4. The descriptor is never 0, 1 or 2 (base/descriptor.h).
 *  5. Waiting is in host/queue.c, rules 5 to 8 there.
 *  9. The holding me-only accepts those who connect (people who ask, and the waiter who is next and waits for the hang-up),
 *     greets each with one message, never reads from them, keeps the live ones and closes those that have gone. At its limit
 *     of descriptors it stops looking at the listener. The name is closed before the connections, or the next waiter would
 *     wake up to a name that is still bound.
 * 11. A lock with slots has a name for each of them, and the first is that of the lock itself: so a plain lock is one with one slot.
 *     A try takes the first that is free. Whoever asks for fewer slots sees only these.
 * 14. Re-entry: the name is in use, and the caller has inherited its socket or descends from the process that listened last.
 *
 * unix(7) has the basics. Facts that are not in it, from net/unix/af_unix.c: listen() on a listening socket sets the
 * credentials anew; accept() passes SO_PASSCRED on; closing the last descriptor of a listener hangs up on all who are in its
 * backlog; a non-blocking connect fails with EAGAIN when the backlog is full.
 */
#include "host/engine.h"

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

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/process.h"
#include "base/trust.h"
#include "host/holder.h"
#include "host/places.h"
#include "host/socket-table.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* The audience leaves so many descriptors free. */
#define KEPT_FDS 8

static int new_socket(int flags)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		return -errno;
	return descriptor_off_stdio(fd);
}

int host_socket(void)
{
	/* Non-blocking from the start: everybody who has the socket shares that flag. */
	return new_socket(SOCK_NONBLOCK);
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

/* Waits for TIME until there is room in the backlog; NULL: does not wait. */
static int connect_to(const struct host_address *address, bool passcred, const struct timeval *time)
{
	const int on = 1;
	int fd = new_socket(time ? 0 : SOCK_NONBLOCK);

	if (fd < 0)
		return fd;
	/* Before connecting: otherwise, messages already under way would lack credentials. */
	if ((passcred && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on)) ||
	    (time && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, time, sizeof *time)) ||
	    connect(fd, (const struct sockaddr *)&address->un, address->length)) {
		int kept = errno;

		close(fd);
		return -kept;
	}
	return fd;
}

int host_connect(const struct host_address *address)
{
	return connect_to(address, false, NULL);
}

int host_connect_passcred(const struct host_address *address)
{
	return connect_to(address, true, NULL);
}

int host_connect_until(const struct host_address *address, int64_t when)
{
	const int ms = deadline_poll_timeout(when);
	/* 0 would wait for ever. */
	const struct timeval time = { .tv_sec = ms / 1000, .tv_usec = ms > 0 ? ms % 1000 * 1000 : 1 };

	return connect_to(address, true, &time);
}

int host_connect_next(const struct host_address *name, const char *kind, unsigned limit, unsigned *n)
{
	int fd = host_socket(), r = fd < 0 ? fd : -ENOENT;

	/* A socket that nobody answered can be used again. */
	for (; fd >= 0 && *n < limit; ++*n) {
		struct host_address address;

		host_address_suffixed(&address, name, kind, *n);
		if (connect(fd, (const struct sockaddr *)&address.un, address.length) == 0)
			return fd;
		r = errno == ECONNREFUSED ? -ENOENT : -errno;
		if (r != -ENOENT)
			break;
	}
	if (fd >= 0)
		close(fd);
	return r;
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

struct search {
	const struct host_address *name;
	unsigned slots;
	unsigned found;
};

static bool is_slot(int fd, void *argument)
{
	struct search *search = argument;
	struct host_address address = { .length = sizeof address.un };

	if (getsockname(fd, (struct sockaddr *)&address.un, &address.length) || address.length <= offsetof(struct sockaddr_un, sun_path))
		return false;
	search->found = host_address_slot(search->name, address.un.sun_path, address.length - offsetof(struct sockaddr_un, sun_path));
	return search->found < search->slots && host_is_listener(fd, &address) && is_of_this_namespace(fd);
}

/* Whether the holder at the other end of FD, of ADDRESS, is an ancestor of ours. Its number alone is no proof: it can have been used again. */
static bool descends_from(int fd, const struct host_address *address)
{
	struct host_peer peer;

	return host_peer_read(fd, &peer) == 0 && peer.life != PEER_DEAD && process_descends(getpid(), peer.cred.pid) &&
	       (peer.life == PEER_ALIVE || host_is_proved_holder(address, &host_kernel, peer.cred.pid));
}

/* Rule 14, second half: whether the holder of one of the slots is an ancestor of ours. */
static bool descends_from_holder(struct search *search)
{
	struct host_address address = *search->name;
	int fd = host_connect(&address);
	bool found = fd >= 0 && descends_from(fd, &address);

	if (fd >= 0)
		close(fd);
	search->found = 0;
	while (!found && ++search->found < search->slots &&
	       (fd = host_connect_next(search->name, "slot", search->slots, &search->found)) != -ENOENT) {
		if (fd < 0)
			continue;
		host_slot_address(&address, search->name, search->found);
		found = descends_from(fd, &address);
		close(fd);
	}
	return found;
}

/* Rule 14: says in SEARCH under which slot the caller runs, if it does. */
static bool find_own_slot(struct search *search)
{
	return descriptor_inherited(is_slot, search) || descends_from_holder(search);
}

bool host_is_reentry(const struct host_address *name, unsigned slots)
{
	return find_own_slot(&(struct search){ name, slots, 0 });
}

bool host_is_trusted(const struct host_address *address)
{
	struct socket_entry entry;
	struct host_peer peer;
	int fd, r;

	if (socket_table_find(address, 1, &entry) == 0 && entry.uid != SOCKET_UID_UNKNOWN)
		return trust_user(entry.uid);
	fd = host_connect(address);
	if (fd < 0)
		return false;
	r = host_peer_read(fd, &peer);
	close(fd);
	return r == 0 && trust_user(peer.cred.uid);
}

/*
 * Who is told "yes" runs without taking the lock. So a stranger must not be able to hand it down: not to what he starts with
 * more rights than he has himself, by sudo for instance.
 */
static int host_is_ours(struct lock *lock)
{
	struct host_address name, slot;
	struct search search = { &name, MOST_SLOTS, 0 };

	host_address(&name, lock->name);
	if (!find_own_slot(&search))
		return 0;
	host_slot_address(&slot, &name, search.found);
	return host_is_trusted(&slot);
}

/* Binds FD to the first free slot. Returns as host_bind() does. */
static int bind_slot(struct lock *lock, int fd, const struct host_address *name)
{
	int r = host_bind(lock, fd, name);

	for (lock->slot = 0; r == -EADDRINUSE && lock->slot + 1 < lock->slots;) {
		struct host_address address;

		host_slot_address(&address, name, ++lock->slot);
		r = host_bind(lock, fd, &address);
	}
	return r;
}

static int host_take(struct lock *lock, struct lock_wait *wait)
{
	struct host_address address;
	int fd, r;

	host_address(&address, lock->name);
	/* Not for an instant by somebody who will not wait: another would give up because of it. */
	if (wait->places && lock->slots == 1 && host_is_reentry(&address, 1))
		return LOCK_NESTED;
	if (wait->places && (r = place_take(lock, &address, wait)))
		return r;
	if (wait->deadline)
		return host_wait(lock, &address, wait);
	fd = host_socket();
	if (fd < 0) {
		lock->failed = "cannot make a socket";
		return fd;
	}
	r = bind_slot(lock, fd, &address);
	if (r == 0) {
		lock->fd = lock->watched = fd;
		return 0;
	}
	close(fd);
	if (r != -EADDRINUSE)
		return r;
	return host_is_reentry(&address, lock->slots) ? LOCK_NESTED : LOCK_HELD;
}

static int host_claim(struct lock *lock)
{
	/* SO_PEERCRED names whoever has listened last. */
	return listen(lock->fd, INT_MAX) ? -errno : 0;
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
	struct host_greeting greeting = { .held = deadline_now() - since, .job = (uint32_t)job, .slots = lock->slots, .name_length = (uint32_t)strlen(lock->name) };
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
	r = socket_table_find(&address, lock->slots, &entry);
	if (r == 0)
		*identity = (struct lock_identity){ entry.inode, entry.uid, entry.uid != SOCKET_UID_UNKNOWN };
	return r;
}

static void find_holder(const struct lock *lock, struct holder *holder, bool thorough)
{
	int64_t began = deadline_now(), deadline = deadline_in(HOST_GREETING_MS * NS_PER_MS);
	struct host_address name, address;

	host_address(&name, lock->name);
	for (unsigned slot = 0; slot < lock->slots; slot++) {
		struct holder found;

		host_slot_address(&address, &name, slot);
		host_find_holder(&address, &found, thorough, deadline, lock);
		found.slot = slot;
		/* As of the same moment for all of them. */
		if (slot > 0 && found.held >= 0) {
			found.held -= deadline_now() - began;
			found.held = found.held < 0 ? 0 : found.held;
		}
		if (slot == 0 || holder_is_more_interesting(&found, holder))
			*holder = found;
	}
}

static bool host_has(const struct lock *lock, uint64_t number, pid_t pid)
{
	(void)lock;
	return process_has_socket(pid, (uint32_t)number);
}

const struct lock_engine lock_host = {
	.prefix = "host",
	.is_default = true,
	.by_socket = true,
	.can_have_slots = true,
	.take = host_take,
	.leave_line = host_leave_line,
	.claim = host_claim,
	.serve = host_serve,
	.release = host_release,
	.is_ours = host_is_ours,
	.identify = host_identify,
	.find_holder = find_holder,
	.find_job = host_find_job,
	.has = host_has,
};
