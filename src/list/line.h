/* The waiters for a lock, in the order in which they will get it (host/queue.c, rules 5 and 6). */
#ifndef LIST_LINE_H
#define LIST_LINE_H

#include <stddef.h>
#include <sys/types.h>

#include "list/view.h"

struct waiter {
	pid_t pid;	/* 0: hidden */
	uid_t uid;	/* SOCKET_UID_UNKNOWN: unknown */
	unsigned slots; /* for one of how many */
	size_t place;	/* from 1, in its user's queue; 0: unknown */
};

struct line_of_waiters {
	struct waiter *all; /* queue by queue, each in its order */
	size_t n, room;
	size_t untold; /* how many more are in backlogs that the kernel does not show, including
			  dead ones */
	bool left_out; /* there is a queue that is not its user's */
};

/*
 * Finds all waiters of LOCK, whose sockets begin at FIRST (sockets_of_lock()). LINE is to be freed.
 */
void line_read(struct line_of_waiters *line, struct view *view, const struct unix_socket *first);

void line_free(struct line_of_waiters *line);

/* Whether somebody may wait for the lock whose sockets begin at FIRST. */
bool line_is_there(const struct view *view, const struct unix_socket *first);

#endif
