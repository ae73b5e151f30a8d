/* Which processes have which sockets open, from one walk over /proc. */
#ifndef LIST_PROCESSES_H
#define LIST_PROCESSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "list/sockets.h"

struct socket_owner {
	uint32_t inode;
	pid_t pid;
};

struct processes {
	struct socket_owner *all; /* by inode, then in the order of /proc: by pid */
	size_t n, room;
	bool looked;
	bool denied; /* some processes' descriptors are hidden from us */
};

/* Finds the processes that have the sockets in SOCKETS, except this one. */
void processes_read(struct processes *processes, const struct sockets *sockets);

void processes_free(struct processes *processes);

/* The owners of the socket INODE: returns the first, and how many in N; NULL if there are none. */
const struct socket_owner *processes_find(const struct processes *processes, uint32_t inode,
					  size_t *n);

/* Whether PID is seen to have the socket INODE. */
bool processes_has(const struct processes *processes, uint32_t inode, pid_t pid);

#endif
