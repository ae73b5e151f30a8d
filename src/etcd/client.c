#include "etcd/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "etcd/requests.h"
#include "etcd/transfer.h"

/* An attempt, as long as nothing shorter is needed. */
#define ATTEMPT_LIMIT (2 * NS_PER_S)

/* After this many rounds, a connection that is always closed is not an accident. */
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

bool client_wait(struct client *client, int64_t limit)
{
	for (;;) {
		transfer_move(client);
		if (transfer_attend(client))
			return true;
		if (now() >= limit)
			return false;
		transfer_rest(client, limit);
	}
}

/* --- calls ------------------------------------------------------------------------------------ */

/* Takes in whether etcd answers at all. That it refuses something is an answer. */
static void note_outcome(struct client *client, const struct answer *answer)
{
	if (answer->outcome == OUTCOME_STOPPED || answer->outcome == OUTCOME_USELESS)
		return;
	if (!errors_may_pass(answer->outcome) || answer->outcome == OUTCOME_REAUTH) {
		client->unanswered = 0;
		free(client->trouble);
		client->trouble = NULL;
	} else if (++client->unanswered >= client->config->n) {
		free(client->trouble);
		client->trouble = memory_string(answer->text);
	}
}

/* Calls once. */
static void attempt(struct client *client, const char *path, const char *body,
		    struct answer *answer)
{
	struct transfer transfer;

	answer->sent = now();
	if (answer->sent < client->unresolved[answer->endpoint]) {
		const struct asked whom = transfer_asked(client, answer);

		answer_explain(answer, &whom, CURLE_COULDNT_RESOLVE_HOST, NULL);
		note_outcome(client, answer);
		return;
	}
	transfer_begin(client, &transfer, client->easy, client->headers, answer->endpoint, path,
		       body);
	for (;;) {
		transfer_move(client);
		if (transfer.done || transfer_attend(client))
			break;
		transfer_rest(client, DEADLINE_NEVER);
	}
	transfer_end(client, &transfer, answer);
	note_outcome(client, answer);
}

/* Whether the request has left. */
static bool is_sent(const struct transfer *transfer)
{
	long size = 0;

	curl_easy_getinfo(transfer->easy, CURLINFO_REQUEST_SIZE, &size);
	return size > 0;
}

void client_call_both(struct client *client, const char *first_path, json_t *first_body,
		      struct answer *first, const char *second_path, json_t *second_body,
		      struct answer *second)
{
	char *first_text = json_dumps(first_body, JSON_COMPACT),
	     *second_text = json_dumps(second_body, JSON_COMPACT);
	struct transfer transfers[2];
	bool both = false;

	json_decref(first_body);
	json_decref(second_body);
	client->retried = false;
	*first = *second = (struct answer){ .endpoint = client->endpoint, .sent = now() };
	transfer_begin(client, &transfers[0], client->easy, client->headers, first->endpoint,
		       first_path, first_text ? first_text : "{}");
	for (;;) {
		transfer_move(client);
		if (!both && (transfers[0].done || is_sent(&transfers[0]))) {
			transfer_begin(client, &transfers[1], client->second, client->headers,
				       second->endpoint, second_path,
				       second_text ? second_text : "{}");
			both = true;
			continue;
		}
		if ((both && transfers[0].done && transfers[1].done) || transfer_attend(client))
			break;
		transfer_rest(client, DEADLINE_NEVER);
	}
	transfer_end(client, &transfers[0], first);
	if (both)
		transfer_end(client, &transfers[1], second);
	else
		answer_fail(second, OUTCOME_STOPPED, memory_string("stopped"));
	note_outcome(client, first);
	/* The next try, of either, does not begin with one that has been silent. */
	if (errors_may_pass(first->outcome) && errors_may_pass(second->outcome))
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

void client_call_each(struct client *client, const char *path, json_t *const *bodies,
		      struct answer *answers, size_t n)
{
	struct transfer *transfers = memory_get((n + 1) * sizeof *transfers);

	for (size_t i = 0; i < n; i++) {
		CURL *easy = curl_easy_init();
		char *text = json_dumps(bodies[i], JSON_COMPACT);

		json_decref(bodies[i]);
		answers[i] = (struct answer){ .endpoint = client->endpoint, .sent = now() };
		transfers[i] = (struct transfer){ .easy = NULL };
		if (easy)
			transfer_begin(client, &transfers[i], easy, client->headers,
				       client->endpoint, path, text ? text : "{}");
		free(text);
	}
	for (;;) {
		transfer_move(client);
		if (are_done(transfers, n) || transfer_attend(client))
			break;
		transfer_rest(client, DEADLINE_NEVER);
	}
	for (size_t i = 0; i < n; i++) {
		if (transfers[i].easy)
			transfer_end(client, &transfers[i], &answers[i]);
		else
			answer_fail(&answers[i], OUTCOME_RETRY, memory_string("out of memory"));
		curl_easy_cleanup(transfers[i].easy);
	}
	free(transfers);
}

/*
 * Gets a token at the endpoint of ANSWER. Returns whether there is one, or none is needed;
 * otherwise ANSWER is the reason.
 */
static bool authenticate(struct client *client, struct answer *answer)
{
	json_t *body = json_pack("{s:s, s:s}", "name", client->config->user, "password",
				 client->config->password);
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
	const char *token;

	json_decref(body);
	free(client->token);
	client->token = NULL;
	transfer_set_headers(client, &client->headers);
	if (!text) {
		answer_fail(answer, OUTCOME_FINAL,
			    memory_string("ETCDCTL_USER and ETCDCTL_PASSWORD must be UTF-8"));
		return false;
	}
	attempt(client, PATH_AUTHENTICATE, text, answer);
	explicit_bzero(text, strlen(text));
	free(text);
	/* Everybody may do everything. */
	if (answer->outcome == OUTCOME_OPEN) {
		client->no_users = true;
		answer_free(answer);
		return true;
	}
	if (answer->outcome != OUTCOME_DONE)
		return false;
	token = json_string_value(json_object_get(answer->body, "token"));
	client->token = memory_string(token);
	answer_free(answer);
	transfer_set_headers(client, &client->headers);
	return true;
}

void client_log_in(struct client *client)
{
	struct answer answer = { .endpoint = client->endpoint };

	if (client->config->user && !client->token && !client->no_users &&
	    !authenticate(client, &answer))
		answer_free(&answer);
}

void client_log_out(struct client *client)
{
	free(client->token);
	client->token = NULL;
	client->no_users = false;
}

static void call_with_token(struct client *client, const char *path, const char *body,
			    struct answer *answer)
{
	bool fresh = client->config->user && !client->token && !client->no_users;

