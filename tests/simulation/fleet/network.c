#include "network.h"

#include <inttypes.h>

#include "cluster.h"
#include "server.h"
#include "world.h"

/* TCP sends again, less often than this; and a frozen member's socket has a buffer. */
#define SEND_AGAIN (200 * MS)
#define MOST_TRIES 150

static uint64_t n_calls;
static struct call *calls[TASKS]; /* by the owner's pid */

ns network_time(int host, int m)
{
	ns t = cluster.latency[host][m];

	t += random_between(20 * US, t / 2 + 100 * US);
	if (random_chance(cluster.slow)) {
		const ns most = random_chance(0.2) ? 2500 * MS : 400 * MS;

		t += random_between(20 * MS, most);
	}
	return t;
}

/* --- calls and their owners ------------------------------------------------------------------- */

struct call *call_new(struct task *owner, int member, struct request *request, const char *token,
		      bool reused)
{
	struct call *call = arena_get(sizeof *call), **first = &calls[owner->pid - FIRST_PID];

	*call = (struct call){ .id = ++n_calls,
				.owner = owner,
				.host = owner->host,
				.member = member,
				.request = request,
				.token = token,
				.reused = reused,
				.next = *first };
	call->last = &call->first;
	*first = call;
	return call;
}

void call_drop(struct call *call)
{
	if (!call->owner)
		return;
	for (struct call **at = &calls[call->owner->pid - FIRST_PID]; *at; at = &(*at)->next)
		if (*at == call) {
			*at = call->next;
			break;
		}
	call->owner = NULL;
}

void network_forget(struct task *task)
{
	while (calls[task->pid - FIRST_PID])
		call_drop(calls[task->pid - FIRST_PID]);
}

bool call_is_closed(const struct call *call)
{
	return !call->owner || call->done;
}

static void wake_owner(struct call *call)
{
	struct task *owner = call->owner;

	owner->net_ready = true;
	if (owner->alive && owner->blocked && owner->wants_net && !owner->pending)
		task_wake(owner, random_between(20 * US, 120 * US));
}

void call_finish(struct call *call, enum outcome outcome)
{
	if (call_is_closed(call))
		return;
	call->done = true;
	call->outcome = outcome;
	wake_owner(call);
}

void call_add(struct call *call, struct reply *reply)
{
	if (call_is_closed(call))
		return;
	*call->last = reply;
	call->last = &reply->next;
	wake_owner(call);
}

/* --- the way there ---------------------------------------------------------------------------- */

/* The request comes to its member, at the Nth try. */
static void deliver(void *argument, int64_t n)
{
	struct call *call = argument;
	const struct member *member = &cluster.members[call->member];

	if (cluster.cut_up[call->host][call->member] || (member->up && member->frozen)) {
		/* It is sent again, also when nobody waits for it any more; or lies in a buffer. */
		if (n < MOST_TRIES &&
		    (!call_is_closed(call) || n > 0 || random_chance(cluster.late)))
			event_at(now + SEND_AGAIN, deliver, call, n + 1);
	} else if (!member->up) {
		if (!cluster.cut_down[call->host][call->member])
			call_finish(call, call->reused ? OUTCOME_RESET : OUTCOME_NOTHING);
	} else if (!call_is_closed(call) || random_chance(cluster.late)) {
		cluster.n_requests++;
		server_process(call);
	}
}

static void end_call(void *argument, int64_t outcome)
{
	call_finish(argument, (enum outcome)outcome);
}

/*
 * The connection was used before, and is closed just now. Nobody knows whether the request was
 * read; or the server says that it was not.
 */
static void lose_connection(struct call *call, ns t)
{
	if (random_chance(0.2)) {
		event_at(now + 2 * t, end_call, call, OUTCOME_UNREAD);
		return;
	}
	if (random_chance(0.6)) {
		const ns late = random_chance(cluster.late) ? random_between(0, 5 * S) : 0;

		event_at(now + t + late, deliver, call, 0);
	}
	event_at(now + 2 * t, end_call, call, OUTCOME_RESET);
}

static void send_call(struct call *call)
{
	ns t = network_time(call->host, call->member);

	call->connected = call->sent = true;
	trace("call %" PRIu64 ": member %d is asked to %s", call->id, call->member,
	      server_words(call->request->ask));
	wake_owner(call);
	if (random_chance(cluster.loss)) {
		const bool long_one = random_chance(0.4);

		t += random_between(long_one ? 2 * S : 200 * MS, long_one ? 20 * S : 2 * S);
	}
	if (call->reused && call->request->ask != ASK_WATCH && random_chance(cluster.reset)) {
		lose_connection(call, t);
		return;
	}
	event_at(now + t, deliver, call, 0);
	if (random_chance(cluster.duplicate))
		event_at(now + t + random_between(0, 10 * S), deliver, call, 0);
}

static void connected(void *argument, int64_t n)
{
	struct call *call = argument;

	(void)n;
	if (call_is_closed(call) || cluster.cut_up[call->host][call->member] ||
	    cluster.cut_down[call->host][call->member])
		return;
	if (cluster.members[call->member].up)
		send_call(call);
	else
		call_finish(call, OUTCOME_REFUSED);
}

void call_begin(struct call *call)
{
	world_event(EVENT_REQUEST, call->owner->job, (int)call->request->ask | call->member << 8);
	if (call->reused)
		send_call(call);
	else
		event_at(now + 2 * network_time(call->host, call->member), connected, call, 0);
}

/* --- the way back ----------------------------------------------------------------------------- */

static void arrive(void *argument, int64_t n)
{
	struct reply *reply = argument;
	struct call *call = reply->call;
	const struct member *member = &cluster.members[call->member];

	(void)n;
	if (call_is_closed(call))
		return;
	if ((cluster.cut_down[call->host][call->member] || (member->up && member->frozen)) &&
	    reply->tries++ < MOST_TRIES) {
		event_at(now + SEND_AGAIN, arrive, reply, 0);
		return;
	}
	if (!member->up && reply->tries > 0)
		return;
	trace("call %" PRIu64 ": member %d answers: %s", call->id, call->member,
	      reply->status ? reply->message : "done");
	call_add(call, reply);
	call_finish(call, OUTCOME_ANSWERED);
}

void network_reply(struct reply *reply)
{
	ns t = network_time(reply->call->host, reply->call->member);

	/* It is done, but the answer is late. */
	if (random_chance(cluster.loss))
		t += random_between(500 * MS, 10 * S);
	event_at(now + t, arrive, reply, 0);
}

/* --- etcdctl ---------------------------------------------------------------------------------- */

struct reply *network_ask(int member, struct request *request, ns limit)
{
	struct task *task = current;
	struct call *call = call_new(task, member, request, NULL, false);
	const ns end = clock_monotonic(task->host) + limit;
	struct reply *reply;

	call_begin(call);
	while (!call->done && clock_monotonic(task->host) < end) {
		task->net_ready = false;
		descriptors_poll(NULL, 0, end, true);
	}
	reply = call->done && call->outcome == OUTCOME_ANSWERED && call->first &&
				!call->first->status
		      ? call->first
		      : NULL;
	call_drop(call);
	return reply;
}

void network_reset(void)
{
	n_calls = 0;
	for (int i = 0; i < n_tasks; i++)
		calls[i] = NULL;
}
