/*
 * Taking the lock.
 *
 *  1. Our key is put into the queue by one transaction, if it is not there yet: so it can be repeated when an answer was lost. If the
 *     queue is empty the same transaction takes the lock: a plain start is one grant and one transaction.
 *  2. The lock is taken by ONE write, which compares that our key is there and, for an exclusive lock, that nobody is before it. A read
 *     is no proof: a waiter whose lease has died would start. The revision of that write is the token. Where an exclusive holder knows
 *     who is next, it makes that write for it (hold.c, rule 5).
 *  3. Who waits watches one key before it, and reads that key with each renewal, and the queue with some: a server can lose an event.
 *  4. When one that was before us has vanished, its lease is asked for. If it lives, its owner has let go. If it has ended, its owner
 *     was lost and may need a moment to end its command: nobody starts before LOCK_DELAY has passed.
 *  5. A lease whose time has passed is not used any more: a new one, with a new place at the end of the queue.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../deadline.h"
#include "../guard.h"
#include "../memory.h"
#include "../process.h"
#include "pages.h"
#include "queue.h"
#include "say.h"
#include "session.h"

/* Rule 4. A tie with the command that has to end would be two at once. */
#define LOCK_DELAY (GUARD_LOST_GRACE + 1 * NS_PER_S)

/* How soon it is looked whether me-only is still stopped. */
#define LOOK_AGAIN (200 * NS_PER_MS)

/* The queue is looked at without a reason after so many renewals. */
#define LOOK_SELDOM 3

/* So soon the stream is opened again when it has ended; then later and later. */
#define WATCH_PAUSE (100 * NS_PER_MS)

/* So many of those at the head of a queue are looked at to see who has the lock. */
#define HEAD 16

/* So long the endpoints that are not in use may take to say which cluster they belong to. */
#define SURVEY_LIMIT (300 * NS_PER_MS)

/* A place in the line: what is known of it. */
struct line_of_entries {
	struct entries before;		/* those before us; of an exclusive lock the head of the queue, and the last one */
	bool ours_is_there;
	int64_t watch_due, watch_pause;	/* when the stream may be opened again, and how long after that the next time */
	unsigned renewals;		/* since the queue was looked at */
	int64_t delay;			/* not to be taken before (CLOCK_BOOTTIME, ns) */
	uint64_t to_ask;		/* a lease that is to be asked for before the lock is used; 0: none */
	uint64_t named;			/* the create_revision of whom me-only was told as the holder */
	uint64_t watched;		/* of whose key is watched; 0: nobody's; UINT64_MAX: all */
};

static bool needs_all(const struct session *session)
{
	return session->arguments->mode != ENTRY_EXCLUSIVE || session->arguments->queue > 0;
}

/* --- requests ---------------------------------------------------------------------------------------------------------------- */

/* How long a request may be tried: while we wait, as long as that lasts. */
static int64_t limit_of(const struct session *session)
{
	if (session->wait_until && session->was_in_line)
		return session->wait_until;
	return session_now() + session->config.command_timeout;
}

/* The operations that tell of the queue; CREATED is our place, or 0 if it is not known yet. */
static json_t *look_operations(const struct session *session, uint64_t created)
{
	json_t *list = list_of(operation("request_range", request_range(&session->own, ORDER_NONE, 0, 0)), NULL);

	if (needs_all(session)) {
		json_array_append_new(list, operation("request_range", request_range(&session->prefix, ORDER_OLDEST, 0, created)));
		return list;
	}
	json_array_append_new(list, operation("request_range", request_range(&session->prefix, ORDER_OLDEST, HEAD, created)));
	/* Without our place: ourselves and the one before. */
	json_array_append_new(list, operation("request_range", request_range(&session->prefix, ORDER_NEWEST, created ? 1 : 2, created)));
	return list;
}

