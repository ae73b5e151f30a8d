/* Our place in the line: what is known of those before us, and the requests that tell of them, take the lock, or give the place back. */
#ifndef ETCD_PLACE_H
#define ETCD_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "session.h"

/* Rule 4 of take.c. A tie with the command that has to end would be two at once. */
#define LOCK_DELAY (GUARD_LOST_GRACE + 1 * NS_PER_S)

struct place {
	struct entries before;		/* those before us; of an exclusive lock the head of the line, and the last one */
	bool wide;			/* it is all of them all the same: the head are holders, and there may be more */
	bool ours_is_there;
	int64_t delay;			/* the lock is not to be used before (CLOCK_BOOTTIME, ns) */
	uint64_t to_ask;		/* a lease that is to be asked for before the lock is used; 0: none */
	int64_t entered;		/* when; 0: not yet */
	unsigned short_stays;		/* places in a row that were lost soon */
	int64_t watch_due, watch_pause;	/* when the stream may be opened again, and how long after that the next time */
	uint64_t watched;		/* the create_revision of whose key is watched; 0: nobody's; UINT64_MAX: all */
	uint64_t named;			/* that of whom me-only was told as the holder */
	unsigned renewals;		/* since the line was looked at */
};

/* Whether all before us are always looked at. */
bool place_needs_all(const struct session *session);

/*
 * Each returns NULL or an error's text, to be freed, and is tried until session->client.limit.
 *
 * A new lease and a new key; a look at the line; the write that takes the lock, for the slot SLOT of those that have several. If
 * session->token is set afterwards the lock is ours.
 */
char *place_enter(struct session *session, struct place *place);
char *place_look(struct session *session, struct place *place);
char *place_acquire(struct session *session, struct place *place, unsigned slot);

/* Gives the place back, if that can be done at once, unless the lock was handed over to us meanwhile. Returns whether it was. */
bool place_leave(struct session *session, const struct place *place);

/* Gives it back, and the lock with it. Nothing was run. */
void place_give_back(struct session *session, const struct place *place);

#endif
