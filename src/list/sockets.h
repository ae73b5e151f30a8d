/*
 * The part of the kernel's table of Unix sockets that locks consist of, at one moment
 * (sock_diag(7)).
 *
 * From net/unix/diag.c and af_unix.c: a bound name is a socket in the state "listen", or "close"
 * before it listens. An accepted connection also has the listener's name. One that waits in a
 * backlog is not in the table, since it has no inode yet; but the listener shows the inodes of the
 * other ends, 0 for those that have gone.
 */
#ifndef LIST_SOCKETS_H
#define LIST_SOCKETS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "host/address.h"

enum socket_kind {
	SOCKET_OTHER,
	SOCKET_LOCK,
	SOCKET_QUEUE
};

/* By TCP's names for them (net/tcp_states.h). */
enum socket_state {
	SOCKET_ESTABLISHED = 1,
	SOCKET_CLOSE = 7,
	SOCKET_LISTEN = 10
};

struct unix_socket {
	enum socket_kind kind;	  /* by its name */
	struct host_address lock; /* of a lock or queue: which lock */
	unsigned slot;		  /* of a lock: which */
	uid_t queue_uid;	  /* of a queue: whose, by its name */
	unsigned queue_slots;	  /* of a queue: for one of how many slots */
	unsigned char state;
	bool shut; /* shut down: the other end has gone */
	uint32_t inode;
	uint32_t peer; /* inode of the other end; 0: it has none (any more), or is in a backlog */
	uint32_t pending, most_pending; /* of a listener: how many are in its backlog, dead ones
					   included, and how many can be */
	uid_t uid;			/* its creator; SOCKET_UID_UNKNOWN before Linux 5.3 */
	uint32_t *line; /* of a queue that listens: the other ends of its backlog in their order, 0
			   for the dead; or NULL */
	size_t line_length;
};

struct sockets {
	struct unix_socket *all; /* of the engine's type only; by lock, then kind, then slot or the
				    queue's user and slots */
	size_t n;
	size_t *by_inode; /* their numbers */
};

/* Reads the table. Returns 0 or a negative errno; SOCKETS is to be freed in any case. */
int sockets_read(struct sockets *sockets);

void sockets_free(struct sockets *sockets);

/* The socket INODE, or NULL. */
const struct unix_socket *sockets_find(const struct sockets *sockets, uint32_t inode);

/* The first socket with a name of the lock at ADDRESS, or NULL. The others follow. */
const struct unix_socket *sockets_of_lock(const struct sockets *sockets,
					  const struct host_address *address);

/* The socket that is bound to ADDRESS, a slot of a lock, or NULL. */
const struct unix_socket *sockets_of_slot(const struct sockets *sockets,
					  const struct host_address *address);

/* Whether SOCKET is bound to the name of a lock: then that is held. */
bool socket_is_holder(const struct unix_socket *socket);

/* Whether SOCKET, which may be one past the last, has a name of the same lock as OTHER. */
bool sockets_share_lock(const struct sockets *sockets, const struct unix_socket *socket,
			const struct unix_socket *other);

#endif
