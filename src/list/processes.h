/* Which processes have which of the sockets open: one walk over /proc for all of them. */
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
	struct socket_owner *all; /* by inode, then as /proc has them: by pid */
	size_t n, room;
	bool looked;
	bool denied; /* there are processes whose descriptors we may not see */
};

/* Finds who has the sockets in SOCKETS, this process left out. */
void processes_read(struct processes *processes, const struct sockets *sockets);

void processes_free(struct processes *processes);

/*
 * The owners of the socket INODE: the first of them, and into N how many; NULL where there are
 * none.
 */
const struct socket_owner *processes_find(const struct processes *processes, uint32_t inode,
					  size_t *n);

/* Whether PID is seen to have the socket INODE. */
bool processes_has(const struct processes *processes, uint32_t inode, pid_t pid);

#endif
