#include "etcd/requests.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* --- keys ------------------------------------------------------------------------------------- */

struct keys keys_one(const char *key)
{
	return (struct keys){ .key = memory_string(key), .key_length = strlen(key) };
}

struct keys keys_copy(const struct keys *keys)
{
	return (struct keys){ .key = memory_text(keys->key, keys->key_length),
			      .end = memory_text(keys->end, keys->end_length),
			      .key_length = keys->key_length,
			      .end_length = keys->end_length };
}

void keys_free(struct keys *keys)
{
	free(keys->key);
	free(keys->end);
	*keys = (struct keys){ .key = NULL };
}

/* --- bodies ----------------------------------------------------------------------------------- */

struct bytes *request_nothing(void)
{
	return memory_get(sizeof(struct bytes));
}

void request_free(struct bytes *body)
{
	if (body)
		bytes_free(body);
	free(body);
}

struct bytes *request_copy(const struct bytes *body)
{
	struct bytes *copy = request_nothing();

	bytes_add(copy, body->all, body->n);
	return copy;
}

/* What protobuf leaves out: 0. */
static void add_number(struct bytes *body, unsigned field, uint64_t n)
{
	if (n)
		wire_number(body, field, n);
}

/* Puts INNER, which is taken, into BODY. */
static void add_body(struct bytes *body, unsigned field, struct bytes *inner)
{
	wire_bytes(body, field, inner->all, inner->n);
	request_free(inner);
}

static void add_keys(struct bytes *body, const struct keys *keys, unsigned key, unsigned end)
{
	wire_bytes(body, key, keys->key, keys->key_length);
	if (keys->end)
		wire_bytes(body, end, keys->end, keys->end_length);
}

struct bytes *request_grant(int64_t ttl, uint64_t lease)
{
	struct bytes *body = request_nothing();

	add_number(body, 1, (uint64_t)ttl);
	add_number(body, 2, lease);
	return body;
}

struct bytes *request_lease(uint64_t lease)
{
	struct bytes *body = request_nothing();

	add_number(body, 1, lease);
	return body;
}

struct bytes *request_authenticate(const char *user, const char *password)
{
	struct bytes *body = request_nothing();

	wire_bytes(body, 1, user, strlen(user));
	wire_bytes(body, 2, password, strlen(password));
	return body;
}

/* Of SortOrder and SortTarget. */
enum {
	SORT_ASCEND = 1,
	SORT_DESCEND = 2,
	SORT_CREATE = 2
};

struct bytes *request_range(const struct keys *keys, enum order order, unsigned limit,
			    uint64_t created_before)
{
	struct bytes *body = request_nothing();

	add_keys(body, keys, 1, 2);
	add_number(body, 3, limit);
	if (order != ORDER_NONE) {
		wire_number(body, 5, order == ORDER_OLDEST ? SORT_ASCEND : SORT_DESCEND);
		wire_number(body, 6, SORT_CREATE);
	}
	add_number(body, 13, created_before ? created_before - 1 : 0);
	return body;
}

struct bytes *request_at(struct bytes *range, uint64_t revision)
{
	add_number(range, 4, revision);
	return range;
}

struct bytes *request_page(const struct keys *keys, unsigned limit, uint64_t revision)
{
	struct bytes *body = request_at(request_range(keys, ORDER_NONE, limit, 0), revision);

	wire_number(body, 8, true);
	return body;
}

struct bytes *request_next(const struct keys *keys, uint64_t revision)
{
	struct bytes *body = request_range(keys, ORDER_OLDEST, 1, 0);

	wire_number(body, 12, revision);
	return body;
}

/* Of Compare's targets, which are fields as well: CREATE is 1 and in field 5. */
enum target {
	TARGET_CREATE = 1,
	TARGET_MOD = 2
};

static struct bytes *compare(const struct keys *keys, enum comparison comparison,
			     enum target target, uint64_t revision)
{
	struct bytes *body = request_nothing();

	add_number(body, 1, comparison);
	wire_number(body, 2, target);
	add_keys(body, keys, 3, 64);
	/* A 0 is sent as well: it is one of several fields. */
	wire_number(body, 4 + target, revision);
	return body;
}

struct bytes *compare_created(const struct keys *keys, enum comparison comparison,
			      uint64_t revision)
{
	return compare(keys, comparison, TARGET_CREATE, revision);
}

struct bytes *compare_modified(const struct keys *key, uint64_t revision)
{
	return compare(key, EQUAL, TARGET_MOD, revision);
}

/* --- operations of transactions --------------------------------------------------------------- */

static struct bytes *operation(unsigned kind, struct bytes *inner)
{
	struct bytes *body = request_nothing();

	add_body(body, kind, inner);
	return body;
}

struct bytes *operation_range(struct bytes *range)
{
	return operation(1, range);
}

struct bytes *operation_put(const struct keys *keys, const char *value, uint64_t lease)
{
	struct bytes *body = request_nothing();

	add_keys(body, keys, 1, 0);
	wire_bytes(body, 2, value, strlen(value));
	if (lease)
		wire_number(body, 3, lease);
	else
		wire_number(body, 6, true);
	return operation(2, body);
}

struct bytes *operation_delete(const struct keys *keys)
{
	struct bytes *body = request_nothing();

	add_keys(body, keys, 1, 2);
	return operation(3, body);
}

struct bytes *operation_txn(struct bytes *txn)
{
	return operation(4, txn);
}

/* --- lists: each body with its length in front ------------------------------------------------ */

void list_add(struct bytes *list, struct bytes *more)
{
	wire_length(list, more->n);
	bytes_add(list, more->all, more->n);
	request_free(more);
}

struct bytes *list_from(struct bytes *const *bodies)
{
	struct bytes *list = request_nothing();

	for (; *bodies; bodies++)
		list_add(list, *bodies);
	return list;
}

struct bytes *list_with_first(struct bytes *first, struct bytes *list)
{
	struct bytes *both = list_of(first, NULL);

	bytes_add(both, list->all, list->n);
	request_free(list);
	return both;
}

bool list_take(struct slice *list, struct slice *body)
{
	uint64_t n;

	if (!wire_read_length(list, &n) || n > list->n)
		return false;
	*body = (struct slice){ .at = list->at, .n = (size_t)n };
	list->at += n;
	list->n -= (size_t)n;
	return true;
}

/* Puts each of LIST, which is taken, into BODY. */
static void add_list(struct bytes *body, unsigned field, struct bytes *list)
{
	struct slice rest = { .at = list->all, .n = list->n }, one;

	while (list_take(&rest, &one))
		wire_bytes(body, field, one.at, one.n);
	request_free(list);
}

struct bytes *request_txn(struct bytes *compares, struct bytes *success, struct bytes *failure)
{
	struct bytes *body = request_nothing();

	add_list(body, 1, compares);
	add_list(body, 2, success);
	add_list(body, 3, failure);
	return body;
}

struct bytes *request_watch(const struct keys *keys, uint64_t revision, unsigned what)
{
	struct bytes *body = request_nothing();

	add_keys(body, keys, 1, 2);
	wire_number(body, 3, revision);
	/* The filter NOPUT is 0. */
	if (!(what & WATCH_PUTS))
		wire_number(body, 5, 0);
	if (what & WATCH_BEFORE)
		wire_number(body, 6, true);
	return operation(1, body);
}
