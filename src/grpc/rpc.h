/*
 * One gRPC call, as its caller sees it: one message as the request and one as the answer; or, in a
 * stream, any number of each.
 */
#ifndef GRPC_RPC_H
#define GRPC_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "grpc/wire.h"

/* The longest message that is accepted. */
#define LARGEST_MESSAGE (256U << 20)

/* Why there is no answer. */
enum failure {
	FAILURE_NONE,	     /* the server has ended the call, with a status */
	FAILURE_NAME,	     /* its name cannot be resolved */
	FAILURE_CONNECT,     /* it cannot be reached */
	FAILURE_SILENT,	     /* nothing came in time */
	FAILURE_CERTIFICATE, /* its certificate is not trusted */
	FAILURE_FILES,	     /* our certificate or key, or the CA's, cannot be used */
	FAILURE_TLS,	     /* the TLS handshake failed */
	FAILURE_PROTOCOL,    /* it does not speak HTTP/2 */
	FAILURE_ANSWER,	     /* HTTP/2, but not gRPC */
	FAILURE_CLOSED,	     /* the connection was closed */
	FAILURE_RESET,	     /* the call was cut off */
};

struct connection;

struct rpc {
	const char *path;
	struct bytes request; /* see rpc_ask() */
	bool is_stream;	      /* its request has no end, and there are many answers */

	/* Called with each message of a stream; the bytes belong to the rpc. */
	void (*take)(void *owner, unsigned char *message, size_t n);
	void *owner;

	/* The result. */
	bool done;
	enum failure failure;
	char *detail;	     /* of a failure, or NULL */
	int http, status;    /* HTTP's and gRPC's; -1: not known yet */
	char *message;	     /* of gRPC's status, or NULL */
	struct bytes answer; /* messages, until it is done with their five-byte prefixes */
	bool is_unread;	     /* the server reports that it did not process it */
	bool is_heard;	     /* the server has sent something: it speaks HTTP/2 */
	bool is_reused;	     /* the connection was there before: it may just have been closed */

	/* For grpc/connection.c. */
	struct connection *connection; /* NULL: none (any more) */
	struct rpc *next;
	int32_t id;
	size_t sent; /* of the request */
	int64_t began;
};

/* Adds a message of N bytes to the request. */
void rpc_ask(struct rpc *rpc, const void *message, size_t n);

/* Prepares RPC to be sent again. */
void rpc_again(struct rpc *rpc);

/* Frees its contents. It must not be on a connection any more. */
void rpc_free(struct rpc *rpc);

/* --- for the connection ----------------------------------------------------------------------- */

/* The call is over, without an answer; DETAIL (or NULL) is copied. */
void rpc_fail(struct rpc *rpc, enum failure failure, const char *detail);

/* Take in N more bytes, and a header. */
void rpc_receive(struct rpc *rpc, const unsigned char *bytes, size_t n);
void rpc_header(struct rpc *rpc, const struct slice *name, const struct slice *value);

/* The server has ended the call. */
void rpc_finish(struct rpc *rpc);

#endif
