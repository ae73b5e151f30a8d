/* Giving the lock back: rules 4 and 5 of etcd/hold.c. */
#include "etcd/release.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "helper/say.h"

/* How long we try to give the lock back. */
#define RELEASE_LIMIT (4 * NS_PER_S)

/* We do not know WHAT, because of WHY. */
static void tell_unreleased(const struct session *session, const char *what, const char *why)
{
	char *text = memory_format(
		"cannot confirm that %s: %s (otherwise it lapses in about %" PRId64 " s)", what,
		why, session_lapse(session));

	say_text("unreleased", text);
	free(text);
}

static void tell_released(const struct session *session)
{
	if (!say_word("released"))
		session_set_timer(session, session_now() + TIMER_RELEASED);
}

/*
 * For --hold-for: binds the key to a lease for the time that is left. If that is refused, nothing
 * is deleted: the key stays for as long as its own lease. Returns whether it is there.
 */
static bool keep_on(struct session *session, int64_t left, int64_t limit)
{
	/* Any id will do that nobody else has: the old one's neighbour is as random. */
	const uint64_t fresh =
		session->lease.id ^ 1 ? session->lease.id ^ 1 : session->lease.id ^ 2;
	struct answer answer;
	char *value;
	bool gone = false;

	client_call(&session->client, PATH_GRANT,
		    request_grant((left + NS_PER_S - 1) / NS_PER_S, fresh), limit, &answer);
	if (answer.outcome == OUTCOME_DONE || answer.outcome == OUTCOME_EXISTS) {
		answer_free(&answer);
		session->own.entry.state = ENTRY_KEPT;
		value = entry_value(&session->own.entry);
		client_call(
			&session->client, PATH_TXN,
			request_txn(list_of(compare_created(&session->own.keys, EQUAL,
							    session->own.created),
					    NULL),
				    list_of(operation_put(&session->own.keys, value, fresh), NULL),
				    list_of(NULL)),
			limit, &answer);
		free(value);
	}
	if (answer.outcome != OUTCOME_DONE)
		tell_unreleased(session, "--hold-for keeps the lock", answer.text);
	else if (answer.body.succeeded)
		tell_released(session);
	else
		gone = true;
	answer_free(&answer);
	return !gone;
}

/* Deletes our key, if it is there. */
static struct bytes *delete_own(const struct session *session)
{
	return request_txn(
		list_of(compare_created(&session->own.keys, EQUAL, session->own.created), NULL),
		list_of(operation_delete(&session->own.keys), NULL), list_of(NULL));
}

/* The request for the first one after us. */
static struct bytes *next_request(const struct session *session)
{
	return request_next(&session->line.keys, session->own.created + 1);
}

/* Takes in the ANSWER to that, which is freed. */
static void read_next(struct session *session, struct answer *answer)
{
	struct entries entries;

	if (answer->outcome == OUTCOME_DONE) {
		entries_read(&entries, answer->body.pairs.all, answer->body.pairs.n);
		entry_free(&session->line.next);
		if (entries.n > 0)
			session->line.next = entry_copy(&entries.all[0]);
		/* The stream may have told more by now. */
		session->line.others =
			entries.n > 0 || session->events.heard > answer->body.revision;
		entries_free(&entries);
	}
	answer_free(answer);
}

void release_ask_next(struct session *session)
{
	struct bytes *body = next_request(session);

	transfer_begin(&session->client, &session->line.call, session->client.endpoint, PATH_RANGE,
		       body);
	request_free(body);
	session->line.asks = true;
}

void release_hear_next(struct session *session, int64_t limit)
{
	struct answer answer = { .endpoint = session->client.endpoint };

	if (!session->line.asks)
		return;
	client_await(&session->client, &session->line.call, 1, limit);
	transfer_end(&session->client, &session->line.call, &answer);
	session->line.asks = false;
	read_next(session, &answer);
}

/* Whether somebody is there, but not known. */
bool release_needs_next(const struct session *session)
{
	return session->arguments->mode == ENTRY_EXCLUSIVE && session->line.others &&
	       !session->line.next.key;
}

/* Whether the successor is known and can be handed the lock. */
static bool is_next_known(const struct session *session)
{
	const struct entry *next = &session->line.next;

	return session->arguments->mode == ENTRY_EXCLUSIVE && next->key && !next->foreign &&
	       next->mode == ENTRY_EXCLUSIVE && next->state == ENTRY_WAITS &&
	       next->created > session->own.created;
}

