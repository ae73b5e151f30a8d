/*
 * One call of gRPC, as its caller sees it: a request of one message or, for a stream, of some; and
 * an answer of one, or any number.
 */
#ifndef GRPC_RPC_H
#define GRPC_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "grpc/wire.h"

/* The longest message that is taken. */
#define LARGEST_MESSAGE (256U << 20)

/* Why there is no answer. */
enum failure {
	FAILURE_NONE,	     /* the server has ended the call: it says how */
	FAILURE_NAME,	     /* its name cannot be resolved */
	FAILURE_CONNECT,     /* it cannot be reached */
	FAILURE_SILENT,	     /* nothing came in time */
	FAILURE_CERTIFICATE, /* its certificate is not trusted */
	FAILURE_FILES,	     /* ours, or the CA's, cannot be used */
	FAILURE_TLS,	     /* no agreement on TLS */
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

	/* Called with each message of a stream; the bytes are the rpc's. */
	void (*take)(void *owner, unsigned char *message, size_t n);
	void *owner;

	/* What has become of it. */
	bool done;
	enum failure failure;
	char *detail;	     /* of a failure, or NULL */
	int http, status;    /* HTTP's and gRPC's; -1: not known yet */
	char *message;	     /* of gRPC's status, or NULL */
	struct bytes answer; /* messages with the five bytes in front */
	bool is_unread;	     /* the server says that it has not looked at it */
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

/* Frees what is in it. It must not be with a connection any more. */
void rpc_free(struct rpc *rpc);

/* --- for those who receive it ----------------------------------------------------------------- */

/* The call is over, without an answer; DETAIL (or NULL) is copied. */
void rpc_fail(struct rpc *rpc, enum failure failure, const char *detail);

/* N more bytes, and a header, have come. */
void rpc_receive(struct rpc *rpc, const unsigned char *bytes, size_t n);
void rpc_header(struct rpc *rpc, const struct slice *name, const struct slice *value);

/* All has come. */
void rpc_finish(struct rpc *rpc);

#endif