/* Takes in what BODY, the answer to a transaction with look_operations(), tells of the queue. Returns NULL or an error's text, to be freed. */
static char *read_queue(struct session *session, struct line_of_entries *line, const json_t *body)
{
	const json_t *responses = json_object_get(body, "responses");
	json_t *kvs, *response;
	struct entries all;
	size_t i, n = 0;

	/* Each operation has its answer, though it may be empty. */
	if (json_array_size(responses) < 2)
		return memory_format("%s does not answer as etcd does", session->config.endpoints[session->client.endpoint]);
	kvs = json_array();
	json_array_foreach(responses, i, response) {
		json_array_extend(kvs, json_object_get(json_object_get(response, "response_range"), "kvs"));
	}
	entries_read(&all, kvs);
	json_decref(kvs);
	entries_free(&line->before);
	line->before = (struct entries){ .all = memory_get((all.n + 1) * sizeof *all.all) };
	line->ours_is_there = false;
	session->revision = header_number(body, "revision");
	for (i = 0; i < all.n; i++) {
		if (strcmp(all.all[i].key, session->key) != 0)
			continue;
		line->ours_is_there = true;
		session->created = all.all[i].created;
		session->modified = all.all[i].modified;
		if (all.all[i].state == ENTRY_HELD)
			session->token = all.all[i].modified;
	}
	for (i = 0; i < all.n; i++)
		/* Ranges overlap. */
		if ((!line->ours_is_there || all.all[i].created < session->created) && (n == 0 || line->before.all[n - 1].created != all.all[i].created))
			line->before.all[n++] = entry_copy(&all.all[i]);
	line->before.n = n;
	entries_free(&all);
	return NULL;
}

/* The value of our key in STATE, to be freed. */
static char *value_in(struct session *session, enum entry_state state)
{
	session->entry.state = state;
	session->entry.since = session_clock();
	return entry_value(&session->entry);
}

/* --- whose it was ------------------------------------------------------------------------------------------------------------ */

/* Rule 4, for a lease that ANSWER tells of. Who has ended in good order leaves it behind. */
static void conclude(struct line_of_entries *line, const struct answer *answer)
{
	if (answer->code != CODE_OK || (int64_t)json_number(answer->body, "TTL") <= 0)
		line->delay = session_now() + LOCK_DELAY;
}

/* Rule 4: ENTRY is not there any more. KNOWN: it is as it was at its end. One that is kept is changed by nobody. */
static void consider(struct session *session, struct line_of_entries *line, const struct entry *entry, bool known)
{
	struct answer answer;

	if (entry->state == ENTRY_KEPT || (known && entry->state == ENTRY_WAITS))
		return;
	client_call(&session->client, PATH_TIME_TO_LIVE, request_lease(entry->lease), session_now() + session->config.command_timeout, &answer);
	conclude(line, &answer);
	answer_free(&answer);
}

/* What has become of those who were before us. */
static void consider_all(struct session *session, struct line_of_entries *line, const struct entries *was)
{
	for (size_t i = 0; i < was->n; i++) {
		const struct entry *entry = &was->all[i];

		if (entries_find(&line->before, entry->created))
			continue;
		if (session->gone.key && session->gone.created == entry->created)
			consider(session, line, &session->gone, true);
		else
			consider(session, line, entry, false);
	}
}

/* The same, and what has become of those who were before us. */
static char *read_on(struct session *session, struct line_of_entries *line, const json_t *body)
{
	struct entries was = line->before;
	char *text;

	line->before = (struct entries){ .n = 0 };
	text = read_queue(session, line, body);
	if (!text)
		consider_all(session, line, &was);
	entries_free(&was);
	return text;
}

/* The text of an ANSWER that is an error, to be freed. */
static char *take_text(struct answer *answer)
{
	char *text = answer->text;

	answer->text = NULL;
	return text;
}

