#include "grpc/channel.h"

#include <stdlib.h>
#include <string.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "grpc/connection.h"

/* More than are in use at a time: one for each endpoint, and some that drain. */
#define MOST_POLLED 64

/* ms; the caller's own timer ends every wait earlier. */
#define LONGEST_REST 60000

struct channel {
	struct target target;
	struct connection *first; /* the newest; the others drain */
};

/* --- the target ------------------------------------------------------------------------------- */

/* Reads "HOST:PORT" or "[ADDRESS]:PORT". A path may follow. */
static void read_target(struct target *target, const char *text)
{
	const size_t n = strcspn(text, "/");
	const char *host = *text == '[' ? text + 1 : text,
		   *host_end = *text == '[' ? memchr(text, ']', n) : memchr(text, ':', n), *port;

	if (!host_end)
		host_end = text + n;
	target->authority = memory_text(text, n);
	target->host = memory_text(host, (size_t)(host_end - host));
	port = memchr(host_end, ':', (size_t)(text + n - host_end));
	target->port =
		port ? memory_text(port + 1, (size_t)(text + n - port - 1)) : memory_string("2379");
}

struct channel *channel_open(const char *url, const struct tls_source *source, int64_t connect,
			     char **why)
{
	struct channel *channel = memory_get(sizeof *channel);
	const char *host = strstr(url, "://");

	channel->target.source = source;
	channel->target.connect = connect;
	read_target(&channel->target, host ? host + 3 : url);
	if (strncmp(url, "https:", 6) != 0)
		return channel;
	channel->target.engine = tls_load(why);
	if (channel->target.engine)
		return channel;
	channel_close(channel);
	return NULL;
}

void channel_close(struct channel *channel)
{
	struct connection *next;

	for (struct connection *one = channel->first; one; one = next) {
		next = one->next;
		connection_free(one);
	}
	if (channel->target.resolver)
		resolver_end(channel->target.resolver);
	if (channel->target.last)
		freeaddrinfo(channel->target.last);
	free(channel->target.host);
	free(channel->target.port);
	free(channel->target.authority);
	free(channel);
}

/* --- calls ------------------------------------------------------------------------------------ */

/* Frees useless connections. ALL: also idle ones. */
static void tidy(struct channel *channel, bool all)
{
	struct connection **at = &channel->first;

	while (*at) {
		struct connection *one = *at;

		if (!one->dead && (one->http2.first || (!all && http2_has_room(&one->http2)))) {
			at = &one->next;
			continue;
		}
		*at = one->next;
		connection_free(one);
	}
}

void channel_close_idle(struct channel *channel)
{
	tidy(channel, true);
}

/* The connection for new calls. */
static struct connection *get_connection(struct channel *channel)
{
	struct connection *connection;

	tidy(channel, false);
	/* A server may allow no call beside a stream: renewals must not wait for its end. */
	connection = channel->first;
	while (connection && !http2_has_room(&connection->http2))
		connection = connection->next;
	if (!connection) {
		connection = connection_open(&channel->target);
		connection->next = channel->first;
		channel->first = connection;
	}
	return connection;
}

void channel_dial(struct channel *channel)
{
	struct connection *connection = get_connection(channel);

	if (!connection->dead)
		connection_move(connection);
}

void channel_begin(struct channel *channel, struct rpc *rpc, const char *token)
{
	rpc_again(rpc);
	connection_begin(get_connection(channel), rpc, token);
}

bool channel_has_sent(const struct rpc *rpc)
{
	const struct connection *connection = rpc->connection;

	return connection && connection->ready && connection->out.n == 0 &&
	       rpc->sent == rpc->request.n;
}

bool channel_drains(const struct rpc *rpc)
{
	return rpc->connection && rpc->connection->http2.drains;
}

void channel_end(struct rpc *rpc)
{
	if (rpc->connection)
		connection_drop(rpc->connection, rpc);
}

void channel_give_up(struct rpc *rpc)
{
	struct connection *connection = rpc->connection;

	if (!connection)
		return;
	rpc_fail(rpc, connection->resolver ? FAILURE_NAME : FAILURE_SILENT, NULL);
	connection_drop(connection, rpc);
	if (connection->http2.heard < rpc->began)
		connection_fail(connection, rpc->failure, NULL);
}

/* --- the loop --------------------------------------------------------------------------------- */

void channels_move(struct channel *const *channels, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		for (struct connection *one = channels[i]->first; one; one = one->next)
			if (!one->dead)
				connection_move(one);
		tidy(channels[i], false);
	}
}

int64_t channels_due(struct channel *const *channels, size_t n)
{
	int64_t due = DEADLINE_NEVER;

	for (size_t i = 0; i < n; i++)
		for (struct connection *one = channels[i]->first; one; one = one->next)
			due = deadline_earlier(due, connection_due(one));
	return due;
}

void channels_rest(struct channel *const *channels, size_t n, struct pollfd *others, size_t m)
{
	struct pollfd polled[MOST_POLLED];
	struct connection *connections[MOST_POLLED];
	size_t used = m;
	bool readable = false;

	memcpy(polled, others, m * sizeof *others);
	for (size_t i = 0; i < n; i++)
		for (struct connection *one = channels[i]->first; one && used < MOST_POLLED;
		     one = one->next) {
			readable = readable || one->readable;
			connections[used] = one;
			polled[used++] = connection_poll(one);
		}
	if (poll(polled, used, readable ? 0 : LONGEST_REST) <= 0)
		return;
	memcpy(others, polled, m * sizeof *others);
	for (size_t i = m; i < used; i++)
		connection_polled(connections[i], polled[i].revents);
}
