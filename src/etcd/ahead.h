/* Those ahead of us: reading the line, and what became of those that have gone. */
#ifndef ETCD_AHEAD_H
#define ETCD_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/deadline.h"
#include "etcd/session.h"
#include "helper/schedule.h"

/*
 * Rule 4 of etcd/take.c. Longer than a lost holder's command has: in a tie, two would run at once.
 */
#define LOCK_DELAY (SCHEDULE_LOST_GRACE + 1 * NS_PER_S)

/* Times are CLOCK_BOOTTIME, ns. */
struct place {
	struct entries before; /* those ahead of us; or the line's head and its last one */
	bool wide;	       /* read all entries ahead of us: there are many holders */
	bool ours_is_there;
	bool tried;    /* a write of ours that takes the lock was sent */
	bool lapsed;   /* the lease had already ended when it was first used */
	int64_t delay; /* the lock must not be used earlier */
	/*
	 * The term in which leases were reported alive, 0 if that is proved; and until when to
	 * stand back if it was wrong.
	 */
	uint64_t alive_term;
	int64_t alive_delay;
	uint64_t to_ask;		/* the lease to ask for while taking the lock; 0: none */
	int64_t entered;		/* when; 0: not yet */
	unsigned short_stays;		/* places in a row that were lost quickly */
	int64_t watch_due, watch_pause; /* when the stream may be reopened, and the next pause */
	uint64_t watched;		/* whose key (create_revision); 0: none; UINT64_MAX: all */
	uint64_t named;			/* the holder that me-only was told of, likewise */
	unsigned renewals;		/* since the line was last read */
};

/* How many entries at the head of the line are read to find the holders. */
#define HEAD 16

/* The operations that read the line. CREATED is our place, or 0 if it is not known yet. */
struct bytes *ahead_operations(const struct session *session, bool all, uint64_t created);

/*
 * All entries in BODY, the answer to a transaction with ahead_operations(). That includes ours, and
 * some entries twice.
 */
struct entries ahead_entries(const struct body *body);

/*
 * Read the line from that answer; the second also finds out what became of those that were ahead of
 * us. Both return NULL or an error's text, to be freed.
 */
char *ahead_read(struct session *session, struct place *place, const struct body *body);
char *ahead_update(struct session *session, struct place *place, const struct body *body);

/*
 * Whether ANSWER says that its lease lives. If that is not proved later, we stand back from NOTICED
 * on, when we saw that the lease may have ended.
 */
bool ahead_is_alive(struct place *place, const struct answer *answer, int64_t noticed);

/* BODY is a later answer that needed a majority: it proves that, or not. */
void ahead_prove_alive(struct place *place, const struct body *body);

/*
 * Asks for the N LEASES of holders that may have been lost. A holder that released the lock in good
 * order leaves its lease behind.
 */
void ahead_ask(struct session *session, struct place *place, const uint64_t *leases, size_t n);

#endif
