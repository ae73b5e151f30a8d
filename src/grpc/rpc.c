#include "grpc/rpc.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* In front of each message: whether it is compressed, and its length. */
#define PREFIX 5

void rpc_ask(struct rpc *rpc, const void *message, size_t n)
{
	const unsigned char prefix[PREFIX] = { 0, (unsigned char)(n >> 24),
					       (unsigned char)(n >> 16), (unsigned char)(n >> 8),
					       (unsigned char)n };

	bytes_add(&rpc->request, prefix, PREFIX);
	bytes_add(&rpc->request, message, n);
}

static void forget_answer(struct rpc *rpc)
{
	bytes_free(&rpc->answer);
	free(rpc->detail);
	free(rpc->message);
	rpc->detail = rpc->message = NULL;
}

void rpc_again(struct rpc *rpc)
{
	forget_answer(rpc);
	rpc->done = rpc->is_unread = rpc->is_heard = rpc->is_reused = false;
	rpc->failure = FAILURE_NONE;
	rpc->http = rpc->status = -1;
	rpc->sent = 0;
}

void rpc_free(struct rpc *rpc)
{
	forget_answer(rpc);
	bytes_free(&rpc->request);
}

void rpc_fail(struct rpc *rpc, enum failure failure, const char *detail)
{
	if (rpc->done)
		return;
	rpc->done = true;
	rpc->failure = failure;
	rpc->detail = memory_string(detail);
}

/* --- messages --------------------------------------------------------------------------------- */

/* Whether a whole message is at AT; its length with the prefix in *N. */
static bool is_whole(struct rpc *rpc, const unsigned char *at, size_t left, size_t *n)
{
	if (left < PREFIX)
		return false;
	*n = PREFIX + ((size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4]);
	/* We did not offer to read compressed messages. */
	if (at[0] != 0)
		rpc_fail(rpc, FAILURE_ANSWER, "a compressed message");
	else if (*n > LARGEST_MESSAGE)
		rpc_fail(rpc, FAILURE_ANSWER, "a message that is too long");
	return !rpc->done && *n <= left;
}

void rpc_receive(struct rpc *rpc, const unsigned char *bytes, size_t n)
{
	size_t at = 0, length = 0;

	if (rpc->done)
		return;
	bytes_add(&rpc->answer, bytes, n);
	if (!rpc->is_stream) {
		if (is_whole(rpc, rpc->answer.all, rpc->answer.n, &length) &&
		    length < rpc->answer.n)
			rpc_fail(rpc, FAILURE_ANSWER, "more than one message");
		return;
	}
	while (is_whole(rpc, rpc->answer.all + at, rpc->answer.n - at, &length)) {
		rpc->take(rpc->owner, rpc->answer.all + at + PREFIX, length - PREFIX);
		at += length;
	}
	if (at > 0)
		memmove(rpc->answer.all, rpc->answer.all + at, rpc->answer.n - at);
	rpc->answer.n -= at;
}

void rpc_finish(struct rpc *rpc)
{
	size_t n = 0;

	if (rpc->done)
		return;
	if (rpc->http != 200)
		rpc_fail(rpc, FAILURE_ANSWER, NULL);
	else if (rpc->status < 0)
		rpc_fail(rpc, FAILURE_RESET, "no status");
	else if (rpc->status == 0 && !rpc->is_stream &&
		 (!is_whole(rpc, rpc->answer.all, rpc->answer.n, &n) || n != rpc->answer.n))
		rpc_fail(rpc, FAILURE_ANSWER, "half a message");
	rpc->done = true;
	if (rpc->failure || rpc->is_stream)
		return;
	/* The caller gets the message without its prefix. */
	if (rpc->answer.n >= PREFIX) {
		rpc->answer.n -= PREFIX;
		memmove(rpc->answer.all, rpc->answer.all + PREFIX, rpc->answer.n);
	}
}

/* --- headers ---------------------------------------------------------------------------------- */

static bool is(const struct slice *name, const char *wanted)
{
	return name->n == strlen(wanted) && !memcmp(name->at, wanted, name->n);
}

/* A number of at most four digits; -1: it is not one. */
static int number(const struct slice *value)
{
	int n = 0;

	if (value->n == 0 || value->n > 4)
		return -1;
	for (size_t i = 0; i < value->n; i++) {
		if (value->at[i] < '0' || value->at[i] > '9')
			return -1;
		n = n * 10 + (value->at[i] - '0');
	}
	return n;
}

static int hex(unsigned char digit)
{
	static const char digits[] = "0123456789abcdefABCDEF";
	const char *at = digit ? strchr(digits, digit) : NULL;

	return !at ? -1 : at - digits > 15 ? (int)(at - digits) - 6 : (int)(at - digits);
}

/* %XX stands for a byte that a header cannot have. */
static char *decoded(const struct slice *value)
{
	char *text = memory_get(value->n + 1), *to = text;

	for (size_t i = 0; i < value->n; i++) {
		const unsigned char *at = value->at + i;

		if (*at == '%' && i + 2 < value->n && hex(at[1]) >= 0 && hex(at[2]) >= 0) {
			*to++ = (char)(16 * hex(at[1]) + hex(at[2]));
			i += 2;
		} else {
			*to++ = (char)*at;
		}
	}
	return text;
}

void rpc_header(struct rpc *rpc, const struct slice *name, const struct slice *value)
{
	if (rpc->done)
		return;
	if (is(name, ":status")) {
		rpc->http = number(value);
	} else if (is(name, "grpc-status")) {
		/* A status that is not a number counts as an unknown error. */
		rpc->status = number(value) >= 0 ? number(value) : 2;
	} else if (is(name, "grpc-message")) {
		free(rpc->message);
		rpc->message = decoded(value);
	}
}