	if (fresh && !authenticate(client, answer))
		return;
	attempt(client, path, body, answer);
	/* A token has expired, or users were changed or enabled. */
	if (fresh || answer->outcome != OUTCOME_REAUTH)
		return;
	client->no_users = false;
	answer_free(answer);
	if (authenticate(client, answer))
		attempt(client, path, body, answer);
}

void client_call_at(struct client *client, size_t endpoint, const char *path, json_t *body,
		    struct answer *answer)
{
	char *text = json_dumps(body, JSON_COMPACT);

	json_decref(body);
	*answer = (struct answer){ .endpoint = endpoint };
	call_with_token(client, path, text ? text : "{}", answer);
	free(text);
	if (answer->outcome == OUTCOME_DONE)
		client->endpoint = endpoint;
}

/* Calls each endpoint once, until an answer is final. Returns whether one is, or time is up. */
static bool call_round(struct client *client, const char *path, const char *text, unsigned round,
		       int64_t limit, struct answer *answer)
{
	const size_t n = client->config->n, first = client->endpoint;
	bool may_pass = false;

	for (size_t i = 0; i < n; i++) {
		client->retried = client->retried || round + i > 0;
		answer_free(answer);
		*answer = (struct answer){ .endpoint = (first + i) % n };
		call_with_token(client, path, text, answer);
		/* That etcd refuses this is an answer as well. */
		if (!errors_may_pass(answer->outcome) && answer->outcome != OUTCOME_USELESS &&
		    answer->outcome != OUTCOME_STOPPED)
			client->endpoint = answer->endpoint;
		if (answer->outcome == OUTCOME_CLOSED && round >= CLOSED_ROUNDS)
			answer->outcome = OUTCOME_USELESS;
		if (now() >= limit)
			return true;
		may_pass = may_pass || errors_may_pass(answer->outcome);
		if (errors_may_pass(answer->outcome))
			continue;
		/*
		 * An endpoint that is not etcd, or another cluster's, must not keep us from asking
		 * the others; it is final if all are like that.
		 */
		if (answer->outcome != OUTCOME_USELESS || client->wrong_cluster ||
		    (i + 1 == n && !may_pass))
			return true;
	}
	return false;
}

void client_call(struct client *client, const char *path, json_t *body, int64_t limit,
		 struct answer *answer)
{
	char *text = json_dumps(body, JSON_COMPACT);

	json_decref(body);
	client->retried = false;
	*answer = (struct answer){ .outcome = OUTCOME_RETRY };
	for (unsigned round = 0;
	     !call_round(client, path, text ? text : "{}", round, limit, answer); round++) {
		if (client_wait(client, deadline_earlier(limit, now() + client_pause(round)))) {
			answer_free(answer);
			answer_fail(answer, OUTCOME_STOPPED, memory_string("stopped"));
			break;
		}
		if (now() >= limit)
			break;
	}
	free(text);
}

/* --- beginning and end ------------------------------------------------------------------------ */

char *client_open(struct client *client, const struct config *config)
{
	bool tls = false;

	*client = (struct client){ .config = config,
				   .attempt = ATTEMPT_LIMIT,
				   .limit = DEADLINE_NEVER,
				   .due = DEADLINE_NEVER,
				   .timer_set = DEADLINE_NEVER };
	client->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (client->timer < 0)
		return memory_format("cannot create a timer: %s", strerror(errno));
	client->fds[client->n_fds++] =
		(struct curl_waitfd){ .fd = client->timer, .events = CURL_WAIT_POLLIN };
	for (size_t i = 0; config->credentials && i < CREDENTIALS; i++) {
		client->credentials[i] = memfd_create("me-only", MFD_CLOEXEC);
		if (client->credentials[i] < 0)
			return memory_format("cannot create a file in memory: %s", strerror(errno));
	}
	for (size_t i = 0; i < config->n; i++)
		tls = tls || !strncmp(config->endpoints[i], "https:", 6);
	/*
	 * libcurl initializes the TLS library even if it is not needed. Reading its configuration
	 * takes as long as a request (measured: 0.8 ms).
	 */
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
	transfer_set_headers(client, &client->headers);
	return NULL;
}

void client_close(struct client *client)
{
	char *old = NULL;

	client_unwatch(client);
	/* Without the lock, nobody has looked at them. */
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
	free(client->trouble);
	free(client->line);
	free(client->unresolved);
	for (size_t i = 0; i < CREDENTIALS; i++)
		if (client->credentials[i] > 0)
			close(client->credentials[i]);
	if (client->timer > 0)
		close(client->timer);
}
