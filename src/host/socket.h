/*
 * Sockets of host locks: SOCK_SEQPACKET for ever, since the kernel keeps equal addresses of
 * different types apart.
 */
#ifndef HOST_SOCKET_H
#define HOST_SOCKET_H

#include <stdbool.h>
#include <stdint.h>

#include "host/address.h"
#include "lock.h"

/*
 * A new close-on-exec, non-blocking socket of the engine's type, never one of descriptors 0 to 2.
 * Or a negative errno.
 */
int host_socket(void);

/*
 * Binds FD to ADDRESS and listens. Returns 0, -EADDRINUSE (FD can be used again), or another errno
 * with lock->failed.
 */
int host_bind(struct lock *lock, int fd, const struct host_address *address);

/*
 * A new socket that is connected to ADDRESS, or a negative errno: -ECONNREFUSED (nobody listens),
 * -EAGAIN (backlog full) ... Never blocks.
 */
int host_connect(const struct host_address *address);

/* host_connect() with the peer's credentials on every message that comes. */
int host_connect_passcred(const struct host_address *address);

/*
 * The same, but waits until WHEN for room in a full backlog. The kernel admits such waiters one at
 * a time, in the order in which they came. The connection can block.
 */
int host_connect_until(const struct host_address *address, int64_t when);

/*
 * Connects to the first of the names NAME \0 KIND \0 *N, from *N on and below LIMIT, at which
 * somebody is, and moves *N there. Returns the connection; -ENOENT: there is none; or another
 * negative errno: somebody is there, and that cannot be connected to.
 */
int host_connect_next(const struct host_address *name, const char *kind, unsigned limit,
		      unsigned *n);

/* Whether FD is a listening socket of the engine's type that is bound to ADDRESS. */
bool host_is_listener(int fd, const struct host_address *address);

#endif
