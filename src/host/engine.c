/*
 * The host engine: a lock is an abstract Unix socket address, and whoever has a socket bound to it
 * holds the lock.
 *
 *  1. The address is in host/address.h, the type SOCK_SEQPACKET for ever: the kernel keeps equal
 *     addresses of different types apart, so another type would be another lock.
 *  2. socket, bind, listen. EADDRINUSE, and nothing else, means held. listen makes the holder
 *     visible: who connects is told the pid and the user of the process that listened last
 *     (SO_PEERCRED), without its help. So the command listens again before it is executed, with -o
 *     too: what everybody sees is the job.
 *  3. The command inherits the socket, and the me-only process keeps it: the lock survives the
 *     death of either. A keeper (run/keeper.c) is there against both at once.
 *  4. The descriptor is never 0, 1 or 2 (base/descriptor.h).
 *  5. Waiting is in host/queue.c, rules 5 to 8 there.
 *  9. The holding me-only accepts those who connect (people who ask, and the waiter who is next and
 *     waits for the hang-up), greets each with one message, never reads from them, keeps the live
 *     ones and closes those that have gone. At its limit of descriptors it stops looking at the
 *     listener for a while. The name is closed before the connections, or the next waiter would
 *     wake up to a name that is still bound.
 * 11. A lock with slots has a name for each of them, and the first is that of the lock itself: so a
 *     plain lock is one with one slot. A try takes the first that is free. Whoever asks for fewer
 *     slots sees only these.
 * 14. Re-entry: the name is in use, and the caller has inherited its socket or descends from the
 *     process that listened last.
 *
 * unix(7) has the basics. Facts that are not in it, from net/unix/af_unix.c: listen() on a
 * listening socket sets the credentials anew; accept() passes SO_PASSCRED on; closing the last
 * descriptor of a listener hangs up on all who are in its backlog; a non-blocking connect fails
 * with EAGAIN when the backlog is full.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/process.h"
#include "base/trust.h"
#include "host/address.h"
#include "host/clients.h"
#include "host/holder.h"
#include "host/places.h"
#include "host/queue.h"
#include "host/reentry.h"
#include "host/socket.h"
#include "host/socket-table.h"
#include "lock.h"

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

/*
 * A job may ask for another slot of its own lock. But where --held can never prove whose a slot is,
 * as in a user namespace without users, a script that locks itself would take one after the other.
 */
static bool is_unprovable_reentry(const struct lock *lock, const struct host_address *name)
{
	return lock->slots > 1 && getenv("ME_ONLY_SLOT") && !trust_is_self(geteuid()) &&
	       host_is_reentry(name, lock->slots);
}

static int host_take(struct lock *lock, struct lock_wait *wait)
{
	struct host_address address;
	int fd, r;

	host_address(&address, lock->name);
	if (is_unprovable_reentry(lock, &address))
		return LOCK_NESTED;
	/* Not for an instant by somebody who will not wait: another would give up because of it. */
	if (wait->places && lock->slots == 1 && host_is_reentry(&address, 1))
		return LOCK_NESTED;
	if (wait->places && (r = place_take(lock, &address, wait)))
		return r;
	if (wait->deadline)
		return host_wait(lock, &address, wait);
	fd = host_socket();
	if (fd < 0) {
		lock->failed = "cannot create a socket";
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

static void host_release(struct lock *lock)
{
	close(lock->fd);
	/* The clients, the front among them: now the name is free. */
	descriptor_close_others(STDERR_FILENO + 1, -1, -1);
}

static int host_identify(const struct lock *lock, struct lock_identity *identity)
{
	struct host_address address;
	struct socket_entry entry;
	int r;

	host_address(&address, lock->name);
	r = socket_table_find(&address, lock->slots, &entry);
	if (r == 0)
		*identity = (struct lock_identity){ entry.inode, entry.uid,
						    entry.uid != SOCKET_UID_UNKNOWN };
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
	.slots = true,
	.queue = true,
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
