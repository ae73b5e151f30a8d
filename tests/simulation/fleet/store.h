/*
 * etcd's store: keys with revisions, ranges, transactions and leases. It knows nothing of how a
 * request comes to it: gateway/ reads it from what the client sends. conform.py compares this with
 * real servers.
 */
#ifndef SIM_STORE_H
#define SIM_STORE_H

#include "base.h"

/* gRPC's status codes that etcd answers with. */
enum status {
	STATUS_OK = 0,
	STATUS_UNKNOWN = 2,
	STATUS_INVALID = 3,
	STATUS_DEADLINE = 4,
	STATUS_NOT_FOUND = 5,
	STATUS_EXHAUSTED = 8,
	STATUS_PRECONDITION = 9,
	STATUS_UNAVAILABLE = 14,
	STATUS_UNAUTHENTICATED = 16,
};

struct kv {
	const char *key, *value;
	uint64_t created, modified, version, lease;
};

/* KEY alone, or from KEY (BEHIND: from what follows KEY) up to END, which is not included. */
struct span {
	const char *key, *end;
	bool behind;
};

enum order { ORDER_KEY, ORDER_OLDEST, ORDER_NEWEST };

struct range {
	struct span span;
	enum order order;
	uint64_t limit, min_created, max_created; /* 0: none */
	bool keys_only;
};

struct compare {
	struct span span;
	bool modified; /* the mod_revision, otherwise the create_revision */
	bool greater;  /* than REVISION, otherwise equal */
	uint64_t revision;
};

struct put {
	const char *key, *value;
	uint64_t lease;
	bool ignore_lease; /* keep the one that the key has */
};

enum kind_of_operation { OPERATION_RANGE, OPERATION_PUT, OPERATION_DELETE, OPERATION_TXN };

struct operation {
	enum kind_of_operation kind;
	struct range range; /* of OPERATION_DELETE the span alone */
	struct put put;
	struct txn *txn;
};

struct txn {
	struct compare *compares;
	struct operation *success, *failure;
	size_t n_compares, n_success, n_failure;
	bool succeeds; /* decided before anything is written */
};

/* What an operation has answered. */
struct result {
	enum kind_of_operation kind;
	struct kv *kvs;
	size_t n;
	bool keys_only, more;
	uint64_t count, deleted;
	struct results *txn;
};

struct results {
	bool succeeded;
	struct result *all;
	size_t n;
};

/* One change of a key. */
struct change {
	struct kv kv, before; /* before.key NULL: there was none */
	bool deleted;
	uint64_t revision;
};

/* Why a key was deleted. */
enum why { BY_REQUEST, BY_REVOKE, BY_EXPIRY, BY_MISTAKE, BY_HAND };

struct store {
	uint64_t revision, compacted;
	struct kv *kvs;
	size_t n_kvs;
	struct change *changes;
	size_t n_changes;
};
extern struct store store;

bool span_has(const struct span *span, const char *key);
struct result store_range(const struct range *range);

/* Executes TXN. Returns STATUS_OK, or what is wrong with it and WHY in etcd's words: nothing is
 * done. */
enum status store_txn(struct txn *txn, struct results *results, const char **why);

/* Deletes all keys of LEASE. Returns whether there were any. */
bool store_delete_lease(uint64_t lease, enum why why);
bool store_has_lease(uint64_t lease);

/* Deletes KEY, as somebody does by hand. */
void store_delete(const char *key, enum why why);

const struct kv *store_find(const char *key);
uint64_t store_oldest(void);	  /* the create_revision of the oldest key */
const char *store_describe(void); /* all keys */
void store_reset(void);

/* --- leases (lease.c) ------------------------------------------------------------------------- */

struct lease {
	uint64_t id;
	int64_t ttl;	     /* seconds */
	ns expiry;	     /* on the clock of the leader */
	ns view[MEMBERS];    /* the same, as each member that has led believes it */
	ns granted, revoked; /* global; revoked 0: it is alive */
	bool mistaken;	     /* it was ended too early */
};

/* Returns a live lease of TTL seconds, or NULL if ID is in use. ID 0: any. */
struct lease *lease_grant(uint64_t id, int64_t ttl);

/* The newest of this id, dead or alive, or NULL. */
struct lease *lease_find(uint64_t id);
bool lease_is_alive(uint64_t id);
void lease_revoke(struct lease *lease, enum why why);
void lease_each(void (*call)(struct lease *lease)); /* of all that are alive */
unsigned lease_count(void);			    /* the same */

/* When the leader will end it, in global time; 0: it has; -1: by mistake, or it is not known. */
ns lease_ends(uint64_t id);
void lease_reset(void);

/* The clock of member M. */
ns member_clock(int m);

/* cluster.c: something was written, or a lease was granted. */
void cluster_committed(void);

#endif
