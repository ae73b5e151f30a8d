#include "etcd/client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "etcd/requests.h"

/* An endpoint may need so long to take a connection, unless ETCDCTL_DIAL_TIMEOUT is less. */
#define CONNECT_LIMIT (1 * NS_PER_S)

/* An attempt, as long as nothing shorter is needed. */
#define ATTEMPT_LIMIT (2 * NS_PER_S)

/* An attempt gets at least this long, however little time is left. */
#define LEAST_ATTEMPT (100 * NS_PER_MS)

#define LARGEST_ANSWER (256U << 20)

/* ms. Our own timer ends every wait earlier. */
#define LONGEST_REST 60000

/* A resolver that has hung is not asked for the same name again before: each time one more thread waits for it. */
#define UNRESOLVED_PAUSE (10 * NS_PER_S)

/* After so many rounds a connection that is always closed is no accident. */
#define CLOSED_ROUNDS 2

static int64_t now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

int64_t client_pause(size_t round)
{
	static const int64_t pauses[] = { 100 * NS_PER_MS, 200 * NS_PER_MS, 500 * NS_PER_MS };

	return pauses[round < 2 ? round : 2];
}

/* The bytes of an answer. */
struct bytes {
	char *text;
	size_t length, room;
};

/* A call that is under way. */
struct transfer {
	CURL *easy;
	struct bytes bytes;
	char detail[CURL_ERROR_SIZE];
	bool done;
	CURLcode result;
	unsigned sent;		/* so often: libcurl repeats it by itself if a connection that was used before is closed without an answer */
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

/* A request is about to be sent. The type is libcurl's. */
static int count_sent(void *argument, char *their_address, char *our_address, int their_port, int our_port)	// NOLINT(readability-non-const-parameter)
{
	struct transfer *transfer = argument;

	(void)their_address;
	(void)our_address;
	(void)their_port;
	(void)our_port;
	transfer->sent++;
	return CURL_PREREQFUNC_OK;
}

/* How ANSWER's endpoint was asked. */
static struct asked asked(const struct client *client, const struct answer *answer)
{
	return (struct asked){ .url = client->config->endpoints[answer->endpoint], .user = client->config->user, .known = client->cluster != 0 };
}

/* No answer: libcurl says why. */
static void explain(struct client *client, struct answer *answer, const struct transfer *transfer)
{
	const struct asked whom = asked(client, answer);
	const char *detail = *transfer->detail ? transfer->detail : curl_easy_strerror(transfer->result);
	CURLcode result = transfer->result;
	curl_off_t resolved = 0;
	long error = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_OS_ERRNO, &error);
	/* A resolver that hangs. */
	curl_easy_getinfo(transfer->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
	if (result == CURLE_OPERATION_TIMEDOUT && !transfer->sent && !resolved) {
		result = CURLE_COULDNT_RESOLVE_HOST;
		client->unresolved[answer->endpoint] = now() + UNRESOLVED_PAUSE;
	}
	answer_explain(answer, &whom, result, result == CURLE_COULDNT_CONNECT && error ? strerror((int)error) : detail);
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
	const struct asked whom = asked(client, answer);

	answer_read(answer, &whom, status, bytes->text, bytes->length);
	/* Every answer of etcd says of which cluster it is. */
	if (answer->code == CODE_OK && !header_number(answer->body, "cluster_id")) {
		answer_free(answer);
		answer_fail(answer, whom.known ? CODE_NO_ANSWER : CODE_REFUSED, memory_format("%s does not answer as etcd does", whom.url));
	}
	if (answer->code != CODE_OK || is_our_cluster(client, answer))
		return;
	answer_free(answer);
	answer_fail(answer, CODE_REFUSED, memory_format("%s belongs to another cluster than the others: ETCDCTL_ENDPOINTS has to name members of one", whom.url));
}

static void hear(struct client *client);

/* --- the loop ---------------------------------------------------------------------------------------------------------------- */

/* Unlike poll(2), the timer counts the time for which the machine sleeps. */
static void set_timer(struct client *client, int64_t when)
{
	/* 0 would disarm it. */
	const int64_t ns = when == DEADLINE_NEVER ? 0 : when > 0 ? when : 1;
	const struct itimerspec at = { .it_value = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) } };

	if (when == client->timer_set)
		return;
	(void)timerfd_settime(client->timer, TFD_TIMER_ABSTIME, &at, NULL);
	client->timer_set = when;
}

