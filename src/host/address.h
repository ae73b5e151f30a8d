/*
 * The abstract socket addresses of host locks. All versions must agree on them: docs/design.md has
 * them too.
 *
 *   NAME of at most 77 bytes     \0me-only:NAME
 *   a longer NAME                \0me-only#BEGINNING#DIGEST: its first 44 bytes and the first 32
 * hexadecimal digits of the SHA-256 of all of it, as sha256sum(1) prints them its slot 3 (slot 0:
 * NAME)    that + \0slot\03 the queue of user 1000       that + \0queue\01000, and for four slots +
 * \04 place 0 to wait (--queue)    that + \0place\00 the file of a lock on files
 * \0me-only@MAJOR:MINOR:INODE, for places only
 *
 * 77 leaves room for the longest suffix. No NAME holds a NUL, so no NAME is another one's suffix.
 */
#ifndef HOST_ADDRESS_H
#define HOST_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include "base/limits.h"

struct host_address {
	struct sockaddr_un un;
	socklen_t length; /* exact: the kernel compares all bytes, trailing ones too */
};

/* The address of the lock NAME. */
void host_address(struct host_address *address, const char *name);

/* The address that stands for the file INODE on the device MAJOR:MINOR. */
void host_address_of_file(struct host_address *address, uint32_t major, uint32_t minor,
			  uint64_t inode);

/* The address of slot N of the lock NAME. */
void host_slot_address(struct host_address *address, const struct host_address *name, unsigned n);

/*
 * Which slot of the lock NAME the LENGTH bytes at PATH, the name of a socket, are; MOST_SLOTS:
 * none.
 */
unsigned host_address_slot(const struct host_address *name, const char *path, size_t length);

/* Which place to wait in, in the same way; MOST_PLACES: none. */
unsigned host_address_place(const struct host_address *name, const char *path, size_t length);

/* The address of the queue in which user UID waits for one of SLOTS slots. */
void host_queue_address(struct host_address *address, const struct host_address *name, uid_t uid,
			unsigned slots);

/* LOCK's address with the suffix \0 KIND \0 N. */
void host_address_suffixed(struct host_address *address, const struct host_address *lock,
			   const char *kind, uint64_t n);

#endif
