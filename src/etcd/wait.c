/* Waiting in line. The rules are those of etcd/take.c. */
#include <stdlib.h>

#include "base/deadline.h"
#include "base/process.h"
#include "etcd/pages.h"
#include "etcd/take.h"
#include "helper/queue.h"

/* After this many renewals the queue is read even without a reason. */
#define LOOK_SELDOM 3

/* The first pause before a stream that has ended is reopened; later pauses grow. */
#define WATCH_PAUSE (100 * NS_PER_MS)

/* --- STEP_JUDGE ------------------------------------------------------------------------------- */

/* Rule 3. */
static void watch_blocker(struct session *session, struct place *place, enum queue_verdict verdict,
			  const struct entry *blocker)
{
	uint64_t whom = verdict == QUEUE_WATCH_ALL ? UINT64_MAX : blocker->created;
	const int64_t longest = session->lease.ttl / 6;
	struct keys keys;

	if (session_stream_ends(session))
		client_unwatch(&session->client);
	if (place->watched == whom && session->client.watching)
		return;
	/* One that ends as soon as it is opened is not opened again and again. */
	if (place->watched == whom) {
		if (session_now() < place->watch_due)
			return;
		place->watch_pause =
			place->watch_pause && session_now() < place->watch_due + longest
				? deadline_earlier(place->watch_pause * 2, longest)
				: WATCH_PAUSE;
		place->watch_due = session_now() + place->watch_pause;
	} else {
		place->watch_due = place->watch_pause = 0;
	}
	place->watched = whom;
	if (verdict == QUEUE_WATCH_ALL) {
		keys = keys_copy(&session->line.keys);
		session_watch(session, &keys, false);
		return;
	}
	keys = keys_one(blocker->key);
	session_watch(session, &keys, session->arguments->mode == ENTRY_SLOTS);
	session->events.other_modified = blocker->modified;
}

/* An entry about to choose its slot need not keep a caller without -w from getting another. */
static bool is_worth_a_moment(const struct session *session, const struct place *place,
			      enum queue_verdict verdict, const struct entry *blocker)
{
	return session->arguments->mode == ENTRY_SLOTS && verdict == QUEUE_WATCH_KEY &&
	       blocker->state == ENTRY_WAITS &&
	       queue_holds(place->before.all, (size_t)(blocker - place->before.all)) &&
	       place->before.n < session->arguments->slots;
}

/* Somebody is ahead of us. */
static enum step wait_on(struct session *session, struct place *place, enum queue_verdict verdict,
			 const struct entry *blocker)
{
	const struct entry *holder = &place->before.all[0];

	if (take_is_time_up(session) ||
	    (!session->wait_until && !is_worth_a_moment(session, place, verdict, blocker)))
		return take_give_up(session, place);
	if (session->wait_until && place->named != holder->created) {
		place_tell(session, "waiting", holder, false, 0);
		place->named = holder->created;
	}
	watch_blocker(session, place, verdict, blocker);
	return STEP_WAIT;
}

/* Decides from what we know of the queue. */
enum step wait_judge(struct session *session, struct place *place)
{
	const struct entry *blocker;
	unsigned slot;
	enum queue_verdict verdict;
	char *text;

	if (!place->ours_is_there)
		return STEP_ENTER;
	verdict = queue_judge(&session->own.entry, place->before.all, place->before.n, &blocker,
			      &slot);
	if (verdict != QUEUE_OURS)
		return wait_on(session, place, verdict, blocker);
	/* While stopped at the terminal, me-only starts nothing and must not hold up others. */
	if (process_is_stopped(session->arguments->pid))
		return STEP_STOPPED;
	text = place_acquire(session, place, slot);
	if (text)
		return take_not_answered(session, place, text);
	return session->own.token ? STEP_CONFIRM : STEP_JUDGE;
}

/* --- STEP_WAIT -------------------------------------------------------------------------------- */

bool wait_renew(struct session *session)
{
	char *text;
	enum renewal renewal = session_renew(session, &text);

	session->lease.renew_due = session_now() + session_interval(session);
	if (renewal == RENEWAL_FAILED)
		session->lease.renew_due =
			session_now() +
			(session->lease.failures % session->config.n == 0 ? 500 * NS_PER_MS : 0);
	free(text);
	return renewal != RENEWAL_LOST;
}