/* Moves all transfers on. */
static void move(struct client *client)
{
	int running, left;
	CURLMsg *message;

	curl_multi_perform(client->multi, &running);
	while ((message = curl_multi_info_read(client->multi, &left))) {
		struct transfer *transfer = NULL;

		if (message->msg != CURLMSG_DONE)
			continue;
		if (message->easy_handle == client->watch) {
			/* The last line of an error has no newline. */
			if (client->line_length > 0)
				hear(client);
			client_unwatch(client);
			continue;
		}
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
		transfer->result = message->data.result;
		transfer->done = true;
	}
}

static void rest(struct client *client, int64_t limit)
{
	int ready;

	set_timer(client, deadline_earlier(limit, client->due));
	curl_multi_poll(client->multi, client->fds, client->n_fds, LONGEST_REST, &ready);
}

static bool attend(struct client *client)
{
	return client->attend && client->attend(client->owner);
}

bool client_wait(struct client *client, int64_t limit)
{
	for (;;) {
		move(client);
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
	int64_t connect = deadline_earlier(deadline_earlier(CONNECT_LIMIT, config->dial_timeout), client->attempt);

	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	/* 0 would be libcurl's own limit. */
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect / NS_PER_MS) + 1);
	/* A name that was resolved once stays so: a resolver that hangs is not to hold up a renewal. */
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
	/* Nor is the end of a call to wait for the thread that asks the resolver. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	if (strncmp(url, "https:", 6) != 0) {
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
		return;
	}
	/* Who names a CA trusts no other; libcurl would go on to trust the system's. */
	if (config->cacert) {
		curl_easy_setopt(easy, CURLOPT_CAINFO, config->cacert);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	curl_easy_setopt(easy, CURLOPT_SSLCERT, config->cert);
	curl_easy_setopt(easy, CURLOPT_SSLKEY, config->key);
	if (config->skip_verify) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

static char *url_of(const struct client *client, size_t endpoint, const char *path)
{
	return memory_format("%s%s", client->config->endpoints[endpoint], path);
}

/* With too little time, a healthy endpoint would look like a silent one. */
static int64_t time_for_attempt(const struct client *client)
{
	const int64_t left = client->limit - now();

	return deadline_earlier(client->attempt, left < LEAST_ATTEMPT ? LEAST_ATTEMPT : left);
}

/* Begins a call of PATH at ENDPOINT. */
static void begin(struct client *client, struct transfer *transfer, CURL *easy, struct curl_slist *headers, size_t endpoint, const char *path,
		  const char *body)
{
	char *url = url_of(client, endpoint, path);

	*transfer = (struct transfer){ .easy = easy };
	set_up(client, easy, url, headers);
	free(url);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(time_for_attempt(client) / NS_PER_MS));
	curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, keep);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer->bytes);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->detail);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, count_sent);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *)transfer);
	curl_multi_add_handle(client->multi, easy);
}

/* Ends a call, done or not. */
static void end(struct client *client, struct transfer *transfer, struct answer *answer)
{
	long status = 0;

	client->retried = client->retried || transfer->sent > 1;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_multi_remove_handle(client->multi, transfer->easy);
	if (!transfer->done)
		answer_fail(answer, CODE_STOPPED, memory_string("stopped"));
	else if (transfer->result)
		explain(client, answer, transfer);
	else
		read_answer(client, answer, status, &transfer->bytes);
	free(transfer->bytes.text);
}

/* Calls once. */
static void attempt(struct client *client, const char *path, const char *body, struct answer *answer)
{
	struct transfer transfer;

	answer->sent = now();
	if (answer->sent < client->unresolved[answer->endpoint]) {
		const struct asked whom = asked(client, answer);

		answer_explain(answer, &whom, CURLE_COULDNT_RESOLVE_HOST, NULL);
		return;
	}
	begin(client, &transfer, client->easy, client->headers, answer->endpoint, path, body);
	for (;;) {
		move(client);
		if (transfer.done || attend(client))
			break;
		rest(client, DEADLINE_NEVER);
	}
	end(client, &transfer, answer);
}

