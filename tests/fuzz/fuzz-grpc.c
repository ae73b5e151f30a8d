/*
 * Any bytes from an HTTP/2 server, in pieces, while calls and a stream are under way. All code above the socket is real.
 */
#include <stdlib.h>
#include <string.h>

#include "grpc/http2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take(void *owner, unsigned char *message, size_t n)
{
	(void)owner;
	for (size_t i = 0; i < n; i++)
		message[i] ^= 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http2 http2 = { .first = NULL };
	struct rpc rpcs[3] = { { .path = "/a/b" }, { .path = "/a/c", .is_stream = true, .take = take }, { .path = "/a/d" } };
	struct bytes out = { .n = 0 };
	enum failure failure;
	const char *why = NULL;

	http2_open(&http2);
	for (size_t i = 0; i < 3; i++) {
		rpc_again(&rpcs[i]);
		rpc_ask(&rpcs[i], "request", 7);
		http2_begin(&http2, &rpcs[i], "a:1", i == 1, i ? "token" : NULL);
	}
	failure = http2_collect(&http2, &out, &why);
	/* A length in front of each piece. */
	while (size > 1 && !failure) {
		const size_t n = data[0] * 16U + 1 < size - 1 ? data[0] * 16U + 1 : size - 1;

		failure = http2_receive(&http2, data + 1, n, &why);
		out.n = 0;
		if (!failure)
			failure = http2_collect(&http2, &out, &why);
		data += n + 1;
		size -= n + 1;
		/* One call is dropped. */
		for (struct rpc *rpc = http2.first; rpc; rpc = rpc->next)
			if (rpc == &rpcs[2]) {
				http2_drop(&http2, rpc);
				break;
			}
	}
	http2_close(&http2);
	for (size_t i = 0; i < 2; i++)
		if (!rpcs[i].done || (!rpcs[i].failure && rpcs[i].http != 200))
			abort();
	for (size_t i = 0; i < 3; i++)
		rpc_free(&rpcs[i]);
	bytes_free(&out);
	return 0;
}
