/*
 * Keeping the lock.
 *
 *  1. The deadline counts from when a renewal was sent. Only a renewal that is proved moves it
 *     (session_renew()). Once it has passed, it is final.
 *  2. A loss is reported at once. Our key is watched, since a server's bug can revoke a live lease.
 *     Others stand back for the lock-delay then, so there must be a stream again before that, and
 *     what it tells of the time without one leaves the command no grace.
 *  3. The helper ends the command at the deadline as well: me-only may be stopped or gone.
 *  4. To release the lock, we delete the key and let its lease lapse: so others can ask whether its
 *     holder released it or was lost (etcd/take.c, rule 4). The lease is revoked only if a request
 *     that creates the key may still be under way: it would create the key again.
 *  5. An exclusive lock is handed over if the successor is known: the transaction that deletes our
 *     key also writes the successor's, which is the write that takes the lock (etcd/take.c, rule
 *     2). What we know of the successor is no proof, for a server can lose an event. So the
 *     transaction compares that its key is as it was read and that nobody is ahead of it.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/process.h"
#include "etcd/pages.h"
#include "etcd/place.h"
#include "etcd/release.h"
#include "helper/say.h"
#include "etcd/session.h"

/* A command that runs for longer has its key watched: a short one does not pay for that. */
#define WATCH_AFTER (100 * NS_PER_MS)

/*
 * The pause before a stream that has ended is opened again. It grows, but nobody may be deaf for as
 * long as the lock-delay.
 */
#define WATCH_PAUSE (100 * NS_PER_MS)
#define LONGEST_WATCH_PAUSE NS_PER_S

/* A stream is to be open by then. Memory is given back. */
#define SETTLED_AFTER (900 * NS_PER_MS)

/* How often we look for processes whose me-only was killed, or stopped before it reported them. */
#define LOOK_AGAIN (50 * NS_PER_MS)

/* The warning about an old server does not hold up the end of a command for longer. */
#define SURVEY_LIMIT (50 * NS_PER_MS)

/* Waiters stand back for the lock-delay, perhaps counted from when our key was last seen. */
#define ENDED_BY (LOCK_DELAY - NS_PER_S / 2)

/* A renewal without an answer for this long may be lost, and the stream with it. */
#define RENEWAL_LATE (NS_PER_S / 2)

static void tell_until(const struct session *session)
{
	struct line line;

	say_begin(&line, "until");
	say_number(&line, "until", (uint64_t)session->lease.deadline);
	say_number(&line, "at", (uint64_t)session_now());
	say_end(&line);
	session_set_timer(session, session->lease.deadline);
}

/* END: when the command must be gone, if that is known. */
static void lose_and_tell(struct session *session, const char *text, int64_t end)
{
	struct line line;

	if (session->lost)
		return;
	session->lost = true;
	session_set_timer(session, 0);
	end = deadline_earlier(end, session->lease.deadline);
	say_begin(&line, "lost");
	say_pair(&line, "text", text);
	say_number(&line, "until", (uint64_t)end);
	session->told = say_end(&line);
	control_lose(&session->control, end, session->arguments->kill_after);
}

/* The lock is lost before me-only, which may be stopped, reported that the command started. */
static bool is_unused(const struct session *session)
{
	return session->lost && !session->control.started && !session->control.orphaned &&
	       session->lease.id;
}

/*
 * Gives an unused lock back once nothing runs. me-only's silence proves nothing: it can be stopped
 * before it speaks. So we look for processes. One that is started later learns before its exec that
 * the lock is lost or, if that message was dropped, that the time is over.
 */
static void withdraw_unused(struct session *session)
{
	if (!is_unused(session) || (!session->told && session_now() < session->lease.deadline) ||
	    descendants_signal(&session->control.descendants, 0) > 0)
		return;
	session_withdraw(session);
	session->phase = PHASE_HOLDING;
}

static void renew_and_tell(struct session *session)
{
	const size_t n = session->config.n;
	char *text;

	switch (session_renew(session, &text)) {
	case RENEWAL_DONE:
		session->lease.renew_due = session_now() + session_interval(session);
		control_keep_until(&session->control, session->lease.deadline,
				   session->arguments->kill_after);
		tell_until(session);
		break;
	case RENEWAL_LOST:
		/* Not reported by the stream: the key may have gone right after it was seen. */
		lose_and_tell(session, text, session->lease.seen + ENDED_BY);
		break;
	case RENEWAL_FAILED:
		session->lease.renew_due = session_now();
		/* Soon: if the lock is lost, this is the reason. Later, once in each round. */
		if (text && (session->lease.failures <= n || session->lease.failures % n == 0))
			say_text("trouble", text);
		if (text && session->lease.failures % n == 0)
			session->lease.renew_due += client_pause(session->lease.failures / n - 1);
	}
	free(text);
}

