#include "host/reentry.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/limits.h"
#include "base/process.h"
#include "host/holder.h"
#include "host/socket.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

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

/* So many ancestors are kept, to be compared with the holder of each slot. */
#define NEAR_ANCESTORS 32

struct search {
	const struct host_address *name;
	unsigned slots;
	bool trusted;		    /* only those of this user and root count */
	pid_t line[NEAR_ANCESTORS]; /* we, our parent, its parent, ... */
	unsigned length;	    /* 0: not known yet */
};

/* Under one slot that is a stranger's there can be one that is ours. */
static bool counts(const struct search *search, unsigned slot)
{
	struct host_address address;

	if (!search->trusted)
		return true;
	host_slot_address(&address, search->name, slot);
	return host_is_trusted(&address);
}

static bool is_slot(int fd, void *argument)
{
	const struct search *search = argument;
	struct host_address address = { .length = sizeof address.un };
	unsigned slot;

	if (getsockname(fd, (struct sockaddr *)&address.un, &address.length) ||
	    address.length <= offsetof(struct sockaddr_un, sun_path))
		return false;
	slot = host_address_slot(search->name, address.un.sun_path,
				 address.length - offsetof(struct sockaddr_un, sun_path));
	return slot < search->slots && host_is_listener(fd, &address) && is_of_this_namespace(fd) &&
	       counts(search, slot);
}

/* As process_descends() for this process, which reads /proc once for many PIDs. */
static bool has_ancestor(struct search *search, pid_t pid)
{
	struct process process;

	for (pid_t next = search->length ? 0 : getpid();
	     next > 0 && search->length < NEAR_ANCESTORS;
	     next = process_read(next, &process) ? 0 : process.parent)
		search->line[search->length++] = next;
	for (unsigned i = 0; i < search->length; i++)
		if (search->line[i] == pid)
			return true;
	if (search->length == NEAR_ANCESTORS)
		return process_descends(search->line[NEAR_ANCESTORS - 1], pid);
	/* This much is known without /proc. */
	return pid > 0 && pid == getppid();
}

/*
 * Whether the holder at the other end of FD, of ADDRESS, is an ancestor of ours. Its number alone
 * is no proof: it can have been used again.
 */
static bool descends_from(struct search *search, int fd, const struct host_address *address)
{
	struct host_peer peer;

	return host_peer_read(fd, &peer) == 0 && peer.life != PEER_DEAD &&
	       has_ancestor(search, peer.cred.pid) &&
	       (peer.life == PEER_ALIVE ||
		host_is_proved_holder(address, &host_kernel, peer.cred.pid));
}

/* Rule 14, second half: whether the holder of one of the slots is an ancestor of ours. */
static bool descends_from_holder(struct search *search)
{
	struct host_address address = *search->name;
	int fd = host_connect(&address);
	bool found = fd >= 0 && descends_from(search, fd, &address) && counts(search, 0);
	unsigned slot = 0;

	if (fd >= 0)
		close(fd);
	while (!found && ++slot < search->slots &&
	       (fd = host_connect_next(search->name, "slot", search->slots, &slot)) != -ENOENT) {
		if (fd < 0)
			continue;
		host_slot_address(&address, search->name, slot);
		found = descends_from(search, fd, &address) && counts(search, slot);
		close(fd);
	}
	return found;
}

/* Rule 14: whether the caller runs under one of the slots. */
static bool has_own_slot(struct search *search)
{
	return descriptor_inherited(is_slot, search) || descends_from_holder(search);
}

bool host_is_reentry(const struct host_address *name, unsigned slots)
{
	return has_own_slot(&(struct search){ .name = name, .slots = slots });
}

/*
 * A caller that is told "yes" runs without taking the lock. So a stranger must not be able to pass
 * a lock to a more privileged process, by sudo for instance.
 */
int host_is_ours(struct lock *lock)
{
	struct host_address name;
	struct search search = { .name = &name, .slots = MOST_SLOTS, .trusted = true };

	host_address(&name, lock->name);
	return has_own_slot(&search);
}
