#include "etcd/requests.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etcd/base64.h"

/* 64-bit numbers are strings: JSON's are not that long everywhere. */
static json_t *number(uint64_t n)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%" PRIu64, n);
	return json_string(text);
}

static void add_keys(json_t *body, const struct keys *keys)
{
	json_object_set_new(body, "key", json_string(keys->key));
	if (keys->end)
		json_object_set_new(body, "range_end", json_string(keys->end));
}

struct keys keys_one(const char *key)
{
	return (struct keys){ .key = base64_encode(key, strlen(key)) };
}

struct keys keys_copy(const struct keys *keys)
{
	return (struct keys){ .key = strdup(keys->key),
			      .end = keys->end ? strdup(keys->end) : NULL };
}

void keys_free(struct keys *keys)
{
	free(keys->key);
	free(keys->end);
	*keys = (struct keys){ .key = NULL };
}

json_t *list_from(json_t *const *values)
{
	json_t *list = json_array();

	for (; *values; values++)
		json_array_append_new(list, *values);
	return list;
}

json_t *request_grant(int64_t ttl, uint64_t lease)
{
	return json_pack("{s:o, s:o}", "TTL", number((uint64_t)ttl), "ID", number(lease));
}

json_t *request_lease(uint64_t lease)
{
	return json_pack("{s:o}", "ID", number(lease));
}

json_t *request_range(const struct keys *keys, enum order order, unsigned limit,
		      uint64_t created_before)
{
	json_t *body = json_object();

	add_keys(body, keys);
	if (order != ORDER_NONE) {
		json_object_set_new(body, "sort_order",
				    json_string(order == ORDER_OLDEST ? "ASCEND" : "DESCEND"));
		json_object_set_new(body, "sort_target", json_string("CREATE"));
	}
	if (limit)
		json_object_set_new(body, "limit", number(limit));
	if (created_before)
		json_object_set_new(body, "max_create_revision", number(created_before - 1));
	return body;
}

json_t *request_at(json_t *range, uint64_t revision)
{
	if (revision)
		json_object_set_new(range, "revision", number(revision));
	return range;
}

json_t *request_page(const struct keys *keys, unsigned limit, uint64_t revision)
{
	json_t *body = request_at(request_range(keys, ORDER_NONE, limit, 0), revision);

	json_object_set_new(body, "keys_only", json_true());
	return body;
}

json_t *compare_created(const struct keys *keys, const char *result, uint64_t revision)
{
	json_t *compare = json_pack("{s:s, s:s, s:o}", "target", "CREATE", "result", result,
				    "create_revision", number(revision));

	add_keys(compare, keys);
	return compare;
}

json_t *compare_modified(const struct keys *key, uint64_t revision)
{
	json_t *compare = json_pack("{s:s, s:s, s:o}", "target", "MOD", "result", "EQUAL",
				    "mod_revision", number(revision));

	add_keys(compare, key);
	return compare;
}

json_t *operation(const char *kind, json_t *body)
{
	return json_pack("{s:o}", kind, body);
}

json_t *operation_put(const struct keys *keys, const char *value, uint64_t lease)
{
	json_t *body = json_object();
	char *text = base64_encode(value, strlen(value));

	add_keys(body, keys);
	json_object_set_new(body, "value", json_string(text));
	free(text);
	if (lease)
		json_object_set_new(body, "lease", number(lease));
	else
		json_object_set_new(body, "ignore_lease", json_true());
	return operation("request_put", body);
}

json_t *operation_delete(const struct keys *keys)
{
	json_t *body = json_object();

	add_keys(body, keys);
	return operation("request_delete_range", body);
}

json_t *request_txn(json_t *compare, json_t *success, json_t *failure)
{
	return json_pack("{s:o, s:o, s:o}", "compare", compare, "success", success, "failure",
			 failure);
}

json_t *request_watch(const struct keys *keys, uint64_t revision, unsigned what)
{
	json_t *body = json_pack("{s:o}", "start_revision", number(revision));

	add_keys(body, keys);
	if (what & WATCH_BEFORE)
		json_object_set_new(body, "prev_kv", json_true());
	if (!(what & WATCH_PUTS))
		json_object_set_new(body, "filters", list_of(json_string("NOPUT"), NULL));
	return operation("create_request", body);
}