/* Looks at the queue. Returns an error's text, to be freed. */
static char *look(struct session *session, struct line_of_entries *line)
{
	struct answer answer;
	char *text;

	client_call(&session->client, PATH_TXN, request_txn(list_of(NULL), look_operations(session, session->created), list_of(NULL)), limit_of(session), &answer);
	text = answer.code == CODE_OK ? read_on(session, line, answer.body) : take_text(&answer);
	answer_free(&answer);
	return text;
}

/* --- taking ------------------------------------------------------------------------------------------------------------------ */

/* Rule 1: the transaction. */
static json_t *entry_request(struct session *session)
{
	const bool tries = !session->wait_until && !needs_all(session);
	char *waits = value_in(session, ENTRY_WAITS), *held = value_in(session, ENTRY_HELD);
	json_t *failure = look_operations(session, 0), *put, *request;

	/* Who does not wait has no place in line; but whether a try before this one has taken the lock is seen by its key. */
	if (!tries) {
		put = request_txn(list_of(compare_created(&session->own, "EQUAL", 0), NULL), list_of(operation_put(&session->own, waits, session->lease), NULL),
				  list_of(NULL));
		json_array_insert_new(failure, 0, operation("request_txn", put));
	}
	request = request_txn(list_of(compare_created(&session->prefix, "EQUAL", 0), NULL), list_of(operation_put(&session->own, held, session->lease), NULL),
			      failure);
	free(held);
	free(waits);
	return request;
}

/* What follows from its ANSWER, which is freed. Returns an error's text, to be freed. */
static char *entered(struct session *session, struct line_of_entries *line, struct answer *answer)
{
	char *text = NULL;

	if (answer->code != CODE_OK) {
		text = take_text(answer);
	} else if (json_is_true(json_object_get(answer->body, "succeeded"))) {
		session->created = session->token = session->revision = header_number(answer->body, "revision");
	} else {
		text = read_queue(session, line, answer->body);
	}
	session->was_in_line = session->was_in_line || !text;
	answer_free(answer);
	return text;
}

/*
 * A new lease and a new key. Both are asked for at the same time, once: mostly the lease is there when the transaction comes; if not, it
 * is refused, and asked for again. Returns an error's text, to be freed.
 */
static char *enter(struct session *session, struct line_of_entries *line)
{
	struct answer lease = { .code = CODE_NO_ANSWER }, key = { .code = CODE_NO_ANSWER };
	char *text;

	session_new_place(session);
	if (!session->config.user) {
		client_call_both(&session->client, PATH_GRANT, session_grant_request(session), &lease, PATH_TXN, entry_request(session), &key);
		session->doubtful = session->client.retried;
		/* A key that is bound to the lease shows that it is there. */
		if (key.code == CODE_OK && lease.code != CODE_OK)
			lease.code = CODE_PRECONDITION;
	}
	if (lease.code != CODE_OK && lease.code != CODE_PRECONDITION) {
		answer_free(&lease);
		client_call(&session->client, PATH_GRANT, session_grant_request(session), limit_of(session), &lease);
	}
	text = session_granted(session, &lease);
	if (!text && key.code != CODE_OK) {
		/* The lease was not there yet: that is an answer. */
		session->doubtful = session->doubtful || (key.code != CODE_NOT_FOUND && !session->config.user);
		answer_free(&key);
		client_call(&session->client, PATH_TXN, entry_request(session), limit_of(session), &key);
		session->doubtful = session->doubtful || session->client.retried;
		/* Who does not know it now is of another cluster, perhaps: an error does not say of which. */
		if (key.code == CODE_NOT_FOUND)
			text = session_surveyed(session, session_now() + SURVEY_LIMIT);
	}
	if (!text)
		return entered(session, line, &key);
	answer_free(&key);
	return text;
}