/* Watches our key and, for an exclusive lock, the line: it may get a successor. */
static void watch_line(struct session *session)
{
	struct keys all = keys_copy(&session->line.keys);

	if (session->arguments->mode == ENTRY_EXCLUSIVE) {
		session_watch(session, &all, true);
		return;
	}
	keys_free(&all);
	session_watch(session, NULL, false);
}

/* --- keeping it ------------------------------------------------------------------------------- */

static void tell_held(struct session *session)
{
	char text[64];
	struct line line;

	say_begin(&line, "held");
	say_number(&line, "token", session->own.token);
	say_number(&line, "until", (uint64_t)session->lease.deadline);
	if (session->arguments->mode == ENTRY_SLOTS)
		say_number(&line, "slot", session->own.entry.slot);
	say_pair(&line, "variable", session->control.descendants.mark);
	(void)snprintf(text, sizeof text, "ETCD_LOCK_REV=%" PRIu64, session->own.token);
	say_pair(&line, "variable", text);
	say_pair(&line, "variable", "ETCDCTL_USER");
	say_pair(&line, "variable", "ETCDCTL_PASSWORD");
	say_end(&line);
}

/* What is due while the lock is held, beside renewals. DEADLINE_NEVER: not, or not any more. */
struct dues {
	int64_t watch;	       /* the stream is to be opened */
	int64_t settled;       /* the stream is to be open; then memory is given back */
	bool next;	       /* we may ask for our successor: after a renewal */
	bool watched;	       /* the stream was open before */
	int64_t opened, pause; /* when it was opened, and the pause after its last end */
};

/* Waits until something is due, or has happened. */
static void rest_until_due(struct session *session, const struct dues *dues)
{
	int64_t due = deadline_earlier(session->lease.renew_due,
				       deadline_earlier(dues->watch, dues->settled));

	if ((session->control.orphaned && !session->control.done) || is_unused(session))
		due = deadline_earlier(due, session_now() + LOOK_AGAIN);
	session->events.resting = !session_stream_ends(session);
	client_wait(&session->client,
		    deadline_earlier(due, deadline_earlier(session->control.ask_due,
							   session->control.force_due)));
	session->events.resting = false;
}

/*
 * The stream has ended. With a long lease, the next renewal could notice a loss too late, so it is
 * reopened, at another endpoint if there is one. If it keeps ending, the pauses grow.
 */
static void plan_watch(struct session *session, struct dues *dues)
{
	const bool soon = session_now() < dues->opened + session->lease.ttl / 6;

	dues->pause = soon && dues->pause ? deadline_earlier(dues->pause * 2, LONGEST_WATCH_PAUSE)
					  : WATCH_PAUSE;
	dues->watch = deadline_earlier(
		session_now() + dues->pause,
		deadline_earlier(session->lease.renew_due + NS_PER_MS, session->lease.deadline));
	session->client.watch_skips++;
}

/*
 * Whether the lock is lost or may be: its key is gone, the command was not started, or time is up.
 */
static bool is_lost(struct session *session)
{
	/*
	 * If renewals go unanswered or were not sent in time, the stream may be late as well. So is
	 * what happened while there was none.
	 */
	const int64_t sent =
		session->lease.renewing ? session->lease.renewing : session->lease.renew_due;
	const bool late = session->events.own_gone_before || session->lease.failures ||
			  session_now() - RENEWAL_LATE > sent;

	if (session->events.own_gone)
		lose_and_tell(
			session,
			"its key in etcd was deleted, by someone or by a server that ended the lease too early",
			late ? session->lease.seen + ENDED_BY : DEADLINE_NEVER);
	/* me-only is stopped, before it has started the command: nobody is to wait for that. */
	if (!session->control.started && session_now() >= session->taken + session->lease.ttl)
		lose_and_tell(session, "the command was not started in time", DEADLINE_NEVER);
	return session->lost || session_now() >= session->lease.deadline;
}

