/* Requests in etcd's JSON, and answers as its gateway writes them: without what is 0, numbers as
 * strings. */
#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../server.h"

#define CLUSTER_ID 77

/* --- requests --------------------------------------------------------------------------------- */

static uint64_t number_in(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	return json_is_string(value) ? strtoull(json_string_value(value), NULL, 10)
				     : (uint64_t)json_integer_value(value);
}

static const char *text_in(const json_t *object, const char *name)
{
	size_t n;

	return text_from_base64(json_string_value(json_object_get(object, name)), &n);
}

static struct span span_in(const json_t *object)
{
	const char *end = json_string_value(json_object_get(object, "range_end"));
	struct span span = { .end = NULL };
	size_t n;

	span.key = text_from_base64(json_string_value(json_object_get(object, "key")), &n);
	/* "KEY\0" is the first key behind KEY. */
	span.behind = n > strlen(span.key);
	if (end)
		span.end = text_from_base64(end, &n);
	return span;
}

static struct range range_in(const json_t *object)
{
	const char *order = json_string_value(json_object_get(object, "sort_order"));

	return (struct range){
		.span = span_in(object),
		.order = !order	       ? ORDER_KEY
		       : *order == 'D' ? ORDER_NEWEST
				       : ORDER_OLDEST,
		.limit = number_in(object, "limit"),
		.min_created = number_in(object, "min_create_revision"),
		.max_created = number_in(object, "max_create_revision"),
		.keys_only = json_is_true(json_object_get(object, "keys_only")),
	};
}

static bool is_text(const json_t *object, const char *name, const char *text)
{
	const char *is = json_string_value(json_object_get(object, name));

	return is && !strcmp(is, text);
}

static struct compare compare_in(const json_t *object)
{
	const bool modified = is_text(object, "target", "MOD");

	return (struct compare){ .span = span_in(object),
				  .modified = modified,
				  .greater = is_text(object, "result", "GREATER"),
				  .revision = number_in(object, modified ? "mod_revision"
									 : "create_revision") };
}

static void txn_in(const json_t *object, struct request *request, struct txn *txn);

static struct operation operation_in(const json_t *object, struct request *request)
{
	struct operation operation = { .kind = OPERATION_RANGE };
	const json_t *what;

	if ((what = json_object_get(object, "request_range"))) {
		operation.range = range_in(what);
	} else if ((what = json_object_get(object, "request_put"))) {
		operation.kind = OPERATION_PUT;
		operation.put = (struct put){ .key = text_in(what, "key"),
					       .value = text_in(what, "value"),
					       .lease = number_in(what, "lease"),
					       .ignore_lease = json_is_true(
						       json_object_get(what, "ignore_lease")) };
		request->writes = true;
	} else if ((what = json_object_get(object, "request_delete_range"))) {
		operation.kind = OPERATION_DELETE;
		operation.range.span = span_in(what);
	} else if ((what = json_object_get(object, "request_txn"))) {
		operation.kind = OPERATION_TXN;
		operation.txn = arena_get(sizeof *operation.txn);
		txn_in(what, request, operation.txn);
	} else {
		abort();
	}
	return operation;
}

static struct operation *operations_in(const json_t *list, struct request *request, size_t *n)
{
	struct operation *operations;

	*n = json_array_size(list);
	operations = arena_get((*n + 1) * sizeof *operations);
	for (size_t i = 0; i < *n; i++)
		operations[i] = operation_in(json_array_get(list, i), request);
	return operations;
}

static void txn_in(const json_t *object, struct request *request, struct txn *txn)
{
	const json_t *compares = json_object_get(object, "compare");

	txn->n_compares = json_array_size(compares);
	txn->compares = arena_get((txn->n_compares + 1) * sizeof *txn->compares);
	for (size_t i = 0; i < txn->n_compares; i++)
		txn->compares[i] = compare_in(json_array_get(compares, i));
	txn->success = operations_in(json_object_get(object, "success"), request, &txn->n_success);
	txn->failure = operations_in(json_object_get(object, "failure"), request, &txn->n_failure);
}

/* A watch's body is one request after the other. */
static void watches_in(const char *body, struct request *request)
{
	const char *at = body, *end = body + strlen(body);
	json_t *one;

	while (request->n_watches < MOST_WATCHES && (one = json_read(&at, end))) {
		const json_t *create = json_object_get(one, "create_request");

		request->watches[request->n_watches++] = (struct watch){
			.span = span_in(create),
			.no_put = json_array_size(json_object_get(create, "filters")) > 0,
			.before = json_is_true(json_object_get(create, "prev_kv")),
			.start = number_in(create, "start_revision"),
		};
		json_decref(one);
	}
}

