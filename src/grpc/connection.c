#include "grpc/connection.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "grpc/http2.h"

/* Each of several addresses is tried for at least this long. */
#define LEAST_TRY (200 * NS_PER_MS)

/* How long new addresses are waited for if there are old ones. */
#define RESOLVE_LIMIT (200 * NS_PER_MS)

/* Read at a time: more than most answers have. */
#define RECEIVED 16384

/* Reads in a row: a server that sends without end must not keep us from all else. */
#define MOST_RECEIVED 64

static int64_t now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

/* A resolver that hangs is kept, since another one would be another thread. */
static void leave_resolver(struct connection *connection)
{
	if (connection->resolver)
		connection->target->resolver = connection->resolver;
	connection->resolver = NULL;
}

static void judge_files(const struct connection *connection, bool worked)
{
	const struct tls_source *source = connection->target->source;

	source->judge(source->owner, connection->files, worked);
}

/* Whether our files may be the cause: a server can reject a certificate after the handshake. */
static bool is_for_files(enum failure failure)
{
	return failure == FAILURE_CERTIFICATE || failure == FAILURE_FILES ||
	       failure == FAILURE_TLS || failure == FAILURE_CLOSED;
}

void connection_fail(struct connection *connection, enum failure failure, const char *detail)
{
	if (!connection->dead) {
		if (connection->files && !connection->http2.heard && is_for_files(failure))
			judge_files(connection, false);
		connection->failure = failure;
		connection->reason = memory_string(detail);
	}
	connection->dead = true;
	leave_resolver(connection);
	http2_end(&connection->http2, failure, detail);
}

/* Fails if there is a FAILURE. */
static void fail_if(struct connection *connection, enum failure failure, const char *why)
{
	if (failure)
		connection_fail(connection, failure, why);
}

void connection_begin(struct connection *connection, struct rpc *rpc, const char *token)
{
	const struct target *target = connection->target;

	if (connection->dead) {
		rpc_fail(rpc, connection->failure, connection->reason);
		return;
	}
	rpc->is_reused = connection->ready;
	http2_begin(&connection->http2, rpc, target->authority, target->engine, token);
	rpc->connection = rpc->done ? NULL : connection;
}

void connection_drop(struct connection *connection, struct rpc *rpc)
{
	http2_drop(&connection->http2, rpc);
}

/* --- connecting ------------------------------------------------------------------------------- */

static void hang_up(struct connection *connection)
{
	if (connection->tls)
		connection->target->engine->close(connection->tls);
	if (connection->fd >= 0)
		close(connection->fd);
	connection->tls = NULL;
	connection->files = 0;
	connection->fd = -1;
}

/* Starts to connect a socket. Returns 0 or an errno. */
static int dial(struct connection *connection)
{
	const struct addrinfo *address = connection->address;
	const int one = 1;

	connection->fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (connection->fd < 0)
		return errno;
	(void)setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	if (connect(connection->fd, address->ai_addr, address->ai_addrlen) && errno != EINPROGRESS)
		return errno;
	return 0;
}

/* Each address gets an equal part of the time that is left. */
static int64_t time_for_try(const struct connection *connection)
{
	const int64_t left = connection->limit - now();
	int64_t n = 0, part;

	for (const struct addrinfo *one = connection->address; one; one = one->ai_next)
		n++;
	part = left / (n > 0 ? n : 1);
	return n > 1 && part < LEAST_TRY ? LEAST_TRY : part;
}

static bool open_tls(struct connection *connection)
{
	const struct target *target = connection->target;
	const struct tls_source *source = target->source;
	const struct tls_files *files;
	enum failure failure = FAILURE_TLS;
	char *why = NULL;

	if (!target->engine)
		return true;
	files = source->fresh(source->owner);
	connection->files = files->number;
	connection->shaken = false;
	connection->tls = target->engine->open(files, source->skip_verify, target->host,
					       connection->fd, &failure, &why);
	if (!connection->tls)
		connection_fail(connection, failure, why);
	free(why);
	return connection->tls;
}

