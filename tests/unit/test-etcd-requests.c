#include <stdlib.h>

#include "etcd/requests.h"
#include "tap.h"

/* BODY, which is taken, has the bytes WANTED, in hexadecimal. */
static void is_body(struct bytes *body, const char *wanted, const char *what)
{
	char got[1024] = "";

	for (size_t i = 0; i < body->n && i < sizeof got / 2 - 1; i++)
		(void)snprintf(got + 2 * i, 3, "%02x", body->all[i]);
	is(got, wanted, what);
	request_free(body);
}

#define LOCK "6c6f636b2f"	/* lock/ */
#define END "6c6f636b30"	/* lock0 */
#define OWN "6c6f636b2f3161"	/* lock/1a */

static void leases(void)
{
	is_body(request_grant(30, 7587880000000000001), "081e108180aaf28595e4a669", "a lease of 30 s");
	is_body(request_lease(INT64_MAX), "08ffffffffffffffff7f", "the largest lease id");
	is_body(request_lease(1), "0801", "the least lease id");
	is_body(request_authenticate("mo", "pw"), "0a026d6f12027077", "a user");
}

static void ranges(const struct keys *own, const struct keys *all)
{
	is_body(request_range(own, ORDER_NONE, 0, 0), "0a07" OWN, "one key");
	is_body(request_range(all, ORDER_OLDEST, 16, 0), "0a05" LOCK "1205" END "181028013002", "the first of all");
	is_body(request_range(all, ORDER_NEWEST, 1, 42), "0a05" LOCK "1205" END "1801280230026829", "the one before us");
	is_body(request_next(all, 300), "0a05" LOCK "1205" END "18012801300260ac02", "the one after us");
}

static void transactions(const struct keys *own, const struct keys *all)
{
	is_body(request_txn(list_of(compare_created(own, EQUAL, 0), NULL), list_of(operation_put(own, "{}", 77), NULL), list_of(NULL)),
		"0a0d" "1001" "1a07" OWN "2800" "1211" "120f" "0a07" OWN "12027b7d" "184d", "a place in line");
	is_body(request_txn(list_of(compare_modified(own, 5), compare_created(all, GREATER, 4), NULL), list_of(operation_put(own, "", 0), NULL),
			    list_of(operation_range(request_range(own, ORDER_NONE, 0, 0)), NULL)),
		"0a0d" "1002" "1a07" OWN "3005" "0a15" "08011001" "1a05" LOCK "820405" END "2804" "120f" "120d" "0a07" OWN "1200" "3001"
		"1a0b" "0a09" "0a07" OWN, "the lock is taken");
	is_body(operation_delete(own), "1a09" "0a07" OWN, "the key is deleted");
	is_body(operation_txn(request_txn(list_of(NULL), list_of(NULL), list_of(NULL))), "2200", "one in another");
}

static void watches(const struct keys *own, const struct keys *all)
{
	is_body(request_watch(own, 7, WATCH_BEFORE), "0a0f" "0a07" OWN "1807" "2800" "3001", "deletions of a key");
	is_body(request_watch(all, 7, WATCH_PUTS), "0a10" "0a05" LOCK "1205" END "1807", "all changes of all");
}

static void lists(void)
{
	struct bytes *list = list_with_first(request_lease(1), list_of(request_lease(2), NULL));
	struct slice rest = { .at = list->all, .n = list->n }, one;

	ok(list_take(&rest, &one) && one.n == 2 && one.at[1] == 1 && list_take(&rest, &one) && one.at[1] == 2 && !list_take(&rest, &one),
	   "a list begins with what was put in front");
	rest = (struct slice){ .at = list->all, .n = 2 };
	ok(!list_take(&rest, &one), "half a list");
	request_free(list);
}

/* A key may have any bytes in it. */
static void any_bytes(void)
{
	struct keys keys = keys_one("\xff\n\"\\/");

	is_body(request_range(&keys, ORDER_NONE, 0, 0), "0a05ff0a225c2f", "a key of any bytes");
	keys_free(&keys);
	ok(!keys.key && !keys.end, "nothing is left");
}

int main(void)
{
	struct keys own = keys_one("lock/1a"), all = keys_one("lock/"), end = keys_one("lock0");

	all.end = end.key;
	all.end_length = end.key_length;
	leases();
	ranges(&own, &all);
	transactions(&own, &all);
	watches(&own, &all);
	lists();
	any_bytes();
	keys_free(&own);
	keys_free(&all);
	return tap_done();
}