static const char *const paths[] = {
	"/v3/lease/grant",	  "/v3/lease/keepalive",   "/v3/lease/timetolive",
	"/v3/lease/revoke",	  "/v3/kv/range",	   "/v3/kv/txn",
	"/v3/maintenance/status", "/v3/auth/authenticate", "/v3/watch",
};

struct request *gateway_request(const char *path, const char *body)
{
	struct request *request = arena_get(sizeof *request);
	json_t *json;

	while (strcmp(paths[request->ask], path) != 0)
		if (++request->ask > ASK_WATCH)
			abort();
	if (request->ask == ASK_WATCH) {
		watches_in(body, request);
		return request;
	}
	json = json_loadb(body, strlen(body), 0, NULL);
	request->lease = number_in(json, "ID");
	request->ttl = (int64_t)number_in(json, "TTL");
	if (request->ask == ASK_RANGE)
		request->range = range_in(json);
	if (request->ask == ASK_TXN)
		txn_in(json, request, &request->txn);
	json_decref(json);
	return request;
}

/* --- answers ---------------------------------------------------------------------------------- */

/* ,"NAME":"N" */
static void add_number(struct text *text, const char *name, int64_t n)
{
	if (n == 0)
		return;
	text_add(text, ",\"");
	text_add(text, name);
	text_add(text, "\":\"");
	text_number(text, n);
	text_add(text, "\"");
}

static void add_bytes(struct text *text, const char *name, const char *bytes)
{
	text_add(text, ",\"");
	text_add(text, name);
	text_add(text, "\":\"");
	text_base64(text, bytes);
	text_add(text, "\"");
}

static void add_header(struct text *text, const struct header *header)
{
	text_add(text, "\"header\":{\"cluster_id\":\"");
	text_number(text, CLUSTER_ID);
	text_add(text, "\"");
	add_number(text, "member_id", (int64_t)header->member);
	add_number(text, "revision", (int64_t)header->revision);
	add_number(text, "raft_term", (int64_t)header->term);
	text_add(text, "}");
}

static void add_kv(struct text *text, const struct kv *kv, bool keys_only)
{
	text_add(text, "{\"key\":\"");
	text_base64(text, kv->key);
	text_add(text, "\"");
	add_number(text, "create_revision", (int64_t)kv->created);
	add_number(text, "mod_revision", (int64_t)kv->modified);
	add_number(text, "version", (int64_t)kv->version);
	if (!keys_only && *kv->value)
		add_bytes(text, "value", kv->value);
	add_number(text, "lease", (int64_t)kv->lease);
	text_add(text, "}");
}

static void add_range(struct text *text, const struct result *result)
{
	if (result->n > 0)
		text_add(text, ",\"kvs\":[");
	for (size_t i = 0; i < result->n; i++) {
		if (i > 0)
			text_add(text, ",");
		add_kv(text, &result->kvs[i], result->keys_only);
	}
	if (result->n > 0)
		text_add(text, "]");
	if (result->more)
		text_add(text, ",\"more\":true");
	add_number(text, "count", (int64_t)result->count);
}

static void add_results(struct text *text, const struct results *results);

static void add_result(struct text *text, const struct result *result)
{
	static const char *const names[] = { "response_range", "response_put",
					     "response_delete_range", "response_txn" };

	text_add(text, "{\"");
	text_add(text, names[result->kind]);
	text_add(text, "\":{\"header\":{}");
	if (result->kind == OPERATION_RANGE)
		add_range(text, result);
	add_number(text, "deleted", (int64_t)result->deleted);
	if (result->kind == OPERATION_TXN)
		add_results(text, result->txn);
	text_add(text, "}}");
}

static void add_results(struct text *text, const struct results *results)
{
	if (results->succeeded)
		text_add(text, ",\"succeeded\":true");
	if (results->n == 0)
		return;
	text_add(text, ",\"responses\":[");
	for (size_t i = 0; i < results->n; i++) {
		if (i > 0)
			text_add(text, ",");
		add_result(text, &results->all[i]);
	}
	text_add(text, "]");
}

