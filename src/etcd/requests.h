/* Bodies of requests to the gateway. A call, or the body that contains one, takes it. */
#ifndef ETCD_REQUESTS_H
#define ETCD_REQUESTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define PATH_GRANT "/v3/lease/grant"
#define PATH_KEEPALIVE "/v3/lease/keepalive"
#define PATH_TIME_TO_LIVE "/v3/lease/timetolive"
#define PATH_REVOKE "/v3/lease/revoke"
#define PATH_RANGE "/v3/kv/range"
#define PATH_TXN "/v3/kv/txn"
#define PATH_STATUS "/v3/maintenance/status"
#define PATH_AUTHENTICATE "/v3/auth/authenticate"
#define PATH_WATCH "/v3/watch"

/* A range of keys in base64: one key if END is NULL. */
struct keys {
	char *key, *end;
};

/* The one KEY, and a copy; to be freed by keys_free(). */
struct keys keys_one(const char *key);
struct keys keys_copy(const struct keys *keys);
void keys_free(struct keys *keys);

/* TTL in seconds; LEASE is an id of the caller's choice, so that the request can be repeated. */
json_t *request_grant(int64_t ttl, uint64_t lease);

/* For keepalive, revoke and time to live. */
json_t *request_lease(uint64_t lease);

enum order {
	ORDER_NONE,
	ORDER_OLDEST,
	ORDER_NEWEST
};

/* LIMIT and CREATED_BEFORE (a revision; only keys created before it): 0 is none. */
json_t *request_range(const struct keys *keys, enum order order, unsigned limit,
		      uint64_t created_before);

/* RANGE as it was at REVISION; 0: as it is. */
json_t *request_at(json_t *range, uint64_t revision);

/* The first LIMIT of KEYS at REVISION, in the order of their names, without values. */
json_t *request_page(const struct keys *keys, unsigned limit, uint64_t revision);

/* Compares the create_revision of KEYS: RESULT is "EQUAL" or "GREATER". */
json_t *compare_created(const struct keys *keys, const char *result, uint64_t revision);

/* Compares whether the mod_revision of the key is REVISION: whether it is as it was read. */
json_t *compare_modified(const struct keys *key, uint64_t revision);

/*
 * One operation of a transaction each. BODY is a request_range() or request_txn(). LEASE 0: the key
 * keeps its own.
 */
json_t *operation(const char *kind, json_t *body);
json_t *operation_put(const struct keys *keys, const char *value, uint64_t lease);
json_t *operation_delete(const struct keys *keys);

/* Arrays of the above. */
json_t *request_txn(json_t *compare, json_t *success, json_t *failure);

/* An array of the given values, to which NULL is the end. */
#define list_of(...) list_from((json_t *[]){ __VA_ARGS__ })
json_t *list_from(json_t *const *values);

/* Watches KEYS from REVISION on. Deletions are told, and WHAT else. */
#define WATCH_PUTS 1u
#define WATCH_BEFORE 2u /* and the key before: costs a read and half of the event */
json_t *request_watch(const struct keys *keys, uint64_t revision, unsigned what);

#endif
