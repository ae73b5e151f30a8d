#include "client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../deadline.h"
#include "../memory.h"

/* An endpoint may need so long to take a connection, unless ETCDCTL_DIAL_TIMEOUT is less. */
#define CONNECT_LIMIT (1 * NS_PER_S)

/* An attempt, as long as nothing shorter is needed. */
#define ATTEMPT_LIMIT (2 * NS_PER_S)

#define LARGEST_ANSWER (256U << 20)

/* After a round over all endpoints; the last one again and again. */
static const int64_t pauses[] = { 100 * NS_PER_MS, 200 * NS_PER_MS, 500 * NS_PER_MS };

static int64_t now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

static char *format(const char *text, ...)
{
	va_list arguments;
	char *made;
	int n;

	va_start(arguments, text);
	n = vasprintf(&made, text, arguments);
	va_end(arguments);
	return n < 0 ? memory_text("out of memory", strlen("out of memory")) : made;
}

/* --- JSON -------------------------------------------------------------------------------------------------------------------- */

uint64_t json_number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	/* 64-bit numbers are strings, of which a lease's may be negative in answers. */
	if (json_is_string(value))
		return json_string_value(value)[0] == '-' ? (uint64_t)strtoll(json_string_value(value), NULL, 10) : strtoull(json_string_value(value), NULL, 10);
	return json_is_integer(value) ? (uint64_t)json_integer_value(value) : 0;
}

uint64_t header_number(const json_t *body, const char *name)
{
	return json_number(json_object_get(body, "header"), name);
}

/* --- what has gone wrong ----------------------------------------------------------------------------------------------------- */

/* The bytes of an answer, and what libcurl says. */
struct bytes {
	char *text;
	size_t length, room;
};

static size_t keep(char *data, size_t size, size_t n, void *argument)
{
	struct bytes *bytes = argument;

	(void)size;
	if (bytes->length + n + 1 > bytes->room) {
		if (bytes->length + n + 1 > LARGEST_ANSWER)
			return 0;
		bytes->room = (bytes->length + n + 1) * 2;
		bytes->text = realloc(bytes->text, bytes->room);
		if (!bytes->text)
			return 0;
	}
	memcpy(bytes->text + bytes->length, data, n);
	bytes->length += n;
	bytes->text[bytes->length] = 0;
	return n;
}

static void fail(struct answer *answer, enum code code, char *text)
{
	answer->code = code;
	answer->text = text;
}

/* No answer: CURL says why, and DETAIL in its own words. */
static void explain_transport(const struct client *client, struct answer *answer, CURLcode curl, const char *detail)
{
	const char *url = client->config->endpoints[answer->endpoint];
	bool tls = !strncmp(url, "https:", 6);
	long error = 0;

	curl_easy_getinfo(client->easy, CURLINFO_OS_ERRNO, &error);
	switch (curl) {
	case CURLE_COULDNT_RESOLVE_HOST:
		fail(answer, CODE_NO_ANSWER, format("the name of %s cannot be resolved", url));
		break;
	case CURLE_COULDNT_CONNECT:
		fail(answer, CODE_NO_ANSWER, format("%s cannot be reached: %s", url, error ? strerror((int)error) : detail));
		break;
	case CURLE_OPERATION_TIMEDOUT:
		fail(answer, CODE_NO_ANSWER, format("%s does not answer", url));
		break;
	case CURLE_PEER_FAILED_VERIFICATION:
		fail(answer, CODE_REFUSED, format("the certificate of %s is not to be trusted (ETCDCTL_CACERT says by whom it may be signed): %s", url, detail));
		break;
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CACERT_BADFILE:
		fail(answer, CODE_REFUSED, format("a file of ETCDCTL_CERT, ETCDCTL_KEY or ETCDCTL_CACERT cannot be used: %s", detail));
		break;
	case CURLE_SSL_CONNECT_ERROR:
		/* One that has answered before is being restarted. */
		fail(answer, client->cluster ? CODE_NO_ANSWER : CODE_REFUSED, format("%s does not speak TLS, or refuses our certificate (ETCDCTL_CERT, ETCDCTL_KEY): %s", url, detail));
		break;
	case CURLE_WEIRD_SERVER_REPLY:
	case CURLE_UNSUPPORTED_PROTOCOL:
	case CURLE_HTTP2:
		fail(answer, CODE_REFUSED, format("%s does not speak HTTP: is it etcd's client port?", url));
		break;
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
		/* TLS 1.3: the server looks at our certificate after the handshake. */
		if (tls && !client->cluster)
			fail(answer, CODE_REFUSED, format("%s closes the connection: it may want another client certificate (ETCDCTL_CERT, ETCDCTL_KEY)", url));
		else if (!client->cluster)
			fail(answer, CODE_REFUSED, format("%s closes the connection: it may want TLS (https://)", url));
		else
			fail(answer, CODE_NO_ANSWER, format("%s has closed the connection", url));
		break;
	default:
		fail(answer, CODE_NO_ANSWER, format("%s: %s", url, detail));
	}
}

