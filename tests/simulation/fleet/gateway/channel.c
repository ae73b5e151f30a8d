/*
 * Implements src/grpc/channel.h for the helper's client: the real etcd/transfer.c runs above it,
 * the simulated network below. Connections are modelled as follows: there is one for each server,
 * which is dialled when it is needed; when it ends, all calls on it end; one that is silent for as
 * long as a call waits is given up; a server that closes it may leave the last calls unprocessed;
 * messages come in pieces. A server, or a proxy before it, may send GOAWAY: new calls get another
 * connection, and those that the old one has go on until it is closed. It may reset one stream
 * alone.
 */
#include "grpc/channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/deadline.h"

#include "gateway.h"
#include "../cluster.h"
#include "../descriptors.h"
#include "../world.h"

/* For how long a connection on which no new call is accepted serves the others. */
#define LONGEST_DRAIN (20 * S)
/* The same where it has been lost: until its end is noticed. */
#define SILENT_DRAIN (100 * S)
/* How long after an answer it may be announced. */
#define LATEST_GOAWAY (10 * S)

/* What the real client keeps for a connection is kept for each call here. */
struct connection {
	struct connection *next;
	struct channel *channel;
	struct rpc *rpc;
	struct call *call;
	int64_t closes; /* after GOAWAY: when the server closes it (CLOCK_BOOTTIME); else 0 */
};

struct channel {
	struct task *owner;
	int member;
	int64_t connect; /* the limit */
	bool open, heard_once;
	int64_t goaway; /* when it drains, whatever is going on; 0: not (CLOCK_BOOTTIME) */
	int64_t heard;	/* on the host's CLOCK_BOOTTIME */
	struct connection *calls;
};

static int64_t boottime(void)
{
	return clock_boottime(current->host);
}

/* The URL is http://mN:2379 */
struct channel *channel_open(const char *url, const struct tls_source *source, int64_t connect,
			     char **why)
{
	struct channel *channel = sim_malloc(sizeof *channel);

	(void)source, (void)why;
	*channel = (struct channel){ .owner = current, .member = url[8] - '0', .connect = connect };
	return channel;
}

/* A connection that calls make is no other one. */
void channel_dial(struct channel *channel)
{
	(void)channel;
}

void channel_close(struct channel *channel)
{
	if (channel->calls)
		abort();
	sim_free(channel);
}

/* --- calls ------------------------------------------------------------------------------------ */

/* Removes ONE. */
static void take_off(struct connection *one)
{
	struct connection **at = &one->channel->calls;

	while (*at != one)
		at = &(*at)->next;
	*at = one->next;
	call_drop(one->call);
	one->rpc->connection = NULL;
	sim_free(one);
}

static void fail_one(struct connection *one, enum failure failure, const char *detail)
{
	struct rpc *rpc = one->rpc;

	rpc->is_heard = one->closes || one->channel->heard_once;
	take_off(one);
	rpc_fail(rpc, failure, detail);
}

static void forget(struct channel *channel)
{
	channel->open = channel->heard_once = false;
	channel->heard = channel->goaway = 0;
}

/* The connection has ended, and with it all calls, but for those of older ones. */
static void lose(struct channel *channel, enum failure failure)
{
	struct connection *following;

	for (struct connection *one = channel->calls; one; one = following) {
		following = one->next;
		if (!one->closes)
			fail_one(one, failure,
				 failure == FAILURE_CONNECT ? "Connection refused" : NULL);
	}
	forget(channel);
}

/* GOAWAY has come. */
static void drain(struct channel *channel)
{
	const int64_t closes =
		boottime() + (int64_t)(cluster.drains_silently ? SILENT_DRAIN
							       : random_between(0, LONGEST_DRAIN));

	trace("GOAWAY of member %d", channel->member);
	for (struct connection *one = channel->calls; one; one = one->next)
		if (!one->closes && one->call->connected)
			one->closes = closes;
	forget(channel);
}

void channel_begin(struct channel *channel, struct rpc *rpc, const char *token)
{
	struct connection *one = sim_malloc(sizeof *one);
	const struct slice messages = { .at = rpc->request.all, .n = rpc->request.n };

	rpc_again(rpc);
	rpc->began = boottime();
	rpc->is_reused = channel->open;
	rpc->connection = one;
	*one = (struct connection){ .next = channel->calls, .channel = channel, .rpc = rpc };
	channel->calls = one;
	one->call = call_new(channel->owner, channel->member, gateway_request(rpc->path, messages),
			     token ? arena_text(token) : NULL, channel->open);
	check_request(channel->owner, one->call->request->ask);
	call_begin(one->call);
	current->net_ready = true;
}

bool channel_has_sent(const struct rpc *rpc)
{
	return rpc->connection && rpc->connection->call->sent;
}

bool channel_drains(const struct rpc *rpc)
{
	return rpc->connection && rpc->connection->closes;
}

void channel_end(struct rpc *rpc)
{
	if (rpc->connection)
		take_off(rpc->connection);
}

void channel_give_up(struct rpc *rpc)
{
	struct connection *one = rpc->connection;
	struct channel *channel;
	bool drains;

	if (!one)
		return;
	channel = one->channel;
	drains = one->closes;
	rpc_fail(rpc, FAILURE_SILENT, NULL);
	take_off(one);
	if (!drains && channel->heard < rpc->began)
		lose(channel, FAILURE_SILENT);
}

