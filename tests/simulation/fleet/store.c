#include "store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

struct store store;
static size_t room_kvs, room_changes;

/* --- reading ---------------------------------------------------------------------------------- */

bool span_has(const struct span *span, const char *key)
{
	const int from = strcmp(key, span->key);

	return span->end ? from >= span->behind && strcmp(key, span->end) < 0 : from == 0;
}

static struct kv *find(const char *key)
{
	for (size_t i = 0; i < store.n_kvs; i++)
		if (!strcmp(store.kvs[i].key, key))
			return &store.kvs[i];
	return NULL;
}

const struct kv *store_find(const char *key)
{
	return find(key);
}

static int by_creation(const void *a, const void *b)
{
	const struct kv *x = a, *y = b;

	return x->created != y->created ? (x->created < y->created ? -1 : 1)
					: strcmp(x->key, y->key);
}

/* Of keys of the same revision the order stays that of their names: etcd sorts with
 * sort.Sort(Reverse). */
static int by_creation_backwards(const void *a, const void *b)
{
	const struct kv *x = a, *y = b;

	return x->created != y->created ? (x->created > y->created ? -1 : 1)
					: strcmp(x->key, y->key);
}

static int by_key(const void *a, const void *b)
{
	return strcmp(((const struct kv *)a)->key, ((const struct kv *)b)->key);
}

/* COUNT is that of all keys of the span, whatever the bounds of the revisions say: etcd applies
 * them later. */
struct result store_range(const struct range *range)
{
	struct result result = { .kind = OPERATION_RANGE, .keys_only = range->keys_only };

	result.kvs = arena_get((store.n_kvs + 1) * sizeof *result.kvs);
	for (size_t i = 0; i < store.n_kvs; i++) {
		const struct kv *kv = &store.kvs[i];

		if (!span_has(&range->span, kv->key))
			continue;
		result.count++;
		if ((!range->min_created || kv->created >= range->min_created) &&
		    (!range->max_created || kv->created <= range->max_created))
			result.kvs[result.n++] = *kv;
	}
	qsort(result.kvs, result.n, sizeof *result.kvs,
	      range->order == ORDER_KEY	     ? by_key
	      : range->order == ORDER_OLDEST ? by_creation
					     : by_creation_backwards);
	result.more = range->limit && result.n > range->limit;
	if (result.more)
		result.n = range->limit;
	return result;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void *grow(void *items, size_t used, size_t *room, size_t size)
{
	if (used < *room)
		return items;
	*room = *room ? *room * 2 : 256;
	items = realloc(items, *room * size);
	if (!items)
		abort();
	return items;
}

static void record(const struct kv *kv, const struct kv *before, bool deleted, uint64_t revision)
{
	store.changes = grow(store.changes, store.n_changes, &room_changes, sizeof *store.changes);
	store.changes[store.n_changes++] =
		(struct change){ .kv = *kv,
				  .before = before ? *before : (struct kv){ .key = NULL },
				  .deleted = deleted,
				  .revision = revision };
	hash_add(revision << 1 | deleted);
}

static bool says_held(const struct kv *kv)
{
	return strstr(kv->value, "\"st\":\"held\"") != NULL;
}

static void put(const struct put *put, uint64_t revision)
{
	struct kv *kv = find(put->key), before;
	const bool existed = kv != NULL;

	if (!existed) {
		store.kvs = grow(store.kvs, store.n_kvs, &room_kvs, sizeof *store.kvs);
		kv = &store.kvs[store.n_kvs++];
		*kv = (struct kv){ .key = put->key, .created = revision };
	}
	before = *kv;
	kv->value = put->value;
	kv->modified = revision;
	kv->version++;
	if (!put->ignore_lease)
		kv->lease = put->lease;
	record(kv, existed ? &before : NULL, false, revision);
	trace("store: put %s at %" PRIu64 " (created %" PRIu64 ")%s", kv->key, revision,
	      kv->created, says_held(kv) ? ", held" : "");
	check_put(kv, says_held(kv));
}

static void delete_at(size_t i, uint64_t revision, enum why why)
{
	static const char *const words[] = { "", " by revoke", " by expiry", " BY MISTAKE",
					     " by hand" };
	const struct kv kv = store.kvs[i];
	/* An event of a deletion has the key and its revision alone. */
	const struct kv tomb = { .key = kv.key, .value = "", .modified = revision };

	memmove(&store.kvs[i], &store.kvs[i + 1], (--store.n_kvs - i) * sizeof *store.kvs);
	record(&tomb, &kv, true, revision);
	trace("store: delete %s at %" PRIu64 " (created %" PRIu64 ")%s", kv.key, revision,
	      kv.created, words[why]);
	check_delete(&kv, says_held(&kv), why);
}

/* The first key, by name, of SPAN or (NULL) of LEASE; -1: none. Of several that are deleted at once
 * etcd deletes in this order. */
static long first_of(const struct span *span, uint64_t lease)
{
	long first = -1;

	for (size_t i = 0; i < store.n_kvs; i++)
		if ((span ? span_has(span, store.kvs[i].key) : store.kvs[i].lease == lease) &&
		    (first < 0 || strcmp(store.kvs[i].key, store.kvs[first].key) < 0))
			first = (long)i;
	return first;
}

static uint64_t delete_span(const struct span *span, uint64_t revision)
{
	uint64_t n = 0;

	for (long i; (i = first_of(span, 0)) >= 0; n++)
		delete_at((size_t)i, revision, BY_REQUEST);
	return n;
}

static void finish_revision(void)
{
	store.revision++;
	cluster_committed();
}

bool store_delete_lease(uint64_t lease, enum why why)
{
	bool any = false;

	for (long i; (i = first_of(NULL, lease)) >= 0; any = true) {
		if (why == BY_EXPIRY)
			check_lapse(store.kvs[i].key);
		delete_at((size_t)i, store.revision + 1, why);
	}
	if (any)
		finish_revision();
	return any;
}

void store_delete(const char *key, enum why why)
{
	struct kv *kv = find(key);

	if (!kv)
		return;
	delete_at((size_t)(kv - store.kvs), store.revision + 1, why);
	finish_revision();
}

/* --- transactions ----------------------------------------------------------------------------- */

/* A comparison of a range holds for each of its keys; what is not there has the revision 0. */
static bool holds(const struct compare *compare)
{
	bool all = true, any = false;

	for (size_t i = 0; i < store.n_kvs; i++) {
		const struct kv *kv = &store.kvs[i];
		const uint64_t is = compare->modified ? kv->modified : kv->created;

		if (!span_has(&compare->span, kv->key))
			continue;
		any = true;
		all = all && (compare->greater ? is > compare->revision : is == compare->revision);
	}
	return any ? all : !compare->greater && compare->revision == 0;
}

/* All comparisons, those of inner transactions too, are made before anything is written. */
static void decide(struct txn *txn)
{
	struct operation *operations;
	size_t n;

	txn->succeeds = true;
	for (size_t i = 0; i < txn->n_compares; i++)
		txn->succeeds = txn->succeeds && holds(&txn->compares[i]);
	operations = txn->succeeds ? txn->success : txn->failure;
	n = txn->succeeds ? txn->n_success : txn->n_failure;
	for (size_t i = 0; i < n; i++)
		if (operations[i].kind == OPERATION_TXN)
			decide(operations[i].txn);
}

/* The same for what a write needs: etcd looks at all writes that will be made, and then makes them.
 */
static enum status check(const struct txn *txn, const char **why)
{
	const struct operation *operations = txn->succeeds ? txn->success : txn->failure;
	const size_t n = txn->succeeds ? txn->n_success : txn->n_failure;
	enum status status = STATUS_OK;