/* Tries the address and those after it. ERROR: why the previous one failed. */
static void try_addresses(struct connection *connection, int error)
{
	for (; connection->address; connection->address = connection->address->ai_next) {
		hang_up(connection);
		error = dial(connection);
		if (error)
			continue;
		connection->next_due = now() + time_for_try(connection);
		/* The first write shows whether it is connected. */
		connection->events = POLLOUT;
		(void)open_tls(connection);
		return;
	}
	hang_up(connection);
	if (error == ETIMEDOUT)
		connection_fail(connection, FAILURE_SILENT, NULL);
	else
		connection_fail(connection, FAILURE_CONNECT, strerror(error));
}

static void try_next(struct connection *connection, int error)
{
	connection->address = connection->address->ai_next;
	try_addresses(connection, error);
}

/* Old addresses are better than none. */
static void use_addresses(struct connection *connection, int error)
{
	connection->address = connection->target->last;
	if (!connection->address)
		connection_fail(connection, FAILURE_NAME, error ? gai_strerror(error) : NULL);
	else
		try_addresses(connection, 0);
}

static void look_at_resolver(struct connection *connection)
{
	struct target *target = connection->target;
	struct addrinfo *addresses;
	int error;

	addresses = resolver_take(connection->resolver, &error);
	if (addresses) {
		if (target->last)
			freeaddrinfo(target->last);
		target->last = addresses;
	}
	if (!addresses && !error && now() < connection->resolve_limit)
		return;
	if (addresses || error) {
		resolver_end(connection->resolver);
		connection->resolver = NULL;
	} else {
		leave_resolver(connection);
	}
	use_addresses(connection, error);
}

struct connection *connection_open(struct target *target)
{
	struct connection *connection = memory_get(sizeof *connection);
	const bool hangs = target->resolver;

	*connection = (struct connection){ .target = target,
					   .fd = -1,
					   .limit = now() + target->connect,
					   .next_due = DEADLINE_NEVER };
	connection->resolver =
		hangs ? target->resolver : resolver_begin(target->host, target->port);
	target->resolver = NULL;
	if (hangs)
		connection->resolve_limit = 0;
	else
		connection->resolve_limit = target->last ? now() + RESOLVE_LIMIT : DEADLINE_NEVER;
	http2_open(&connection->http2);
	/* The job may have used up all threads. */
	if (!connection->resolver)
		use_addresses(connection, EAI_AGAIN);
	else if (hangs || resolver_fd(connection->resolver) < 0)
		look_at_resolver(connection);
	return connection;
}

