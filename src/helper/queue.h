/* The rules of the queue: who of those in line may have the lock, and whom to watch until then. Nothing is asked or sent here. */
#ifndef HELPER_QUEUE_H
#define HELPER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "helper/entry.h"

/*
 * Those before us only ever become fewer: a new entry has a larger revision than all others, and nobody changes what it wants. So
 * who may have the lock once, may have it as long as its key is there.
 *
 *  exclusive  when nobody is before us
 *  shared     when nobody before us wants anything but to share: readers behind a waiting writer wait
 *  N slots    when all before us want slots too, and are fewer than N and than each of them says; the slot is the lowest that none of
 *             them has. Those before us choose theirs first, so that no two choose the same.
 */
enum queue_verdict {
	QUEUE_OURS,		/* we may have it */
	QUEUE_WATCH_KEY,	/* not before BLOCKER's key is gone, or changed */
	QUEUE_WATCH_ALL,	/* not before any key of those before us is gone */
};

/* What follows for OURS from those BEFORE it. *BLOCKER points into BEFORE; *SLOT is set with QUEUE_OURS. */
enum queue_verdict queue_judge(const struct entry *ours, const struct entry *before, size_t n, const struct entry **blocker, unsigned *slot);

/*
 * Whether GONE, which was ahead of OURS and has gone, may have been lost a moment ago while it held
 * the lock, so that OURS must not start yet. GONE is as last seen; BEFORE has those still ahead.
 */
bool queue_can_be_lost(const struct entry *ours, const struct entry *gone,
		       const struct entry *before, size_t n);

/* How many of the first N entries wait that said --queue; *FIRST is the first of them. */
size_t queue_count(const struct entry *entries, size_t n, const struct entry **first);

/* Whether the entry at INDEX has the lock, or may have it, by what can be seen. */
bool queue_holds(const struct entry *entries, size_t index);

/* The number of slots that the one at INDEX and all before it agree to: the least. 1 if it wants no slots. */
unsigned queue_slots(const struct entry *entries, size_t index);

#endif