/* Rule 2: the transaction, for the slot SLOT of those that have several. */
static json_t *acquire_request(struct session *session, unsigned slot)
{
	/* As it was read: else a write of ours whose answer is on its way has taken the lock before, or somebody has handed it over. */
	json_t *compare = list_of(compare_created(&session->own, "EQUAL", session->created), compare_modified(&session->own, session->modified), NULL), *request;
	char *value;

	session->entry.slot = slot;
	value = value_in(session, ENTRY_HELD);
	if (session->arguments->mode == ENTRY_EXCLUSIVE)
		json_array_append_new(compare, compare_created(&session->prefix, "GREATER", session->created - 1));
	request = request_txn(compare, list_of(operation_put(&session->own, value, 0), NULL), look_operations(session, session->created));
	free(value);
	return request;
}

/*
 * Rule 2: nobody that matters was before us when we looked. What is still to be asked (rule 4) is asked at the same time: there is time
 * for the delay after the write as well. Returns an error's text, to be freed.
 */
static char *acquire(struct session *session, struct line_of_entries *line, unsigned slot)
{
	struct answer answer = { .code = CODE_NO_ANSWER }, lease;
	json_t *body = acquire_request(session, slot);
	char *text = NULL;

	if (line->to_ask) {
		client_call_both(&session->client, PATH_TXN, json_incref(body), &answer, PATH_TIME_TO_LIVE, request_lease(line->to_ask), &lease);
		conclude(line, &lease);
		answer_free(&lease);
		line->to_ask = 0;
	}
	/* It can be repeated, as often as needed. */
	if (answer.code != CODE_OK) {
		answer_free(&answer);
		client_call(&session->client, PATH_TXN, json_incref(body), limit_of(session), &answer);
	}
	json_decref(body);
	if (answer.code != CODE_OK)
		text = take_text(&answer);
	else if (json_is_true(json_object_get(answer.body, "succeeded")))
		session->token = session->revision = header_number(answer.body, "revision");
	else
		text = read_on(session, line, answer.body);
	answer_free(&answer);
	return text;
}

/* --- what me-only is told ---------------------------------------------------------------------------------------------------- */

/* ALL_SLOTS: so many there are, and all are in use; 0: that is not so. */
static void tell(struct session *session, const char *word, const struct entry *entry, bool timeout, unsigned all_slots)
{
	struct line line;

	say(&line, word);
	if (timeout)
		say_number(&line, "timeout", 1);
	if (entry)
		entry_describe(entry, &session->me, "", &line);
	else
		say_pair(&line, "other", "one that was lost a moment ago");
	if (all_slots)
		say_number(&line, "slots", all_slots);
	say_end(&line);
	session->asked = session_now();
}

static void tell_full(struct session *session, const struct line_of_entries *queue, size_t waiters, const struct entry *first)
{
	struct line line;

	say(&line, "full");
	say_number(&line, "waiters", waiters);
	entry_describe(first, &session->me, "", &line);
	if (queue->before.n > 0)
		entry_describe(&queue->before.all[0], &session->me, "holder-", &line);
	say_end(&line);
}

/* The holder that this job runs under, or NULL. */
static const struct entry *find_own(const struct session *session, const struct line_of_entries *line)
{
	for (size_t i = 0; i < line->before.n; i++)
		if (queue_holds(line->before.all, i) && identity_is_above(&line->before.all[i].who, &session->me, session->arguments->pid))
			return &line->before.all[i];
	return NULL;
}

/* --- waiting ----------------------------------------------------------------------------------------------------------------- */

/* Rule 3. */
static void watch(struct session *session, struct line_of_entries *line, enum queue_verdict verdict, const struct entry *blocker)
{
	uint64_t whom = verdict == QUEUE_WATCH_ALL ? UINT64_MAX : blocker->created;
	struct keys keys;

	if (session->canceled)
		client_unwatch(&session->client);
	if (line->watched == whom && session->client.watching)
		return;
	/* One that ends as soon as it is opened is not opened again and again. */
	if (line->watched == whom) {
		if (session_now() < line->watch_due)
			return;
		line->watch_pause = line->watch_pause ? deadline_earlier(line->watch_pause * 2, session->ttl / 6) : WATCH_PAUSE;
		line->watch_due = session_now() + line->watch_pause;
	} else {
		line->watch_due = line->watch_pause = 0;
	}
	line->watched = whom;
	if (verdict == QUEUE_WATCH_ALL) {
		keys = keys_copy(&session->prefix);
		session_watch(session, &keys, false);
		return;
	}
	keys = keys_one(blocker->key);
	session_watch(session, &keys, session->arguments->mode == ENTRY_SLOTS);
	session->other_modified = blocker->modified;
}

