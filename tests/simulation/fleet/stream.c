/*
 * Streams of events.
 *
 * What is modelled of etcd: a watcher tells what its member has applied, in the order of revisions,
 * but two watchers of a stream in any order; it can be canceled, lose an event (3.4.23), or start
 * at a compacted revision; 3.4.23 drops what has happened at just the compacted revision; a member
 * that has no leader for long, or is stopped, ends its streams.
 */
#include <inttypes.h>
#include <stdio.h>

#include "cluster.h"
#include "server.h"
#include "world.h"

struct stream {
	struct stream *next;
	struct call *call;
	struct watcher {
		struct watch what;
		uint64_t next; /* the first revision that it has not told of */
		size_t from;   /* the first change that it has not looked at */
		bool canceled;
	} watchers[MOST_WATCHES];
	int n;
	struct part *first, **last;
	bool pumping, silent, over;
};

struct part {
	struct part *next;
	struct reply *reply; /* NULL: only the end */
	bool final;
	enum outcome outcome;
};

static struct stream *streams[MEMBERS];

/* --- the way to the client -------------------------------------------------------------------- */

static void pump(void *argument, int64_t n)
{
	struct stream *stream = argument;
	struct call *call = stream->call;
	const struct member *member = &cluster.members[call->member];
	struct part *part = stream->first;

	(void)n;
	stream->pumping = false;
	if (!part || call_is_closed(call))
		return;
	stream->pumping = true;
	if (cluster.cut_down[call->host][call->member] ||
	    (member->up && member->frozen && !part->final)) {
		event_at(now + 200 * MS, pump, stream, 0);
		return;
	}
	stream->first = part->next;
	if (!stream->first)
		stream->last = &stream->first;
	if (part->reply) {
		trace("call %" PRIu64 ": member %d tells%s%s, %zu events", call->id, call->member,
		      part->reply->created ? ", created" : "",
		      part->reply->canceled ? ", canceled" : "", part->reply->n_events);
		for (size_t i = 0; i < part->reply->n_events; i++)
			if (part->reply->events[i]->deleted && call->owner)
				check_told(call->owner->job, part->reply->events[i]->kv.key);
		call_add(call, part->reply);
	}
	if (part->final)
		call_finish(call, part->outcome);
	stream->pumping = stream->first != NULL;
	if (stream->pumping)
		event_at(now + random_between(10 * US, 300 * US), pump, stream, 0);
}

static void push(struct stream *stream, struct reply *reply, bool final, enum outcome outcome)
{
	struct part *part = arena_get(sizeof *part);

	*part = (struct part){ .reply = reply, .final = final, .outcome = outcome };
	*stream->last = part;
	stream->last = &part->next;
	if (!stream->pumping) {
		stream->pumping = true;
		event_at(now + network_time(stream->call->host, stream->call->member), pump, stream,
			 0);
	}
}

static struct reply *new_part(struct stream *stream)
{
	struct reply *reply = server_reply(stream->call);

	reply->more = true;
	return reply;
}

/* --- events ----------------------------------------------------------------------------------- */

static bool wants(const struct watcher *watcher, const struct change *change)
{
	return change->revision >= watcher->next && span_has(&watcher->what.span, change->kv.key) &&
	       (!watcher->what.no_put || change->deleted);
}

/* Adds CHANGE to *REPLY, which has those of one revision. */
static void add_event(struct stream *stream, struct watcher *watcher, struct reply **reply,
		      struct change *change)
{
	if (*reply && (*reply)->events[0]->revision != change->revision) {
		push(stream, *reply, false, 0);
		*reply = NULL;
	}
	if (!*reply) {
		*reply = new_part(stream);
		(*reply)->events = arena_get(8 * sizeof *(*reply)->events);
		(*reply)->with_before = watcher->what.before;
	}
	/* A revision that changes more keys is told in several parts. */
	(*reply)->events[(*reply)->n_events++] = change;
	if ((*reply)->n_events == 8) {
		push(stream, *reply, false, 0);
		*reply = NULL;
	}
}

static struct change *copy_change(const struct change *change)
{
	struct change *copy = arena_get(sizeof *copy);

	*copy = *change;
	return copy;
}

static void tell(struct stream *stream, struct watcher *watcher)
{
	const uint64_t applied = cluster.members[stream->call->member].applied;
	struct reply *reply = NULL;

	for (; watcher->from < store.n_changes && store.changes[watcher->from].revision <= applied;
	     watcher->from++) {
		const struct change *change = &store.changes[watcher->from];

		if (!wants(watcher, change))
			continue;
		if (cluster.deaf[stream->call->host] || random_chance(cluster.event_loss))
			trace("an event is lost");
		else
			add_event(stream, watcher, &reply, copy_change(change));
	}
	if (reply)
		push(stream, reply, false, 0);
	if (applied + 1 > watcher->next)
		watcher->next = applied + 1;
}

