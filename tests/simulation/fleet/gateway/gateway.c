/* Requests and answers in protobuf. The numbers of fields are those of etcd's rpc.proto. */
#include "gateway.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../server.h"

#define CLUSTER_ID 77

/* gRPC's: whether it is compressed, and the length. */
#define PREFIX 5

/* --- requests --------------------------------------------------------------------------------- */

/* The next field of a message that the client has written: it must be whole. */
static bool next(struct slice *rest, struct field *field)
{
	const enum wire wire = wire_next(rest, field);

	if (wire == WIRE_BROKEN)
		abort();
	return wire == WIRE_FIELD;
}

/* The bytes as text, in the arena. */
static const char *text_of(const struct field *field)
{
	char *text = arena_get(field->bytes.n + 1);

	memcpy(text, field->bytes.at, field->bytes.n);
	text[field->bytes.n] = 0;
	return text;
}

static void set_key(struct span *span, const struct field *field)
{
	span->key = text_of(field);
	/* "KEY\0" is the first key behind KEY. */
	span->behind = field->bytes.n > strlen(span->key);
}

static struct range range_in(struct slice rest)
{
	struct range range = { .order = ORDER_KEY };
	struct field field;

	while (next(&rest, &field))
		switch (field.number) {
		case 1: set_key(&range.span, &field); break;
		case 2: range.span.end = text_of(&field); break;
		case 3: range.limit = field.value; break;
		case 5: range.order = field.value == 1 ? ORDER_OLDEST : ORDER_NEWEST; break;
		case 6:
			if (field.value != 2)
				abort();
			break;
		case 8: range.keys_only = field.value; break;
		case 12: range.min_created = field.value; break;
		case 13: range.max_created = field.value; break;
		default: abort();
		}
	return range;
}

static struct compare compare_in(struct slice rest)
{
	struct compare compare = { .greater = false };
	struct field field;

	while (next(&rest, &field))
		switch (field.number) {
		case 1: compare.greater = field.value == 1; break;
		case 2: compare.modified = field.value == 2; break;
		case 3: set_key(&compare.span, &field); break;
		case 5:
		case 6: compare.revision = field.value; break;
		case 64: compare.span.end = text_of(&field); break;
		default: abort();
		}
	return compare;
}

static struct put put_in(struct slice rest)
{
	struct put put = { .value = "" };
	struct field field;

	while (next(&rest, &field))
		switch (field.number) {
		case 1: put.key = text_of(&field); break;
		case 2: put.value = text_of(&field); break;
		case 3: put.lease = field.value; break;
		case 6: put.ignore_lease = field.value; break;
		default: abort();
		}
	return put;
}

static void txn_in(struct slice rest, struct request *request, struct txn *txn);

static struct operation operation_in(struct slice rest, struct request *request)
{
	struct operation operation = { .kind = OPERATION_RANGE };
	struct field field;

	if (!next(&rest, &field))
		abort();
	switch (field.number) {
	case 1: operation.range = range_in(field.bytes); break;
	case 2:
		operation.kind = OPERATION_PUT;
		operation.put = put_in(field.bytes);
		request->writes = true;
		break;
	case 3:
		operation.kind = OPERATION_DELETE;
		operation.range.span = range_in(field.bytes).span;
		break;
	case 4:
		operation.kind = OPERATION_TXN;
		operation.txn = arena_get(sizeof *operation.txn);
		txn_in(field.bytes, request, operation.txn);
		break;
	default: abort();
	}
	return operation;
}

static size_t count(struct slice rest, unsigned number)
{
	struct field field;
	size_t n = 0;

	while (next(&rest, &field))
		n += field.number == number;
	return n;
}

static void txn_in(struct slice rest, struct request *request, struct txn *txn)
{
	struct field field;

	*txn = (struct txn){ .compares = arena_get((count(rest, 1) + 1) * sizeof *txn->compares),
			      .success = arena_get((count(rest, 2) + 1) * sizeof *txn->success),
			      .failure = arena_get((count(rest, 3) + 1) * sizeof *txn->failure) };
	while (next(&rest, &field))
		switch (field.number) {
		case 1: txn->compares[txn->n_compares++] = compare_in(field.bytes); break;
		case 2: txn->success[txn->n_success++] = operation_in(field.bytes, request); break;
		case 3: txn->failure[txn->n_failure++] = operation_in(field.bytes, request); break;
		default: abort();
		}
}

