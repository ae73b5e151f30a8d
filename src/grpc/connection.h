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

/* Where it leads. */
struct target {
	char *host, *port;
	char *authority; /* HOST:PORT as in the URL */
	const struct tls_engine *engine;
	const struct tls_source *source; /* of certificates and key */
	int64_t connect;		 /* ns that connecting may take */
	struct resolver *resolver;	 /* one that still hangs; or NULL */
	struct addrinfo *last;		 /* the last known addresses; or NULL */
};

struct connection {
	struct target *target;
	struct connection *next;
	bool dead; /* of no more use: */
	enum failure failure;
	char *reason; /* or NULL */
	bool ready;   /* something was sent */

	/* Connecting. */
	struct addrinfo *address;  /* the one that is tried, in target->last */
	int64_t resolve_limit;	   /* then the last known addresses are used */
	struct resolver *resolver; /* NULL: the addresses are known */
	int64_t limit, next_due;   /* of all tries, and of this one */

	int fd; /* -1: none */
	struct tls *tls;
	unsigned files; /* the number of the tls_files in use */
	bool shaken;	/* the TLS handshake is done */
	struct http2 http2;
	struct bytes out; /* to be sent, from OUT_AT on */
	size_t out_at;
	short events;  /* what to poll for */
	bool readable; /* poll said so, or TLS may have more */
};

struct connection *connection_open(struct target *target);

/* Frees it; its remaining calls fail. */
void connection_free(struct connection *connection);

/* Sends RPC. On a dead connection it fails for the same reason. */
void connection_begin(struct connection *connection, struct rpc *rpc, const char *token);

/* Removes RPC, done or not. */
void connection_drop(struct connection *connection, struct rpc *rpc);

/* Marks it dead for that reason: all its calls fail. */
void connection_fail(struct connection *connection, enum failure failure, const char *detail);

/* Sends and receives what is pending. */
void connection_move(struct connection *connection);

/* What to poll; when to call connection_move() at the latest; takes in the result of poll(2). */
struct pollfd connection_poll(const struct connection *connection);
int64_t connection_due(const struct connection *connection);
void connection_polled(struct connection *connection, short revents);

#endif
