#include "etcd/transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"

/* How long an endpoint may take to accept a connection; ETCDCTL_DIAL_TIMEOUT may shorten it. */
#define CONNECT_LIMIT (1 * NS_PER_S)

/* An attempt gets at least this long, however little time is left. */
#define LEAST_ATTEMPT (100 * NS_PER_MS)

/* ms. Our own timer ends every wait earlier. */
#define LONGEST_REST 60000

/*
 * When to ask a hung resolver for the same name again: each attempt leaves one more thread waiting.
 */
#define UNRESOLVED_PAUSE (10 * NS_PER_S)

static int64_t now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

static size_t collect(char *data, size_t size, size_t n, void *argument)
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
// NOLINTNEXTLINE(readability-non-const-parameter)
static int count_sent(void *argument, char *their_address, char *our_address, int their_port,
		      int our_port)
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
struct asked transfer_asked(const struct client *client, const struct answer *answer)
{
	return (struct asked){ .url = client->config->endpoints[answer->endpoint],
			       .user = client->config->user,
			       .known = client->cluster != 0 };
}

/* No answer: libcurl says why. */
static void explain_failure(struct client *client, struct answer *answer,
			    const struct transfer *transfer)
{
	const struct asked whom = transfer_asked(client, answer);
	const char *detail =
		*transfer->detail ? transfer->detail : curl_easy_strerror(transfer->result);
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
	answer_explain(answer, &whom, result,
		       result == CURLE_COULDNT_CONNECT && error ? strerror((int)error) : detail);
}

/* Takes in whose answer it is: members of another cluster must never be asked for the same lock. */
static bool is_our_cluster(struct client *client, struct answer *answer)
{
	uint64_t cluster = answer_header(answer->body, "cluster_id");

	if (cluster && client->cluster && cluster != client->cluster) {
		client->wrong_cluster = true;
		return false;
	}
	if (cluster)
		client->cluster = cluster;
	return true;
}

/* BYTES came with the HTTP status STATUS. */
static void read_answer(struct client *client, struct answer *answer, long status,
			const struct bytes *bytes)
{
	const struct asked whom = transfer_asked(client, answer);

	answer_read(answer, &whom, status, bytes->text, bytes->length);
	/* Every answer of etcd says of which cluster it is. */
	if (answer->outcome == OUTCOME_DONE && !answer_header(answer->body, "cluster_id")) {
		answer_free(answer);
		answer_fail(answer, whom.known ? OUTCOME_RETRY : OUTCOME_USELESS,
			    memory_format("%s does not answer like etcd", whom.url));
	}
	if (answer->outcome != OUTCOME_DONE || is_our_cluster(client, answer))
		return;
	answer_free(answer);
	answer_fail(
		answer, OUTCOME_USELESS,
		memory_format(
			"%s belongs to another cluster than the others: ETCDCTL_ENDPOINTS must name members of one cluster",
			whom.url));
}

/* --- the loop --------------------------------------------------------------------------------- */

/* Unlike poll(2), the timer counts the time for which the machine sleeps. */
static void set_timer(struct client *client, int64_t when)
{
	/* 0 would disarm it. */
	const int64_t ns = when == DEADLINE_NEVER ? 0 : when > 0 ? when : 1;
	const struct itimerspec at = { .it_value = { .tv_sec = (time_t)(ns / NS_PER_S),
						     .tv_nsec = (long)(ns % NS_PER_S) } };

	if (when == client->timer_set)
		return;
	(void)timerfd_settime(client->timer, TFD_TIMER_ABSTIME, &at, NULL);
	client->timer_set = when;
}

void client_unwatch(struct client *client)
{
	if (!client->watching)
		return;
	curl_multi_remove_handle(client->multi, client->watch);
	client->watching = false;
	client->line_length = 0;
}

/*
 * What has made a connection shows that the credentials are good. With bad ones there is no answer;
 * a server that is away has not even seen them.
 */
static void judge_credentials(struct client *client, CURL *easy, CURLcode result)
{
	long connections = 0, status = 0;

	if (!client->config->credentials)
		return;
	curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connections);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (result ? !status && result != CURLE_COULDNT_RESOLVE_HOST &&
			     result != CURLE_COULDNT_CONNECT && result != CURLE_OPERATION_TIMEDOUT
		   : connections > 0)
		credentials_judge(client->config->credentials, !result);
}

