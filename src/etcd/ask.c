#include "etcd/ask.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "etcd/base64.h"
#include "helper/say.h"
#include "helper/queue.h"

/* Reads all entries in KEYS. Returns false if that failed, which me-only has been told. */
static bool read_all(struct session *session, const struct keys *keys, struct entries *entries)
{
	struct answer answer;

	client_call(&session->client, PATH_RANGE, request_range(keys, ORDER_OLDEST, 0, 0),
		    session_now() + session->config.command_timeout, &answer);
	entries_read(entries, json_object_get(answer.body, "kvs"));
	if (answer.outcome != OUTCOME_DONE) {
		session_failed(session, answer.text);
		entries_free(entries);
	}
	answer_free(&answer);
	return answer.outcome == OUTCOME_DONE;
}

void ask_held(struct session *session)
{
	struct entries entries;
	bool ours = false;

	if (!read_all(session, &session->line.keys, &entries))
		return;
	for (size_t i = 0; !ours && i < entries.n; i++)
		ours = entries.all[i].state == ENTRY_HELD &&
		       identity_is_trusted(&entries.all[i].who, &session->me) &&
		       identity_is_above(&entries.all[i].who, &session->me,
					 session->arguments->pid);
	entries_free(&entries);
	say_word(ours ? "yes" : "no");
}

/*
 * The length of the lock's name in the key of ENTRY: everything before the last "/" if the lease in
 * hex follows. 0: the key is not a lock's.
 */
static size_t name_length(const struct entry *entry)
{
	const char *slash = strrchr(entry->key, '/');
	char lease[24];

	(void)snprintf(lease, sizeof lease, "%" PRIx64, entry->lease);
	/* One that --hold-for keeps has another lease by now. */
	if (!slash || slash == entry->key || !entry->lease ||
	    (strcmp(slash + 1, lease) != 0 && entry->state != ENTRY_KEPT))
		return 0;
	return (size_t)(slash - entry->key);
}

/* How many seconds are left of the lease; -1: not known. */
static int64_t time_left(struct session *session, uint64_t lease)
{
	struct answer answer;
	int64_t left = -1;

	client_call(&session->client, PATH_TIME_TO_LIVE, request_lease(lease),
		    session_now() + session->config.command_timeout, &answer);
	if (answer.outcome == OUTCOME_DONE)
		left = (int64_t)answer_number(answer.body, "TTL");
	answer_free(&answer);
	return left;
}

/* The entry at INDEX of those of one lock, N of them. */
static void tell_entry(struct session *session, const struct entry *entries, size_t index,
		       size_t length)
{
	static const char *const modes[] = { "exclusive", "shared", "slots" };
	const struct entry *entry = &entries[index];
	bool holds = queue_holds(entries, index);
	char name[LONGEST_NAME + 1];
	struct line line;
	int64_t left = holds ? time_left(session, entry->lease) : -1;

	(void)snprintf(name, sizeof name, "%.*s", (int)length, entry->key);
	say_begin(&line, "entry");
	say_pair(&line, "name", name);
	say_pair(&line, "state", entry->state == ENTRY_KEPT ? "kept" : holds ? "held" : "waiting");
	say_pair(&line, "mode", modes[entry->foreign ? ENTRY_EXCLUSIVE : entry->mode]);
	if (!entry->foreign && entry->mode == ENTRY_SLOTS)
		say_number(&line, "slots", queue_slots(entries, index));
	if (holds)
		say_number(&line, "token", entry->modified);
	if (left >= 0)
		say_number(&line, "left", (uint64_t)left);
	entry_describe(entry, &session->me, "", &line);
	say_whole(&line);
}

static int by_name(const void *a, const void *b)
{
	const struct entry *first = a, *second = b;
	size_t n = name_length(first), m = name_length(second);
	int r = memcmp(first->key, second->key, n < m ? n : m);

	if (r == 0)
		r = n < m ? -1 : n > m;
	return r ? r : first->created < second->created ? -1 : first->created > second->created;
}

/* Reports ENTRIES, lock by lock. NAMED: all belong to one lock, whatever their keys. */
static void tell_all(struct session *session, struct entries *entries, bool named)
{
	struct line line;
	size_t end;

	if (!named)
		qsort(entries->all, entries->n, sizeof *entries->all, by_name);
	for (size_t begin = 0; begin < entries->n; begin = end) {
		size_t length = named ? strlen(session->arguments->name)
				      : name_length(&entries->all[begin]);

		for (end = begin + 1; end < entries->n; end++)
			if (!named &&
			    (name_length(&entries->all[end]) != length ||
			     memcmp(entries->all[end].key, entries->all[begin].key, length) != 0))
				break;
		for (size_t i = begin; length > 0 && i < end; i++)
			tell_entry(session, entries->all + begin, i - begin, length);
	}
	say_begin(&line, "end");
	say_whole(&line);
}

void ask_who(struct session *session)
{
	struct entries entries;

	if (!read_all(session, &session->line.keys, &entries))
		return;
	tell_all(session, &entries, true);
	entries_free(&entries);
}

/* --- all locks -------------------------------------------------------------------------------- */

/*
 * How many keys are read at a time, and how many values: etcd reads the values of a page even if it
 * does not send them, and takes 128 operations in a transaction.
 */
