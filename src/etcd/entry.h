/*
 * An entry of a lock's line in etcd: a key NAME/LEASE (lease id in lower-case hex) that is bound to
 * the lease, as etcdctl lock creates it. Its position is its create_revision. Its value is JSON for
 * me-only; etcdctl's is empty and counts as exclusive.
 */
#ifndef ETCD_ENTRY_H
#define ETCD_ENTRY_H

#include "base/message.h"
#include "etcd/body.h"
#include "helper/entry.h"

/* Reads the N PAIRS into RESULT, in order; it is to be freed by entries_free(). */
void entries_read(struct entries *result, const struct pair *pairs, size_t n);

/* The same for one, to be freed by entry_free(). */
struct entry entry_read(const struct pair *pair);

/* The value of ENTRY in JSON, to be freed. */
char *entry_value(const struct entry *entry);

/* Adds who it is to LINE: lines "KEY VALUE" of PROTOCOL.md, with PREFIX before each key. */
void entry_describe(const struct entry *entry, const struct identity *me, const char *prefix,
		    struct line *line);

#endif