/* The message of an error in any of the shapes that etcd's versions have; and its code, 0 if it has none. */
static const char *error_in(const json_t *body, int *code)
{
	const json_t *error = json_object_get(body, "error"), *message = json_object_get(body, "message");

	*code = (int)json_number(body, "code");
	if (json_is_object(error)) {
		*code = (int)json_number(error, json_object_get(error, "code") ? "code" : "grpc_code");
		message = json_object_get(error, "message");
	} else if (!message) {
		message = error;
	}
	return json_is_string(message) ? json_string_value(message) : NULL;
}

/* An error of etcd itself. */
static void explain_error(const struct client *client, struct answer *answer, int code, const char *message)
{
	const char *url = client->config->endpoints[answer->endpoint];
	const char *user = client->config->user;

	switch (code) {
	case CODE_DENIED:
		fail(answer, CODE_DENIED, format("etcd lets user '%s' not do that: it needs readwrite permission for all keys that begin with the lock's name and \"/\" (%s)",
						 user ? user : "", url));
		break;
	case CODE_UNAUTHENTICATED:
		fail(answer, CODE_UNAUTHENTICATED, format("%s wants to know who we are: set ETCDCTL_USER and ETCDCTL_PASSWORD (%s)", url, message));
		break;
	case CODE_INVALID:
		if (strstr(message, "user name is empty"))
			fail(answer, CODE_REFUSED, format("%s wants to know who we are: set ETCDCTL_USER and ETCDCTL_PASSWORD", url));
		else if (strstr(message, "authentication failed"))
			fail(answer, CODE_REFUSED, format("%s refuses user '%s': wrong name or password (ETCDCTL_USER, ETCDCTL_PASSWORD)", url, user ? user : ""));
		else
			fail(answer, CODE_INVALID, format("%s: %s", url, message));
		break;
	case CODE_EXHAUSTED:
		fail(answer, CODE_EXHAUSTED, format("%s takes nothing new: its database is full (%s)", url, message));
		break;
	default:
		/* The gateway dials its own server, with the server's certificate. */
		if (code == CODE_UNAVAILABLE && (strstr(message, "bad certificate") || strstr(message, "connection closed") || strstr(message, "client preface")) && !client->cluster)
			fail(answer, CODE_REFUSED, format("the JSON gateway of %s cannot reach its own server: does the server's certificate allow "
							  "clientAuth? (%s)", url, message));
		else
			fail(answer, (enum code)code, format("%s: %s", url, message));
	}
}

/* An answer that is no JSON, or none of etcd's. */
static void explain_other(const struct client *client, struct answer *answer, long status, const char *text)
{
	const char *url = client->config->endpoints[answer->endpoint];
	char shown[120];

	if (text && strstr(text, "CommonName"))
		fail(answer, CODE_REFUSED, format("%s takes no client certificate with a common name through its JSON gateway once users are switched on: "
						  "use one with an empty CN (ETCDCTL_CERT)", url));
	else if (text && strstr(text, "HTTP request to an HTTPS server"))
		fail(answer, CODE_REFUSED, format("%s wants TLS: write https:// in ETCDCTL_ENDPOINTS", url));
	else if (status == 404)
		fail(answer, CODE_REFUSED, format("%s has no JSON gateway: it may be switched off (--enable-grpc-gateway), on another port "
						  "(--listen-client-http-urls), or this is no etcd from 3.4 on", url));
	else if (status >= 500)
		fail(answer, CODE_UNAVAILABLE, format("%s: HTTP status %ld", url, status));
	else {
		size_t n = 0;

		for (; text && text[n] && n < sizeof shown - 1; n++)
			shown[n] = text[n] >= ' ' && text[n] < 127 ? text[n] : ' ';
		shown[n] = 0;
		fail(answer, CODE_REFUSED, format("%s does not answer as etcd does: HTTP status %ld, \"%s\"", url, status, shown));
	}
}

