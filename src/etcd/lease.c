/* The lease, and the key that is bound to it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "etcd/session.h"

/* This much of a lease is not used: clocks differ in rate, and we may be late. */
#define MARGIN(ttl) (1 * NS_PER_S + (ttl) / 50)

/* A holder renews its lease this often in its time. */
#define RENEWALS 6

/*
 * A waiter does so less often, since less depends on it. A short lease keeps time to retry: a new
 * leader takes up to 4.3 s (measured, 3.4.23). If a server grants less than requested, a waiter
 * renews at most MOST_RENEWALS_WAITING times.
 */
#define RENEWALS_WAITING 2
#define TRYING (5 * NS_PER_S)
#define MOST_RENEWALS_WAITING 3

/*
 * Each renewal is early or late by up to this much: clients started in the same minute must not all
 * ask at once.
 */
#define SPREAD(interval) ((interval) / 10)

/* An attempt to renew has at most this part of that time. */
#define ATTEMPTS 10

/* A lease id: positive, and nobody else's. */
static uint64_t random_id(void)
{
	uint64_t id = 0;

	while (id == 0) {
		if (getrandom(&id, sizeof id, 0) != sizeof id)
			id = (uint64_t)session_now() << 20 ^ (uint64_t)getpid();
		id &= INT64_MAX;
	}
	return id;
}

static void name_key(struct session *session)
{
	free(session->own.name);
	keys_free(&session->own.keys);
	if (asprintf(&session->own.name, "%s/%" PRIx64, session->arguments->name,
		     session->lease.id) < 0)
		abort();
	session->own.keys = keys_one(session->own.name);
}

/*
 * How long, in ns, the lease lives according to the answer BODY, at most as granted. 0: it has
 * ended.
 */
static int64_t time_in(const struct session *session, const struct body *body)
{
	const int64_t seconds = (int64_t)body->ttl;

	if (seconds <= 0)
		return 0;
	return seconds < session->lease.ttl / NS_PER_S ? seconds * NS_PER_S : session->lease.ttl;
}

void session_new_place(struct session *session)
{
	session->lease.id = random_id();
	session->own.created = session->own.token = session->events.granted = 0;
	session->events.own_gone = session->line.others = session->own.doubtful = false;
	entry_free(&session->events.gone);
	entry_free(&session->line.next);
	name_key(session);
	session->lease.asked = 0;
}

struct bytes *session_grant_request(struct session *session)
{
	if (!session->lease.asked)
		session->lease.asked = session_now();
	return request_grant((session->arguments->ttl + NS_PER_S - 1) / NS_PER_S,
			     session->lease.id);
}

char *session_granted(struct session *session, struct answer *answer)
{
	char *text = NULL;

	session->lease.ttl = session->arguments->ttl;
	if (answer->outcome == OUTCOME_DONE) {
		int64_t granted = time_in(session, &answer->body);

		/* If a server grants more, we do not use it. */
		session->lease.ttl = granted ? granted : session->lease.ttl;
	} else if (answer->outcome != OUTCOME_EXISTS) {
		text = answer->text;
		answer->text = NULL;
	}
	/* No command could be started. */
	if (!text && session->lease.ttl - MARGIN(session->lease.ttl) < session_reserve(session))
		text = memory_format("etcd granted a lease of only %" PRId64 " s",
				     (int64_t)(session->lease.ttl / NS_PER_S));
	/*
	 * "Already exists": created by a request whose answer was lost. Time counts from the first.
	 */
	session->lease.deadline =
		session->lease.asked + session->lease.ttl - MARGIN(session->lease.ttl);
	session->lease.renew_due = session->lease.asked + session_interval(session);
	session->lease.seen = session->lease.asked;
	session->lease.failures = 0;
	session->lease.renewing = 0;
	session->client.attempt = session->lease.ttl / ATTEMPTS < session->client.attempt
					  ? session->lease.ttl / ATTEMPTS
					  : session->client.attempt;
	answer_free(answer);
	return text;
}

/* Without the spread. */
static int64_t even_interval(const struct session *session)
{
	const int64_t least = session->lease.ttl / MOST_RENEWALS_WAITING,
		      most = session->lease.ttl / RENEWALS_WAITING;
	/* With the spread, this is the latest. */
	const int64_t interval = deadline_earlier(
		most, (session->lease.ttl - MARGIN(session->lease.ttl) - TRYING) * 10 / 11);

	if (session->phase != PHASE_TAKING)
		return session->lease.ttl / RENEWALS;
	return interval < least ? least : interval;
}

int64_t session_interval(const struct session *session)
{
	const int64_t interval = even_interval(session);
	uint64_t spread = 0;

	(void)!getrandom(&spread, sizeof spread, GRND_NONBLOCK);
	return interval - SPREAD(interval) +
	       (int64_t)(spread % (uint64_t)(2 * SPREAD(interval) + 1));
}

int64_t session_reserve(const struct session *session)
{
	return session->arguments->kill_after + session->lease.ttl / RENEWALS;
}

int64_t session_lapse(const struct session *session)
{
	const int64_t left = session->lease.deadline + MARGIN(session->lease.ttl) - session_now();

	return left > 0 ? left / NS_PER_S : 0;
}

/* The pair that the range at INDEX of the transaction BODY has found; all zero: there is none. */
static struct pair found(const struct body *body, size_t index)
{
	const struct body *responses = body->responses.all;

