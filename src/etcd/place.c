/* The rules are those of etcd/take.c. */
#include "etcd/place.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "etcd/ahead.h"
#include "helper/say.h"
#include "helper/queue.h"

/* How long giving a place back may take. If it fails, the place lapses. */
#define LEAVE_LIMIT (2 * NS_PER_S)

bool place_needs_all(const struct session *session)
{
	return session->arguments->mode != ENTRY_EXCLUSIVE || session->arguments->queue > 0;
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
	session->own.entry.state = state;
	session->own.entry.since = session_clock();
	return entry_value(&session->own.entry);
}

/* --- looking ---------------------------------------------------------------------------------- */

static char *look_once(struct session *session, struct place *place)
{
	struct bytes *operations = ahead_operations(
		session, place->wide || place_needs_all(session), session->own.created);
	struct answer answer;
	char *text;

	client_call(&session->client, PATH_TXN,
		    request_txn(list_of(NULL), operations, list_of(NULL)), session->client.limit,
		    &answer);
	text = answer.outcome == OUTCOME_DONE ? ahead_update(session, place, &answer.body)
					      : take_text(&answer);
	answer_free(&answer);
	return text;
}

/* If every entry read at the head holds the lock, there may be more holders. */
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
static struct bytes *entry_request(struct session *session)
{
	const bool tries = !session->wait_until && !place_needs_all(session);
	char *waits = value_in(session, ENTRY_WAITS), *held = value_in(session, ENTRY_HELD);
	struct bytes *failure = ahead_operations(session, place_needs_all(session), 0), *put,
		     *request;

	/*
	 * Without -w there is no place in line. But a key of ours shows whether an earlier try has
	 * taken the lock.
	 */
	if (!tries) {
		put = request_txn(
			list_of(compare_created(&session->own.keys, EQUAL, 0), NULL),
			list_of(operation_put(&session->own.keys, waits, session->lease.id), NULL),
			list_of(NULL));
		failure = list_with_first(operation_txn(put), failure);
	}
	request = request_txn(
		list_of(compare_created(&session->line.keys, EQUAL, 0), NULL),
		list_of(operation_put(&session->own.keys, held, session->lease.id), NULL), failure);
	free(held);
	free(waits);
	return request;
}

/*
 * If the key was there before this request, an earlier one has made it, whose answer was lost. We
 * do not know what became of those that were ahead of us then: rule 4.
 */
static void stand_back_if_late(struct session *session, struct place *place)
{
	const int64_t delay = session_now() + LOCK_DELAY;

	if (place->ours_is_there && !session->own.token &&
	    session->own.created < session->events.revision && place->delay < delay)
		place->delay = delay;
}

/* Evaluates and frees its ANSWER. Returns NULL or an error's text, to be freed. */
static char *entered(struct session *session, struct place *place, struct answer *answer)
{
	char *text = NULL;

	if (answer->outcome != OUTCOME_DONE) {
		/* The lease has ended while a request was not answered. */
		place->lapsed = answer->outcome == OUTCOME_LOST;
		text = take_text(answer);
	} else if (answer->body.succeeded) {
		session->own.created = session->own.modified = session->own.token =
			session->events.revision = answer->body.revision;
	} else {
		text = ahead_read(session, place, &answer->body);
		stand_back_if_late(session, place);
	}
	session->line.entered = session->line.entered || !text;
	answer_free(answer);
	return text ? text : look_at_all_holders(session, place);
}

/*
 * Lease and key are requested at the same time, once. Usually the lease exists when the transaction
 * arrives; if not, the transaction is refused and sent again.
 */