/* Whether another try, at another endpoint or later, may do better: unless the answer is about what was asked, or by whom. */
static bool may_pass(enum code code)
{
	switch (code) {
	case CODE_OK:
	case CODE_INVALID:
	case CODE_NOT_FOUND:
	case CODE_DENIED:
	case CODE_EXHAUSTED:
	case CODE_PRECONDITION:
	case CODE_OUT_OF_RANGE:
	case CODE_UNAUTHENTICATED:
	case CODE_REFUSED:
	case CODE_STOPPED:
		return false;
	default:
		return true;
	}
}

/* Whether the request has left. */
static bool is_sent(const struct transfer *transfer)
{
	long size = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &size);
	return size > 0;
}

void client_call_both(struct client *client, const char *first_path, json_t *first_body, struct answer *first,
		      const char *second_path, json_t *second_body, struct answer *second)
{
	char *first_text = json_dumps(first_body, JSON_COMPACT), *second_text = json_dumps(second_body, JSON_COMPACT);
	struct transfer transfers[2];
	bool both = false;

	json_decref(first_body);
	json_decref(second_body);
	client->retried = false;
	*first = *second = (struct answer){ .endpoint = client->endpoint, .sent = now() };
	begin(client, &transfers[0], client->easy, client->headers, first->endpoint, first_path, first_text ? first_text : "{}");
	for (;;) {
		move(client);
		if (!both && (transfers[0].done || is_sent(&transfers[0]))) {
			begin(client, &transfers[1], client->second, client->headers, second->endpoint, second_path,
			      second_text ? second_text : "{}");
			both = true;
			continue;
		}
		if ((both && transfers[0].done && transfers[1].done) || attend(client))
			break;
		rest(client, DEADLINE_NEVER);
	}
	end(client, &transfers[0], first);
	if (both)
		end(client, &transfers[1], second);
	else
		answer_fail(second, CODE_STOPPED, memory_string("stopped"));
	/* The next try, of either, does not begin with one that has been silent. */
	if (may_pass(first->code) && may_pass(second->code))
		client->endpoint = (client->endpoint + 1) % client->config->n;
	free(first_text);
	free(second_text);
}

static bool are_done(const struct transfer *transfers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (transfers[i].easy && !transfers[i].done)
			return false;
	return true;
}

void client_call_each(struct client *client, const char *path, json_t *const *bodies, struct answer *answers, size_t n)
{
	struct transfer *transfers = memory_get((n + 1) * sizeof *transfers);

	for (size_t i = 0; i < n; i++) {
		CURL *easy = curl_easy_init();
		char *text = json_dumps(bodies[i], JSON_COMPACT);

		json_decref(bodies[i]);
		answers[i] = (struct answer){ .endpoint = client->endpoint, .sent = now() };
		transfers[i] = (struct transfer){ .easy = NULL };
		if (easy)
			begin(client, &transfers[i], easy, client->headers, client->endpoint, path, text ? text : "{}");
		free(text);
	}
	for (;;) {
		move(client);
		if (are_done(transfers, n) || attend(client))
			break;
		rest(client, DEADLINE_NEVER);
	}
	for (size_t i = 0; i < n; i++) {
		if (transfers[i].easy)
			end(client, &transfers[i], &answers[i]);
		else
			answer_fail(&answers[i], CODE_NO_ANSWER, memory_string("out of memory"));
		curl_easy_cleanup(transfers[i].easy);
	}
	free(transfers);
}

