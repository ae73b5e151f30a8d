/* Our place in the line: what is known of those before us, and the requests about it. */
#ifndef ETCD_PLACE_H
#define ETCD_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "../deadline.h"
#include "../guard.h"
#include "session.h"

/* Rule 4 of take.c. A tie with the command that has to end would be two at once. */
#define LOCK_DELAY (GUARD_LOST_GRACE + 1 * NS_PER_S)

/* Times are CLOCK_BOOTTIME, ns. */
struct place {
	struct entries before;		/* those before us; or the head of the line and the last one */
	bool wide;			/* all of those before us are read, for there are many holders */
	bool ours_is_there;
	int64_t delay;			/* the lock is not to be used before */
	/* In what term leases were said to live, 0 if that is proved; and until when to stand back if it is wrong. */
	uint64_t alive_term;
	int64_t alive_delay;
	uint64_t to_ask;		/* a lease that is to be asked for when it is taken; 0: none */
	int64_t entered;		/* when; 0: not yet */
	unsigned short_stays;		/* places in a row that were lost soon */
	int64_t watch_due, watch_pause;	/* when the stream may be opened again, and the pause then */
	uint64_t watched;		/* whose key (create_revision); 0: nobody's; UINT64_MAX: all */
	uint64_t named;			/* the holder of whom me-only was told, likewise */
	unsigned renewals;		/* since the line was looked at */
};

/* Whether all before us are always looked at. */
bool place_needs_all(const struct session *session);

/*
 * Each returns NULL or an error's text, to be freed, and is tried until session->client.limit. If
 * session->token is set afterwards the lock is ours.
 *
 * A new lease and a new key; a look at the line; the write that takes the lock, for the slot SLOT
 * of those that have several.
 */
char *place_enter(struct session *session, struct place *place);
char *place_look(struct session *session, struct place *place);
char *place_acquire(struct session *session, struct place *place, unsigned slot);

/* The holder that this job runs under, or NULL. */
const struct entry *place_find_own(const struct session *session, const struct place *place);

/*
 * Tells me-only WORD of ENTRY (NULL: one that was lost a moment ago). ALL_SLOTS: that many there
 * are, and all are in use; 0: that is not so.
 */
void place_tell(struct session *session, const char *word, const struct entry *entry, bool timeout,
		unsigned all_slots);

/* That WAITERS wait already, of which FIRST is the first. */
void place_tell_full(struct session *session, const struct place *place, size_t waiters,
		     const struct entry *first);

/*
 * Gives the place back, if that can be done at once, unless the lock was handed over to us
 * meanwhile. Returns whether it was.
 */
bool place_leave(struct session *session, const struct place *place);

/* Gives it back, and the lock with it. Nothing was run. */
void place_give_back(struct session *session, const struct place *place);

#endif
