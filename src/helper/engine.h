/* Questions to a helper, for --who and --list. */
#ifndef HELPER_ENGINE_H
#define HELPER_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "lock.h"

/* A holder or waiter as the helper reports it. Texts are valid until the next one. */
struct lock_told {
	const char *name;  /* of the lock, without the engine's prefix */
	const char *state; /* "held", "kept" (its command has ended), "waiting" */
	const char *mode;  /* "exclusive", "shared", "slots" */
	unsigned slots;	   /* how many; 1 if it does not want one of several */
	uint64_t token;	   /* 0: none */
	int64_t since;	   /* CLOCK_REALTIME, ns; -1: not known */
	int64_t left;	   /* ns until it ends if nobody renews it; -1: not known */
	struct holder holder;
};

/*
 * Asks the helper of LOCK's engine: TASK is "who" for one lock, or "list" for all locks whose names
 * begin with lock->name. Calls TELL for each holder and waiter in order. PROGRAM is the file of
 * me-only, beside which the helper is. Returns 0, or as lock_engine.take().
 */
int helper_ask(struct lock *lock, const char *task, const char *program,
	       void (*tell)(void *argument, const struct lock_told *told), void *argument);

#endif
