#include "host/places.h"

#include <errno.h>
#include <unistd.h>

#include "base/process.h"
#include "host/socket.h"
#include "host/holder.h"
#include "host/socket-table.h"

/*
 * Takes by FD the first free place, if fewer than N are taken before it. Returns 0;
 * LOCK_QUEUE_FULL: N are taken; -EADDRINUSE: none is free, and most are strangers'; or another
 * negative errno.
 */
static int take_first(struct lock *lock, int fd, const struct host_address *name, unsigned n)
{
	unsigned taken = 0;
	int r = -EADDRINUSE;

	for (unsigned place = 0; r == -EADDRINUSE && taken < n && place < MOST_PLACES; place++) {
		struct host_address address;

		host_address_suffixed(&address, name, "place", place);
		r = host_bind(lock, fd, &address);
		taken += r == -EADDRINUSE &&
			 host_is_trusted(
				 &address); /* a stranger keeps others from it, and does not wait */
	}
	return r == -EADDRINUSE && taken == n ? LOCK_QUEUE_FULL : r;
}

/* Says in WAITER who waits in the place ENTRY. */
static void find_waiter(const struct host_address *name, const struct socket_entry *entry,
			struct holder *waiter)
{
	struct host_address address;
	struct host_inquiry inquiry;
	bool own_kind;

	host_address_suffixed(&address, name, "place", entry->number);
	host_inquire(&inquiry, &address);
	if (inquiry.fd >= 0) {
		waiter->pid = inquiry.peer.cred.pid;
		waiter->uid = inquiry.peer.cred.uid;
		waiter->uid_known = true;
		close(inquiry.fd);
		return;
	}
	/* Nobody accepts: where very many have looked who waits there is no room for more. */
	waiter->uid = entry->uid;
	waiter->uid_known = entry->uid != SOCKET_UID_UNKNOWN;
	waiter->pid = entry->inode ? process_find_socket((uint32_t)entry->inode, &own_kind) : 0;
}

/*
 * Counts who waits, those too that were told of more places than we. Returns how many, up to
 * wait->places; negative: not known.
 */
static int count(const struct host_address *name, struct lock_wait *wait)
{
	struct socket_entry entry;
	int n = socket_table_places(name, wait->places, &entry);

	wait->waiter = (struct holder){ .held = -1 };
	wait->waiters = n > 0 ? (unsigned)n : wait->places;
	if (n > 0)
		find_waiter(name, &entry, &wait->waiter);
	return n;
}

int place_take(struct lock *lock, const struct host_address *name, struct lock_wait *wait)
{
	int fd, r;

	/*
	 * First, so that nobody has a place who will not wait: the first ones can be free that
	 * others have left before those who allow more.
	 */
	if (count(name, wait) >= (int)wait->places)
		return LOCK_QUEUE_FULL;
	fd = host_socket();
	if (fd < 0) {
		lock->failed = "cannot make a socket";
		return fd;
	}
	r = take_first(lock, fd, name, wait->places);
	if (r == 0) {
		wait->place = fd;
		return 0;
	}
	close(fd);
	if (r == LOCK_QUEUE_FULL)
		(void)count(name, wait);
	/*
	 * Strangers cannot keep us from waiting: then nobody counts us, and there may be one run
	 * too many, but none too few.
	 */
	return r == -EADDRINUSE ? 0 : r;
}
