/*
 * The abstract socket addresses of host locks. All versions must agree on them: docs/design.md has them too.
 *
 *   NAME of at most 77 bytes     \0me-only:NAME
 *   a longer NAME                \0me-only#BEGINNING#DIGEST: its first 44 bytes and the first 32 hexadecimal digits of
 *                                the SHA-256 of all of it, as sha256sum(1) prints them
 *   the queue of user 1000       that + \0queue\01000
 *
 * 77 leaves room for the longest suffix. No NAME holds a NUL, so no NAME is another one's suffix.
 */
#ifndef HOST_ADDRESS_H
#define HOST_ADDRESS_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

struct host_address {
	struct sockaddr_un un;
	socklen_t length;	/* exact: the kernel compares all bytes, trailing ones too */
};

/* The address of the lock NAME. */
void host_address(struct host_address *address, const char *name);

/* LOCK's address with the suffix \0 KIND \0 N. */
void host_address_suffixed(struct host_address *address, const struct host_address *lock, const char *kind, uint64_t n);

#endif
