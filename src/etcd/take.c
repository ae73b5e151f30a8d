/*
 * Taking the lock.
 *
 *  1. One transaction puts our key into the queue if it is not there yet, so it can be repeated
 *     when an answer was lost. If the queue is empty, the same transaction takes the lock: a plain
 *     start is one grant and one transaction.
 *  2. ONE write takes the lock. It compares that our key is there and, for an exclusive lock, that
 *     nobody is ahead of it. A read proves nothing: a waiter whose lease has died would start. The
 *     revision of that write is the token. If an exclusive holder knows its successor, it makes
 *     that write for it (etcd/hold.c, rule 5).
 *  3. A waiter watches one key ahead of it. It reads that key with each renewal, and the queue with
 *     some renewals, because a server can lose an event.
 *  4. When an entry that was ahead of us and may have held the lock (helper/queue.h) vanishes, we
 *     ask for its lease. If the lease lives, its owner has released the lock. If not, its owner was
 *     lost and may need a moment to end its command: the lock is not used before LOCK_DELAY has
 *     passed. It may be taken earlier: those behind us then wait for us.
 *  5. A lease whose time has passed is not used any more. We get a new one, with a new place at the
 *     end of the queue, and start again from STEP_ENTER.
 *  6. A place is given back by deleting its key as it was read. If that fails, the lock was handed
 *     over to us, and is used.
 *  7. One limit applies to everything: the end of -w, or of the time allowed for a start. Requests
 *     that are under way then get a moment more.
 */
#include <stdlib.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/process.h"
#include "etcd/place.h"
#include "etcd/take.h"
#include "helper/say.h"
#include "helper/queue.h"

/* How often we check whether me-only is still stopped. */
#define LOOK_AGAIN (200 * NS_PER_MS)

/* After a place that was lost sooner than this, we pause before the next. */
#define SHORT_STAY (1 * NS_PER_S)

/*
 * Rule 7: the moment for a last read of the queue, and for a lock taken just before -w ends.
 * me-only itself waits for some seconds more.
 */
#define LAST_LOOK (500 * NS_PER_MS)
#define LAST_TAKE (3 * NS_PER_S)

/* --- time: rule 7 ----------------------------------------------------------------------------- */

int64_t take_end_of_time(const struct session *session)
{
	return session->wait_until ? session->wait_until : session->try_until;
}

bool take_is_time_up(const struct session *session)
{
	return session_now() >= take_end_of_time(session);
}

/* How long the requests of STEP may be tried. */
static int64_t limit_of(const struct session *session, enum step step)
{
	const int64_t more = step == STEP_JUDGE || step == STEP_CONFIRM ? LAST_TAKE : LAST_LOOK;

	/* A start, with or without -w. */
	if (!session->wait_until || !session->line.entered)
		return session->try_until;
	return session->wait_until > DEADLINE_NEVER - more ? DEADLINE_NEVER
							   : session->wait_until + more;
}

/* --- the end without the lock ----------------------------------------------------------------- */

enum step take_accept_grant(struct session *session, struct place *place)
{
	place->to_ask = 0;
	session->own.token = session->own.modified = session->events.granted;
	session->own.entry.state = ENTRY_HELD;
	return STEP_CONFIRM;
}

/* We do not get the lock. Give the place back first: the next caller may count waiters. */
enum step take_give_up(struct session *session, struct place *place)
{
	const struct entry *holder = place->before.n > 0 ? &place->before.all[0] : NULL;
	unsigned slots = 0;

	if (session->arguments->mode == ENTRY_SLOTS && holder && !holder->foreign &&
	    holder->mode == ENTRY_SLOTS)
		slots = session->arguments->slots;
	if (place_leave(session, place))
		return take_accept_grant(session, place);
	place_tell(session, "busy", holder, session->wait_until != 0, slots);
	return STEP_OVER;
}

static enum step failed(struct session *session, char *text)
{
	if (!session->control.orphaned)
		session_failed(session, text);
	free(text);
	return STEP_OVER;
}

enum step take_not_answered(struct session *session, struct place *place, char *text)
{
	if (!take_is_time_up(session) || place->before.n == 0 || session->own.token)
		return failed(session, text);
	free(text);
	return take_give_up(session, place);
}

/* --- STEP_ENTER ------------------------------------------------------------------------------- */

/* Rule 5. Returns STEP_ENTER, or what to do instead. */
static enum step clear_old_place(struct session *session, struct place *place)
{
	const unsigned short_stays =
		session_now() - place->entered < SHORT_STAY ? place->short_stays + 1 : 0;

	if (take_is_time_up(session)) {
		if ((!session->wait_until || !session->line.entered) && place->before.n == 0)
			return failed(session, memory_string("its position in the queue was lost"));
		return take_give_up(session, place);
	}
	/* The remains of the old one would be ahead of us. */
	place_give_back(session, place);
	if (session->control.orphaned)
		return STEP_OVER;
	session->client.limit = limit_of(session, STEP_ENTER);
	if (short_stays > 0 &&
	    client_wait(&session->client,
			deadline_earlier(session_now() + client_pause(short_stays - 1),
					 take_end_of_time(session))))
		return STEP_OVER;
	entries_free(&place->before);
	/* We no longer know what became of those ahead of us: rule 4. */
	*place = (struct place){ .named = place->named,
				 .delay = session_now() + LOCK_DELAY,
				 .short_stays = short_stays };
	return STEP_ENTER;
}

