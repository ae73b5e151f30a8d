/* The stream of events: what happens to our key, and to the other one that is watched. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "etcd/session.h"

/* Our key was deleted, or the lock was handed over to us, or we have taken it. */
static void own_event(struct session *session, const struct pair *pair, bool deleted)
{
	struct entry entry;

	if (deleted) {
		session->events.own_gone = true;
		session->events.own_gone_before = pair->modified <= session->events.created;
		return;
	}
	entry = entry_read(pair);
	if (entry.state == ENTRY_HELD && entry.created == session->own.created)
		session->events.granted = entry.modified;
	entry_free(&entry);
}

/* While we hold the lock: somebody has come into line, or left. */
static void line_event(struct session *session, const struct pair *pair, bool deleted)
{
	struct entry entry = entry_read(pair);
	const bool is_next = session->line.next.key && !strcmp(entry.key, session->line.next.key);

	/*
	 * A newcomer is behind the others. If the successor has left, etcd/hold.c asks for the
	 * next.
	 */
	if (deleted ? is_next : is_next || !session->line.others) {
		entry_free(&session->line.next);
		if (!deleted)
			session->line.next = entry_copy(&entry);
	}
	session->line.others = session->line.others || !deleted;
	entry_free(&entry);
}

/* The stream is over. If the token is the reason, the next call gets another. */
static void canceled(struct session *session, const struct body *body)
{
	const struct asked asked = { .user = session->config.user };
	char *text = memory_text((const char *)body->text.at, body->text.n);

	session->events.canceled = true;
	if (text && errors_judge(&asked, 0, text, NULL) == OUTCOME_REAUTH)
		client_log_out(&session->client);
	/* What it was to begin with is known no more: a renewal reads where etcd is now. */
	if (body->compacted && session->phase == PHASE_HOLDING)
		session->lease.renew_due = session_now();
	free(text);
}

static bool is_ours(const struct session *session, const struct pair *pair)
{
	const struct keys *own = &session->own.keys;

	return own->key && pair->key.n == own->key_length &&
	       !memcmp(pair->key.at, own->key, own->key_length);
}

void session_event(void *argument, const struct body *body)
{
	struct session *session = argument;
	const struct event *events = body->events.all;

	/* Also an error, as that of a token that is not valid any more: it comes with "created". */
	if (body->canceled) {
		canceled(session, body);
		return;
	}
	if (body->revision > session->events.heard)
		session->events.heard = body->revision;
	if (body->created && body->revision >= session->events.created)
		session->events.created = body->revision ? body->revision : 1;
	for (size_t i = 0; i < body->events.n; i++) {
		const struct event *event = &events[i];
		const bool deleted = event->type == EVENT_DELETE;

		if (!event->pair.key.at)
			continue;
		if (is_ours(session, &event->pair)) {
			own_event(session, &event->pair, deleted);
		} else if (session->phase == PHASE_HOLDING) {
			line_event(session, &event->pair, deleted);
		} else {
			if (deleted) {
				entry_free(&session->events.gone);
				session->events.gone = entry_read(
					event->before.key.at ? &event->before : &event->pair);
			}
			session->events.changed = true;
		}
	}
}

void session_watch(struct session *session, struct keys *other, bool puts)
{
	const bool takes = session->phase == PHASE_TAKING;
	/* A stream that begins in the past is up to 100 ms late: etcd looks for those that often.
	 */
	const uint64_t first = session->events.revision + 1;
	struct bytes *requests =
		list_of(request_watch(&session->own.keys, first, takes ? WATCH_PUTS : 0), NULL);

	session->events.created = 0;
	session->events.changed = session->events.canceled = false;
	keys_free(&session->events.other);
	if (other) {
		list_add(requests,
			 request_watch(other, first,
				       (puts ? WATCH_PUTS : 0) | (takes ? WATCH_BEFORE : 0)));
		session->events.other = *other;
	}
	client_watch(&session->client, requests);
}

bool session_stream_ends(const struct session *session)
{
	return session->events.canceled || !session->client.watching ||
	       channel_drains(&session->client.watch);
}
