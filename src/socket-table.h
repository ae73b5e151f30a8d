/* The kernel's table of Unix sockets, read through sock_diag(7): exact names, where /proc/net/unix can be led astray by a newline. */
#ifndef SOCKET_TABLE_H
#define SOCKET_TABLE_H

#include <stdint.h>
#include <sys/types.h>

#include "host-address.h"

#define SOCKET_UID_UNKNOWN ((uid_t)-1)

struct socket_entry {
	uint32_t inode;		/* what /proc/PID/fd shows as socket:[inode] */
	uid_t uid;		/* who made the socket; SOCKET_UID_UNKNOWN before Linux 5.3 */
};

/*
 * Finds the socket of this network namespace that is bound to ADDRESS (type SOCK_SEQPACKET). Disturbs nobody.
 * Returns 0, -ENOENT when there is none, or another negative errno: -EPROTONOSUPPORT without CONFIG_UNIX_DIAG.
 */
int socket_table_find(const struct host_address *address, struct socket_entry *entry);

#endif