	return index < body->responses.n && responses[index].pairs.n > 0
		       ? *(const struct pair *)responses[index].pairs.all
		       : (struct pair){ .created = 0 };
}

/* Reads our key and the other. */
static void read_keys(struct session *session, size_t endpoint, struct answer *answer)
{
	struct bytes *ranges =
		list_of(operation_range(request_range(&session->own.keys, ORDER_NONE, 0, 0)), NULL);

	if (session->events.other.key && !session->events.other.end)
		list_add(ranges,
			 operation_range(request_range(&session->events.other, ORDER_NONE, 0, 0)));
	client_call_at(&session->client, endpoint, PATH_TXN,
		       request_txn(list_of(NULL), ranges, list_of(NULL)), answer);
}

/*
 * Judges a keepalive that was sent at SENT and answered in TERM with TTL, by ANSWER, a later read
 * at ENDPOINT. Moves the deadline if that proves it. TEXT as in session_renew().
 */
static enum renewal prove(struct session *session, const struct answer *answer, size_t endpoint,
			  int64_t sent, int64_t ttl, uint64_t term, char **text)
{
	const int64_t deadline = sent + ttl - MARGIN(ttl);

	if (answer->body.responses.n == 0 || !term) {
		*text = memory_string("etcd's answer is empty");
		return RENEWAL_FAILED;
	}
	if (found(&answer->body, 0).created != session->own.created) {
		*text = memory_string(
			"its key in etcd is gone: someone deleted it, or the server ended the lease too early");
		return RENEWAL_LOST;
	}
	if (answer->body.term != term) {
		*text = memory_string("etcd is electing a leader");
		return RENEWAL_FAILED;
	}
	session->lease.seen = answer->sent;
	/* Where nothing is heard any more the stream would stay open for ever. */
	if (session->client.watching && session->client.watch_endpoint != endpoint)
		client_unwatch(&session->client);
	session->events.revision = answer->body.revision;
	if (session->events.other.key)
		session->events.changed =
			session->events.changed || session->events.other.end ||
			found(&answer->body, 1).modified != session->events.other_modified;
	/* A time that has passed is final. */
	if (session_now() < session->lease.deadline && deadline > session->lease.deadline)
		session->lease.deadline = deadline;
	return RENEWAL_DONE;
}

/* The two requests. ANSWER, to be freed, is the last one's. */
static enum renewal ask_twice(struct session *session, struct answer *answer, char **text)
{
	const size_t endpoint =
		(session->client.endpoint + session->lease.failures) % session->config.n;
	int64_t sent, ttl;
	uint64_t term;

	client_call_at(&session->client, endpoint, PATH_KEEPALIVE, request_lease(session->lease.id),
		       answer);
	if (answer->outcome != OUTCOME_DONE && answer->outcome != OUTCOME_LOST)
		return RENEWAL_FAILED;
	if (answer->outcome == OUTCOME_DONE && answer->body.lease != session->lease.id) {
		*text = memory_string("etcd's answer is about another lease");
		return RENEWAL_FAILED;
	}
	sent = answer->sent;
	ttl = answer->outcome == OUTCOME_DONE ? time_in(session, &answer->body) : 0;
	term = answer->body.term;
	if (!ttl) {
		*text = memory_string(
			"the lease has ended: it was not renewed in time, or someone revoked it");
		return RENEWAL_LOST;
	}
	answer_free(answer);
	read_keys(session, endpoint, answer);
	return answer->outcome == OUTCOME_DONE
		       ? prove(session, answer, endpoint, sent, ttl, term, text)
		       : RENEWAL_FAILED;
}

enum renewal session_renew(struct session *session, char **text)
{
	const size_t endpoint = session->client.endpoint;
	struct answer answer;
	enum renewal renewal;

	*text = NULL;
	session->lease.renewing = session->lease.renewing ? session->lease.renewing : session_now();
	renewal = ask_twice(session, &answer, text);
	/*
	 * A keepalive alone does not make an endpoint good: retries start from the last good one.
	 */
	if (renewal == RENEWAL_FAILED)
		session->client.endpoint = endpoint;
	/* What stops a call is not a failure of etcd, nor the reason for one. */
	if (!*text && renewal == RENEWAL_FAILED && answer.outcome != OUTCOME_STOPPED) {
		*text = answer.text;
		answer.text = NULL;
	}
	if (renewal == RENEWAL_DONE)
		session->lease.renewing = session->lease.failures = 0;
	else if (answer.outcome != OUTCOME_STOPPED)
		session->lease.failures++;
	answer_free(&answer);
	return renewal;
}

void session_revoke(struct session *session)
{
	struct answer answer;

	client_unwatch(&session->client);
	if (!session->lease.id)
		return;
	/* It has its own limit: earlier calls may have used up the other. */
	session->client.limit = DEADLINE_NEVER;
	client_call(&session->client, PATH_REVOKE, request_lease(session->lease.id),
		    session_now() + session->client.attempt, &answer);
	/* me-only has gone meanwhile: it is done once more, when nothing stops us. */
	if (answer.outcome != OUTCOME_STOPPED)
		session->lease.id = session->own.created = 0;
	answer_free(&answer);
}

void session_withdraw(struct session *session)
{
	session->phase = PHASE_GIVING_BACK;
	session_revoke(session);
}