void channel_close_idle(struct channel *channel)
{
	if (!channel->calls)
		channel->open = false;
}

/* --- receiving -------------------------------------------------------------------------------- */

/* Hands MESSAGE on in pieces. */
static void hand_on(struct rpc *rpc, struct slice message)
{
	const size_t n = message.n + 5;
	/* What is called may ask for another message. */
	unsigned char *copy = arena_get(n);

	copy[0] = copy[1] = 0;
	copy[2] = (unsigned char)(message.n >> 16);
	copy[3] = (unsigned char)(message.n >> 8);
	copy[4] = (unsigned char)message.n;
	memcpy(copy + 5, message.at, message.n);
	for (size_t i = 0, piece; i < n; i += piece) {
		piece = random_chance(0.1) ? 1 + random_below(40) : n - i;
		if (piece > n - i)
			piece = n - i;
		rpc_receive(rpc, copy + i, piece);
	}
}

static void header(struct rpc *rpc, const char *name, const char *value)
{
	const struct slice key = { .at = (const unsigned char *)name, .n = strlen(name) },
			   text = { .at = (const unsigned char *)value, .n = strlen(value) };

	rpc_header(rpc, &key, &text);
}

static void end_with(struct rpc *rpc, const struct reply *reply)
{
	char number[8];

	snprintf(number, sizeof number, "%d", reply ? (int)reply->status : 0);
	header(rpc, "grpc-status", number);
	if (reply && reply->message)
		header(rpc, "grpc-message", reply->message);
}

static void take_replies(struct connection *one)
{
	struct call *call = one->call;
	struct rpc *rpc = one->rpc;

	while (call->first && !rpc->done) {
		const struct reply *reply = call->first;

		call->first = reply->next;
		if (!call->first)
			call->last = &call->first;
		if (!one->closes) {
			one->channel->heard = boottime();
			one->channel->heard_once = true;
		}
		header(rpc, ":status", "200");
		if (reply->status)
			end_with(rpc, reply);
		else
			hand_on(rpc, gateway_message(reply));
	}
}

/*
 * Whether the server ends only this stream. With a draining connection no other call is lost in any
 * case.
 */
static bool is_reset_alone(const struct connection *one)
{
	return one->closes || (cluster.goaway > 0 && random_chance(0.5));
}

/* Returns whether the channel's calls are as they were, but for this one. */
static bool advance(struct connection *one)
{
	struct channel *channel = one->channel;
	struct call *call = one->call;
	struct rpc *rpc = one->rpc;

	if (one->closes && cluster.drains_silently && boottime() < one->closes)
		return true;
	if (call->connected && !one->closes)
		channel->open = true;
	if (call->first && !one->closes && cluster.goaway > 0 && random_chance(cluster.goaway))
		channel->goaway =
			boottime() + (random_chance(0.5) ? 0 : random_between(0, LATEST_GOAWAY));
	if (channel->goaway && boottime() >= channel->goaway)
		drain(channel);
	take_replies(one);
	if (!call->done && !call->connected && boottime() >= rpc->began + channel->connect) {
		lose(channel, FAILURE_SILENT);
		return false;
	}
	if (rpc->done) {
		take_off(one);
		return true;
	}
	if (!call->done && one->closes && boottime() >= one->closes) {
		fail_one(one, FAILURE_CLOSED, NULL);
		return true;
	}
	if (!call->done)
		return true;
	switch (call->outcome) {
	case OUTCOME_ANSWERED:
		if (rpc->status < 0)
			end_with(rpc, NULL);
		rpc_finish(rpc);
		take_off(one);
		return true;
	case OUTCOME_UNREAD:
		rpc->is_unread = true;
		rpc_fail(rpc, FAILURE_RESET, "REFUSED_STREAM");
		take_off(one);
		return true;
	case OUTCOME_REFUSED: lose(channel, FAILURE_CONNECT); return false;
	default:
		if (!is_reset_alone(one)) {
			lose(channel, FAILURE_CLOSED);
			return false;
		}
		fail_one(one, FAILURE_RESET, "INTERNAL_ERROR");
		return true;
	}
}

void channels_move(struct channel *const *channels, size_t n)
{
	task_enter_call();
	current->net_ready = false;
	for (size_t i = 0; i < n; i++)
		for (struct connection *one = channels[i]->calls, *following; one; one = following) {
			following = one->next;
			if (!advance(one))
				break;
		}
}

int64_t channels_due(struct channel *const *channels, size_t n)
{
	int64_t due = DEADLINE_NEVER;

	for (size_t i = 0; i < n; i++) {
		if (channels[i]->calls && channels[i]->goaway)
			due = deadline_earlier(due, channels[i]->goaway);
		for (const struct connection *one = channels[i]->calls; one; one = one->next) {
			if (!one->call->connected)
				due = deadline_earlier(due, one->rpc->began + channels[i]->connect);
			if (one->closes)
				due = deadline_earlier(due, one->closes);
		}
	}
	return due;
}

void channels_rest(struct channel *const *channels, size_t n, struct pollfd *others, size_t m)
{
	(void)channels, (void)n;
	task_enter_call();
	descriptors_poll(others, (unsigned)m, clock_monotonic(current->host) + 60 * S, true);
}
