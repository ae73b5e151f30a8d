/*
 * Bodies of requests to etcd, in protobuf. A call, or the body that contains one, takes it. The
 * numbers of the fields are those of etcd's rpc.proto.
 */
#ifndef ETCD_REQUESTS_H
#define ETCD_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include "grpc/wire.h"

#define PATH_GRANT "/etcdserverpb.Lease/LeaseGrant"
#define PATH_KEEPALIVE "/etcdserverpb.Lease/LeaseKeepAlive"
#define PATH_TIME_TO_LIVE "/etcdserverpb.Lease/LeaseTimeToLive"
#define PATH_REVOKE "/etcdserverpb.Lease/LeaseRevoke"
#define PATH_RANGE "/etcdserverpb.KV/Range"
#define PATH_TXN "/etcdserverpb.KV/Txn"
#define PATH_STATUS "/etcdserverpb.Maintenance/Status"
#define PATH_AUTHENTICATE "/etcdserverpb.Auth/Authenticate"
#define PATH_WATCH "/etcdserverpb.Watch/Watch"

/* A range of keys: one key if END is NULL. They may have any bytes in them. */
struct keys {
	char *key, *end;
	size_t key_length, end_length;
};

/* The one KEY, and a copy; to be freed by keys_free(). */
struct keys keys_one(const char *key);
struct keys keys_copy(const struct keys *keys);
void keys_free(struct keys *keys);

struct bytes *request_nothing(void);

/* TTL in seconds; LEASE is an id of the caller's choice, so that the request can be repeated. */
struct bytes *request_grant(int64_t ttl, uint64_t lease);

/* For keepalive, revoke and time to live. */
struct bytes *request_lease(uint64_t lease);

struct bytes *request_authenticate(const char *user, const char *password);

enum order {
	ORDER_NONE,
	ORDER_OLDEST,
	ORDER_NEWEST
};

/* LIMIT and CREATED_BEFORE (a revision; only keys created before it): 0 is none. */
struct bytes *request_range(const struct keys *keys, enum order order, unsigned limit,
			    uint64_t created_before);

/* RANGE as it was at REVISION; 0: as it is. */
struct bytes *request_at(struct bytes *range, uint64_t revision);

/* The first LIMIT of KEYS at REVISION, in the order of their names, without values. */
struct bytes *request_page(const struct keys *keys, unsigned limit, uint64_t revision);

/* The oldest of KEYS that was created at REVISION or later. */
struct bytes *request_next(const struct keys *keys, uint64_t revision);

enum comparison {
	EQUAL = 0,
	GREATER = 1
};

/* Compares the create_revision of KEYS. */
struct bytes *compare_created(const struct keys *keys, enum comparison comparison,
			      uint64_t revision);

/* Compares whether the mod_revision of the key is REVISION: whether it is as it was read. */
struct bytes *compare_modified(const struct keys *key, uint64_t revision);

/*
 * One operation of a transaction each. RANGE is a request_range(), TXN a request_txn(). LEASE 0:
 * the key keeps its own.
 */
struct bytes *operation_range(struct bytes *range);
struct bytes *operation_txn(struct bytes *txn);
struct bytes *operation_put(const struct keys *keys, const char *value, uint64_t lease);
struct bytes *operation_delete(const struct keys *keys);

/* Lists of the above. */
struct bytes *request_txn(struct bytes *compare, struct bytes *success, struct bytes *failure);

/* A list of the given bodies, to which NULL is the end; MORE, which is taken, added to LIST. */
#define list_of(...) list_from((struct bytes *[]){ __VA_ARGS__ })
struct bytes *list_from(struct bytes *const *bodies);
void list_add(struct bytes *list, struct bytes *more);

/* LIST with FIRST in front of it; both are taken. */
struct bytes *list_with_first(struct bytes *first, struct bytes *list);

/* Takes the first body off LIST into BODY. Returns whether there was one. */
bool list_take(struct slice *list, struct slice *body);

/* Watches KEYS from REVISION on. Deletions are told, and WHAT else. */
#define WATCH_PUTS 1u
#define WATCH_BEFORE 2u /* and the key before: costs a read and half of the event */
struct bytes *request_watch(const struct keys *keys, uint64_t revision, unsigned what);

/* Another one of BODY. */
struct bytes *request_copy(const struct bytes *body);
void request_free(struct bytes *body);

#endif