static struct watch watch_in(struct slice rest)
{
	struct watch watch = { .start = 0 };
	struct field field;

	/* The one field is create_request. */
	if (!next(&rest, &field) || field.number != 1)
		abort();
	for (rest = field.bytes; next(&rest, &field);)
		switch (field.number) {
		case 1: set_key(&watch.span, &field); break;
		case 2: watch.span.end = text_of(&field); break;
		case 3: watch.start = field.value; break;
		case 5: watch.no_put = true; break;
		case 6: watch.before = field.value; break;
		default: abort();
		}
	return watch;
}

static void lease_in(struct slice rest, struct request *request)
{
	const bool grants = request->ask == ASK_GRANT;
	struct field field;

	while (next(&rest, &field))
		if (field.number == 1 && grants)
			request->ttl = (int64_t)field.value;
		else if (field.number == (grants ? 2 : 1))
			request->lease = field.value;
}

/* In the order of enum ask. */
static const char *const paths[] = {
	"/etcdserverpb.Lease/LeaseGrant",      "/etcdserverpb.Lease/LeaseKeepAlive",
	"/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Lease/LeaseRevoke",
	"/etcdserverpb.KV/Range",	       "/etcdserverpb.KV/Txn",
	"/etcdserverpb.Maintenance/Status",    "/etcdserverpb.Auth/Authenticate",
	"/etcdserverpb.Watch/Watch",
};

static struct slice take_message(struct slice *messages)
{
	const unsigned char *at = messages->at;
	struct slice message;

	if (messages->n < PREFIX || at[0] || at[1])
		abort();
	message.at = at + PREFIX;
	message.n = (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
	if (message.n > messages->n - PREFIX)
		abort();
	messages->at += PREFIX + message.n;
	messages->n -= PREFIX + message.n;
	return message;
}

struct request *gateway_request(const char *path, struct slice messages)
{
	struct request *request = arena_get(sizeof *request);
	struct slice message;

	*request = (struct request){ .ask = ASK_GRANT };
	while (strcmp(paths[request->ask], path) != 0)
		if (++request->ask > ASK_WATCH)
			abort();
	if (request->ask == ASK_WATCH) {
		while (messages.n > 0 && request->n_watches < MOST_WATCHES)
			request->watches[request->n_watches++] = watch_in(take_message(&messages));
		return request;
	}
	message = take_message(&messages);
	switch (request->ask) {
	case ASK_RANGE: request->range = range_in(message); break;
	case ASK_TXN: txn_in(message, request, &request->txn); break;
	case ASK_STATUS:
	case ASK_AUTHENTICATE: break;
	default: lease_in(message, request);
	}
	return request;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* Bytes that are put together, in the arena. */
struct text {
	unsigned char *all;
	size_t n, room;
};

static void add(struct text *text, const void *more, size_t n)
{
	if (text->n + n > text->room) {
		unsigned char *all;

		text->room = (text->n + n) * 2 + 200;
		all = arena_get(text->room);
		if (text->n > 0)
			memcpy(all, text->all, text->n);
		text->all = all;
	}
	if (n > 0)
		memcpy(text->all + text->n, more, n);
	text->n += n;
}

static void add_digits(struct text *text, uint64_t n)
{
	unsigned char digit;

	do {
		digit = (unsigned char)(n > 127 ? n | 128 : n);
		add(text, &digit, 1);
	} while (n >>= 7);
}

/* As protobuf leaves it out: 0. */
static void add_number(struct text *text, unsigned field, uint64_t n)
{
	if (n == 0)
		return;
	add_digits(text, field << 3);
	add_digits(text, n);
}

static void add_bytes(struct text *text, unsigned field, const void *bytes, size_t n)
{
	add_digits(text, field << 3 | 2);
	add_digits(text, n);
	add(text, bytes, n);
}

static void add_word(struct text *text, unsigned field, const char *word)
{
	if (word && *word)
		add_bytes(text, field, word, strlen(word));
}

static void add_text(struct text *text, unsigned field, const struct text *inner)
{
	add_bytes(text, field, inner->all, inner->n);
}

static void add_header(struct text *text, const struct header *header)
{
	struct text inner = { .n = 0 };

	add_number(&inner, 1, CLUSTER_ID);
	add_number(&inner, 2, header->member);
	add_number(&inner, 3, header->revision);
	add_number(&inner, 4, header->term);
	add_text(text, 1, &inner);
}

static void add_kv(struct text *text, unsigned field, const struct kv *kv, bool keys_only)
{
	struct text inner = { .n = 0 };

	add_word(&inner, 1, kv->key);
	add_number(&inner, 2, kv->created);
	add_number(&inner, 3, kv->modified);
	add_number(&inner, 4, kv->version);
	if (!keys_only)
		add_word(&inner, 5, kv->value);
	add_number(&inner, 6, kv->lease);
	add_text(text, field, &inner);
}

static void add_range(struct text *text, const struct result *result)
{
	for (size_t i = 0; i < result->n; i++)
		add_kv(text, 2, &result->kvs[i], result->keys_only);
	add_number(text, 3, result->more);
	add_number(text, 4, result->count);
}

static void add_results(struct text *text, const struct results *results);

static void add_result(struct text *text, const struct result *result)
{
	struct text inner = { .n = 0 }, one = { .n = 0 };

	add_bytes(&inner, 1, "", 0);
	switch (result->kind) {
	case OPERATION_RANGE: add_range(&inner, result); break;
	case OPERATION_DELETE: add_number(&inner, 2, result->deleted); break;
	case OPERATION_TXN: add_results(&inner, result->txn); break;
	default: break;
	}
	/* The kinds are numbered as the fields, from 1. */
	add_text(&one, (unsigned)result->kind + 1, &inner);
	add_text(text, 3, &one);
}

static void add_results(struct text *text, const struct results *results)
{
	add_number(text, 2, results->succeeded);
	for (size_t i = 0; i < results->n; i++)
		add_result(text, &results->all[i]);
}

static void add_event(struct text *text, const struct change *change, bool with_before)
{
	struct text inner = { .n = 0 };

	add_number(&inner, 1, change->deleted);
	add_kv(&inner, 2, &change->kv, false);
	if (with_before && change->before.key)
		add_kv(&inner, 3, &change->before, false);
	add_text(text, 11, &inner);
}

static void add_stream(struct text *text, const struct reply *reply)
{
	add_number(text, 2, reply->watch_id);
	add_number(text, 3, reply->created);
	add_number(text, 4, reply->canceled);
	add_number(text, 5, reply->compacted);
	add_word(text, 6, reply->cancel_reason);
	for (size_t i = 0; i < reply->n_events; i++)
		add_event(text, reply->events[i], reply->with_before);
}

struct slice gateway_message(const struct reply *reply)
{
	struct text text = { .n = 0 };