/*
 * Compares that our key is there, that the successor's is as it was, and that all others are later.
 * The others sort before or after our key. Of an empty range etcd says that it was created at 0;
 * ALONE: there are none on the side where the successor is not.
 */
static struct bytes *compare_next(const struct session *session, const struct keys *next,
				  bool alone)
{
	const uint64_t later = session->line.next.created - 1;
	const bool is_after = strcmp(session->line.next.key, session->own.name) > 0;
	const struct keys *line = &session->line.keys, *own = &session->own.keys;
	const struct keys before = { .key = line->key,
				     .key_length = line->key_length,
				     .end = own->key,
				     .end_length = own->key_length };
	/* The first key after ours has a NUL behind it, as the string has. */
	const struct keys after = { .key = own->key,
				    .key_length = own->key_length + 1,
				    .end = line->end,
				    .end_length = line->end_length };

	return list_of(compare_created(&session->own.keys, EQUAL, session->own.created),
		       compare_modified(next, session->line.next.modified),
		       compare_created(is_after ? &after : &before, GREATER, later),
		       compare_created(is_after ? &before : &after, alone ? EQUAL : GREATER,
				       alone ? 0 : later),
		       NULL);
}

/* Deletes our key, and makes the next one the holder, if it still is the next one. */
static struct bytes *hand_over(struct session *session)
{
	struct keys next = keys_one(session->line.next.key);
	struct bytes *success, *request;
	char *value;

	session->line.next.state = ENTRY_HELD;
	session->line.next.since = session_clock();
	value = entry_value(&session->line.next);
	success =
		list_of(operation_delete(&session->own.keys), operation_put(&next, value, 0), NULL);
	request = request_txn(compare_next(session, &next, true), request_copy(success),
			      list_of(operation_txn(delete_own(session)), NULL));
	request = request_txn(compare_next(session, &next, false), success,
			      list_of(operation_txn(request), NULL));
	free(value);
	keys_free(&next);
	return request;
}

/*
 * Whether BODY says that our key was there: in one of the nested transactions, each of which is
 * tried if the one around it fails.
 */
static bool is_given_back(const struct body *body)
{
	while (!body->succeeded && body->responses.n > 0)
		body = body->responses.all;
	return body->succeeded;
}

void release(struct session *session)
{
	const int64_t limit =
		deadline_earlier(session_now() + RELEASE_LIMIT, session->lease.deadline);
	const int64_t half = session_now() + (limit - session_now()) / 2;
	const int64_t left = session->taken + session->arguments->hold_for - session_now();
	struct answer answer;
	bool hands_over, tried = false;

	session->phase = PHASE_GIVING_BACK;
	/* The answer tells what becomes of our key, so the server need not send us an event. */
	client_unwatch(&session->client);
	/* me-only does not wait for longer: rule 5 of PROTOCOL.md. */
	session->client.limit = limit;
	if (left > 0 && session->arguments->hold_for && !session->control.unused &&
	    keep_on(session, left, limit))
		return;
	session->client.limit = half;
	release_hear_next(session, half);
	if (release_needs_next(session)) {
		client_call(&session->client, PATH_RANGE, next_request(session), half, &answer);
		/* What is left of the time is not for a member that has been silent. */
		if (errors_may_pass(answer.outcome))
			session->client.endpoint =
				(session->client.endpoint + 1) % session->config.n;
		read_next(session, &answer);
	}
	session->client.limit = limit;
	hands_over = is_next_known(session);
	client_call(&session->client, PATH_TXN,
		    hands_over ? hand_over(session) : delete_own(session), limit, &answer);
	/*
	 * Without space or permission to write, deleting may still be possible. If the write did
	 * happen, the key is gone.
	 */
	if (hands_over && answer.outcome != OUTCOME_DONE && session_now() < limit) {
		tried = true;
		answer_free(&answer);
		client_call(&session->client, PATH_TXN, delete_own(session), limit, &answer);
	}
	/* Only a first answer counts: an earlier try of this call may have deleted it. */
	if (answer.outcome != OUTCOME_DONE)
		tell_unreleased(session, "the lock was released", answer.text);
	else if (is_given_back(&answer.body) || session->client.retried || tried)
		tell_released(session);
	else
		say_text(
			"lost",
			"its key in etcd was gone when the command ended: someone deleted it, or the lease ended");
	answer_free(&answer);
	/* A stuck member may still pass on our old request: without the lease it fails. */
	if (session->own.doubtful)
		session_withdraw(session);
}