/* Renews while we wait. A lease that cannot be renewed in time is given up by the caller. Returns false if our key is gone. */
static bool renew(struct session *session)
{
	char *text;
	enum renewal renewal = session_renew(session, &text);

	session->renew_due = session_now() + session_interval(session);
	if (renewal == RENEWAL_FAILED)
		session->renew_due = session_now() + (session->failures % session->config.n == 0 ? 500 * NS_PER_MS : 0);
	free(text);
	return renewal != RENEWAL_LOST;
}

/* Waits until there may be something new. Returns false if our place is lost. */
static bool rest(struct session *session, struct line_of_entries *line)
{
	int64_t until = deadline_earlier(deadline_earlier(session->renew_due, session->deadline), session->wait_until ? session->wait_until : session->try_until);

	if (line->delay > session_now())
		until = deadline_earlier(until, line->delay);
	/* Where there is no stream we look again and again, as long as it cannot be opened. */
	if (session->canceled)
		client_unwatch(&session->client);
	if (!session->client.watching)
		until = deadline_earlier(until, line->watch_due > session_now() ? line->watch_due : session_now() + WATCH_PAUSE);
	session->resting = session->client.watching;
	client_wait(&session->client, until);
	session->resting = false;
	if (session->own_gone || session_now() >= session->deadline)
		return false;
	if (session_now() < session->renew_due)
		return true;
	/* A wait that lasts: what it needs once in a while can be read again. */
	if (line->renewals++ == 0)
		pages_give_back();
	return renew(session);
}

/*
 * Whether there may be something new. To look at the queue costs the server the more the longer it is, so those who wait do it seldom
 * without a reason: who has the lock is only said to people.
 */
static bool is_new(const struct session *session, const struct line_of_entries *line)
{
	return session->changed || session->granted || session->canceled || !session->client.watching || line->renewals >= LOOK_SELDOM ||
	       session_now() < line->delay + NS_PER_S ||
	       (session->wait_until ? session_now() >= session->wait_until : session_now() >= session->try_until);
}

enum step {
	STEP_HELD,	/* the lock is ours */
	STEP_OVER,	/* it is not to be had: me-only knows */
	STEP_JUDGE,	/* more is known of the queue */
	STEP_REST,	/* nothing is to be done before something changes */
};

/* The time that a command gets at least. A renewal gives more of it. */
static bool has_time_to_run(struct session *session)
{
	while (session->deadline - session_now() < session_reserve(session)) {
		char *text;
		enum renewal renewal;

		if (session_now() >= session->deadline || session->orphaned)
			return false;
		renewal = session_renew(session, &text);
		free(text);
		if (renewal == RENEWAL_LOST)
			return false;
		if (session->deadline - session_now() < session_reserve(session) && client_wait(&session->client, session_now() + 100 * NS_PER_MS))
			return false;
		session->renew_due = session_now() + session_interval(session);
	}
	return true;
}

/* It is not to be had now. Who has a place in line gives it back first: whoever asks next may count. */
static enum step give_up(struct session *session, struct line_of_entries *line, bool timeout)
{
	const struct entry *holder = line->before.n > 0 ? &line->before.all[0] : NULL;
	unsigned slots = 0;

