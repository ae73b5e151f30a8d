/*
 * The kernel's table of Unix sockets, read through sock_diag(7): exact names, where /proc/net/unix
 * can be led astray by a newline.
 */
#ifndef HOST_SOCKET_TABLE_H
#define HOST_SOCKET_TABLE_H

#include <stdint.h>
#include <sys/types.h>

#include "host/address.h"

#define SOCKET_UID_UNKNOWN ((uid_t)-1)

struct socket_entry {
	uint64_t inode;	 /* what /proc/PID/fd shows as socket:[inode]; of several slots the sum */
	unsigned number; /* of its slot or place; of several one of them */
	uid_t uid;	 /* who made that socket; SOCKET_UID_UNKNOWN before Linux 5.3 */
};

/*
 * Finds the sockets of this network namespace (type SOCK_SEQPACKET) that are bound to the first
 * SLOTS slots of the lock NAME. Disturbs nobody. Of several the user is one that is neither this
 * user nor root, if there is one. Returns 0, -ENOENT when one of them is free, or another negative
 * errno: -EPROTONOSUPPORT without CONFIG_UNIX_DIAG.
 */
int socket_table_find(const struct host_address *name, unsigned slots, struct socket_entry *entry);

/* Whose a place to wait in is. */
enum place_user {
	PLACE_FREE,
	PLACE_TRUSTED, /* this user's or root's */
	PLACE_STRANGERS,
	PLACE_SOMEBODYS /* before Linux 5.3 */
};

/*
 * Counts the places to wait for the lock NAME that this user or root has taken, up to MOST, and
 * says in ENTRY which is one of them, and in USERS, of MOST_PLACES, what each is; if there are MOST
 * not of all. Returns how many, or a negative errno as above.
 */
int socket_table_places(const struct host_address *name, unsigned most, struct socket_entry *entry,
			unsigned char users[]);

#endif