/* Moves all transfers on. */
void transfer_move(struct client *client)
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
				client_hear(client);
			judge_credentials(client, client->watch, message->data.result);
			client_unwatch(client);
			continue;
		}
		curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
		transfer->result = message->data.result;
		transfer->done = true;
	}
}

void transfer_rest(struct client *client, int64_t limit)
{
	int ready;

	set_timer(client, deadline_earlier(limit, client->due));
	curl_multi_poll(client->multi, client->fds, client->n_fds, LONGEST_REST, &ready);
}

bool transfer_attend(struct client *client)
{
	return client->attend && client->attend(client->owner);
}

/* --- calls ------------------------------------------------------------------------------------ */

/*
 * libcurl is about to connect: writes what it is to use into the files that it opens then. Not
 * before a request: one on an open connection must not hang on the file system. The type is
 * libcurl's.
 */
static int write_credentials(void *argument, curl_socket_t socket, curlsocktype purpose)
{
	struct client *client = argument;
	const struct credential_set *set = credentials_fresh(client->config->credentials);

	(void)socket, (void)purpose;
	for (size_t i = 0; i < CREDENTIALS; i++) {
		if (!set->bytes[i])
			continue;
		(void)!ftruncate(client->credentials[i], 0);
		(void)!pwrite(client->credentials[i], set->bytes[i], set->lengths[i], 0);
	}
	return CURL_SOCKOPT_OK;
}

/* Has EASY use files of our own, in memory. */
static void offer_credentials(struct client *client, CURL *easy)
{
	static const CURLoption options[] = { [CREDENTIAL_CACERT] = CURLOPT_CAINFO,
					      [CREDENTIAL_CERT] = CURLOPT_SSLCERT,
					      [CREDENTIAL_KEY] = CURLOPT_SSLKEY };

	for (size_t i = 0; i < CREDENTIALS; i++) {
		char path[64];

		if (!client->config->credentials->paths[i])
			continue;
		(void)snprintf(path, sizeof path, "/proc/self/fd/%d", client->credentials[i]);
		curl_easy_setopt(easy, options[i], path);
	}
	/* A CA that is named is the only one, and is read each time. */
	if (client->config->cacert)
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, write_credentials);
	curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, client);
}

/* HEADERS are used until EASY is done. */
void transfer_set_up(struct client *client, CURL *easy, const char *url, struct curl_slist *headers)
{
	const struct config *config = client->config;
	int64_t connect = deadline_earlier(deadline_earlier(CONNECT_LIMIT, config->dial_timeout),
					   client->attempt);

	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	/* 0 would be libcurl's own limit. */
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect / NS_PER_MS) + 1);
	/* Resolve a name once: a hung resolver must not hold up a renewal. */
	curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
	/* Nor is the end of a call to wait for the thread that asks the resolver. */
	curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	if (strncmp(url, "https:", 6) != 0) {
		curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
		return;
	}
	if (config->credentials)
		offer_credentials(client, easy);
	if (config->skip_verify) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

char *transfer_url(const struct client *client, size_t endpoint, const char *path)
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
void transfer_begin(struct client *client, struct transfer *transfer, CURL *easy,
		    struct curl_slist *headers, size_t endpoint, const char *path, const char *body)
{
	char *url = transfer_url(client, endpoint, path);

	*transfer = (struct transfer){ .easy = easy };
	transfer_set_up(client, easy, url, headers);
	free(url);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(time_for_attempt(client) / NS_PER_MS));
	curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, body);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer->bytes);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->detail);
	curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, count_sent);
	curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *)transfer);
	curl_multi_add_handle(client->multi, easy);
}

/* Ends a call, done or not. */
void transfer_end(struct client *client, struct transfer *transfer, struct answer *answer)
{
	long status = 0;

	client->retried = client->retried || transfer->sent > 1;
	curl_easy_getinfo(transfer->easy, CURLINFO_RESPONSE_CODE, &status);
	if (transfer->done)
		judge_credentials(client, transfer->easy, transfer->result);
	curl_multi_remove_handle(client->multi, transfer->easy);
	if (!transfer->done)
		answer_fail(answer, OUTCOME_STOPPED, memory_string("stopped"));
	else if (transfer->result)
		explain_failure(client, answer, transfer);
	else
		read_answer(client, answer, status, &transfer->bytes);
	free(transfer->bytes.text);
}

void transfer_set_headers(const struct client *client, struct curl_slist **headers)
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