/* Waits until there may be something new. Returns false if our place is lost. */
static bool rest_in_line(struct session *session, struct place *place)
{
	int64_t until = deadline_earlier(
		deadline_earlier(session->lease.renew_due, session->lease.deadline),
		take_end_of_time(session));

	/* Where there is no stream we look again and again, as long as it cannot be opened. */
	if (session_stream_ends(session))
		client_unwatch(&session->client);
	if (!session->client.watching)
		until = deadline_earlier(until, place->watch_due > session_now()
							? place->watch_due
							: session_now() + WATCH_PAUSE);
	session->events.resting = session->client.watching;
	client_wait(&session->client, until);
	session->events.resting = false;
	if (session->events.own_gone || session_now() >= session->lease.deadline)
		return false;
	if (session_now() < session->lease.renew_due)
		return true;
	/* A wait that lasts: what it needs once in a while can be read again. */
	if (place->renewals++ == 0)
		pages_give_back();
	return wait_renew(session);
}

/*
 * Reading a long queue costs the server more, so where all in line want the lock alone, waiters
 * seldom do it without a reason. Elsewhere several ahead of us can end while we watch only one of
 * them. Their leases show only for a while that they were not lost (rule 4), so we look in time.
 */
static unsigned look_after(const struct session *session, const struct place *place)
{
	const enum entry_mode ours = session->arguments->mode;

	/* If there is only one, its end is reported, and what became of it is asked at once. */
	for (size_t i = 0; place->before.n > 1 && i < place->before.n; i++) {
		const struct entry *entry = &place->before.all[i];
		const enum entry_mode mode = entry->foreign ? ENTRY_EXCLUSIVE : entry->mode;

		if (mode != ours || mode == ENTRY_SLOTS)
			return 1;
	}
	return LOOK_SELDOM;
}

/* Whether there may be something new. */
static bool is_new(const struct session *session, const struct place *place)
{
	return session->events.changed || session->events.granted || session_stream_ends(session) ||
	       place->renewals >= look_after(session, place) || take_is_time_up(session);
}

/*
 * Whether the entry that we watched, the last one ahead of us, has gone and held the lock alone.
 * Then nobody ahead of it was left. No need to read the queue: the write that takes the lock checks
 * it.
 */
static bool was_the_last_one(struct session *session, struct place *place)
{
	const struct entry *gone = &session->events.gone;
	const size_t n = place->before.n;

	if (!gone->key || session->arguments->mode != ENTRY_EXCLUSIVE || n == 0 ||
	    place->before.all[n - 1].created != gone->created)
		return false;
	/* Of a foreign one it is not known whether it had the lock. */
	if (n > 1 && (gone->foreign || gone->mode != ENTRY_EXCLUSIVE ||
		      (gone->state != ENTRY_HELD && gone->state != ENTRY_KEPT)))
		return false;
	entries_free(&place->before);
	/* If the same write handed the lock over, the two events arrive one after the other. */
	if (gone->state == ENTRY_HELD && !session->events.granted) {
		session->events.resting = true;
		client_wait(&session->client, session_now() + NS_PER_MS);
		session->events.resting = session->events.changed = false;
	}
	place->to_ask = gone->state == ENTRY_KEPT || gone->state == ENTRY_WAITS ? 0 : gone->lease;
	return true;
}

/* Waits until something has changed, and looks what it is. */
enum step wait_look(struct session *session, struct place *place)
{
	bool was_last;
	char *text;

	if (!rest_in_line(session, place))
		return STEP_ENTER;
	if (session->control.orphaned)
		return STEP_OVER;
	if (!is_new(session, place))
		return STEP_WAIT;
	session->events.changed = false;
	place->renewals = 0;
	was_last = was_the_last_one(session, place);
	if (session->events.granted)
		return take_accept_grant(session, place);
	if (was_last)
		return STEP_JUDGE;
	text = place_look(session, place);
	if (text)
		return take_not_answered(session, place, text);
	return session->own.token ? STEP_CONFIRM : STEP_JUDGE;
}