/* Takes in whose answer it is: members of another cluster must never be asked for the same lock. */
static bool is_our_cluster(struct client *client, struct answer *answer)
{
	uint64_t cluster = header_number(answer->body, "cluster_id");

	if (cluster && client->cluster && cluster != client->cluster) {
		client->wrong_cluster = true;
		return false;
	}
	if (cluster)
		client->cluster = cluster;
	return true;
}

/* BYTES came with the HTTP status STATUS. */
static void read_answer(struct client *client, struct answer *answer, long status, const struct bytes *bytes)
{
	json_t *body = bytes->text ? json_loadb(bytes->text, bytes->length, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	const char *message;
	int code;

	if (!json_is_object(body)) {
		explain_other(client, answer, status, bytes->text);
		json_decref(body);
		return;
	}
	message = error_in(body, &code);
	if (code || (status != 200 && status != 0)) {
		explain_error(client, answer, code ? code : CODE_UNKNOWN, message ? message : "no reason given");
		json_decref(body);
		return;
	}
	/* Streams wrap their answers. */
	if (json_is_object(json_object_get(body, "result"))) {
		json_t *result = json_incref(json_object_get(body, "result"));

		json_decref(body);
		body = result;
	}
	answer->code = CODE_OK;
	answer->body = body;
	if (is_our_cluster(client, answer))
		return;
	json_decref(answer->body);
	answer->body = NULL;
	fail(answer, CODE_REFUSED, format("%s belongs to another cluster than the others: ETCDCTL_ENDPOINTS has to name members of one",
					  client->config->endpoints[answer->endpoint]));
}

void answer_free(struct answer *answer)
{
	json_decref(answer->body);
	free(answer->text);
	answer->body = NULL;
	answer->text = NULL;
}

static void hear(struct client *client);

/* What is asked of one endpoint, beside all else. */
struct probe {
	CURL *easy;
	struct bytes bytes;
	bool done;
};

/* --- the loop ---------------------------------------------------------------------------------------------------------------- */

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Milliseconds until LIMIT, rounded up, at most a minute. */
static int timeout_until(int64_t limit)
{
	int64_t left = limit == DEADLINE_NEVER ? 60 * NS_PER_S : limit - now();

	return left <= 0 ? 0 : (int)((earlier(left, 60 * NS_PER_S) + NS_PER_MS - 1) / NS_PER_MS);
}

/* Moves all transfers on. Returns whether EASY is done, and how in RESULT. */
static bool move(struct client *client, const CURL *easy, CURLcode *result)
{
	bool done = false;
	int running, left;
	CURLMsg *message;

	curl_multi_perform(client->multi, &running);
	while ((message = curl_multi_info_read(client->multi, &left))) {
		CURL *ended = message->easy_handle;
		CURLcode how = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		if (ended == easy) {
			*result = how;
			done = true;
		} else if (ended == client->watch) {
			/* The last line of an error has no newline. */
			if (client->line_length > 0)
				hear(client);
			client_unwatch(client);
		} else {
			struct probe *probe = NULL;

			curl_easy_getinfo(ended, CURLINFO_PRIVATE, (char **)&probe);
			curl_multi_remove_handle(client->multi, ended);
			if (probe)
				probe->done = true;
		}
	}
	return done;
}

static void rest(struct client *client, int64_t limit)
{
	int ready;

	curl_multi_poll(client->multi, client->fds, client->n_fds, timeout_until(limit), &ready);
}

static bool attend(struct client *client)
{
	return client->attend && client->attend(client->owner);
}

bool client_wait(struct client *client, int64_t limit)
{
	for (;;) {
		CURLcode result;

		move(client, NULL, &result);
		if (attend(client))
			return true;
		if (now() >= limit)
			return false;
		rest(client, limit);
	}
}

/* --- calls ------------------------------------------------------------------------------------------------------------------- */

/* HEADERS are used until EASY is done. */
static void set_up(struct client *client, CURL *easy, const char *url, struct curl_slist *headers)
{
	const struct config *config = client->config;
	int64_t connect = earlier(earlier(CONNECT_LIMIT, config->dial_timeout), client->attempt);

	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect / NS_PER_MS));
	/* A name that was resolved once stays so: a resolver that hangs is not to hold up a renewal. */
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	if (strncmp(url, "https:", 6) != 0) {
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
		return;
	}
	curl_easy_setopt(easy, CURLOPT_CAINFO, config->cacert);
	curl_easy_setopt(easy, CURLOPT_SSLCERT, config->cert);
	curl_easy_setopt(easy, CURLOPT_SSLKEY, config->key);
	if (config->skip_verify) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static char *url_of(const struct client *client, size_t endpoint, const char *path)
{
	return format("%s%s", client->config->endpoints[endpoint], path);
}