	if (session->arguments->mode == ENTRY_SLOTS && holder && !holder->foreign && holder->mode == ENTRY_SLOTS)
		slots = session->arguments->slots;
	if (!line->ours_is_there)
		tell(session, "busy", holder, timeout, slots);
	session_withdraw(session);
	if (line->ours_is_there)
		tell(session, "busy", holder, timeout, slots);
	return STEP_OVER;
}

/* Somebody is before us. */
static enum step wait_on(struct session *session, struct line_of_entries *line, enum queue_verdict verdict, const struct entry *blocker)
{
	const struct entry *holder = &line->before.all[0];

	if (session->wait_until) {
		if (session_now() >= session->wait_until)
			return give_up(session, line, true);
		if (line->named != holder->created)
			tell(session, "waiting", holder, false, 0);
		line->named = holder->created;
	} else {
		/* One that is about to choose its slot does not keep us from having another. */
		bool settles = verdict == QUEUE_WATCH_KEY && blocker->state == ENTRY_WAITS && session->arguments->mode == ENTRY_SLOTS &&
			       queue_holds(line->before.all, (size_t)(blocker - line->before.all));

		if (!settles || session_now() >= session->try_until || line->before.n >= session->arguments->slots)
			return give_up(session, line, false);
	}
	watch(session, line, verdict, blocker);
	return STEP_REST;
}

static enum step failed(struct session *session, char *text)
{
	if (!session->orphaned)
		say_text("failed", text);
	free(text);
	session_withdraw(session);
	return STEP_OVER;
}

static enum step join_again(struct session *session, struct line_of_entries *line);

/* me-only is stopped. Its place is another's until it goes on. */
static enum step leave_and_join_again(struct session *session, struct line_of_entries *line)
{
	session_revoke(session);
	while (process_is_stopped(session->arguments->pid))
		if (client_wait(&session->client, session_now() + LOOK_AGAIN))
			return STEP_OVER;
	return join_again(session, line);
}

/* What follows from what is known of the queue. */
static enum step judge(struct session *session, struct line_of_entries *line)
{
	const struct entry *blocker;
	unsigned slot;
	enum queue_verdict verdict = queue_judge(&session->entry, line->before.all, line->before.n, &blocker, &slot);
	char *text;

	if (verdict != QUEUE_OURS)
		return wait_on(session, line, verdict, blocker);
	/* Who was stopped at the terminal starts nothing, and holds nobody up: it has to join again. */
	if (process_is_stopped(session->arguments->pid))
		return leave_and_join_again(session, line);
	if (session_now() < line->delay)
		return session->wait_until && session_now() >= session->wait_until ? give_up(session, line, true) : STEP_REST;
	text = acquire(session, line, slot);
	if (text)
		return failed(session, text);
	return session->token ? STEP_HELD : STEP_JUDGE;
}

/* A new lease and a new place. */
static enum step join(struct session *session, struct line_of_entries *line)
{
	const struct entry *own, *first;
	size_t waiters;
	char *text = enter(session, line);

	if (text)
		return failed(session, text);
	if (session->token)
		return STEP_HELD;
	/* Who had to wait is not the only one, maybe. */
	session->others = true;
	own = find_own(session, line);
	waiters = session->arguments->queue ? queue_count(line->before.all, line->before.n, &first) : 0;
	if (own) {
		tell(session, "nested", own, false, 0);
		session_withdraw(session);
		return STEP_OVER;
	}
	if (session->arguments->queue && waiters >= session->arguments->queue) {
		session_withdraw(session);
		tell_full(session, line, waiters, first);
		return STEP_OVER;
	}
	if (!line->ours_is_there && !session->wait_until && !needs_all(session))
		return give_up(session, line, false);
	return STEP_JUDGE;
}

/* Our place is lost: rule 5. */
static enum step join_again(struct session *session, struct line_of_entries *line)
{
	/* What is left of the old one would be before us. */
	session_revoke(session);
	entries_free(&line->before);
	/* What has become of those before us we do not know now: rule 4. */
	*line = (struct line_of_entries){ .named = line->named, .delay = session_now() + LOCK_DELAY };
	return join(session, line);
}

