/* The rules are those of take.c. */
#include "place.h"

#include <stdlib.h>
#include <string.h>

#include "../deadline.h"
#include "../memory.h"
#include "queue.h"
#include "say.h"

/* This many of those at the head of a line are looked at to see which of them hold the lock. */
#define HEAD 16

/* This many leases are asked for at the same time: each takes a connection. */
#define AT_ONCE 8

/* To ask for longer is no better than to stand back. */
#define ASK_LIMIT (1 * NS_PER_S)

/* The endpoints that are not in use get this long to tell which cluster they belong to. */
#define SURVEY_LIMIT (300 * NS_PER_MS)

/* A place is given back for at most this long. If that fails it lapses. */
#define LEAVE_LIMIT (2 * NS_PER_S)

bool place_needs_all(const struct session *session)
{
	return session->arguments->mode != ENTRY_EXCLUSIVE || session->arguments->queue > 0;
}

/* --- the line --------------------------------------------------------------------------------- */

/* The operations that tell of the line; CREATED is our place, or 0 if it is not known yet. */
static json_t *look_operations(const struct session *session, bool all, uint64_t created)
{
	json_t *list = list_of(
		operation("request_range", request_range(&session->own, ORDER_NONE, 0, 0)), NULL);

	json_array_append_new(
		list, operation("request_range", request_range(&session->prefix, ORDER_OLDEST,
							       all ? 0 : HEAD, created)));
	/* Without our place: ourselves and the one before. */
	if (!all)
		json_array_append_new(list, operation("request_range",
						      request_range(&session->prefix, ORDER_NEWEST,
								    created ? 1 : 2, created)));
	return list;
}

/*
 * All entries that BODY, the answer to a transaction with look_operations(), tells of: ours as
 * well, and some of them twice.
 */
static struct entries read_ranges(const json_t *body)
{
	json_t *kvs = json_array(), *response;
	struct entries all;
	size_t i;

	json_array_foreach(json_object_get(body, "responses"), i, response) {
		json_array_extend(
			kvs, json_object_get(json_object_get(response, "response_range"), "kvs"));
	}
	entries_read(&all, kvs);
	json_decref(kvs);
	return all;
}

/*
 * A leader that has been replaced goes on to say that a lease lives which the others have ended. BODY
 * is a later answer that took a majority: of the same term, if the one that said it led still.
 */
static void prove_alive(struct place *place, const json_t *body)
{
	if (place->alive_term && place->alive_term != header_number(body, "raft_term") &&
	    place->delay < place->alive_delay)
		place->delay = place->alive_delay;
	place->alive_term = 0;
}

/* Takes in what that answer tells of the line. Returns NULL or an error's text, to be freed. */
static char *read_line(struct session *session, struct place *place, const json_t *body)
{
	struct entries all;
	size_t n = 0;

	/* Each operation has its answer, though it may be empty. */
	if (json_array_size(json_object_get(body, "responses")) < 2)
		return memory_format("%s does not answer as etcd does",
				     session->config.endpoints[session->client.endpoint]);
	prove_alive(place, body);
	all = read_ranges(body);
	entries_free(&place->before);
	place->before = (struct entries){ .all = memory_get((all.n + 1) * sizeof *all.all) };
	place->ours_is_there = false;
	session->revision = header_number(body, "revision");
	for (size_t i = 0; i < all.n; i++) {
		if (strcmp(all.all[i].key, session->key) != 0)
			continue;
		place->ours_is_there = true;
		session->created = all.all[i].created;
		session->modified = all.all[i].modified;
		if (all.all[i].state == ENTRY_HELD)
			session->token = all.all[i].modified;
	}
	for (size_t i = 0; i < all.n; i++)
		if ((!place->ours_is_there || all.all[i].created < session->created) &&
		    (n == 0 || place->before.all[n - 1].created != all.all[i].created))
			place->before.all[n++] = entry_copy(&all.all[i]);
	place->before.n = n;
	entries_free(&all);
	return NULL;
}

/* The text of an ANSWER that is an error, to be freed. */
static char *take_text(struct answer *answer)
{
	char *text = answer->text;

	answer->text = NULL;
	return text;
}

/* The value of our key in STATE, to be freed. */
static char *value_in(struct session *session, enum entry_state state)
{
	session->entry.state = state;
	session->entry.since = session_clock();
	return entry_value(&session->entry);
}

