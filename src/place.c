#include "place.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host-holder.h"
#include "lock-host.h"
#include "process.h"
#include "socket-table.h"

/* Takes the first free one, by FD. Returns 0, -EADDRINUSE, or another negative errno. */
static int take_first(struct lock *lock, int fd, const struct host_address *name, unsigned places, unsigned *own)
{
	int r = -EADDRINUSE;

	for (*own = 0; r == -EADDRINUSE && *own < places; ++*own) {
		struct host_address address;

		host_address_suffixed(&address, name, "place", *own);
		r = host_bind(lock, fd, &address);
	}
	--*own;
	return r;
}

/* Who waits in the place ADDRESS, by the connection FD, or where that could not be made by the kernel's table. */
static struct holder waiter_at(int fd, const struct host_address *address)
{
	struct holder waiter = { .held = -1 };
	struct socket_entry entry;
	struct host_peer peer;
	bool own_kind;

	if (fd >= 0 && host_peer_read(fd, &peer) == 0) {
		waiter.pid = peer.cred.pid;
		waiter.uid = peer.cred.uid;
		waiter.uid_known = true;
	} else if (socket_table_find(address, 1, &entry) == 0) {
		/* Nobody accepts: where very many have looked who waits there is no room for more. */
		waiter.pid = process_find_socket((uint32_t)entry.inode, &own_kind);
		waiter.uid = entry.uid;
		waiter.uid_known = entry.uid != SOCKET_UID_UNKNOWN;
	}
	return waiter;
}

/* Counts who waits in other places than OWN, up to wait->places, and says in wait->waiter who is one of them. */
static unsigned count_others(const struct host_address *name, struct lock_wait *wait, unsigned own)
{
	unsigned others = 0;
	int fd;

	wait->waiter = (struct holder){ .held = -1 };
	for (unsigned place = 0; others < wait->places; place++) {
		struct host_address address;
		struct holder waiter;

		fd = host_connect_next(name, "place", MOST_PLACES, &place);
		if (fd == -ENOENT)
			break;
		host_address_suffixed(&address, name, "place", place);
		waiter = waiter_at(fd, &address);
		if (fd >= 0)
			close(fd);
		/* Without a descriptor it cannot be seen who is there. */
		if (place == own || fd == -EMFILE || fd == -ENFILE)
			continue;
		if (others++ == 0 || holder_is_more_interesting(&waiter, &wait->waiter))
			wait->waiter = waiter;
	}
	return others;
}

int place_take(struct lock *lock, const struct host_address *name, struct lock_wait *wait)
{
	unsigned own, others;
	int fd = host_socket(), r;

	if (fd < 0) {
		lock->failed = "cannot make a socket";
		return fd;
	}
	r = take_first(lock, fd, name, wait->places, &own);
	/* Places may be free that others have left before those who allow more. */
	if (r == -EADDRINUSE)
		own = MOST_PLACES;
	others = r == 0 || r == -EADDRINUSE ? count_others(name, wait, own) : 0;
	if (r == 0 && others < wait->places) {
		lock->place = fd;
		return 0;
	}
	close(fd);
	wait->waiters = others;
	return r == 0 || r == -EADDRINUSE ? -EXFULL : r;
}
