/* The rules are those of etcd/take.c. */
#include "etcd/ahead.h"

#include <stdlib.h>
#include <string.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "helper/queue.h"

/* How many leases are asked for at a time: a proxy may limit the calls of a connection. */
#define AT_ONCE 8

/* Asking for longer is no better than standing back. */
#define ASK_LIMIT (1 * NS_PER_S)

/* --- the line --------------------------------------------------------------------------------- */

struct bytes *ahead_operations(const struct session *session, bool all, uint64_t created)
{
	struct bytes *list =
		list_of(operation_range(request_range(&session->own.keys, ORDER_NONE, 0, 0)), NULL);

	list_add(list, operation_range(request_range(&session->line.keys, ORDER_OLDEST,
						     all ? 0 : HEAD, created)));
	/* Our place is not known: read our entry and the one ahead of it. */
	if (!all)
		list_add(list, operation_range(request_range(&session->line.keys, ORDER_NEWEST,
							     created ? 1 : 2, created)));
	return list;
}

/*
 * All entries in BODY, the answer to a transaction with ahead_operations(). That includes ours, and
 * some entries twice.
 */
struct entries ahead_entries(const struct body *body)
{
	const struct body *responses = body->responses.all;
	struct entries all;
	struct pair *pairs;
	size_t n = 0;

	for (size_t i = 0; i < body->responses.n; i++)
		n += responses[i].pairs.n;
	pairs = memory_get(n * sizeof *pairs);
	n = 0;
	for (size_t i = 0; i < body->responses.n; i++) {
		const struct list *list = &responses[i].pairs;

		if (list->n > 0)
			memcpy(pairs + n, list->all, list->n * sizeof *pairs);
		n += list->n;
	}
	entries_read(&all, pairs, n);
	free(pairs);
	return all;
}

/*
 * A replaced leader still reports a lease as alive that the others have ended. BODY is a later
 * answer that needed a majority: if its term is the same, the leader that reported the lease still
 * led.
 */
void ahead_prove_alive(struct place *place, const struct body *body)
{
	if (place->alive_term && place->alive_term != body->term &&
	    place->delay < place->alive_delay)
		place->delay = place->alive_delay;
	place->alive_term = 0;
}

char *ahead_read(struct session *session, struct place *place, const struct body *body)
{
	struct entries all;
	size_t n = 0;

	/* Each operation has an answer, though it may be empty. */
	if (body->responses.n < 2)
		return memory_format("%s does not answer like etcd",
				     session->config.endpoints[session->client.endpoint]);
	ahead_prove_alive(place, body);
	all = ahead_entries(body);
	entries_free(&place->before);
	place->before = (struct entries){ .all = memory_get((all.n + 1) * sizeof *all.all) };
	place->ours_is_there = false;
	session->events.revision = body->revision;
	for (size_t i = 0; i < all.n; i++) {
		if (strcmp(all.all[i].key, session->own.name) != 0)
			continue;
		place->ours_is_there = true;
		session->own.created = all.all[i].created;
		session->own.modified = all.all[i].modified;
		if (all.all[i].state == ENTRY_HELD)
			session->own.token = all.all[i].modified;
	}
	for (size_t i = 0; i < all.n; i++)
		if ((!place->ours_is_there || all.all[i].created < session->own.created) &&
		    (n == 0 || place->before.all[n - 1].created != all.all[i].created))
			place->before.all[n++] = entry_copy(&all.all[i]);
	place->before.n = n;
	entries_free(&all);
	return NULL;
}

/* --- rule 4: what became of those ahead of us ------------------------------------------------- */

bool ahead_is_alive(struct place *place, const struct answer *answer, int64_t noticed)
{
	const uint64_t term = answer->body.term;

	if (answer->outcome != OUTCOME_DONE || (int64_t)answer->body.ttl <= 0 || !term)
		return false;
	/* Another leader was elected between two answers. */
	if (place->alive_term && place->alive_term != term && session_now() < place->alive_delay)
		return false;
	place->alive_term = term;
	place->alive_delay = noticed + LOCK_DELAY;
	return true;
}

/* Whether all N LEASES, at most AT_ONCE, live. One that is not known counts as ended. */
static bool all_live(struct session *session, struct place *place, const uint64_t *leases, size_t n,
		     int64_t noticed)
{
	struct answer answers[AT_ONCE];
	struct bytes *bodies[AT_ONCE];
	bool live = true;

	for (size_t i = 0; i < n; i++)
		bodies[i] = request_lease(leases[i]);
	client_call_each(&session->client, PATH_TIME_TO_LIVE, bodies, answers, n);
	for (size_t i = 0; i < n; i++) {
		if (live && answers[i].outcome != OUTCOME_DONE &&
		    answers[i].outcome != OUTCOME_STOPPED) {
			answer_free(&answers[i]);
			client_call(&session->client, PATH_TIME_TO_LIVE, request_lease(leases[i]),
				    noticed + ASK_LIMIT, &answers[i]);
		}
		live = live && ahead_is_alive(place, &answers[i], noticed);
		answer_free(&answers[i]);
	}
	return live;
}

void ahead_ask(struct session *session, struct place *place, const uint64_t *leases, size_t n)
{
	const int64_t noticed = session_now();

	for (size_t i = 0; i < n; i += AT_ONCE)
		if (!all_live(session, place, leases + i, n - i < AT_ONCE ? n - i : AT_ONCE,
			      noticed)) {
			place->delay = noticed + LOCK_DELAY;
			return;
		}
}

/* Finds out what became of those in WAS that have gone. */
static void consider(struct session *session, struct place *place, const struct entries *was)
{
	uint64_t *leases = memory_get((was->n + 1) * sizeof *leases);
	size_t n = 0;

	for (size_t i = 0; i < was->n; i++) {
		const struct entry *entry = &was->all[i];

		if (entries_find(&place->before, entry->created))
			continue;
		/* Of the entry whose end the stream reported, we know the last state. */
		if (session->events.gone.key && session->events.gone.created == entry->created) {
			entry = &session->events.gone;
			if (entry->state == ENTRY_WAITS)
				continue;
		}
		if (queue_can_be_lost(&session->own.entry, entry, place->before.all,
				      place->before.n))
			leases[n++] = entry->lease;
	}
	ahead_ask(session, place, leases, n);
	free(leases);
}

char *ahead_update(struct session *session, struct place *place, const struct body *body)
{
	const uint64_t created = session->own.created;
	const bool waits =
		created && !session->own.token && !place->tried && !session->own.doubtful;
	struct entries was = place->before;
	char *text;

	place->before = (struct entries){ .n = 0 };
	text = ahead_read(session, place, body);
	/* If the holder has handed the lock over it released it: the event says no more. */
	if (!text && !(waits && session->own.token && session->own.created == created))
		consider(session, place, &was);
	entries_free(&was);
	return text;
}