char *place_enter(struct session *session, struct place *place)
{
	struct answer lease = { .outcome = OUTCOME_RETRY }, key = { .outcome = OUTCOME_RETRY };
	const int64_t limit = session->client.limit;
	char *text;

	session_new_place(session);
	place->tried = place->lapsed = false;
	if (!session->config.user) {
		client_call_both(&session->client,
				 &(struct two_calls){ .first_path = PATH_GRANT,
						      .first_body = session_grant_request(session),
						      .second_path = PATH_TXN,
						      .second_body = entry_request(session),
						      .in_order = true },
				 &lease, &key);
		session->own.doubtful = session->client.retried;
		/* A key bound to the lease shows that the lease exists. */
		if (key.outcome == OUTCOME_DONE && lease.outcome != OUTCOME_DONE)
			lease.outcome = OUTCOME_EXISTS;
	}
	if (lease.outcome != OUTCOME_DONE && lease.outcome != OUTCOME_EXISTS) {
		answer_free(&lease);
		client_call(&session->client, PATH_GRANT, session_grant_request(session), limit,
			    &lease);
	}
	text = session_granted(session, &lease);
	if (!text && key.outcome != OUTCOME_DONE) {
		/* That the lease does not exist yet is an answer, not a doubt. */
		session->own.doubtful = session->own.doubtful ||
					(key.outcome != OUTCOME_LOST && !session->config.user);
		answer_free(&key);
		client_call(&session->client, PATH_TXN, entry_request(session), limit, &key);
		session->own.doubtful = session->own.doubtful || session->client.retried;
		/*
		 * A member that still does not know the lease may belong to another cluster: an
		 * error does not name its cluster.
		 */
		if (key.outcome == OUTCOME_LOST)
			text = session_surveyed(
				session,
				deadline_earlier(limit, session_now() + PLACE_SURVEY_LIMIT));
	}
	place->entered = session_now();
	if (!text)
		return entered(session, place, &key);
	answer_free(&key);
	return text;
}

/* --- taking the lock -------------------------------------------------------------------------- */

/* Rule 2: the transaction. */
static struct bytes *acquire_request(struct session *session, const struct place *place,
				     unsigned slot)
{
	/*
	 * The key must be as it was read. Otherwise an earlier write of ours, whose answer is still
	 * under way, has taken the lock, or the lock was handed over to us.
	 */
	struct bytes *compare =
		list_of(compare_created(&session->own.keys, EQUAL, session->own.created),
			compare_modified(&session->own.keys, session->own.modified), NULL);
	struct bytes *request;
	char *value;

	session->own.entry.slot = slot;
	value = value_in(session, ENTRY_HELD);
	if (session->arguments->mode == ENTRY_EXCLUSIVE)
		list_add(compare,
			 compare_created(&session->line.keys, GREATER, session->own.created - 1));
	request = request_txn(compare, list_of(operation_put(&session->own.keys, value, 0), NULL),
			      ahead_operations(session, place->wide || place_needs_all(session),
					       session->own.created));
	free(value);
	return request;
}

/*
 * Rule 2: when we looked, nobody ahead of us stood in our way. The lease that rule 4 still asks for
 * is requested at the same time.
 */
char *place_acquire(struct session *session, struct place *place, unsigned slot)
{
	struct answer answer = { .outcome = OUTCOME_RETRY }, lease;
	struct bytes *body = acquire_request(session, place, slot);
	const int64_t noticed = session_now();
	char *text = NULL;

	place->tried = true;
	if (place->to_ask) {
		client_call_both(&session->client,
				 &(struct two_calls){ .first_path = PATH_TXN,
						      .first_body = request_copy(body),
						      .second_path = PATH_TIME_TO_LIVE,
						      .second_body = request_lease(place->to_ask) },
				 &answer, &lease);
		if (!ahead_is_alive(place, &lease, noticed))
			ahead_ask(session, place, &place->to_ask, 1);
		answer_free(&lease);
		place->to_ask = 0;
	}
	/* It can be repeated as often as needed. */
	if (answer.outcome != OUTCOME_DONE) {
		answer_free(&answer);
		client_call(&session->client, PATH_TXN, request_copy(body), session->client.limit,
			    &answer);
	}
	request_free(body);
	if (answer.outcome != OUTCOME_DONE) {
		text = take_text(&answer);
	} else if (answer.body.succeeded) {
		ahead_prove_alive(place, &answer.body);
		session->own.token = session->own.modified = session->events.revision =
			answer.body.revision;
	} else {
		text = ahead_update(session, place, &answer.body);
	}
	answer_free(&answer);
	return text ? text : look_at_all_holders(session, place);
}

