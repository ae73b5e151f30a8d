#include "etcd/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "etcd/requests.h"
#include "etcd/transfer.h"

/* An attempt, as long as nothing shorter is needed. */
#define ATTEMPT_LIMIT (2 * NS_PER_S)

/*
 * Of several requests that an etcd server reads at once it starts with the last (measured: 7 of 10
 * times). This long after the first, it has read that alone.
 */
#define READ_IN (NS_PER_MS / 10)

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

void client_await(struct client *client, const struct transfer *transfers, size_t n, int64_t limit)
{
	for (;;) {
		size_t done = 0;

		transfer_move(client);
		while (done < n && transfers[done].rpc.done)
			done++;
		if (done == n || now() >= limit || transfer_attend(client))
			return;
		transfer_rest(client, limit);
	}
}

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
static void attempt(struct client *client, const char *path, const struct bytes *body,
		    struct answer *answer)
{
	struct transfer transfer;

	answer->sent = now();
	transfer_begin(client, &transfer, answer->endpoint, path, body);
	client_await(client, &transfer, 1, DEADLINE_NEVER);
	transfer_end(client, &transfer, answer);
	note_outcome(client, answer);
}

/* Waits until the server has probably read TRANSFER. Returns false if attend() says so. */
static bool let_be_read(struct client *client, const struct transfer *transfer)
{
	int64_t until = DEADLINE_NEVER;

	for (;;) {
		transfer_move(client);
		if (until == DEADLINE_NEVER &&
		    (transfer->rpc.done || channel_has_sent(&transfer->rpc)))
			until = now() + READ_IN;
		if (now() >= until)
			return true;
		if (transfer_attend(client))
			return false;
		transfer_rest(client, until);
	}
}

void client_call_both(struct client *client, const struct two_calls *calls, struct answer *first,
		      struct answer *second)
{
	struct transfer transfers[2];
	bool both = true;

	client->retried = false;
	*first = *second = (struct answer){ .endpoint = client->endpoint, .sent = now() };
	transfer_begin(client, &transfers[0], first->endpoint, calls->first_path,
		       calls->first_body);
	if (calls->in_order)
		both = let_be_read(client, &transfers[0]);
	if (both) {
		transfer_begin(client, &transfers[1], second->endpoint, calls->second_path,
			       calls->second_body);
		client_await(client, transfers, 2, DEADLINE_NEVER);
		transfer_end(client, &transfers[1], second);
	} else {
		answer_fail(second, OUTCOME_STOPPED, memory_string("stopped"));
	}
	transfer_end(client, &transfers[0], first);
	request_free(calls->first_body);
	request_free(calls->second_body);
	note_outcome(client, first);
	/* The next try, of either, does not begin with one that has been silent. */
	if (errors_may_pass(first->outcome) && errors_may_pass(second->outcome))
		client->endpoint = (client->endpoint + 1) % client->config->n;
}

void client_call_each(struct client *client, const char *path, struct bytes *const *bodies,
		      struct answer *answers, size_t n)
{
	struct transfer *transfers = memory_get((n + 1) * sizeof *transfers);

	for (size_t i = 0; i < n; i++) {
		answers[i] = (struct answer){ .endpoint = client->endpoint, .sent = now() };
		transfer_begin(client, &transfers[i], client->endpoint, path, bodies[i]);
		request_free(bodies[i]);
	}
	client_await(client, transfers, n, DEADLINE_NEVER);
	for (size_t i = 0; i < n; i++)
		transfer_end(client, &transfers[i], &answers[i]);
	free(transfers);
}

/*
 * Gets a token at the endpoint of ANSWER. Returns whether there is one, or none is needed;
 * otherwise ANSWER is the reason.
 */
static bool authenticate(struct client *client, struct answer *answer)
{
	struct bytes *body = request_authenticate(client->config->user, client->config->password);

	free(client->token);
	client->token = NULL;
	attempt(client, PATH_AUTHENTICATE, body, answer);
	explicit_bzero(body->all, body->n);
	request_free(body);
	/* Everybody may do everything. */
	if (answer->outcome == OUTCOME_OPEN) {
		client->no_users = true;
		answer_free(answer);
		return true;
	}
	if (answer->outcome != OUTCOME_DONE)
		return false;
	client->token = memory_text((const char *)answer->body.text.at, answer->body.text.n);
	answer_free(answer);
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

static void call_with_token(struct client *client, const char *path, const struct bytes *body,
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

void client_call_at(struct client *client, size_t endpoint, const char *path, struct bytes *body,
		    struct answer *answer)
{
	*answer = (struct answer){ .endpoint = endpoint };
	call_with_token(client, path, body, answer);
	request_free(body);
	if (answer->outcome == OUTCOME_DONE)
		client->endpoint = endpoint;
}

/* Calls each endpoint once, until an answer is final. Returns whether one is, or time is up. */
static bool call_round(struct client *client, const char *path, const struct bytes *body,
		       unsigned round, int64_t limit, struct answer *answer)
{
	const size_t n = client->config->n, first = client->endpoint;
	bool may_pass = false;

	for (size_t i = 0; i < n; i++) {
		client->retried = client->retried || round + i > 0;
		answer_free(answer);
		*answer = (struct answer){ .endpoint = (first + i) % n };
		call_with_token(client, path, body, answer);
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

void client_call(struct client *client, const char *path, struct bytes *body, int64_t limit,
		 struct answer *answer)
{
	client->retried = false;
	*answer = (struct answer){ .outcome = OUTCOME_RETRY };
	for (unsigned round = 0; !call_round(client, path, body, round, limit, answer); round++) {
		if (client_wait(client, deadline_earlier(limit, now() + client_pause(round)))) {
			answer_free(answer);
			answer_fail(answer, OUTCOME_STOPPED, memory_string("stopped"));
			break;
		}
		if (now() >= limit)
			break;
	}
	request_free(body);
}

/* --- beginning and end ------------------------------------------------------------------------ */

char *client_open(struct client *client, const struct config *config)
{
	*client = (struct client){ .config = config,
				   .attempt = ATTEMPT_LIMIT,
				   .limit = DEADLINE_NEVER,
				   .due = DEADLINE_NEVER,
				   .timer_set = DEADLINE_NEVER };
	client->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	if (client->timer < 0)
		return memory_format("cannot create a timer: %s", strerror(errno));
	client->fds[client->n_fds++] = (struct pollfd){ .fd = client->timer, .events = POLLIN };
	return transfer_open(client);
}

void client_close(struct client *client)
{
	char *old = NULL;

	client_unwatch(client);
	/* Without the lock, nobody has looked at them. */
	if (client->probes)
		free(client_surveyed(client, 0, &old));
	free(old);
	transfer_close(client);
	free(client->token);
	free(client->trouble);
	if (client->timer > 0)
		close(client->timer);
}
