/* An entry in a lock's line: one that holds the lock or waits for it, as all helpers see it. */
#ifndef HELPER_ENTRY_H
#define HELPER_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "helper/identity.h"

enum entry_mode {
	ENTRY_EXCLUSIVE,
	ENTRY_SHARED,
	ENTRY_SLOTS
};
enum entry_state {
	ENTRY_WAITS,
	ENTRY_HELD,
	ENTRY_KEPT,
	ENTRY_UNKNOWN
};

struct entry {
	char *key;	   /* where the service keeps it */
	uint64_t created;  /* its place in line: no two have the same */
	uint64_t modified; /* likewise of its last change */
	uint64_t lease;	   /* the id of its lease */
	bool foreign;	   /* not written by me-only: nothing of what follows is known */
	enum entry_mode mode;
	unsigned slots; /* ENTRY_SLOTS */
	unsigned slot;
	bool queue; /* --queue was given */
	enum entry_state state;
	uint64_t since; /* when it got into this state, ms since 1970 */
	struct identity who;
};

struct entries {
	struct entry *all; /* in the order in which they were created */
	size_t n;
};

void entries_free(struct entries *entries);

/* The entry that was created at CREATED, or NULL. */
const struct entry *entries_find(const struct entries *entries, uint64_t created);

/* A copy, to be freed by entry_free(). */
struct entry entry_copy(const struct entry *entry);
void entry_free(struct entry *entry);

#endif