#define PAGE 500
#define VALUES 64

#define MOST_TRIES 3

/* What begins with a prefix: keys first, and the values of those that can be a lock's. */
struct listing {
	struct keys rest;  /* not read yet */
	uint64_t revision; /* all of it is as it was then */
	json_t *locks;	   /* key-value pairs, without their values at first */
};

/* All keys that begin with PREFIX. */
static struct keys keys_below(const char *prefix)
{
	size_t n = strlen(prefix);
	char *end = memory_string(prefix);
	struct keys keys;

	/*
	 * The first key without this prefix: its last byte plus one, after dropping bytes of 0xff.
	 */
	while (n > 0 && (unsigned char)end[n - 1] == 0xff)
		n--;
	if (n > 0)
		end[n - 1]++;
	/* All keys: from \0 to \0. */
	keys.key = *prefix ? base64_encode(prefix, strlen(prefix)) : base64_encode("", 1);
	keys.end = n > 0 ? base64_encode(end, n) : base64_encode("", 1);
	free(end);
	return keys;
}

/* Whether the N bytes KEY, with a lease, may be a lock's: it ends in a lease's number. */
static bool may_be_lock(const char *key, size_t n, uint64_t lease)
{
	const char *slash = strrchr(key, '/');
	const size_t digits = slash ? strspn(slash + 1, "0123456789abcdef") : 0;

	return lease && digits > 0 && digits <= 16 && slash + 1 + digits == key + n;
}

/* Takes in a page, and moves the beginning of the rest behind its last key. */
/* Returns whether the next page can be asked for. */
static bool take_page(struct listing *listing, const json_t *kvs)
{
	bool moves = false;
	size_t i, n;
	json_t *kv;

	json_array_foreach(kvs, i, kv)
	{
		const char *text = json_string_value(json_object_get(kv, "key"));
		char *key = text ? base64_decode(text, &n) : NULL;

		if (!key)
			continue;
		if (may_be_lock(key, n, answer_number(kv, "lease")))
			json_array_append(listing->locks, kv);
		if (i + 1 == json_array_size(kvs)) {
			free(listing->rest.key);
			/* With the NUL behind it. */
			listing->rest.key = base64_encode(key, n + 1);
			moves = true;
		}
		free(key);
	}
	return moves;
}

static bool read_keys(struct session *session, struct listing *listing, struct answer *answer)
{
	bool more = true;

	while (more) {
		client_call(&session->client, PATH_RANGE,
			    request_page(&listing->rest, PAGE, listing->revision),
			    session_now() + session->config.command_timeout, answer);
		if (answer->outcome != OUTCOME_DONE)
			return false;
		if (!listing->revision)
			listing->revision = answer_header(answer->body, "revision");
		more = take_page(listing, json_object_get(answer->body, "kvs")) &&
		       json_is_true(json_object_get(answer->body, "more"));
		answer_free(answer);
	}
	return true;
}

/* Reads the values of some locks, from FIRST on, into the array KVS. */
static bool read_values(struct session *session, const struct listing *listing, size_t first,
			json_t *kvs, struct answer *answer)
{
	json_t *ranges = json_array(), *response;
	size_t i;

	for (i = first; i < first + VALUES && i < json_array_size(listing->locks); i++) {
		const json_t *kv = json_array_get(listing->locks, i);
		struct keys one = { .key = strdup(json_string_value(json_object_get(kv, "key"))) };

		json_array_append_new(
			ranges,
			operation("request_range", request_at(request_range(&one, ORDER_NONE, 0, 0),
							      listing->revision)));
		keys_free(&one);
	}
	client_call(&session->client, PATH_TXN, request_txn(list_of(NULL), ranges, list_of(NULL)),
		    session_now() + session->config.command_timeout, answer);
	if (answer->outcome != OUTCOME_DONE)
		return false;
	json_array_foreach(json_object_get(answer->body, "responses"), i, response)
	{
		json_array_extend(
			kvs, json_object_get(json_object_get(response, "response_range"), "kvs"));
	}
	answer_free(answer);
	return true;
}

/* Reads all locks into ENTRIES. Returns false if that failed: ANSWER says why. */
static bool read_locks(struct session *session, struct entries *entries, struct answer *answer)
{
	struct listing listing = { .rest = keys_below(session->arguments->name),
				   .locks = json_array() };
	json_t *kvs = json_array();
	bool good = read_keys(session, &listing, answer);

	for (size_t i = 0; good && i < json_array_size(listing.locks); i += VALUES)
		good = read_values(session, &listing, i, kvs, answer);
	if (good)
		entries_read(entries, kvs);
	json_decref(kvs);
	json_decref(listing.locks);
	keys_free(&listing.rest);
	return good;
}

void ask_list(struct session *session)
{
	struct entries entries;
	struct answer answer;
	unsigned tries = 0;
	bool good;

	/* If its revision is compacted meanwhile, all is read anew. */
	while (!(good = read_locks(session, &entries, &answer)) && answer.outcome == OUTCOME_LOST &&
	       ++tries < MOST_TRIES)
		answer_free(&answer);
	if (!good) {
		session_failed(session, answer.text);
		answer_free(&answer);
		return;
	}
	tell_all(session, &entries, false);
	entries_free(&entries);
}
