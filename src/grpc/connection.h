/* One connection: a socket, TLS on it if that is wanted, and a session of HTTP/2. */
#ifndef GRPC_CONNECTION_H
#define GRPC_CONNECTION_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "grpc/http2.h"
#include "grpc/resolver.h"
#include "grpc/rpc.h"
#include "grpc/tls.h"

/* Where it goes to. */
struct target {
	char *host, *port;
	char *authority; /* HOST:PORT as in the URL */
	const struct tls_engine *engine;
	const struct tls_source *source; /* of its files */
	int64_t connect;		 /* ns: to get through */
	struct resolver *resolver;	 /* one that has hung longer than wanted; or NULL */
	struct addrinfo *last;		 /* addresses: those of the last time; or NULL */
};

struct connection {
	struct target *target;
	struct connection *next;
	bool dead; /* nothing more can come of it: */
	enum failure failure;
	char *reason; /* or NULL */
	bool ready;   /* the server has taken it, and TLS is there */

	/* Getting there. */
	struct addrinfo *address;  /* the one that is tried, of target->last */
	int64_t resolve_limit;	   /* then the last addresses are used */
	struct resolver *resolver; /* NULL: the addresses are known */
	int64_t limit, next_due;   /* of all tries, and of this one */

	int fd; /* -1: none */
	struct tls *tls;
	unsigned files; /* the number of those that it uses */
	bool shaken;	/* hands: TLS is ready */
	struct http2 http2;
	struct bytes out; /* to be sent, from OUT_AT on */
	size_t out_at;
	short events;  /* what to poll for */
	bool readable; /* poll said so, or TLS may have more */
};

struct connection *connection_open(struct target *target);

/* Frees it; calls that are left have failed. */
void connection_free(struct connection *connection);

/* Sends RPC. On one that is dead it fails as the connection has. */
void connection_begin(struct connection *connection, struct rpc *rpc, const char *token);

/* Takes RPC off, done or not. */
void connection_drop(struct connection *connection, struct rpc *rpc);

/* It is of no use any more, for that reason: all its calls fail. */
void connection_fail(struct connection *connection, enum failure failure, const char *detail);

/* Sends and takes in what there is. */
void connection_move(struct connection *connection);

/* What to poll, and when to move at the latest; taking in what poll has said. */
struct pollfd connection_poll(const struct connection *connection);
int64_t connection_due(const struct connection *connection);
void connection_polled(struct connection *connection, short revents);

#endif
