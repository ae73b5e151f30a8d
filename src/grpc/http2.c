/*
 * nghttp2 answers pings and settings, and does the flow control of both directions. It refuses what
 * HTTP/2 forbids, headers of more than 64 KiB, and floods. We send no pings: every call has its
 * time limit, and etcd closes connections that ping too often.
 */
#include "grpc/http2.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"

/* How much the server may send before we have read it: for long answers from far away. */
#define WINDOW (1 << 20)

/* About this much is collected before it is sent. */
#define COLLECTED 65536

/* --- receiving -------------------------------------------------------------------------------- */

static struct rpc *rpc_of(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

static void unlink_rpc(struct http2 *http2, struct rpc *rpc)
{
	struct rpc **at = &http2->first;

	while (*at && *at != rpc)
		at = &(*at)->next;
	if (*at)
		*at = rpc->next;
	rpc->connection = NULL;
}

void http2_drop(struct http2 *http2, struct rpc *rpc)
{
	(void)nghttp2_session_set_stream_user_data(http2->session, rpc->id, NULL);
	(void)nghttp2_submit_rst_stream(http2->session, NGHTTP2_FLAG_NONE, rpc->id, NGHTTP2_CANCEL);
	unlink_rpc(http2, rpc);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
		     void *argument)
{
	const struct slice key = { .at = name, .n = name_length },
			   text = { .at = value, .n = value_length };
	struct rpc *rpc = rpc_of(session, frame->hd.stream_id);

	(void)flags;
	(void)argument;
	if (rpc)
		rpc_header(rpc, &key, &text);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes,
		   size_t n, void *argument)
{
	struct http2 *http2 = argument;
	struct rpc *rpc = rpc_of(session, id);

	(void)flags;
	if (!rpc)
		return 0;
	rpc_receive(rpc, bytes, n);
	if (rpc->done)
		http2_drop(http2, rpc);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *argument)
{
	const uint8_t type = frame->hd.type;
	struct http2 *http2 = argument;
	struct rpc *rpc;

	if (type == NGHTTP2_GOAWAY)
		http2->drains = true;
	if ((type != NGHTTP2_HEADERS && type != NGHTTP2_DATA) ||
	    !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
		return 0;
	/* Our side of a stream is still open, so on_close() is not called. */
	rpc = rpc_of(session, frame->hd.stream_id);
	if (rpc && rpc->is_stream) {
		rpc_finish(rpc);
		http2_drop(http2, rpc);
	}
	return 0;
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t error, void *argument)
{
	struct http2 *http2 = argument;
	struct rpc *rpc = rpc_of(session, id);

	if (!rpc)
		return 0;
	unlink_rpc(http2, rpc);
	rpc->is_unread = error == NGHTTP2_REFUSED_STREAM && rpc->http < 0;
	/* A status counts, even if the server does not want the rest of the request. */
	if (rpc->status < 0 && (error != NGHTTP2_NO_ERROR || rpc->http < 0))
		rpc_fail(rpc, FAILURE_RESET, nghttp2_http2_strerror(error));
	else
		rpc_finish(rpc);
	return 0;
}

/*
 * The first bytes of a server that speaks TLS, or neither that nor HTTP/2: a frame begins with
 * three bytes of length and its type.
 */
static enum failure first_bytes(const unsigned char *bytes, size_t n, const char **why)
{
	static const unsigned char alert[] = { 0x15, 3 };

	if (n >= 2 && !memcmp(bytes, alert, 2))
		return FAILURE_CLOSED;
	if (n < 4 || bytes[3] <= NGHTTP2_CONTINUATION)
		return FAILURE_NONE;
	*why = "it does not answer in HTTP/2";
	return FAILURE_PROTOCOL;
}

/* After GOAWAY and the last stream, or after an error that nghttp2 has reported to the server. */
static enum failure is_over(const struct http2 *http2)
{
	return nghttp2_session_want_read(http2->session) ||
			       nghttp2_session_want_write(http2->session)
		       ? FAILURE_NONE
		       : FAILURE_PROTOCOL;
}

/* RESULT is an error of nghttp2. */
static enum failure judge(ssize_t result, const char **why)
{
	if (result == NGHTTP2_ERR_NOMEM)
		memory_fail();
	*why = nghttp2_strerror((int)result);
	return FAILURE_PROTOCOL;
}

enum failure http2_receive(struct http2 *http2, const unsigned char *bytes, size_t n,
			   const char **why)
{
	enum failure failure = http2->heard ? FAILURE_NONE : first_bytes(bytes, n, why);
	ssize_t r;

	if (failure)
		return failure;
	http2->heard = clock_now(CLOCK_BOOTTIME);
	r = nghttp2_session_mem_recv(http2->session, bytes, n);
	return r < 0 ? judge(r, why) : is_over(http2);
}

void http2_end(struct http2 *http2, enum failure failure, const char *detail)
{
	struct rpc *next;

	for (struct rpc *rpc = http2->first; rpc; rpc = next) {
		next = rpc->next;
		rpc->connection = NULL;
		rpc->is_heard = http2->heard;
		rpc_fail(rpc, failure, detail);
	}
	http2->first = NULL;
}

/* --- sending ---------------------------------------------------------------------------------- */

static ssize_t read_request(nghttp2_session *session, int32_t id, uint8_t *bytes, size_t n,
			    uint32_t *flags, nghttp2_data_source *source, void *argument)
{
	struct rpc *rpc = rpc_of(session, id);
	size_t left;

	(void)source;
	(void)argument;
	/* Nobody waits for it any more. */
	if (!rpc)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	left = rpc->request.n - rpc->sent;
	if (left == 0 && rpc->is_stream)
		return NGHTTP2_ERR_DEFERRED;
	n = left < n ? left : n;
	memcpy(bytes, rpc->request.all + rpc->sent, n);
	rpc->sent += n;
	if (rpc->sent == rpc->request.n && !rpc->is_stream)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

enum failure http2_collect(struct http2 *http2, struct bytes *out, const char **why)
{
	while (out->n < COLLECTED) {
		const uint8_t *bytes;
		const ssize_t n = nghttp2_session_mem_send(http2->session, &bytes);

		if (n < 0)
			return judge(n, why);
		if (n == 0)
			break;
		bytes_add(out, bytes, (size_t)n);
	}
	return out->n == 0 ? is_over(http2) : FAILURE_NONE;
}

bool http2_has_room(const struct http2 *http2)
{
	uint32_t room = nghttp2_session_get_remote_settings(
		http2->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);

	for (const struct rpc *rpc = http2->first; rpc && room > 0; rpc = rpc->next)
		room--;
	return !http2->drains && room > 0;
}

static nghttp2_nv header(const char *name, const char *value)
{
	return (nghttp2_nv){ .name = (uint8_t *)(uintptr_t)name,
			     .value = (uint8_t *)(uintptr_t)value,
			     .namelen = strlen(name),
			     .valuelen = strlen(value) };
}

void http2_begin(struct http2 *http2, struct rpc *rpc, const char *authority, bool tls,
		 const char *token)
{
	nghttp2_nv headers[8] = {
		header(":method", "POST"),
		header(":scheme", tls ? "https" : "http"),
		header(":path", rpc->path),
		header(":authority", authority),
		header("content-type", "application/grpc"),
		header("te", "trailers"),
		/* A member without a leader then refuses the call at once instead of hanging. */
		header("hasleader", "true"),
	};
	const nghttp2_data_provider provider = { .read_callback = read_request };

	if (token)
		headers[7] = header("token", token);
	rpc->began = clock_now(CLOCK_BOOTTIME);
	rpc->id = nghttp2_submit_request(http2->session, NULL, headers, token ? 8 : 7, &provider,
					 rpc);
	if (rpc->id < 0) {
		rpc_fail(rpc, FAILURE_RESET, nghttp2_strerror(rpc->id));
		return;
	}
	rpc->next = http2->first;
	http2->first = rpc;
}

/* --- opening and closing ---------------------------------------------------------------------- */

void http2_open(struct http2 *http2)
{
	static const nghttp2_settings_entry settings[] = {
		{ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
		{ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW },
	};
	nghttp2_session_callbacks *callbacks;

	if (nghttp2_session_callbacks_new(&callbacks))
		memory_fail();
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
	if (nghttp2_session_client_new(&http2->session, callbacks, http2) ||
	    nghttp2_submit_settings(http2->session, NGHTTP2_FLAG_NONE, settings, 2) ||
	    nghttp2_session_set_local_window_size(http2->session, NGHTTP2_FLAG_NONE, 0, WINDOW))
		memory_fail();
	nghttp2_session_callbacks_del(callbacks);
}

void http2_close(struct http2 *http2)
{
	http2_end(http2, FAILURE_CLOSED, NULL);
	nghttp2_session_del(http2->session);
}