	add_header(&text, &reply->header);
	switch (reply->ask) {
	case ASK_GRANT:
	case ASK_KEEPALIVE:
	case ASK_TIME_TO_LIVE:
		add_number(&text, 2, reply->lease);
		add_number(&text, 3, (uint64_t)reply->ttl);
		add_number(&text, 4, (uint64_t)reply->granted_ttl);
		break;
	case ASK_RANGE: add_range(&text, &reply->range); break;
	case ASK_TXN: add_results(&text, &reply->txn); break;
	case ASK_WATCH: add_stream(&text, reply); break;
	default: add_word(&text, 2, reply->version ? reply->version : reply->token);
	}
	return (struct slice){ .at = text.all, .n = text.n };
}

/* --- conform.py ------------------------------------------------------------------------------- */

/* Reads hexadecimal digits into BYTES. Returns how many bytes. */
static size_t from_hex(const char *text, unsigned char *bytes)
{
	size_t n = 0;

	for (unsigned one; sscanf(text, "%2x", &one) == 1; text += 2)
		bytes[n++] = (unsigned char)one;
	return n;
}

int gateway_answer_all(void)
{
	static char line[1 << 17];
	static unsigned char bytes[1 << 16];

	while (fgets(line, sizeof line, stdin)) {
		char *hex = strchr(line, ' ');
		const struct reply *reply;
		struct slice message;
		size_t n;

		*hex++ = 0;
		n = from_hex(hex, bytes + PREFIX);
		bytes[0] = bytes[1] = 0;
		bytes[2] = (unsigned char)(n >> 16);
		bytes[3] = (unsigned char)(n >> 8);
		bytes[4] = (unsigned char)n;
		reply = server_do(gateway_request(line, (struct slice){ .at = bytes, .n = n + PREFIX }));
		if (reply->status) {
			printf("error %d\n", (int)reply->status);
		} else {
			message = gateway_message(reply);
			for (size_t i = 0; i < message.n; i++)
				printf("%02x", message.at[i]);
			printf("\n");
		}
		fflush(stdout);
	}
	return 0;
}