/* Calls once. */
static void attempt(struct client *client, const char *path, const char *body, struct answer *answer)
{
	char *url = url_of(client, answer->endpoint, path), detail[CURL_ERROR_SIZE] = "";
	struct bytes bytes = { .text = NULL };
	CURLcode result = CURLE_OK;
	bool stopped = false;
	long status = 0;

	set_up(client, client->easy, url, client->headers);
	curl_easy_setopt(client->easy, CURLOPT_TIMEOUT_MS, (long)(client->attempt / NS_PER_MS));
	curl_easy_setopt(client->easy, CURLOPT_POSTFIELDS, body);
	curl_easy_setopt(client->easy, CURLOPT_WRITEFUNCTION, keep);
	curl_easy_setopt(client->easy, CURLOPT_WRITEDATA, &bytes);
	curl_easy_setopt(client->easy, CURLOPT_ERRORBUFFER, detail);
	answer->sent = now();
	curl_multi_add_handle(client->multi, client->easy);
	while (!move(client, client->easy, &result)) {
		stopped = attend(client);
		if (stopped)
			break;
		rest(client, DEADLINE_NEVER);
	}
	curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_multi_remove_handle(client->multi, client->easy);
	if (stopped)
		fail(answer, CODE_STOPPED, format("stopped"));
	else if (result)
		explain_transport(client, answer, result, *detail ? detail : curl_easy_strerror(result));
	else
		read_answer(client, answer, status, &bytes);
	free(bytes.text);
	free(url);
}

/* Makes *HEADERS anew, with the user's token if there is one. */
static void set_headers(const struct client *client, struct curl_slist **headers)
{
	curl_slist_free_all(*headers);
	*headers = curl_slist_append(NULL, "Content-Type: application/json");
	/* A member without a leader says so at once, instead of being silent. */
	*headers = curl_slist_append(*headers, "Grpc-Metadata-hasleader: true");
	*headers = curl_slist_append(*headers, "Expect:");
	if (client->token) {
		char *header = format("Authorization: %s", client->token);

		*headers = curl_slist_append(*headers, header);
		free(header);
	}
}

/* Gets a token at the endpoint of ANSWER. Returns whether there is one, or none is needed; else ANSWER says why. */
static bool authenticate(struct client *client, struct answer *answer)
{
	json_t *body = json_pack("{s:s, s:s}", "name", client->config->user, "password", client->config->password);
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	const char *token;

	json_decref(body);
	free(client->token);
	client->token = NULL;
	set_headers(client, &client->headers);
	if (!text) {
		fail(answer, CODE_REFUSED, format("ETCDCTL_USER and ETCDCTL_PASSWORD have to be UTF-8"));
		return false;
	}
	attempt(client, "/v3/auth/authenticate", text, answer);
	memset(text, 0, strlen(text));
	free(text);
	/* Users are not switched on: everybody may do everything. */
	if (answer->code == CODE_PRECONDITION) {
		answer_free(answer);
		return true;
	}
	if (answer->code != CODE_OK)
		return false;
	token = json_string_value(json_object_get(answer->body, "token"));
	client->token = token ? memory_text(token, strlen(token)) : NULL;
	answer_free(answer);
	set_headers(client, &client->headers);
	return true;
}

static void call_with_token(struct client *client, const char *path, const char *body, struct answer *answer)
{
	bool fresh = client->config->user && !client->token;

	if (fresh && !authenticate(client, answer))
		return;
	attempt(client, path, body, answer);
	if (answer->code != CODE_UNAUTHENTICATED || !client->config->user || fresh)
		return;
	answer_free(answer);
	if (authenticate(client, answer))
		attempt(client, path, body, answer);
}