/* --- rule 4: what has become of those before us ----------------------------------------------- */

/*
 * Whether ANSWER tells that its lease lives. If that is not proved those who noticed at NOTICED that it
 * may have ended stand back from then on.
 */
static bool is_alive(struct place *place, const struct answer *answer, int64_t noticed)
{
	const uint64_t term = header_number(answer->body, "raft_term");

	if (answer->code != CODE_OK || (int64_t)json_number(answer->body, "TTL") <= 0 || !term)
		return false;
	/* Between two answers another was elected. */
	if (place->alive_term && place->alive_term != term && session_now() < place->alive_delay)
		return false;
	place->alive_term = term;
	place->alive_delay = noticed + LOCK_DELAY;
	return true;
}

/* Whether each of the N LEASES, AT_ONCE at most, lives. What is not known counts as ended. */
static bool all_live(struct session *session, struct place *place, const uint64_t *leases, size_t n,
		     int64_t noticed)
{
	struct answer answers[AT_ONCE];
	json_t *bodies[AT_ONCE];
	bool live = true;

	for (size_t i = 0; i < n; i++)
		bodies[i] = request_lease(leases[i]);
	client_call_each(&session->client, PATH_TIME_TO_LIVE, bodies, answers, n);
	for (size_t i = 0; i < n; i++) {
		if (live && answers[i].code != CODE_OK && answers[i].code != CODE_STOPPED) {
			answer_free(&answers[i]);
			client_call(&session->client, PATH_TIME_TO_LIVE, request_lease(leases[i]),
				    noticed + ASK_LIMIT, &answers[i]);
		}
		live = live && is_alive(place, &answers[i], noticed);
		answer_free(&answers[i]);
	}
	return live;
}

/*
 * Asks for the N LEASES of those that may have been lost. Whoever has let go in good order leaves
 * its lease behind.
 */
static void ask(struct session *session, struct place *place, const uint64_t *leases, size_t n)
{
	const int64_t noticed = session_now();

	for (size_t i = 0; i < n; i += AT_ONCE)
		if (!all_live(session, place, leases + i, n - i < AT_ONCE ? n - i : AT_ONCE,
			      noticed)) {
			place->delay = noticed + LOCK_DELAY;
			return;
		}
}

/* What has become of those of WAS that are not there any more. */
static void consider(struct session *session, struct place *place, const struct entries *was)
{
	uint64_t *leases = memory_get((was->n + 1) * sizeof *leases);
	size_t n = 0;

	for (size_t i = 0; i < was->n; i++) {
		const struct entry *entry = &was->all[i];

		if (entries_find(&place->before, entry->created))
			continue;
		/* What it was at its end is known of the one whose end the stream has told. */
		if (session->gone.key && session->gone.created == entry->created) {
			entry = &session->gone;
			if (entry->state == ENTRY_WAITS)
				continue;
		}
		if (queue_can_be_lost(&session->entry, entry, place->before.all, place->before.n))
			leases[n++] = entry->lease;
	}
	ask(session, place, leases, n);
	free(leases);
}

/* Takes in what BODY tells of the line, and what has become of those who were before us. */
static char *read_on(struct session *session, struct place *place, const json_t *body)
{
	struct entries was = place->before;
	char *text;

	place->before = (struct entries){ .n = 0 };
	text = read_line(session, place, body);
	if (!text)
		consider(session, place, &was);
	entries_free(&was);
	return text;
}

/* --- looking ---------------------------------------------------------------------------------- */

static char *look_once(struct session *session, struct place *place)
{
	json_t *operations =
		look_operations(session, place->wide || place_needs_all(session), session->created);
	struct answer answer;
	char *text;

	client_call(&session->client, PATH_TXN,
		    request_txn(list_of(NULL), operations, list_of(NULL)), session->client.limit,
		    &answer);
	text = answer.code == CODE_OK ? read_on(session, place, answer.body) : take_text(&answer);
	answer_free(&answer);
	return text;
}

/* If all that was read of the head hold the lock, there may be more that do. */
static char *look_at_all_holders(struct session *session, struct place *place)
{
	if (place->wide || place_needs_all(session) || place->before.n < HEAD ||
	    !queue_holds(place->before.all, HEAD - 1))
		return NULL;
	place->wide = true;
	return look_once(session, place);
}

char *place_look(struct session *session, struct place *place)
{
	char *text = look_once(session, place);

	return text ? text : look_at_all_holders(session, place);
}