/* --- telling me-only -------------------------------------------------------------------------- */

void place_tell(struct session *session, const char *word, const struct entry *entry, bool timeout,
		unsigned all_slots)
{
	struct line line;

	say_begin(&line, word);
	if (timeout)
		say_number(&line, "timeout", 1);
	if (entry)
		entry_describe(entry, &session->me, "", &line);
	else
		say_pair(&line, "other",
			 "a holder that has just lost it, and may still be ending its command");
	if (all_slots)
		say_number(&line, "slots", all_slots);
	say_end(&line);
	session->spoke = session_now();
}

void place_tell_full(struct session *session, const struct place *place, size_t waiters,
		     const struct entry *first)
{
	struct line line;

	say_begin(&line, "full");
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

/* Those behind us may have to wait for our place to lapse, because of WHY. */
static void tell_unleft(const struct session *session, const char *why)
{
	char *text = memory_format(
		"cannot leave the queue: %s (its place there lapses in about %" PRId64 " s)", why,
		session_lapse(session));

	say_text("note", text);
	free(text);
}

/*
 * Deletes our key; if AS_IT_WAS, only if it is as it was read. The lease is left to lapse, so that
 * whoever asks for it sees that nobody was lost. If a request may still be under way, which would
 * create the key again, the lease is kept for revoking. Returns whether the key was not deleted
 * because the lock was handed over to us.
 */
static bool delete_place(struct session *session, bool as_it_was)
{
	struct bytes *compare =
		list_of(compare_created(&session->own.keys, EQUAL, session->own.created), NULL);
	struct bytes *request;
	struct entries own = { .n = 0 };
	struct answer answer;
	bool ours;

	if (as_it_was)
		list_add(compare, compare_modified(&session->own.keys, session->own.modified));
	request = request_txn(
		compare, list_of(operation_delete(&session->own.keys), NULL),
		list_of(operation_range(request_range(&session->own.keys, ORDER_NONE, 0, 0)),
			NULL));
	client_call(&session->client, PATH_TXN, request, session->client.limit, &answer);
	if (answer.outcome == OUTCOME_DONE)
		own = ahead_entries(&answer.body);
	ours = as_it_was && own.n == 1 && own.all[0].created == session->own.created &&
	       own.all[0].state == ENTRY_HELD;
	if (ours)
		session->events.granted = own.all[0].modified;
	else if (answer.outcome == OUTCOME_DONE && !session->own.doubtful)
		session->lease.id = session->own.created = 0;
	else if (as_it_was && answer.outcome != OUTCOME_DONE && answer.outcome != OUTCOME_STOPPED)
		tell_unleft(session, answer.text);
	entries_free(&own);
	answer_free(&answer);
	return ours;
}

bool place_leave(struct session *session, const struct place *place)
{
	session->client.limit = session_now() + LEAVE_LIMIT;
	return place->ours_is_there && session->own.created && !session->own.token &&
	       delete_place(session, true);
}

void place_give_back(struct session *session, const struct place *place)
{
	session->client.limit = session_now() + LEAVE_LIMIT;
	client_unwatch(&session->client);
	/*
	 * A holder that stands back passes that on to its successors: an ended lease tells them. So
	 * does one that may be the holder without knowing.
	 */
	if (session->own.created &&
	    (session->own.token ? !place->to_ask && session_now() >= place->delay : !place->tried))
		(void)delete_place(session, false);
	session_revoke(session);
}
