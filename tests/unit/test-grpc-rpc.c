/* Messages, headers and the end of a call, as they come from a connection. */
#include <stdlib.h>

#include "grpc/rpc.h"
#include "tap.h"

static struct rpc rpc;
static char taken[100];

static void take(void *owner, unsigned char *message, size_t n)
{
	(void)owner;
	(void)snprintf(taken + strlen(taken), sizeof taken - strlen(taken), "<%.*s>", (int)n, (char *)message);
}

static void begin(bool is_stream)
{
	rpc_free(&rpc);
	rpc = (struct rpc){ .is_stream = is_stream, .take = take };
	rpc_again(&rpc);
	*taken = 0;
}

static void header(const char *name, const char *value)
{
	const struct slice key = { .at = (const unsigned char *)name, .n = strlen(name) },
			   text = { .at = (const unsigned char *)value, .n = strlen(value) };

	rpc_header(&rpc, &key, &text);
}

/* An answer of the N bytes DATA with STATUS. */
static void answered(const char *data, size_t n, const char *status)
{
	begin(false);
	header(":status", "200");
	rpc_receive(&rpc, (const unsigned char *)data, n);
	if (status)
		header("grpc-status", status);
	rpc_finish(&rpc);
}

static bool fails(enum failure failure)
{
	return rpc.done && rpc.failure == failure;
}

static void answers(void)
{
	answered("\0\0\0\0\2ab", 7, "0");
	ok(fails(FAILURE_NONE) && rpc.status == 0 && rpc.answer.n == 2 && !memcmp(rpc.answer.all, "ab", 2), "a message");
	answered("\0\0\0\0\0", 5, "0");
	ok(fails(FAILURE_NONE) && rpc.answer.n == 0, "an empty one");
	answered("", 0, "0");
	ok(fails(FAILURE_ANSWER), "none");
	answered("", 0, "5");
	ok(fails(FAILURE_NONE) && rpc.status == 5, "an error without one");
	answered("\0\0\0\0\2a", 6, "0");
	ok(fails(FAILURE_ANSWER), "half of one");
	answered("\0\0\0\0\1a\0\0\0\0\1b", 12, "0");
	ok(fails(FAILURE_ANSWER), "two");
	answered("\1\0\0\0\1a", 6, "0");
	ok(fails(FAILURE_ANSWER), "one that is compressed");
	answered("\0\xff\xff\xff\xff", 5, "0");
	ok(fails(FAILURE_ANSWER), "one that is too long");
	answered("\0\0\0\0\1a", 6, NULL);
	ok(fails(FAILURE_RESET), "no status");
	answered("\0\0\0\0\1a", 6, "x");
	ok(fails(FAILURE_NONE) && rpc.status == 2, "a status that is none");
	begin(false);
	header(":status", "404");
	header("grpc-status", "0");
	rpc_finish(&rpc);
	ok(fails(FAILURE_ANSWER) && rpc.http == 404, "not gRPC");
	rpc_receive(&rpc, (const unsigned char *)"x", 1);
	rpc_fail(&rpc, FAILURE_CLOSED, NULL);
	ok(fails(FAILURE_ANSWER) && rpc.answer.n == 0, "what comes later does not count");
}

static void messages(void)
{
	static const char data[] = "\0\0\0\0\3one\0\0\0\0\0\0\0\0\0\3two";

	begin(true);
	for (size_t i = 0; i < sizeof data - 1; i++)
		rpc_receive(&rpc, (const unsigned char *)data + i, 1);
	is(taken, "<one><><two>", "a stream in pieces");
	begin(true);
	rpc_receive(&rpc, (const unsigned char *)data, sizeof data - 2);
	is(taken, "<one><>", "a stream's last message is not whole");
	rpc_receive(&rpc, (const unsigned char *)"o\1\0\0\0\1x", 7);
	is(taken, "<one><><two>", "now it is");
	ok(fails(FAILURE_ANSWER), "and what follows is compressed");
}

static void words(void)
{
	begin(false);
	header("grpc-message", "a%20b%0Ac%zz%4");
	is(rpc.message, "a b\nc%zz%4", "a message in words");
	header("grpc-message", "");
	is(rpc.message, "", "none");
	header("other", "x");
	header(":status", "99999");
	ok(rpc.http == -1, "a status that is none");
}

static void requests(void)
{
	begin(false);
	rpc_ask(&rpc, "ab", 2);
	rpc_ask(&rpc, "", 0);
	ok(rpc.request.n == 12 && !memcmp(rpc.request.all, "\0\0\0\0\2ab\0\0\0\0", 12), "what is asked");
}

int main(void)
{
	answers();
	messages();
	words();
	requests();
	rpc_free(&rpc);
	return tap_done();
}