void connection_free(struct connection *connection)
{
	/* In this order: that we close it says nothing about our files. */
	hang_up(connection);
	connection_fail(connection, FAILURE_CLOSED, NULL);
	http2_close(&connection->http2);
	bytes_free(&connection->out);
	free(connection->reason);
	free(connection);
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* Something was sent. Before that, another address could be tried with the same bytes. */
static void connected(struct connection *connection)
{
	connection->ready = true;
	connection->limit = connection->next_due = DEADLINE_NEVER;
}

/* ERROR of a system call or of TLS. */
static void lose(struct connection *connection, int error)
{
	if (!connection->ready && !connection->tls)
		try_next(connection, error);
	else
		connection_fail(connection, FAILURE_CLOSED, strerror(error));
}

static bool shake_hands(struct connection *connection)
{
	const struct tls_engine *engine = connection->target->engine;
	enum failure failure = FAILURE_TLS;
	char *why = NULL;
	int r;

	if (!connection->tls || connection->shaken)
		return true;
	r = engine->shake_hands(connection->tls, &connection->events, &failure, &why);
	if (r == 0)
		connection->shaken = true;
	else if (r != -EAGAIN && failure == FAILURE_CONNECT)
		try_next(connection, -r);
	else if (r != -EAGAIN)
		connection_fail(connection, failure, why);
	free(why);
	return r == 0;
}

/* Returns the number of bytes, or a negative errno. */
static ssize_t send_some(struct connection *connection, const unsigned char *bytes, size_t n)
{
	ssize_t r;

	if (connection->tls)
		return connection->target->engine->write(connection->tls, bytes, n,
							 &connection->events);
	r = send(connection->fd, bytes, n, MSG_NOSIGNAL);
	if (r < 0 && errno == EAGAIN)
		connection->events |= POLLOUT;
	return r < 0 ? -errno : r;
}

static ssize_t receive_some(struct connection *connection, unsigned char *bytes, size_t n)
{
	ssize_t r;

	if (connection->tls)
		return connection->target->engine->read(connection->tls, bytes, n,
							&connection->events);
	r = recv(connection->fd, bytes, n, 0);
	return r < 0 ? -errno : r;
}

/* Adds what HTTP/2 has to send. */
static void collect(struct connection *connection)
{
	const char *why = NULL;
	const enum failure failure = http2_collect(&connection->http2, &connection->out, &why);

	fail_if(connection, failure, why);
}

static void send_all(struct connection *connection)
{
	collect(connection);
	while (!connection->dead && connection->out_at < connection->out.n) {
		const ssize_t r = send_some(connection, connection->out.all + connection->out_at,
					    connection->out.n - connection->out_at);

		if (r == -EAGAIN)
			return;
		if (r <= 0) {
			lose(connection, r < 0 ? (int)-r : ECONNRESET);
			return;
		}
		connection->out_at += (size_t)r;
		connected(connection);
		if (connection->out_at == connection->out.n) {
			connection->out_at = connection->out.n = 0;
			collect(connection);
		}
	}
}

static void take_in(struct connection *connection, const unsigned char *bytes, size_t n)
{
	const bool first = !connection->http2.heard;
	const char *why = NULL;
	const enum failure failure = http2_receive(&connection->http2, bytes, n, &why);

	if (first && connection->files && connection->http2.heard)
		judge_files(connection, true);
	fail_if(connection, failure, why);
}

static void receive_more(struct connection *connection)
{
	unsigned char bytes[RECEIVED];

	for (unsigned i = 0; i < MOST_RECEIVED && !connection->dead && connection->readable; i++) {
		const ssize_t r = receive_some(connection, bytes, sizeof bytes);

		/* TLS may have more, even if the socket does not. */
		connection->readable = r == sizeof bytes || (r > 0 && connection->tls);
		if (r == -EAGAIN)
			return;
		if (r > 0)
			take_in(connection, bytes, (size_t)r);
		else
			lose(connection, r < 0 ? (int)-r : ECONNRESET);
	}
}

/* --- the loop --------------------------------------------------------------------------------- */

void connection_move(struct connection *connection)
{
	if (!connection->dead && connection->resolver)
		look_at_resolver(connection);
	if (!connection->dead && now() >= connection->limit)
		connection_fail(connection, connection->resolver ? FAILURE_NAME : FAILURE_SILENT,
				NULL);
	if (!connection->dead && now() >= connection->next_due)
		try_next(connection, ETIMEDOUT);
	if (connection->dead || connection->resolver)
		return;
	connection->events = POLLIN;
	if (!shake_hands(connection))
		return;
	if (connection->ready)
		receive_more(connection);
	if (!connection->dead)
		send_all(connection);
}

struct pollfd connection_poll(const struct connection *connection)
{
	if (connection->resolver)
		return (struct pollfd){ .fd = resolver_fd(connection->resolver), .events = POLLIN };
	return (struct pollfd){ .fd = connection->fd, .events = connection->events };
}

int64_t connection_due(const struct connection *connection)
{
	if (connection->dead)
		return DEADLINE_NEVER;
	return deadline_earlier(deadline_earlier(connection->limit, connection->next_due),
				connection->resolver ? connection->resolve_limit : DEADLINE_NEVER);
}

void connection_polled(struct connection *connection, short revents)
{
	/* Until it is ready it is not read, and what has come must not keep us from resting. */
	connection->readable = connection->readable || (connection->ready && revents);
}