	for (size_t i = 0; i < n && status == STATUS_OK; i++) {
		const struct put *put = &operations[i].put;

		if (operations[i].kind == OPERATION_TXN) {
			status = check(operations[i].txn, why);
		} else if (operations[i].kind == OPERATION_PUT && put->ignore_lease &&
			   !find(put->key)) {
			*why = "etcdserver: key not found";
			status = STATUS_INVALID;
		} else if (operations[i].kind == OPERATION_PUT && put->lease &&
			   !lease_is_alive(put->lease)) {
			*why = "etcdserver: requested lease not found";
			status = STATUS_NOT_FOUND;
		}
	}
	return status;
}

static struct result execute(const struct operation *operation, uint64_t revision, bool *changed);

static struct results *execute_all(const struct txn *txn, uint64_t revision, bool *changed)
{
	const struct operation *operations = txn->succeeds ? txn->success : txn->failure;
	struct results *results = arena_get(sizeof *results);

	results->succeeded = txn->succeeds;
	results->n = txn->succeeds ? txn->n_success : txn->n_failure;
	results->all = arena_get((results->n + 1) * sizeof *results->all);
	for (size_t i = 0; i < results->n; i++)
		results->all[i] = execute(&operations[i], revision, changed);
	return results;
}

static struct result execute(const struct operation *operation, uint64_t revision, bool *changed)
{
	struct result result = { .kind = operation->kind };

	switch (operation->kind) {
	case OPERATION_RANGE: return store_range(&operation->range);
	case OPERATION_PUT:
		put(&operation->put, revision);
		*changed = true;
		break;
	case OPERATION_DELETE:
		result.deleted = delete_span(&operation->range.span, revision);
		*changed = *changed || result.deleted;
		break;
	case OPERATION_TXN: result.txn = execute_all(operation->txn, revision, changed);
	}
	return result;
}

enum status store_txn(struct txn *txn, struct results *results, const char **why)
{
	bool changed = false;
	enum status status;

	decide(txn);
	status = check(txn, why);
	if (status != STATUS_OK)
		return status;
	*results = *execute_all(txn, store.revision + 1, &changed);
	if (changed)
		finish_revision();
	return STATUS_OK;
}

/* --- what is there ---------------------------------------------------------------------------- */

bool store_has_lease(uint64_t lease)
{
	for (size_t i = 0; i < store.n_kvs; i++)
		if (store.kvs[i].lease == lease)
			return true;
	return false;
}

uint64_t store_oldest(void)
{
	uint64_t least = UINT64_MAX;

	for (size_t i = 0; i < store.n_kvs; i++)
		least = store.kvs[i].created < least ? store.kvs[i].created : least;
	return least;
}

const char *store_describe(void)
{
	static char text[512];
	size_t end = 0;

	*text = 0;
	for (size_t i = 0; i < store.n_kvs && end < 400; i++)
		end += (size_t)snprintf(text + end, sizeof text - end, " %s", store.kvs[i].key);
	return text;
}

void store_reset(void)
{
	store.revision = 1;
	store.compacted = 0;
	store.n_kvs = store.n_changes = 0;
}