/* A new lease and a new place. */
static enum step enter(struct session *session, struct place *place)
{
	const struct entry *own, *first;
	size_t waiters;
	enum step step = place->entered ? clear_old_place(session, place) : STEP_ENTER;
	char *text;

	if (step != STEP_ENTER)
		return step;
	text = place_enter(session, place);
	if (text && place->lapsed && session->wait_until &&
	    (session->line.entered || session_now() < session->try_until)) {
		free(text);
		return STEP_ENTER;
	}
	if (text)
		return failed(session, text);
	if (session->own.token)
		return STEP_CONFIRM;
	/* If we have to wait, others may be waiting as well. */
	session->line.others = true;
	own = place_find_own(session, place);
	if (own) {
		place_tell(session, "nested", own, false, 0);
		return STEP_OVER;
	}
	waiters = session->arguments->queue
			  ? queue_count(place->before.all, place->before.n, &first)
			  : 0;
	if (session->arguments->queue && waiters >= session->arguments->queue) {
		if (place_leave(session, place))
			return take_accept_grant(session, place);
		place_tell_full(session, place, waiters, first);
		return STEP_OVER;
	}
	if (!place->ours_is_there && !session->wait_until && !place_needs_all(session))
		return take_give_up(session, place);
	return STEP_JUDGE;
}

/* --- STEP_STOPPED ----------------------------------------------------------------------------- */

/* Others get our place until me-only resumes. */
static enum step wait_until_it_goes_on(struct session *session, struct place *place)
{
	place_give_back(session, place);
	while (process_is_stopped(session->arguments->pid))
		if (client_wait(&session->client, session_now() + LOOK_AGAIN))
			return STEP_OVER;
	/* Without -w, its one try is still to come. */
	session->try_until = session_now() + session->config.command_timeout;
	return STEP_ENTER;
}

/* --- STEP_CONFIRM ----------------------------------------------------------------------------- */

/* The command must have some time left at its start: a renewal gets it more. */
static enum step make_time(struct session *session)
{
	while (session->lease.deadline - session_now() < session_reserve(session)) {
		char *text = NULL;
		enum renewal renewal = RENEWAL_LOST;

		if (session_now() < session->lease.deadline && !session->control.orphaned)
			renewal = session_renew(session, &text);
		session->lease.renew_due = session_now() + session_interval(session);
		if (renewal == RENEWAL_LOST ||
		    session->lease.deadline - session_now() >= session_reserve(session)) {
			free(text);
			if (renewal == RENEWAL_LOST)
				return STEP_ENTER;
			break;
		}
		if (session_now() >= session->client.limit)
			return failed(session,
				      text ? text : memory_string("etcd answered too late"));
		free(text);
		if (client_wait(&session->client, session_now() + 100 * NS_PER_MS))
			return STEP_OVER;
	}
	return STEP_READY;
}

/* We hold the lock. May it be used, by rule 4, me-only's state, the clusters and the time? */
static enum step confirm(struct session *session, struct place *place)
{
	enum step step;
	char *error;

	if (session_now() < place->delay) {
		/* Standing back is part of the wait. */
		while (session_now() < place->delay) {
			if (take_is_time_up(session))
				return take_give_up(session, place);
			if (client_wait(&session->client,
					deadline_earlier(place->delay, take_end_of_time(session))))
				return STEP_OVER;
		}
		/* It was long enough to lose it again. */
		if (!wait_renew(session))
			return STEP_ENTER;
	}
	if (process_is_stopped(session->arguments->pid))
		return STEP_STOPPED;
	error = session_surveyed(session, deadline_earlier(session->client.limit,
							   session_now() + PLACE_SURVEY_LIMIT));
	if (error)
		return failed(session, error);
	step = make_time(session);
	session->taken = session_now();
	/* The stream may have reported the loss meanwhile. */
	return session->events.own_gone ? STEP_ENTER : step;
}

/* ---------------------------------------------------------------------------------------------- */

bool take(struct session *session)
{
	static enum step (*const steps[])(struct session *, struct place *) = {
		[STEP_ENTER] = enter,	  [STEP_JUDGE] = wait_judge,
		[STEP_WAIT] = wait_look,  [STEP_STOPPED] = wait_until_it_goes_on,
		[STEP_CONFIRM] = confirm,
	};
	struct place place = { .entered = 0 };
	enum step step = STEP_ENTER;

	session->try_until = session_now() + session->config.command_timeout;
	/* With one endpoint only a warning can follow, and etcd/hold.c has time for it. */
	if (session->config.n > 1)
		client_survey(&session->client);
	while (step != STEP_READY && step != STEP_OVER) {
		session->client.limit = limit_of(session, step);
		step = steps[step](session, &place);
		if (session->control.orphaned)
			step = STEP_OVER;
	}
	if (step == STEP_OVER) {
		session->phase = PHASE_GIVING_BACK;
		place_give_back(session, &place);
	}
	session->client.limit = DEADLINE_NEVER;
	entries_free(&place.before);
	return step == STEP_READY;
}
