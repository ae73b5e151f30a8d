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
	int64_t heard;	   /* when something last came (CLOCK_BOOTTIME, ns); 0: not yet */
};

/* Opens a session. http2_collect() then has its first bytes. */
void http2_open(struct http2 *http2);

/* Frees it; its remaining calls fail. */
void http2_close(struct http2 *http2);

/* Whether the server accepts one more call now. */
bool http2_has_room(const struct http2 *http2);

/* Ends it for that reason: all calls fail. */
void http2_end(struct http2 *http2, enum failure failure, const char *detail);

/* Sends RPC to AUTHORITY, HOST:PORT. */
void http2_begin(struct http2 *http2, struct rpc *rpc, const char *authority, bool tls,
		 const char *token);

/* Removes RPC, done or not. */
void http2_drop(struct http2 *http2, struct rpc *rpc);

/*
 * Add to OUT what is to be sent now, and take in N bytes. If the session is over, they return the
 * failure, and in *WHY the reason.
 */
enum failure http2_collect(struct http2 *http2, struct bytes *out, const char **why);
enum failure http2_receive(struct http2 *http2, const unsigned char *bytes, size_t n,
			   const char **why);

#endif
