#include "place.h"

#include <errno.h>
#include <linux/stat.h>
#include <unistd.h>

#include "host-holder.h"
#include "lock-host.h"
#include "process.h"
#include "socket-table.h"

/* Whether ADDRESS, which is in use, is a stranger's: who does not wait, but keeps others from it. */
static bool is_strangers(const struct host_address *address)
{
	struct host_inquiry inquiry;

	host_inquire(&inquiry, address);
	if (inquiry.fd < 0)
		return false;
	close(inquiry.fd);
	return !holder_is_trusted(inquiry.peer.cred.uid);
}

/* Takes by FD the first free place, if less than N are taken before it. Returns 0, -EADDRINUSE, or another negative errno. */
static int take_first(struct lock *lock, int fd, const struct host_address *name, unsigned n)
{
	int r = -EADDRINUSE;

	for (unsigned place = 0, taken = 0; r == -EADDRINUSE && taken < n && place < MOST_PLACES; place++) {
		struct host_address address;

		host_address_suffixed(&address, name, "place", place);
		r = host_bind(lock, fd, &address);
		taken += r == -EADDRINUSE && !is_strangers(&address);
	}
	return r;
}

/* Says in WAITER who waits in the place ENTRY. */
static void find_waiter(const struct host_address *name, const struct socket_entry *entry, struct holder *waiter)
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

/* Counts the others that wait: those too that were told of more places than we. OWN is our place, or -1. */
static unsigned count_others(const struct host_address *name, int own, struct lock_wait *wait)
{
	struct socket_entry entry = { .uid = SOCKET_UID_UNKNOWN };
	struct statx status = { .stx_ino = 0 };
	int others;

	if (own >= 0)
		(void)file_status(own, "", &status);
	others = socket_table_places(name, (uint32_t)status.stx_ino, wait->places, &entry);
	/* Without the table only our own places are known: all are taken, or one of them was free. */
	if (others < 0 || (others == 0 && own < 0))
		others = own < 0 ? (int)wait->places : 0;
	wait->waiter = (struct holder){ .held = -1 };
	if (others > 0)
		find_waiter(name, &entry, &wait->waiter);
	return (unsigned)others;
}

int place_take(struct lock *lock, const struct host_address *name, struct lock_wait *wait)
{
	int fd = host_socket(), r;

	if (fd < 0) {
		lock->failed = "cannot make a socket";
		return fd;
	}
	r = take_first(lock, fd, name, wait->places);
	if (r && r != -EADDRINUSE) {
		close(fd);
		return r;
	}
	/* Places may be free that others have left before those who allow more. */
	wait->waiters = count_others(name, r == 0 ? fd : -1, wait);
	if (r == 0 && wait->waiters < wait->places) {
		lock->place = fd;
		return 0;
	}
	close(fd);
	return -EXFULL;
}
