/* The state of a waiter for a host lock: what queue.c, slots.c and successors.c share. */
#ifndef HOST_WAITER_H
#define HOST_WAITER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/deadline.h"
#include "host/address.h"
#include "lock.h"

#define SUCCESSORS 2

/* A connection to another waiter, and its pid where that is known (else 0). */
struct link {
	int fd;
	pid_t pid;
};

/* One of the places that a lock has for holders. */
struct slot {
	int watch; /* connection to its name; hang-up: it may be free */
	int job; /* pidfd of the holder's command; readable: the name will be free in an instant */
	bool caught; /* the holder's command has just ended */
	int64_t watched_since;
	int64_t pause; /* the last one; 0: the next is not needed or the shortest */
	int64_t look;  /* when to try the name, at the latest; 0: it has hung up, or was never tried
			*/
};

enum waiter_state {
	WAITER_NOWHERE,
	WAITER_OUTSIDE,
	WAITER_IN_LINE,
	WAITER_SUCCESSOR,
	WAITER_FRONT,
	WAITER_ALONE
};

struct pollfd;

struct waiter {
	struct lock *lock;
	const struct host_address *name;
	struct host_address queue_name;
	struct lock_wait *wait;
	int candidate;	    /* the socket that is to be bound to a slot's name */
	struct slot *slots; /* as many as the lock has */
	struct pollfd *fds; /* all that it can listen to, behind one that is free */
	unsigned *which;    /* for each of these, its place among all that it can listen to */
	bool *ready;	    /* for each of those */
	unsigned slot;	    /* where to look first */
	int most_watch;	    /* the highest descriptor of a connection, and whether there are pidfds:
			       there may be few */
	bool watch_jobs;
	int64_t seek, seek_pause; /* when to look in /proc for a holder that hears nobody */
	int queue;		  /* the queue socket: we are the front, or a successor */
	struct link ahead[2]; /* hang-up of both: it is our turn, or the queue is gone. [0] is our
				 connection into the queue */
	pid_t passed[2]; /* whom we have passed over, while nobody has passed us over; 0: nobody */
	struct link
		successors[SUCCESSORS]; /* those behind us. The front: two; the second: the third */
	bool begun;			/* the caller knows that we wait */
	bool outside; /* the queue is our user's, and full: we wait for a place in it */
	bool alone;
	bool deaf;	/* no descriptors for successors: not before the next look */
	int joins;	/* tries to join the queue in quick succession */
	int losses;	/* how often a place in it was lost quickly */
	int64_t joined; /* when we last tried, or got into it */
	int64_t pause;	/* the last one before joining; 0: the next is not needed or the shortest */
	int64_t look;	/* when to join the queue, or to look after successors or past the front, at
			   the latest */
	int64_t look_interval;
	int seen_free; /* how many times in a row the name was seen free */
};

/*
 * The front looks this often at the name and at its successors, a successor at a front that does
 * not move.
 */
#define LOOK (1 * NS_PER_S)

/* The first look of a waiter outside the queue: each costs it its place among those outside. */
#define LOOK_OUTSIDE (5 * NS_PER_S)

/* The growing pause where no hang-up can be waited for. */
#define SHORTEST_PAUSE (1 * NS_PER_MS)
#define LONGEST_PAUSE (NS_PER_S / 4)

void waiter_close(int *fd);

bool waiter_is_in_line(const struct waiter *w);

bool waiter_is_front(const struct waiter *w);

/* Sets the time LOOK, a growing PAUSE from now. */
void waiter_rest(int64_t *pause, int64_t *look);

/*
 * Whether the process at the other end of FD is this user's; its pid into PID unless that is NULL.
 */
bool waiter_is_own_peer(int fd, pid_t *pid);

bool waiter_has_hung_up(int fd);

/* What W is (host/queue.c has the transitions). */
enum waiter_state waiter_state(const struct waiter *w);

#endif
