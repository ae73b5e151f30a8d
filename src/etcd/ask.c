#include "etcd/ask.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "etcd/ahead.h"
#include "helper/say.h"
#include "helper/queue.h"

/* Reads all entries in KEYS. Returns false if that failed, which me-only has been told. */
static bool read_all(struct session *session, const struct keys *keys, struct entries *entries)
{
	struct answer answer;

	client_call(&session->client, PATH_RANGE, request_range(keys, ORDER_OLDEST, 0, 0),
		    session_now() + session->config.command_timeout, &answer);
	entries_read(entries, answer.body.pairs.all, answer.body.pairs.n);
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
		left = (int64_t)answer.body.ttl;
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
	struct keys rest;   /* not read yet */
	uint64_t revision;  /* all of it is as it was then */
	struct keys *locks; /* the keys that can be a lock's */
	size_t n, room;
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
	keys = (struct keys){ .key = memory_text(prefix, *prefix ? strlen(prefix) : 1),
			      .key_length = *prefix ? strlen(prefix) : 1,
			      .end = memory_text(end, n > 0 ? n : 1),
			      .end_length = n > 0 ? n : 1 };
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

/*
 * Takes in a page, and moves the beginning of the rest behind its last key. Returns whether the
 * next one can be asked for.
 */
static bool take_page(struct listing *listing, const struct list *pairs)
{
	const struct pair *pair = pairs->all;
	bool moves = false;

	for (size_t i = 0; i < pairs->n; i++, pair++) {
		const struct keys key = { .key = memory_text((const char *)pair->key.at,
							     pair->key.n),
					  .key_length = pair->key.n };

		if (i + 1 == pairs->n && key.key) {
			free(listing->rest.key);
			/* With the NUL behind it. */
			listing->rest.key = memory_copy(key.key, key.key_length + 1);
			listing->rest.key_length = key.key_length + 1;
			moves = true;
		}
		if (!key.key || !may_be_lock(key.key, key.key_length, pair->lease)) {
			free(key.key);
			continue;
		}
		listing->locks = memory_grow(listing->locks, listing->n, &listing->room,
					     sizeof *listing->locks);
		listing->locks[listing->n++] = key;
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
			listing->revision = answer->body.revision;
		more = take_page(listing, &answer->body.pairs) && answer->body.more;
		answer_free(answer);
	}
	return true;
}

/* Adds those of MORE to ALL. */
static void add_entries(struct entries *all, struct entries *more)
{
	struct entry *both = memory_get((all->n + more->n + 1) * sizeof *both);

	if (all->n > 0)
		memcpy(both, all->all, all->n * sizeof *both);
	if (more->n > 0)
		memcpy(both + all->n, more->all, more->n * sizeof *both);
	free(all->all);
	free(more->all);
	*all = (struct entries){ .all = both, .n = all->n + more->n };
}

/* Reads the values of some locks, from FIRST on, and adds them to ENTRIES. */
static bool read_values(struct session *session, const struct listing *listing, size_t first,
			struct entries *entries, struct answer *answer)
{
	struct bytes *ranges = list_of(NULL);
	struct entries more;

	for (size_t i = first; i < first + VALUES && i < listing->n; i++)
		list_add(ranges, operation_range(request_at(
					 request_range(&listing->locks[i], ORDER_NONE, 0, 0),
					 listing->revision)));
	client_call(&session->client, PATH_TXN, request_txn(list_of(NULL), ranges, list_of(NULL)),
		    session_now() + session->config.command_timeout, answer);
	if (answer->outcome != OUTCOME_DONE)
		return false;
	more = ahead_entries(&answer->body);
	add_entries(entries, &more);
	answer_free(answer);
	return true;
}

/* Reads all locks into ENTRIES. Returns false if that failed: ANSWER says why. */
static bool read_locks(struct session *session, struct entries *entries, struct answer *answer)
{
	struct listing listing = { .rest = keys_below(session->arguments->name) };
	bool good = read_keys(session, &listing, answer);

	entries_read(entries, NULL, 0);
	for (size_t i = 0; good && i < listing.n; i += VALUES)
		good = read_values(session, &listing, i, entries, answer);
	if (!good)
		entries_free(entries);
	for (size_t i = 0; i < listing.n; i++)
		keys_free(&listing.locks[i]);
	free(listing.locks);
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
