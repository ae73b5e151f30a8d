#include "host/clients.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "host/holder.h"

/* The clients leave so many descriptors free. */
#define KEPT_FDS 8

/* How long we look away from the listener when something has run out. */
#define LOOK_AGAIN (1 * NS_PER_S)

/* Whether ERROR says that something has run out, which passes. */
static bool is_shortage(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS ||
	       error == ENOSPC;
}

/* Looks at the listener, or again in a while if that fails with a shortage. */
static void look_at_listener(struct lock *lock)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = lock->fd };

	lock->serve_due = DEADLINE_NEVER;
	/* EEXIST: we have not looked away. */
	if (epoll_ctl(lock->watched, EPOLL_CTL_ADD, lock->fd, &event) && is_shortage(errno))
		lock->serve_due = deadline_in(LOOK_AGAIN);
}

/* Rule 9. The first connection costs an epoll instance; before, the listener itself is watched. */
static void clients_open(struct lock *lock)
{
	lock->serve_due = DEADLINE_NEVER;
	lock->watched = epoll_create1(EPOLL_CLOEXEC);
	if (lock->watched >= 0)
		look_at_listener(lock);
	else if (is_shortage(errno))
		lock->serve_due = deadline_in(LOOK_AGAIN);
}

static void greet(int fd, const struct lock *lock, pid_t job, int64_t since)
{
	struct host_greeting greeting = { .held = deadline_now() - since,
					  .job = (uint32_t)job,
					  .slots = lock->slots,
					  .name_length = (uint32_t)strlen(lock->name) };
	struct iovec parts[] = { { &greeting, sizeof greeting },
				 { (void *)(uintptr_t)lock->name, greeting.name_length } };
	struct msghdr greets = { .msg_iov = parts, .msg_iovlen = 2 };

	memcpy(greeting.magic, HOST_GREETING_MAGIC, sizeof greeting.magic);
	/*
	 * Fails when the other end has gone, or a name is too long for one message: then nobody is
	 * greeted.
	 */
	(void)sendmsg(fd, &greets, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/*
 * Whether so few descriptors are left behind FD that clients must have no more of them: a keeper
 * needs some.
 */
static bool is_near_limit(int fd)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_NOFILE, &limit) || (rlim_t)fd + KEPT_FDS >= limit.rlim_cur;
}

/* Takes one connection in. Returns whether there can be more. */
static bool admit(struct lock *lock, pid_t job, int64_t since)
{
	struct epoll_event gone = {
		.events = 0
	}; /* hang-up is always told; data are never looked at */
	int fd = accept4(lock->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return errno != EAGAIN;
	/*
	 * No descriptors left, or no memory: look away until one of the clients has gone, or for a
	 * while, since it may be others who have used it up.
	 */
	if (fd < 0 || is_near_limit(fd)) {
		if (fd >= 0 || is_shortage(errno))
			lock->serve_due = deadline_in(LOOK_AGAIN);
		epoll_ctl(lock->watched, EPOLL_CTL_DEL, lock->fd, NULL);
		if (fd >= 0) {
			greet(fd, lock, job, since);
			close(fd);
		}
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
	close(fd);
	/* There is room again. */
	look_at_listener(lock);
}

void host_serve(struct lock *lock, pid_t job, int64_t since)
{
	struct epoll_event events[16];
	int n;

	if (lock->watched == lock->fd || lock->watched < 0)
		clients_open(lock);
	else if (deadline_now() >= lock->serve_due)
		look_at_listener(lock);
	if (lock->watched < 0)
		return;
	n = epoll_wait(lock->watched, events, sizeof events / sizeof *events, 0);
	for (int i = 0; i < n; i++) {
		if (events[i].data.fd != lock->fd) {
			dismiss(lock, events[i].data.fd);
			continue;
		}
		/*
		 * Somebody who has inherited it has shut it down: nobody can connect any more, and
		 * that would be told for ever.
		 */
		if (events[i].events & EPOLLHUP) {
			epoll_ctl(lock->watched, EPOLL_CTL_DEL, lock->fd, NULL);
			continue;
		}
		/* A few at a time: a flood must not keep us from the command. */
		for (int more = 16; more > 0 && admit(lock, job, since); more--)
			;
	}
}