static void flush(struct stream *stream)
{
	int first;

	if (stream->silent || stream->over || call_is_closed(stream->call))
		return;
	if (random_chance(cluster.event_cancel)) {
		struct reply *reply = new_part(stream);

		reply->canceled = true;
		push(stream, reply, false, 0);
		stream->silent = true;
		return;
	}
	first = (int)random_below(2);
	for (int i = 0; i < stream->n; i++) {
		struct watcher *watcher = &stream->watchers[(i + first) % stream->n];

		if (!watcher->canceled)
			tell(stream, watcher);
	}
}

void server_flush(int m)
{
	for (struct stream **at = &streams[m]; *at;) {
		if (call_is_closed((*at)->call)) {
			*at = (*at)->next;
			continue;
		}
		flush(*at);
		at = &(*at)->next;
	}
}

bool stream_listens(int job, const char *key)
{
	for (int m = 0; m < MEMBERS; m++)
		for (const struct stream *stream = streams[m]; stream; stream = stream->next)
			for (int i = 0; i < stream->n && !stream->over &&
					!call_is_closed(stream->call) &&
					stream->call->owner->job == job;
			     i++)
				if (span_has(&stream->watchers[i].what.span, key))
					return true;
	return false;
}

/* --- beginning and end ------------------------------------------------------------------------ */

static void cancel_as_compacted(struct stream *stream, struct watcher *watcher)
{
	struct reply *reply = new_part(stream);

	reply->canceled = watcher->canceled = true;
	reply->compacted = store.compacted;
	push(stream, reply, false, 0);
}

static void create(struct stream *stream, const struct watch *what)
{
	const struct member *member = &cluster.members[stream->call->member];
	struct watcher *watcher = &stream->watchers[stream->n];
	struct reply *reply = new_part(stream);

	*watcher = (struct watcher){ .what = *what,
				      .next = what->start ? what->start : member->applied + 1 };
	reply->created = true;
	reply->watch_id = (uint64_t)stream->n++;
	if (!server_lets_in(stream->call)) {
		const char *why;
		const bool known = server_refusal(stream->call, &why) == STATUS_INVALID;
		char reason[120];

		reply->canceled = watcher->canceled = true;
		snprintf(reason, sizeof reason, "rpc error: code = %s desc = %s",
			 known ? "InvalidArgument" : "Unauthenticated", why);
		reply->cancel_reason = arena_text(reason);
	}
	push(stream, reply, false, 0);
	if (watcher->canceled)
		return;
	if (watcher->next < store.compacted)
		cancel_as_compacted(stream, watcher);
	else if (member->old && watcher->next == store.compacted)
		watcher->next++;
}

void server_watch(struct call *call)
{
	struct stream *stream = arena_get(sizeof *stream);

	*stream = (struct stream){ .call = call, .next = streams[call->member] };
	stream->last = &stream->first;
	streams[call->member] = stream;
	for (unsigned i = 0; i < call->request->n_watches; i++)
		create(stream, &call->request->watches[i]);
	flush(stream);
}

void server_end_streams(int m, enum end_of_stream how)
{
	for (struct stream *stream = streams[m]; stream; stream = stream->next) {
		struct reply *reply = NULL;

		if (stream->over || call_is_closed(stream->call))
			continue;
		stream->over = true;
		if (how != STREAM_CUT) {
			reply = new_part(stream);
			reply->status = STATUS_UNAVAILABLE;
			reply->message = how == STREAM_NO_LEADER ? "etcdserver: no leader"
								 : "transport is closing";
		}
		push(stream, reply, true, how == STREAM_CUT ? OUTCOME_CUT : OUTCOME_ANSWERED);
	}
}

void stream_tell(const struct watch *what, struct reply *reply)
{
	const struct watcher watcher = { .what = *what, .next = what->start };

	reply->events = arena_get((store.n_changes + 1) * sizeof *reply->events);
	reply->with_before = what->before;
	for (size_t i = 0; i < store.n_changes; i++)
		if (wants(&watcher, &store.changes[i]))
			reply->events[reply->n_events++] = &store.changes[i];
}

void stream_reset(void)
{
	for (int m = 0; m < MEMBERS; m++)
		streams[m] = NULL;
}
