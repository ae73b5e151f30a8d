/*
 * The names that a front, or a waiter that is alone, waits for: one for each slot of the lock. The
 * hang-up of a connection to a name tells when to try it; the bind is the only truth (rules 6, 7).
 */
#ifndef HOST_SLOTS_H
#define HOST_SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "host/waiter.h"

/* A fresh socket for the name. Returns 0 or a negative errno. */
int slots_renew_candidate(struct waiter *w);

int slots_bind(struct waiter *w, unsigned slot);

/*
 * Slot N is ours. With -F it becomes free while its holder, as it ends, still has its other files
 * open: files that it has locked, ports. Waits a moment until it has ended, if that is known.
 */
void slots_await_end(const struct waiter *w, unsigned n);

/* The front, or who waits alone, is that no more. */
void slots_unwatch(struct waiter *w);

/*
 * A slot may be free. If the hang-ups come fast while it stays bound, the next connection waits for
 * a pause.
 */
void slots_hear(struct waiter *w, unsigned n);

/*
 * The front, or who waits alone, tries the slots that are due at NOW, or ALL; while they are in
 * use, arranges to be woken up. Returns 0 when one is ours, LOCK_RETRY, or what failed.
 */
int slots_try(struct waiter *w, int64_t now, bool all);

/* Whether nobody has the slot at which we have looked last, without taking it. */
bool slots_seem_free(const struct waiter *w);

/*
 * Binds the slot at which we have looked last, or the next one that is free. Returns as
 * slots_bind() does.
 */
int slots_bind_any(struct waiter *w);

/* When the front, or who waits alone, has to try a slot again, at the latest. */
int64_t slots_next_try(const struct waiter *w);

/*
 * Tries the slots whose commands have just ended. Returns 0 when one is ours, LOCK_RETRY, or what
 * failed.
 */
int slots_catch(struct waiter *w);

/* With many slots there may be fewer descriptors than would be wanted. */
void slots_share_descriptors(struct waiter *w);

#endif
