/* The stream of events: what happens to our key, and to the other one that is watched. */
#include <stdint.h>
#include <string.h>

#include "etcd/session.h"

/* Reads the key-value pair KV into ENTRY, which is freed before. */
static void read_one(const json_t *kv, struct entry *entry)
{
	json_t *list = list_of(json_incref((json_t *)(uintptr_t)kv), NULL);
	struct entries entries;

	entries_read(&entries, list);
	json_decref(list);
	entry_free(entry);
	if (entries.n == 1)
		*entry = entry_copy(&entries.all[0]);
	entries_free(&entries);
}

/* Our key was deleted, or the lock was handed over to us, or it is our own write. */
static void own_event(struct session *session, const json_t *kv, bool deleted)
{
	struct entry entry = { .key = NULL };

	if (deleted) {
		session->events.own_gone = true;
		return;
	}
	read_one(kv, &entry);
	if (entry.key && entry.state == ENTRY_HELD && entry.created == session->own.created)
		session->events.granted = entry.modified;
	entry_free(&entry);
}

/* While we hold the lock: somebody has come into line, or left. */
static void line_event(struct session *session, const json_t *kv, bool deleted)
{
	struct entry entry = { .key = NULL };
	bool is_next;

	read_one(kv, &entry);
	is_next = entry.key && session->line.next.key && !strcmp(entry.key, session->line.next.key);
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
static void canceled(struct session *session, const char *reason)
{
	const struct asked asked = { .user = session->config.user };

	session->events.canceled = true;
	if (reason && errors_judge(&asked, 0, reason, NULL) == OUTCOME_REAUTH)
		client_log_out(&session->client);
}

void session_event(void *argument, json_t *result)
{
	struct session *session = argument;
	size_t i;
	json_t *event;

	/* Also an error, as that of a token that is not valid any more: it comes with "created". */
	if (json_is_true(json_object_get(result, "canceled"))) {
		canceled(session, json_string_value(json_object_get(result, "cancel_reason")));
		return;
	}
	if (answer_header(result, "revision") > session->events.heard)
		session->events.heard = answer_header(result, "revision");
	json_array_foreach(json_object_get(result, "events"), i, event)
	{
		const json_t *kv = json_object_get(event, "kv"),
			     *before = json_object_get(event, "prev_kv");
		const char *type = json_string_value(json_object_get(event, "type")),
			   *key = json_string_value(json_object_get(kv, "key"));
		bool deleted = type && !strcmp(type, "DELETE");

		if (key && session->own.keys.key && !strcmp(key, session->own.keys.key)) {
			own_event(session, kv, deleted);
		} else if (session->phase == PHASE_HOLDING) {
			line_event(session, kv, deleted);
		} else {
			if (deleted)
				read_one(before ? before : kv, &session->events.gone);
			session->events.changed = true;
		}
	}
}

void session_watch(struct session *session, struct keys *other, bool puts)
{
	const bool takes = session->phase == PHASE_TAKING;
	json_t *requests = list_of(
		request_watch(&session->own.keys, session->events.revision, takes ? WATCH_PUTS : 0),
		NULL);

	session->events.changed = session->events.canceled = false;
	keys_free(&session->events.other);
	if (other) {
		json_array_append_new(requests, request_watch(other, session->events.revision,
							      (puts ? WATCH_PUTS : 0) |
								      (takes ? WATCH_BEFORE : 0)));
		session->events.other = *other;
	}
	client_watch(&session->client, requests);
}