/* --- entering the line ------------------------------------------------------------------------ */

/* Rule 1: the transaction. */
static json_t *entry_request(struct session *session)
{
	const bool tries = !session->wait_until && !place_needs_all(session);
	char *waits = value_in(session, ENTRY_WAITS), *held = value_in(session, ENTRY_HELD);
	json_t *failure = look_operations(session, place_needs_all(session), 0), *put, *request;

	/*
	 * Whoever does not wait has no place in line; but whether a try before this one has taken
	 * the lock is seen by its key.
	 */
	if (!tries) {
		put = request_txn(
			list_of(compare_created(&session->own, "EQUAL", 0), NULL),
			list_of(operation_put(&session->own, waits, session->lease), NULL),
			list_of(NULL));
		json_array_insert_new(failure, 0, operation("request_txn", put));
	}
	request = request_txn(list_of(compare_created(&session->prefix, "EQUAL", 0), NULL),
			      list_of(operation_put(&session->own, held, session->lease), NULL),
			      failure);
	free(held);
	free(waits);
	return request;
}

/* What follows from its ANSWER, which is freed. Returns an error's text, to be freed. */
static char *entered(struct session *session, struct place *place, struct answer *answer)
{
	char *text = NULL;

	if (answer->code != CODE_OK) {
		text = take_text(answer);
	} else if (json_is_true(json_object_get(answer->body, "succeeded"))) {
		session->created = session->modified = session->token = session->revision =
			header_number(answer->body, "revision");
	} else {
		text = read_line(session, place, answer->body);
	}
	session->was_in_line = session->was_in_line || !text;
	answer_free(answer);
	return text ? text : look_at_all_holders(session, place);
}

/*
 * Both are asked for at the same time, once: mostly the lease is there when the transaction comes;
 * if not, it is refused, and asked for again.
 */
char *place_enter(struct session *session, struct place *place)
{
	struct answer lease = { .code = CODE_NO_ANSWER }, key = { .code = CODE_NO_ANSWER };
	const int64_t limit = session->client.limit;
	char *text;

	session_new_place(session);
	if (!session->config.user) {
		client_call_both(&session->client, PATH_GRANT, session_grant_request(session),
				 &lease, PATH_TXN, entry_request(session), &key);
		session->doubtful = session->client.retried;
		/* A key that is bound to the lease shows that it is there. */
		if (key.code == CODE_OK && lease.code != CODE_OK)
			lease.code = CODE_PRECONDITION;
	}
	if (lease.code != CODE_OK && lease.code != CODE_PRECONDITION) {
		answer_free(&lease);
		client_call(&session->client, PATH_GRANT, session_grant_request(session), limit,
			    &lease);
	}
	text = session_granted(session, &lease);
	if (!text && key.code != CODE_OK) {
		/* The lease was not there yet: that is an answer. */
		session->doubtful =
			session->doubtful || (key.code != CODE_NOT_FOUND && !session->config.user);
		answer_free(&key);
		client_call(&session->client, PATH_TXN, entry_request(session), limit, &key);
		session->doubtful = session->doubtful || session->client.retried;
		/*
		 * A member that does not know it now is of another cluster, perhaps: an error does
		 * not say of which.
		 */
		if (key.code == CODE_NOT_FOUND)
			text = session_surveyed(
				session, deadline_earlier(limit, session_now() + SURVEY_LIMIT));
	}
	place->entered = session_now();
	if (!text)
		return entered(session, place, &key);
	answer_free(&key);
	return text;
}

/* --- taking the lock -------------------------------------------------------------------------- */

/* Rule 2: the transaction. */
static json_t *acquire_request(struct session *session, const struct place *place, unsigned slot)
{
	/*
	 * As it was read: else a write of ours whose answer is on its way has taken the lock
	 * before, or somebody has handed it over.
	 */
	json_t *compare = list_of(compare_created(&session->own, "EQUAL", session->created),
				  compare_modified(&session->own, session->modified), NULL),
	       *request;
	char *value;

	session->entry.slot = slot;
	value = value_in(session, ENTRY_HELD);
	if (session->arguments->mode == ENTRY_EXCLUSIVE)
		json_array_append_new(compare, compare_created(&session->prefix, "GREATER",
							       session->created - 1));
	request = request_txn(compare, list_of(operation_put(&session->own, value, 0), NULL),
			      look_operations(session, place->wide || place_needs_all(session),
					      session->created));
	free(value);
	return request;
}