/* Does what is due. */
static void tend(struct session *session, struct dues *dues)
{
	if (session->line.asks && session->line.call.rpc.done)
		release_hear_next(session, 0);
	if (session_now() >= session->lease.renew_due) {
		renew_and_tell(session);
		dues->next = session->lease.failures == 0;
		/* A renewal at another endpoint closes the stream: reopen it there. */
		if (dues->next && dues->watched && !session->client.watching) {
			dues->watch = session_now();
			session->client.watch_skips = 0;
		}
	}
	if (session_now() >= dues->settled) {
		/* Where a member hangs we would be deaf. */
		if (!session->events.created && session->config.n > 1)
			client_unwatch(&session->client);
		else
			pages_give_back();
		dues->settled = DEADLINE_NEVER;
	}
	/* A draining connection serves it until another one takes over. */
	if (session_stream_ends(session) && dues->watch == DEADLINE_NEVER)
		plan_watch(session, dues);
	if (!session->lost && session_now() >= dues->watch) {
		watch_line(session);
		dues->watch = DEADLINE_NEVER;
		dues->opened = session_now();
		dues->settled = session_now() + SETTLED_AFTER;
		/* Somebody may have come while there was none, or before it begins. */
		session->line.others = session->line.others || dues->watched ||
				       session->events.revision > session->own.token;
		dues->watched = true;
	}
	if (dues->next && !session->lost && !session->line.asks && release_needs_next(session)) {
		dues->next = false;
		release_ask_next(session);
	}
}

static void keep_until_over(struct session *session)
{
	struct dues dues = { .watch = session->taken + WATCH_AFTER,
			     .settled = DEADLINE_NEVER,
			     .next = true };

	while (!control_is_over(&session->control)) {
		rest_until_due(session, &dues);
		if (session->control.news && session->control.done && !session->control.pipe_closed)
			say_word("kept");
		session->control.news = false;
		if (session_now() >= session->taken + WATCH_AFTER)
			free(session_surveyed(session, session_now()));
		control_end_orphans(&session->control, session->lease.deadline,
				    session->arguments->kill_after);
		if (control_is_over(&session->control))
			break;
		if (!is_lost(session)) {
			tend(session, &dues);
			continue;
		}
		withdraw_unused(session);
		session->lease.renew_due = DEADLINE_NEVER;
		dues = (struct dues){ .watch = DEADLINE_NEVER, .settled = DEADLINE_NEVER };
	}
}

/*
 * A waiter renews less often, and may have used much of its time. A short command does not pay for
 * that; any other has soon as much time as one that did not wait, should the leader fail now.
 */
static int64_t first_renewal(const struct session *session)
{
	const int64_t due = session->lease.seen + session_interval(session),
		      soon = session->taken + WATCH_AFTER;

	return deadline_earlier(session->lease.deadline - session_reserve(session),
				due > soon ? due : soon);
}

void hold(struct session *session)
{
	char *mark = memory_format("ETCD_LOCK_KEY=%s", session->own.name);
	struct process ourselves;

	session->phase = PHASE_HOLDING;
	session->lease.renew_due =
		deadline_earlier(session->lease.renew_due, first_renewal(session));
	session->control.descendants.mark = mark;
	session->polls_pipe = true;
	control_keep_until(&session->control, session->lease.deadline,
			   session->arguments->kill_after);
	tell_held(session);
	session_set_timer(session, session->lease.deadline);
	/* Processes that me-only had before are not the command's descendants. */
	if (process_read(getpid(), &ourselves) == 0)
		session->control.descendants.since = ourselves.start;
	/* What was to be heard of those before us: me-only does not wait until that is closed. */
	client_unwatch(&session->client);
	/* The command may end soon, and then its successor waits for us. */
	if (release_needs_next(session))
		release_ask_next(session);
	if (session->config.n == 1 && !session->arguments->quiet)
		client_survey(&session->client);
	keep_until_over(session);
	session->phase = PHASE_GIVING_BACK;
	free(session_surveyed(session, session_now() + SURVEY_LIMIT));
	/* me-only removes it, unless others are left in it. */
	cgroup_remove(&session->control.cgroup);
	if (session->lost || session_now() >= session->lease.deadline)
		session_withdraw(session);
	else
		release(session);
	release_hear_next(session, 0);
	free(mark);
}