void client_call_at(struct client *client, size_t endpoint, const char *path, json_t *body, struct answer *answer)
{
	char *text = json_dumps(body, JSON_COMPACT);

	json_decref(body);
	*answer = (struct answer){ .endpoint = endpoint };
	call_with_token(client, path, text ? text : "{}", answer);
	free(text);
	if (answer->code == CODE_OK)
		client->endpoint = endpoint;
}

/* Whether another try, at another endpoint or later, may do better. */
static bool may_pass(enum code code)
{
	return code == CODE_NO_ANSWER || code == CODE_UNAVAILABLE || code == CODE_UNKNOWN || code == CODE_DEADLINE;
}

void client_call(struct client *client, const char *path, json_t *body, int64_t limit, struct answer *answer)
{
	const size_t n = client->config->n;
	char *text = json_dumps(body, JSON_COMPACT);
	size_t first = client->endpoint;

	json_decref(body);
	client->retried = false;
	for (unsigned round = 0;; round++) {
		for (size_t i = 0; i < n; i++) {
			client->retried = round + i > 0;
			*answer = (struct answer){ .endpoint = (first + i) % n };
			call_with_token(client, path, text ? text : "{}", answer);
			if (answer->code == CODE_OK)
				client->endpoint = answer->endpoint;
			/* One that is no etcd, or another's, does not keep the others from being asked; with one endpoint it is final. */
			if (!may_pass(answer->code) && !(answer->code == CODE_REFUSED && n > 1 && i + 1 < n && !client->wrong_cluster))
				goto out;
			if (now() >= limit)
				goto out;
			if (i + 1 < n)
				answer_free(answer);
		}
		if (client_wait(client, earlier(limit, now() + pauses[round < 3 ? round : 2]))) {
			answer_free(answer);
			fail(answer, CODE_STOPPED, format("stopped"));
			goto out;
		}
		if (now() >= limit)
			goto out;
		answer_free(answer);
	}
out:
	free(text);
}

/* --- the survey -------------------------------------------------------------------------------------------------------------- */

void client_survey(struct client *client)
{
	client->probes = memory_get(client->config->n * sizeof *client->probes);
	set_headers(client, &client->probe_headers);
	for (size_t i = 0; i < client->config->n; i++) {
		struct probe *probe = &client->probes[i];
		char *url = url_of(client, i, "/v3/maintenance/status");

		probe->easy = curl_easy_init();
		if (probe->easy) {
			set_up(client, probe->easy, url, client->probe_headers);
			curl_easy_setopt(probe->easy, CURLOPT_TIMEOUT_MS, (long)(client->attempt / NS_PER_MS));
			curl_easy_setopt(probe->easy, CURLOPT_POSTFIELDS, "{}");
			curl_easy_setopt(probe->easy, CURLOPT_WRITEFUNCTION, keep);
			curl_easy_setopt(probe->easy, CURLOPT_WRITEDATA, &probe->bytes);
			curl_easy_setopt(probe->easy, CURLOPT_PRIVATE, probe);
			curl_multi_add_handle(client->multi, probe->easy);
		}
		probe->done = !probe->easy;
		free(url);
	}
}

/* Whether VERSION has bugs because of which a lease can be ended too early, or kept alive though it is dead. */
static bool is_old(const char *version)
{
	unsigned major, minor, patch;

	if (sscanf(version, "%u.%u.%u", &major, &minor, &patch) != 3)
		return false;
	return major < 3 || (major == 3 && (minor < 4 || (minor == 4 && patch < 31) || (minor == 5 && patch < 13)));
}

static bool is_surveyed(const struct client *client)
{
	for (size_t i = 0; i < client->config->n; i++)
		if (!client->probes[i].done)
			return false;
	return true;
}