/*
 * The one that was watched, the last before us, is gone, and had the lock: then nobody before it was left. That needs no look at the
 * queue; the transaction that takes the lock looks, too.
 */
static bool was_the_last_one(struct session *session, struct line_of_entries *line)
{
	const size_t n = line->before.n;

	if (!session->gone.key || session->arguments->mode != ENTRY_EXCLUSIVE || n == 0 || line->before.all[n - 1].created != session->gone.created)
		return false;
	/* Of a foreign one it is not known whether it had the lock. */
	if (n > 1 && session->gone.state != ENTRY_HELD && session->gone.state != ENTRY_KEPT)
		return false;
	entries_free(&line->before);
	/* A me-only hands the lock over with the write that deletes its key, if it knows of us: the two events come one after the other. */
	if (session->gone.state == ENTRY_HELD && !session->granted) {
		session->resting = true;
		client_wait(&session->client, session_now() + NS_PER_MS);
		session->resting = session->changed = false;
	}
	line->to_ask = session->gone.state == ENTRY_KEPT || session->gone.state == ENTRY_WAITS ? 0 : session->gone.lease;
	return true;
}

/* The one before us has handed the lock over: that is the write that takes it. */
static enum step accept_grant(struct session *session)
{
	session->token = session->granted;
	session->entry.state = ENTRY_HELD;
	return STEP_HELD;
}

/* Waits until something has changed, and looks what it is. */
static enum step wait_and_look(struct session *session, struct line_of_entries *line)
{
	char *text;

	if (!rest(session, line) && !session->orphaned)
		return join_again(session, line);
	if (session->orphaned)
		return STEP_OVER;
	if (!is_new(session, line))
		return STEP_REST;
	session->changed = false;
	line->renewals = 0;
	if (was_the_last_one(session, line))
		return session->granted ? accept_grant(session) : STEP_JUDGE;
	if (session->granted)
		return accept_grant(session);
	text = look(session, line);
	if (text)
		return failed(session, text);
	return session->token ? STEP_HELD : STEP_JUDGE;
}

/* The lock is ours. Whether it may be used: by the endpoints' clusters, and the time that is left. */
static enum step confirm(struct session *session, struct line_of_entries *line)
{
	char *error;

	/* Who joins an empty queue has the lock at once. */
	if (session_now() < line->delay) {
		while (session_now() < line->delay)
			if (client_wait(&session->client, line->delay))
				return STEP_OVER;
		/* It was long enough to lose it again. */
		if (!renew(session))
			return join_again(session, line);
	}
	if (process_is_stopped(session->arguments->pid))
		return leave_and_join_again(session, line);
	session->taken = session_now();
	error = session_surveyed(session, session_now() + SURVEY_LIMIT);
	if (error)
		return failed(session, error);
	if (has_time_to_run(session))
		return STEP_HELD;
	return session->orphaned ? STEP_OVER : join_again(session, line);
}

bool take(struct session *session)
{
	struct line_of_entries line = { .delay = 0 };
	enum step step;

	session->try_until = session_now() + session->config.command_timeout;
	/* With one endpoint it is only about a warning, for which there is time later (hold.c). */
	if (session->config.n > 1)
		client_survey(&session->client);
	step = join(session, &line);
	for (;;) {
		if (session->orphaned)
			step = STEP_OVER;
		if (step == STEP_HELD) {
			step = confirm(session, &line);
			if (step == STEP_HELD)
				break;
		} else if (step == STEP_OVER) {
			break;
		} else if (step == STEP_REST) {
			step = wait_and_look(session, &line);
		} else {
			step = line.ours_is_there ? judge(session, &line) : join_again(session, &line);
		}
	}
	entries_free(&line.before);
	if (step != STEP_HELD)
		session_withdraw(session);
	return step == STEP_HELD;
}
