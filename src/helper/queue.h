/*
 * The rules of the line: whose turn it is, and which entry to watch until then. Nothing is sent
 * here.
 */
#ifndef HELPER_QUEUE_H
#define HELPER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "helper/entry.h"

/*
 * Those ahead of us only ever become fewer: a new entry has a larger revision than all others, and
 * no entry changes what it wants. An entry whose turn it is keeps it while its key is there.
 *
 *  exclusive  if nobody is ahead
 *  shared     if everybody ahead wants to share: readers behind a waiting writer wait
 *  N slots    if everybody ahead wants slots, and they are fewer than N and than what each of them
 *             wants. The slot is the lowest that is not taken. Those ahead choose first, so no two
 *             choose the same.
 */
enum queue_verdict {
	QUEUE_OURS,	 /* we may have it */
	QUEUE_WATCH_KEY, /* not before BLOCKER's key is gone, or changed */
	QUEUE_WATCH_ALL, /* not before any key of those before us is gone */
};

/* Judges OURS by those ahead. *BLOCKER points into BEFORE; *SLOT is set with QUEUE_OURS. */
enum queue_verdict queue_judge(const struct entry *ours, const struct entry *before, size_t n,
			       const struct entry **blocker, unsigned *slot);

/*
 * Whether GONE, which was ahead of OURS and has gone, may have been lost a moment ago while it held
 * the lock, so that OURS must not start yet. GONE is as last seen; BEFORE has those still ahead.
 */
bool queue_can_be_lost(const struct entry *ours, const struct entry *gone,
		       const struct entry *before, size_t n);

/* How many of the first N entries wait with --queue; *FIRST is the first of them. */
size_t queue_count(const struct entry *entries, size_t n, const struct entry **first);

/* Whether the entry at INDEX has the lock, or may have it, by what can be seen. */
bool queue_holds(const struct entry *entries, size_t index);

/*
 * The number of slots that the entry at INDEX and all ahead of it agree to: the smallest. 1 if it
 * does not want slots.
 */
unsigned queue_slots(const struct entry *entries, size_t index);

#endif