/* Takes in what the endpoint I has answered. Returns what is wrong, or NULL. */
static char *read_probe(struct client *client, size_t i, char **old)
{
	const struct bytes *bytes = &client->probes[i].bytes;
	json_t *body = bytes->text ? json_loadb(bytes->text, bytes->length, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	const char *version = json_string_value(json_object_get(body, "version"));
	uint64_t cluster = header_number(body, "cluster_id");
	char *error = NULL;

	if (cluster && client->cluster && cluster != client->cluster)
		error = format("%s belongs to another cluster than %s: ETCDCTL_ENDPOINTS has to name members of one", client->config->endpoints[i],
			       client->config->endpoints[client->endpoint]);
	if (version && !*old && is_old(version))
		*old = memory_text(version, strlen(version));
	json_decref(body);
	return error;
}

char *client_surveyed(struct client *client, int64_t limit, char **old)
{
	char *error = NULL;

	*old = NULL;
	while (!is_surveyed(client) && now() < limit) {
		CURLcode result;

		move(client, NULL, &result);
		if (attend(client))
			break;
		if (!is_surveyed(client))
			rest(client, limit);
	}
	for (size_t i = 0; i < client->config->n; i++) {
		struct probe *probe = &client->probes[i];

		if (probe->easy && !probe->done)
			curl_multi_remove_handle(client->multi, probe->easy);
		if (probe->done && !error)
			error = read_probe(client, i, old);
		curl_easy_cleanup(probe->easy);
		free(probe->bytes.text);
	}
	free(client->probes);
	client->probes = NULL;
	curl_slist_free_all(client->probe_headers);
	client->probe_headers = NULL;
	return error;
}

/* --- the stream -------------------------------------------------------------------------------------------------------------- */

/* One line of the stream, or what is there of the last one when it has ended. */
static void hear(struct client *client)
{
	json_t *body = json_loadb(client->line, client->line_length, JSON_DISABLE_EOF_CHECK, NULL);
	json_t *result = json_object_get(body, "result");

	client->line_length = 0;
	if (json_is_object(result) && client->event)
		client->event(client->owner, result);
	json_decref(body);
}

static size_t stream(char *data, size_t size, size_t n, void *argument)
{
	struct client *client = argument;

	(void)size;
	for (size_t i = 0; i < n; i++) {
		client->line = memory_grow(client->line, client->line_length, &client->line_room, 1);
		if (client->line_length > LARGEST_ANSWER)
			return 0;
		client->line[client->line_length++] = data[i];
		if (data[i] == '\n')
			hear(client);
	}
	return n;
}

void client_unwatch(struct client *client)
{
	if (!client->watching)
		return;
	curl_multi_remove_handle(client->multi, client->watch);
	client->watching = false;
	client->line_length = 0;
}

void client_watch(struct client *client, json_t *requests)
{
	char *url = url_of(client, client->endpoint, "/v3/watch"), *text = memory_get(1);
	size_t i;
	json_t *request;

	client_unwatch(client);
	/* One after the other, in one body. */
	json_array_foreach(requests, i, request) {
		char *one = json_dumps(request, JSON_COMPACT), *both = format("%s%s\n", text, one ? one : "");

		free(one);
		free(text);
		text = both;
	}
	json_decref(requests);
	set_headers(client, &client->watch_headers);
	set_up(client, client->watch, url, client->watch_headers);
	curl_easy_setopt(client->watch, CURLOPT_COPYPOSTFIELDS, text);
	curl_easy_setopt(client->watch, CURLOPT_WRITEFUNCTION, stream);
	curl_easy_setopt(client->watch, CURLOPT_WRITEDATA, client);
	curl_multi_add_handle(client->multi, client->watch);
	client->watching = true;
	free(text);
	free(url);
}

/* --- beginning and end ------------------------------------------------------------------------------------------------------- */

char *client_open(struct client *client, const struct config *config)
{
	bool tls = false;

	*client = (struct client){ .config = config, .attempt = ATTEMPT_LIMIT };
	for (size_t i = 0; i < config->n; i++)
		tls = tls || !strncmp(config->endpoints[i], "https:", 6);
	/* The TLS library takes milliseconds to begin. */
	if (curl_global_init(tls ? CURL_GLOBAL_SSL : CURL_GLOBAL_NOTHING))
		return format("libcurl cannot be used");
	client->multi = curl_multi_init();
	client->easy = curl_easy_init();
	client->watch = curl_easy_init();
	if (!client->multi || !client->easy || !client->watch)
		return format("libcurl cannot be used");
	set_headers(client, &client->headers);
	return NULL;
}

void client_close(struct client *client)
{
	client_unwatch(client);
	curl_easy_cleanup(client->watch);
	curl_easy_cleanup(client->easy);
	curl_multi_cleanup(client->multi);
	curl_slist_free_all(client->headers);
	curl_slist_free_all(client->watch_headers);
	free(client->token);
	free(client->line);
}