static void add_events(struct text *text, const struct reply *reply)
{
	text_add(text, ",\"events\":[");
	for (size_t i = 0; i < reply->n_events; i++) {
		const struct change *change = reply->events[i];

		text_add(text, i > 0 ? ",{" : "{");
		text_add(text, change->deleted ? "\"type\":\"DELETE\",\"kv\":" : "\"kv\":");
		add_kv(text, &change->kv, false);
		if (reply->with_before && change->before.key) {
			text_add(text, ",\"prev_kv\":");
			add_kv(text, &change->before, false);
		}
		text_add(text, "}");
	}
	text_add(text, "]");
}

static void add_word(struct text *text, const char *name, const char *word)
{
	if (!word)
		return;
	text_add(text, ",\"");
	text_add(text, name);
	text_add(text, "\":");
	text_quoted(text, word);
}

static void add_stream(struct text *text, const struct reply *reply)
{
	if (reply->created)
		text_add(text, ",\"created\":true");
	if (reply->canceled)
		text_add(text, ",\"canceled\":true");
	add_number(text, "watch_id", (int64_t)reply->watch_id);
	add_number(text, "compact_revision", (int64_t)reply->compacted);
	add_word(text, "cancel_reason", reply->cancel_reason);
	if (reply->n_events)
		add_events(text, reply);
}

static void add_body(struct text *text, const struct reply *reply)
{
	text_add(text, "{");
	add_header(text, &reply->header);
	switch (reply->ask) {
	case ASK_GRANT:
	case ASK_KEEPALIVE:
	case ASK_TIME_TO_LIVE:
		add_number(text, "ID", (int64_t)reply->lease);
		add_number(text, "TTL", reply->ttl);
		add_number(text, "grantedTTL", reply->granted_ttl);
		break;
	case ASK_RANGE: add_range(text, &reply->range); break;
	case ASK_TXN: add_results(text, &reply->txn); break;
	case ASK_WATCH: add_stream(text, reply); break;
	default: add_word(text, "version", reply->version); add_word(text, "token", reply->token);
	}
	text_add(text, "}");
}

/* --- errors ----------------------------------------------------------------------------------- */

static long http_status(enum status status, bool debian)
{
	static const struct {
		enum status status;
		long old, debian;
	} all[] = {
		{ STATUS_OK, 200, 200 },	  { STATUS_INVALID, 400, 400 },
		{ STATUS_DEADLINE, 504, 504 },	  { STATUS_NOT_FOUND, 404, 404 },
		{ STATUS_EXHAUSTED, 429, 429 },	  { STATUS_PRECONDITION, 412, 400 },
		{ STATUS_UNAVAILABLE, 503, 503 }, { STATUS_UNAUTHENTICATED, 401, 401 },
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (all[i].status == status)
			return debian ? all[i].debian : all[i].old;
	return 500;
}

static void add_code(struct text *text, const char *before, long n)
{
	text_add(text, before);
	text_number(text, n);
}

/* The four shapes are those of etcd/answer.c. */
static void add_error(struct text *text, const struct reply *reply, long http)
{
	const bool stream = reply->ask == ASK_KEEPALIVE || reply->ask == ASK_WATCH;

	if (stream && !reply->debian) {
		add_code(text, "{\"error\":{\"grpc_code\":", reply->status);
		add_code(text, ",\"http_code\":", http);
		add_word(text, "message", reply->message);
		text_add(text, "}}");
	} else if (stream) {
		add_code(text, "{\"error\":{\"code\":", reply->status);
		add_word(text, "message", reply->message);
		text_add(text, "}}");
	} else {
		add_code(text, "{\"code\":", reply->status);
		if (!reply->debian)
			add_word(text, "error", reply->message);
		add_word(text, "message", reply->message);
		text_add(text, "}");
	}
}

const char *gateway_text(const struct reply *reply, long *status)
{
	static struct text text;
	const bool stream = reply->ask == ASK_KEEPALIVE || reply->ask == ASK_WATCH;

	text_begin(&text);
	*status = http_status(reply->status, reply->debian);
	if (reply->status) {
		add_error(&text, reply, *status);
		/* An error of a stream comes after its 200. */
		*status = reply->ask == ASK_WATCH ? 200 : *status;
		return text.text;
	}
	if (stream)
		text_add(&text, "{\"result\":");
	add_body(&text, reply);
	if (stream)
		text_add(&text, "}\n");
	return text.text;
}

int gateway_answer_all(void)
{
	static char line[1 << 16];
	long status;

	while (fgets(line, sizeof line, stdin)) {
		char *body = strchr(line, ' ');
		const char *text;

		*body++ = 0;
		text = gateway_text(server_do(gateway_request(line, body)), &status);
		printf("%.*s\n", (int)strcspn(text, "\n"), text);
		fflush(stdout);
	}
	return 0;
}
