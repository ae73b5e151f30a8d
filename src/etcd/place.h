/* Our place in the line: what we know of those ahead of us, and the requests about it. */
#ifndef ETCD_PLACE_H
#define ETCD_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/deadline.h"
#include "etcd/ahead.h"

/* How long the endpoints not in use have to tell which cluster they belong to. */
#define PLACE_SURVEY_LIMIT (300 * NS_PER_MS)

/* Whether all entries ahead of us are always read. */
bool place_needs_all(const struct session *session);

/*
 * Each tries until session->client.limit, and returns NULL or an error's text, to be freed. If
 * session->own.token is set afterwards, we hold the lock.
 *
 * They request a new lease and a new key; read the line; and write the key that takes the lock, in
 * slot SLOT if it has slots.
 */
char *place_enter(struct session *session, struct place *place);
char *place_look(struct session *session, struct place *place);
char *place_acquire(struct session *session, struct place *place, unsigned slot);

/* The holder under which this job runs, or NULL. */
const struct entry *place_find_own(const struct session *session, const struct place *place);

/*
 * Sends me-only WORD about ENTRY (NULL: one that was lost a moment ago). ALL_SLOTS: all of that
 * many slots are in use; 0: they are not.
 */
void place_tell(struct session *session, const char *word, const struct entry *entry, bool timeout,
		unsigned all_slots);

/* Tells me-only that WAITERS wait already; FIRST is the first of them. */
void place_tell_full(struct session *session, const struct place *place, size_t waiters,
		     const struct entry *first);

/*
 * Gives the place back, if that can be done at once, unless the lock was handed over to us
 * meanwhile. Returns whether the lock was handed over.
 */
bool place_leave(struct session *session, const struct place *place);

/* Gives the place back, and with it the lock. Nothing was run. */
void place_give_back(struct session *session, const struct place *place);

#endif
