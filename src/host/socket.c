#include "host/socket.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"

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
	const struct timeval time = { .tv_sec = ms / 1000,
				      .tv_usec = ms > 0 ? ms % 1000 * 1000 : 1 };

	return connect_to(address, true, &time);
}

int host_connect_next(const struct host_address *name, const char *kind, unsigned limit,
		      unsigned *n)
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

bool host_is_listener(int fd, const struct host_address *address)
{
	struct sockaddr_un name;
	socklen_t length = sizeof name, size = sizeof(int);
	int value;

	return getsockname(fd, (struct sockaddr *)&name, &length) == 0 &&
	       length == address->length && memcmp(&name, &address->un, length) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &size) == 0 && value == SOCK_SEQPACKET &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value;
}
