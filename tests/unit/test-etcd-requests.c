#include <stdlib.h>

#include "etcd/requests.h"
#include "tap.h"

/* BODY, which is taken, is the JSON text WANTED. */
static void is_json(json_t *body, const char *wanted, const char *what)
{
	char *got = json_dumps(body, JSON_COMPACT);
	json_t *other = json_loads(wanted, 0, NULL);

	if (!ok(other && json_equal(body, other), "%s", what))
		printf("# got    %s\n# wanted %s\n", got ? got : "nothing", wanted);
	free(got);
	json_decref(other);
	json_decref(body);
}

static void leases(void)
{
	is_json(request_grant(30, 7587880000000000001), "{\"TTL\":\"30\",\"ID\":\"7587880000000000001\"}", "a lease of 30 s");
	is_json(request_lease(INT64_MAX), "{\"ID\":\"9223372036854775807\"}", "the largest lease id");
	is_json(request_lease(1), "{\"ID\":\"1\"}", "the least lease id");
}

static void ranges(const struct keys *own, const struct keys *all)
{
	is_json(request_range(own, ORDER_NONE, 0, 0), "{\"key\":\"bG9jay8xYQ==\"}", "one key");
	is_json(request_range(all, ORDER_OLDEST, 16, 0),
		"{\"key\":\"bG9jay8=\",\"range_end\":\"bG9jazA=\",\"sort_order\":\"ASCEND\",\"sort_target\":\"CREATE\",\"limit\":\"16\"}", "the first of all");
	is_json(request_range(all, ORDER_NEWEST, 1, 42),
		"{\"key\":\"bG9jay8=\",\"range_end\":\"bG9jazA=\",\"sort_order\":\"DESCEND\",\"sort_target\":\"CREATE\",\"limit\":\"1\","
		"\"max_create_revision\":\"41\"}", "the one before us");
}

static void transactions(const struct keys *own, const struct keys *all)
{
	is_json(request_txn(list_of(compare_created(own, "EQUAL", 0), NULL), list_of(operation_put(own, "{}", 77), NULL), list_of(NULL)),
		"{\"compare\":[{\"target\":\"CREATE\",\"key\":\"bG9jay8xYQ==\",\"result\":\"EQUAL\",\"create_revision\":\"0\"}],"
		"\"success\":[{\"request_put\":{\"key\":\"bG9jay8xYQ==\",\"value\":\"e30=\",\"lease\":\"77\"}}],\"failure\":[]}", "a place in line");
	is_json(request_txn(list_of(compare_created(own, "EQUAL", 5), compare_created(all, "GREATER", 4), NULL), list_of(operation_put(own, "", 0), NULL),
			    list_of(operation("request_range", request_range(own, ORDER_NONE, 0, 0)), NULL)),
		"{\"compare\":[{\"target\":\"CREATE\",\"key\":\"bG9jay8xYQ==\",\"result\":\"EQUAL\",\"create_revision\":\"5\"},"
		"{\"target\":\"CREATE\",\"key\":\"bG9jay8=\",\"range_end\":\"bG9jazA=\",\"result\":\"GREATER\",\"create_revision\":\"4\"}],"
		"\"success\":[{\"request_put\":{\"key\":\"bG9jay8xYQ==\",\"value\":\"\",\"ignore_lease\":true}}],"
		"\"failure\":[{\"request_range\":{\"key\":\"bG9jay8xYQ==\"}}]}", "the lock is taken");
	is_json(operation_delete(own), "{\"request_delete_range\":{\"key\":\"bG9jay8xYQ==\"}}", "the key is deleted");
}

static void watches(const struct keys *own, const struct keys *all)
{
	is_json(request_watch(own, 7, WATCH_BEFORE),
		"{\"create_request\":{\"key\":\"bG9jay8xYQ==\",\"start_revision\":\"7\",\"prev_kv\":true,\"filters\":[\"NOPUT\"]}}", "deletions of a key");
	is_json(request_watch(all, UINT64_MAX, WATCH_PUTS),
		"{\"create_request\":{\"key\":\"bG9jay8=\",\"range_end\":\"bG9jazA=\",\"start_revision\":\"18446744073709551615\"}}",
		"all changes of all");
}

/* A key of any bytes is base64 like any other. */
static void any_bytes(void)
{
	struct keys keys = keys_one("\xff\n\"\\/");

	is_json(request_range(&keys, ORDER_NONE, 0, 0), "{\"key\":\"/woiXC8=\"}", "a key of any bytes");
	keys_free(&keys);
	ok(!keys.key && !keys.end, "nothing is left");
}

int main(void)
{
	struct keys own = keys_one("lock/1a"), all = keys_one("lock/"), end = keys_one("lock0");

	all.end = end.key;
	leases();
	ranges(&own, &all);
	transactions(&own, &all);
	watches(&own, &all);
	any_bytes();
	keys_free(&own);
	keys_free(&all);
	return tap_done();
}
