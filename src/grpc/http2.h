/* HTTP/2 as a client speaks it: nghttp2's session, and the calls that are its streams. */
#ifndef GRPC_HTTP2_H
#define GRPC_HTTP2_H

#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdint.h>

#include "grpc/rpc.h"

struct http2 {
	nghttp2_session *session;
	struct rpc *first; /* calls, from the newest to the oldest */
	bool drains;	   /* the server does not want more calls */
	int64_t heard;	   /* when something has come (CLOCK_BOOTTIME, ns); 0: not yet */
};

/* Begins it: what is to be sent first is collected next. */
void http2_open(struct http2 *http2);

/* Frees it; calls that are left have failed. */
void http2_close(struct http2 *http2);

/* Whether the server takes one more call now. */
bool http2_has_room(const struct http2 *http2);

/* Nothing more comes, for that reason: all calls fail. */
void http2_end(struct http2 *http2, enum failure failure, const char *detail);

/* Sends RPC to AUTHORITY, HOST:PORT. */
void http2_begin(struct http2 *http2, struct rpc *rpc, const char *authority, bool tls,
		 const char *token);

/* Takes RPC off, done or not. */
void http2_drop(struct http2 *http2, struct rpc *rpc);

/* Adds to OUT what is to be sent now; and takes in N bytes. If it is over, they say so, and WHY. */
enum failure http2_collect(struct http2 *http2, struct bytes *out, const char **why);
enum failure http2_receive(struct http2 *http2, const unsigned char *bytes, size_t n,
			   const char **why);

#endif