static void set_headers(const struct client *client, struct curl_slist **headers)
{
	curl_slist_free_all(*headers);
	*headers = curl_slist_append(NULL, "Content-Type: application/json");
	/* A member without a leader says so at once, instead of being silent. */
	*headers = curl_slist_append(*headers, "Grpc-Metadata-hasleader: true");
	*headers = curl_slist_append(*headers, "Expect:");
	if (client->token) {
		char *header = memory_format("Authorization: %s", client->token);

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
		answer_fail(answer, CODE_REFUSED, memory_string("ETCDCTL_USER and ETCDCTL_PASSWORD have to be UTF-8"));
		return false;
	}
	attempt(client, PATH_AUTHENTICATE, text, answer);
	explicit_bzero(text, strlen(text));
	free(text);
	/* Users are not switched on: everybody may do everything. */
	if (answer->code == CODE_PRECONDITION) {
		client->no_users = true;
		answer_free(answer);
		return true;
	}
	if (answer->code != CODE_OK)
		return false;
	token = json_string_value(json_object_get(answer->body, "token"));
	client->token = memory_string(token);
	answer_free(answer);
	set_headers(client, &client->headers);
	return true;
}

static void call_with_token(struct client *client, const char *path, const char *body, struct answer *answer)
{
	bool fresh = client->config->user && !client->token && !client->no_users;

	if (fresh && !authenticate(client, answer))
		return;
	attempt(client, path, body, answer);
	/* A token has expired; or users were switched on: until then nobody has one. */
	if (!client->config->user || fresh || (answer->code != CODE_UNAUTHENTICATED && !(client->no_users && answer->code == CODE_REFUSED)))
		return;
	client->no_users = false;
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

/* Calls each endpoint once, until one has given an answer that is final. Returns whether one has, or time is over. */
static bool call_round(struct client *client, const char *path, const char *text, unsigned round, int64_t limit, struct answer *answer)
{
	const size_t n = client->config->n, first = client->endpoint;

	for (size_t i = 0; i < n; i++) {
		client->retried = client->retried || round + i > 0;
		answer_free(answer);
		*answer = (struct answer){ .endpoint = (first + i) % n };
		call_with_token(client, path, text, answer);
		/* That etcd refuses this is an answer as well. */
		if (!may_pass(answer->code) && answer->code != CODE_REFUSED && answer->code != CODE_STOPPED)
			client->endpoint = answer->endpoint;
		if (answer->code == CODE_CLOSED && round >= CLOSED_ROUNDS)
			answer->code = CODE_REFUSED;
		if (now() >= limit)
			return true;
		if (may_pass(answer->code))
			continue;
		/* One that is no etcd, or another's, does not keep the others from being asked; the last one's word is final. */
		if (answer->code != CODE_REFUSED || i + 1 == n || client->wrong_cluster)
			return true;
	}
	return false;
}

void client_call(struct client *client, const char *path, json_t *body, int64_t limit, struct answer *answer)
{
	char *text = json_dumps(body, JSON_COMPACT);

	json_decref(body);
	client->retried = false;
	*answer = (struct answer){ .code = CODE_NO_ANSWER };
	for (unsigned round = 0; !call_round(client, path, text ? text : "{}", round, limit, answer); round++) {
		if (client_wait(client, deadline_earlier(limit, now() + client_pause(round)))) {
			answer_free(answer);
			answer_fail(answer, CODE_STOPPED, memory_string("stopped"));
			break;
		}
		if (now() >= limit)
			break;
	}
	free(text);
}

/* --- the survey -------------------------------------------------------------------------------------------------------------- */

void client_survey(struct client *client)
{
	client->probes = memory_get(client->config->n * sizeof *client->probes);
	set_headers(client, &client->probe_headers);
	for (size_t i = 0; i < client->config->n; i++) {
		CURL *easy = curl_easy_init();

		if (easy)
			begin(client, &client->probes[i], easy, client->probe_headers, i, PATH_STATUS, "{}");
		else
			client->probes[i].done = true;
	}
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
		error = memory_format("%s belongs to another cluster than %s: ETCDCTL_ENDPOINTS has to name members of one", client->config->endpoints[i],
			       client->config->endpoints[client->endpoint]);
	if (version && !*old && answer_is_of_old(version))
		*old = memory_string(version);
	json_decref(body);
	return error;
}

char *client_surveyed(struct client *client, int64_t limit, char **old)
{
	char *error = NULL;

	*old = NULL;
	while (!is_surveyed(client) && now() < limit) {
		move(client);
		if (attend(client))
			break;
		if (!is_surveyed(client))
			rest(client, limit);
	}
	for (size_t i = 0; i < client->config->n; i++) {
		struct transfer *probe = &client->probes[i];

		if (probe->easy)
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
	json_t *result = answer_result(client->line, client->line_length);

	client->line_length = 0;
	if (result && client->event)
		client->event(client->owner, result);
	json_decref(result);
}

static size_t stream(const char *data, size_t size, size_t n, void *argument)
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
	const size_t endpoint = (client->endpoint + client->watch_skips) % client->config->n;
	char *url = url_of(client, endpoint, PATH_WATCH), *text = memory_get(1);
	size_t i;
	json_t *request;

	client_unwatch(client);
	/* One after the other, in one body. */
	json_array_foreach(requests, i, request) {
		char *one = json_dumps(request, JSON_COMPACT), *both = memory_format("%s%s\n", text, one ? one : "");

		free(one);
		free(text);
		text = both;
	}
	json_decref(requests);
	set_headers(client, &client->watch_headers);
	set_up(client, client->watch, url, client->watch_headers);
	/* The connection that is there stays for calls: when an event comes, one has to be made at once. */
	curl_easy_setopt(client->watch, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(client->watch, CURLOPT_COPYPOSTFIELDS, text);
	curl_easy_setopt(client->watch, CURLOPT_WRITEFUNCTION, stream);
	curl_easy_setopt(client->watch, CURLOPT_WRITEDATA, client);
	curl_multi_add_handle(client->multi, client->watch);
	client->watching = true;
	client->watch_endpoint = endpoint;
	free(text);
	free(url);
}

/* --- beginning and end ------------------------------------------------------------------------------------------------------- */

char *client_open(struct client *client, const struct config *config)
{
	bool tls = false;

	*client = (struct client){ .config = config, .attempt = ATTEMPT_LIMIT, .limit = DEADLINE_NEVER, .due = DEADLINE_NEVER,
				   .timer_set = DEADLINE_NEVER };
	client->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (client->timer < 0)
		return memory_format("cannot create a timer: %s", strerror(errno));
	client->fds[client->n_fds++] = (struct curl_waitfd){ .fd = client->timer, .events = CURL_WAIT_POLLIN };
	for (size_t i = 0; i < config->n; i++)
		tls = tls || !strncmp(config->endpoints[i], "https:", 6);
	/* The TLS library is prepared whether it is needed or not; its configuration takes it as long as a request (measured: 0.8 ms). */
	if (!tls)
		setenv("OPENSSL_CONF", "/dev/null", 1);
	if (curl_global_init(tls ? CURL_GLOBAL_SSL : CURL_GLOBAL_NOTHING))
		return memory_string("libcurl cannot be used");
	client->unresolved = memory_get(config->n * sizeof *client->unresolved);
	client->multi = curl_multi_init();
	client->easy = curl_easy_init();
	client->second = curl_easy_init();
	client->watch = curl_easy_init();
	if (!client->multi || !client->easy || !client->second || !client->watch)
		return memory_string("libcurl cannot be used");
#if LIBCURL_VERSION_NUM >= 0x081400
	/* From there on the threads that ask the resolver are those of all calls. */
	curl_multi_setopt(client->multi, CURLMOPT_QUICK_EXIT, 1L);
#endif
	set_headers(client, &client->headers);
	return NULL;
}

void client_close(struct client *client)
{
	char *old = NULL;

	client_unwatch(client);
	/* Who has not got the lock has not looked at them. */
	if (client->probes)
		free(client_surveyed(client, 0, &old));
	free(old);
	curl_easy_cleanup(client->watch);
	curl_easy_cleanup(client->easy);
	curl_easy_cleanup(client->second);
	curl_multi_cleanup(client->multi);
	curl_slist_free_all(client->headers);
	curl_slist_free_all(client->watch_headers);
	free(client->token);
	free(client->line);
	free(client->unresolved);
	if (client->timer > 0)
		close(client->timer);
}