/*
 * Rule 2: nobody that matters was before us when we looked. What is still to be asked (rule 4) is
 * asked at the same time.
 */
char *place_acquire(struct session *session, struct place *place, unsigned slot)
{
	struct answer answer = { .code = CODE_NO_ANSWER }, lease;
	json_t *body = acquire_request(session, place, slot);
	const int64_t noticed = session_now();
	char *text = NULL;

	if (place->to_ask) {
		client_call_both(&session->client, PATH_TXN, json_incref(body), &answer,
				 PATH_TIME_TO_LIVE, request_lease(place->to_ask), &lease);
		if (!is_alive(place, &lease, noticed))
			ask(session, place, &place->to_ask, 1);
		answer_free(&lease);
		place->to_ask = 0;
	}
	/* It can be repeated, as often as needed. */
	if (answer.code != CODE_OK) {
		answer_free(&answer);
		client_call(&session->client, PATH_TXN, json_incref(body), session->client.limit,
			    &answer);
	}
	json_decref(body);
	if (answer.code != CODE_OK) {
		text = take_text(&answer);
	} else if (json_is_true(json_object_get(answer.body, "succeeded"))) {
		prove_alive(place, answer.body);
		session->token = session->modified = session->revision =
			header_number(answer.body, "revision");
	} else {
		text = read_on(session, place, answer.body);
	}
	answer_free(&answer);
	return text ? text : look_at_all_holders(session, place);
}

/* --- what me-only is told --------------------------------------------------------------------- */

void place_tell(struct session *session, const char *word, const struct entry *entry, bool timeout,
		unsigned all_slots)
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

void place_tell_full(struct session *session, const struct place *place, size_t waiters,
		     const struct entry *first)
{
	struct line line;

	say(&line, "full");
	say_number(&line, "waiters", waiters);
	entry_describe(first, &session->me, "", &line);
	if (place->before.n > 0)
		entry_describe(&place->before.all[0], &session->me, "holder-", &line);
	say_end(&line);
}

const struct entry *place_find_own(const struct session *session, const struct place *place)
{
	for (size_t i = 0; i < place->before.n; i++)
		if (queue_holds(place->before.all, i) &&
		    identity_is_above(&place->before.all[i].who, &session->me,
				      session->arguments->pid))
			return &place->before.all[i];
	return NULL;
}

/* --- giving the place back -------------------------------------------------------------------- */

/*
 * Deletes our key, as it was read if AS_IT_WAS. Its lease is left to lapse, so that those who ask
 * for it see that nobody was lost; but a request that may still be under way would make the key
 * again. Returns whether the lock was handed over to us, so that it was not deleted.
 */
static bool delete_own(struct session *session, bool as_it_was)
{
	json_t *compare = list_of(compare_created(&session->own, "EQUAL", session->created), NULL),
	       *request;
	struct entries own = { .n = 0 };
	struct answer answer;
	bool ours;

	if (as_it_was)
		json_array_append_new(compare, compare_modified(&session->own, session->modified));
	request = request_txn(
		compare, list_of(operation_delete(&session->own), NULL),
		list_of(operation("request_range", request_range(&session->own, ORDER_NONE, 0, 0)),
			NULL));
	client_call(&session->client, PATH_TXN, request, session->client.limit, &answer);
	if (answer.code == CODE_OK)
		own = read_ranges(answer.body);
	ours = as_it_was && own.n == 1 && own.all[0].created == session->created &&
	       own.all[0].state == ENTRY_HELD;
	if (ours)
		session->granted = own.all[0].modified;
	else if (answer.code == CODE_OK && !session->doubtful)
		session->lease = session->created = 0;
	entries_free(&own);
	answer_free(&answer);
	return ours;
}

bool place_leave(struct session *session, const struct place *place)
{
	session->client.limit = session_now() + LEAVE_LIMIT;
	return place->ours_is_there && session->created && !session->token &&
	       delete_own(session, true);
}

void place_give_back(struct session *session, const struct place *place)
{
	session->client.limit = session_now() + LEAVE_LIMIT;
	client_unwatch(&session->client);
	/*
	 * A holder that stands back leaves that to those who come next: an ended lease tells them
	 * so.
	 */
	if (session->created &&
	    (!session->token || (!place->to_ask && session_now() >= place->delay)))
		(void)delete_own(session, false);
	session_revoke(session);
}
