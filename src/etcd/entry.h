/*
 * An entry of a lock's queue in etcd: a key NAME/LEASE (lease id in lower-case hex) that is bound to the lease, as etcdctl lock makes
 * it. Its place is its create_revision. Its value, in JSON, is for us: etcdctl's is empty and counts as one that wants to be alone.
 */
#ifndef ETCD_ENTRY_H
#define ETCD_ENTRY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/message.h"
#include "helper/identity.h"

enum entry_mode { ENTRY_EXCLUSIVE, ENTRY_SHARED, ENTRY_SLOTS };
enum entry_state { ENTRY_WAITS, ENTRY_HELD, ENTRY_KEPT, ENTRY_UNKNOWN };

struct entry {
	char *key;		/* with a NUL, and of that length: a name has none */
	uint64_t created, modified, lease;	/* revisions; lease id */
	bool foreign;		/* no value of ours: nothing of what follows is known */
	enum entry_mode mode;
	unsigned slots;		/* ENTRY_SLOTS */
	unsigned slot;
	bool queue;		/* --queue was given */
	enum entry_state state;
	uint64_t since;		/* ms since 1970: when it got into this state */
	struct identity who;
};

struct entries {
	struct entry *all;	/* in the order in which they were created */
	size_t n;
	uint64_t revision;	/* of etcd, when they were so */
};

/* Reads the key-value pairs KVS (NULL: none). RESULT is to be freed by entries_free(). */
void entries_read(struct entries *result, const json_t *kvs);

void entries_free(struct entries *entries);

/* The entry with the revision CREATED, or NULL. */
const struct entry *entries_find(const struct entries *entries, uint64_t created);

/* A copy, to be freed by entry_free(). */
struct entry entry_copy(const struct entry *entry);
void entry_free(struct entry *entry);

/* The value of ENTRY in JSON, to be freed. */
char *entry_value(const struct entry *entry);

/* Adds who it is to LINE, as lines "KEY VALUE" of PROTOCOL.md with PREFIX before each key. */
void entry_describe(const struct entry *entry, const struct identity *me, const char *prefix, struct line *line);

#endif
