#include "host/places.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/process.h"
#include "host/socket.h"
#include "host/holder.h"
#include "host/socket-table.h"

/*
 * So often the table is read again for a place that is taken and not in it: taken since, or left
 * out.
 */
#define LOOKS 3

/*
 * The kernel's table of sockets costs more than all the rest: it is read once, if nobody comes
 * between.
 */
struct places {
	const struct host_address *name;
	unsigned most;			  /* how many may be taken */
	unsigned char users[MOST_PLACES]; /* when the table was read last */
	int taken;			  /* how many of them count; negative: there is no table */
	struct socket_entry one;	  /* of those */
};

static void read_places(struct places *places)
{
	places->taken =
		socket_table_places(places->name, places->most, &places->one, places->users);
}

/*
 * Whether the process that holds PLACE waits: a stranger does not. One that has waited since we
 * began starts after that.
 */
static bool is_waiter(struct places *places, unsigned place)
{
	struct host_address address;

	for (int looks = LOOKS;
	     places->taken >= 0 && places->users[place] == PLACE_FREE && looks > 0; looks--)
		read_places(places);
	if (places->users[place] == PLACE_TRUSTED || places->users[place] == PLACE_STRANGERS)
		return places->users[place] == PLACE_TRUSTED;
	host_address_suffixed(&address, places->name, "place", place);
	return host_peer_is_trusted(&address);
}

static int bind_place(struct lock *lock, int fd, const struct host_address *name, unsigned place)
{
	struct host_address address;

	host_address_suffixed(&address, name, "place", place);
	return host_bind(lock, fd, &address);
}

/*
 * Takes by FD the first free place, if fewer than places->most are taken before it. Returns 0;
 * LOCK_QUEUE_FULL: so many are taken; -EADDRINUSE: none is free, and most are strangers'; or
 * another negative errno.
 */
static int take_first(struct lock *lock, int fd, struct places *places)
{
	unsigned place = 0, taken = 0;
	int r = -EADDRINUSE;

	while (place < MOST_PLACES && places->users[place] != PLACE_FREE)
		place++;
	if (place < MOST_PLACES)
		r = bind_place(lock, fd, places->name, place);
	/* Somebody was faster: so that nobody is refused by what was true before, all are tried. */
	for (place = 0; r == -EADDRINUSE && place < MOST_PLACES; place++) {
		r = bind_place(lock, fd, places->name, place);
		taken += r == -EADDRINUSE && is_waiter(places, place);
		/* One by one, or all at once when the table was read again. */
		if (taken == places->most || places->taken >= (int)places->most)
			r = LOCK_QUEUE_FULL;
	}
	return r;
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

/* Says in WAIT how many wait, and one of them. Returns LOCK_QUEUE_FULL. */
static int refuse(const struct places *places, struct lock_wait *wait)
{
	wait->waiter = (struct holder){ .held = -1 };
	wait->waiters = places->taken > 0 ? (unsigned)places->taken : wait->places;
	if (places->taken > 0)
		find_waiter(places->name, &places->one, &wait->waiter);
	return LOCK_QUEUE_FULL;
}

int place_take(struct lock *lock, const struct host_address *name, struct lock_wait *wait)
{
	struct places places = { .name = name, .most = wait->places };
	int fd, r;

	/*
	 * First, so that nobody has a place who will not wait: the first ones can be free that
	 * others have left before those who allow more. Those are counted too.
	 */
	read_places(&places);
	if (places.taken >= (int)wait->places)
		return refuse(&places, wait);
	fd = host_socket();
	if (fd < 0) {
		lock->failed = "cannot create a socket";
		return fd;
	}
	r = take_first(lock, fd, &places);
	if (r == 0) {
		wait->place = fd;
		return 0;
	}
	close(fd);
	if (r == LOCK_QUEUE_FULL) {
		read_places(&places);
		return refuse(&places, wait);
	}
	/*
	 * Strangers cannot keep us from waiting: then nobody counts us, and there may be one run
	 * too many, but none too few.
	 */
	return r == -EADDRINUSE ? 0 : r;
}
