#include "etcd/transfer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"

/* How long an endpoint may take to accept a connection; ETCDCTL_DIAL_TIMEOUT may shorten it. */
#define CONNECT_LIMIT (1 * NS_PER_S)

/* An attempt gets at least this long, however little time is left. */
#define LEAST_ATTEMPT (100 * NS_PER_MS)

/* A server that refuses to process requests is not asked forever. */
#define MOST_UNREAD 3

static int64_t now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

/* How ANSWER's endpoint was asked. */
static struct asked asked(const struct client *client, const struct answer *answer,
			  const struct rpc *rpc)
{
	return (struct asked){ .url = client->config->endpoints[answer->endpoint],
			       .user = client->config->user,
			       .known = client->cluster != 0 || rpc->is_heard };
}

/* Takes in whose answer it is: members of another cluster must never be asked for the same lock. */
static bool is_our_cluster(struct client *client, const struct answer *answer)
{
	const uint64_t cluster = answer->body.cluster;

	if (client->cluster && cluster != client->cluster) {
		client->wrong_cluster = true;
		return false;
	}
	client->cluster = cluster;
	return true;
}

/* The call has ended. */
static void read_answer(struct client *client, struct answer *answer, struct rpc *rpc)
{
	const struct asked whom = asked(client, answer, rpc);

	if (rpc->failure) {
		answer_explain(answer, &whom, rpc);
		return;
	}
	answer_read(answer, &whom, rpc);
	/* Every answer of etcd says of which cluster it is. */
	if (answer->outcome == OUTCOME_DONE && !answer->body.cluster) {
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
	channel_end(&client->watch);
	rpc_free(&client->watch);
	client->watching = false;
}

static void begin(struct client *client, struct transfer *transfer)
{
	channel_begin(transfer->channel, &transfer->rpc, client->token);
	transfer->sent++;
}

/* Whether it is sent again at once, because its connection was just closing. */
static bool is_sent_again(struct transfer *transfer)
{
	const struct rpc *rpc = &transfer->rpc;

	if (!rpc->done || !rpc->failure || now() >= transfer->limit)
		return false;
	/* It was not processed: it is as if it had not been sent. */
	if (rpc->is_unread && transfer->unread < MOST_UNREAD) {
		transfer->unread++;
		transfer->sent--;
		return true;
	}
	return rpc->failure == FAILURE_CLOSED && rpc->is_reused && transfer->sent == 1;
}

void transfer_move(struct client *client)
{
	bool again;

	do {
		again = false;
		channels_move(client->channels, client->config->n);
		for (struct transfer *one = client->transfers; one; one = one->next) {
			if (is_sent_again(one)) {
				begin(client, one);
				again = true;
			} else if (!one->rpc.done && now() >= one->limit) {
				channel_give_up(&one->rpc);
			}
		}
	} while (again);
	if (client->watching && client->watch.done)
		client_unwatch(client);
}

void transfer_rest(struct client *client, int64_t limit)
{
	int64_t due = deadline_earlier(limit, client->due);

	for (const struct transfer *one = client->transfers; one; one = one->next)
		if (!one->rpc.done)
			due = deadline_earlier(due, one->limit);
	set_timer(client, deadline_earlier(due, channels_due(client->channels, client->config->n)));
	channels_rest(client->channels, client->config->n, client->fds, client->n_fds);
}

bool transfer_attend(struct client *client)
{
	return client->attend && client->attend(client->owner);
}

/* --- calls ------------------------------------------------------------------------------------ */

/* With too little time, a healthy endpoint would look like a silent one. */
static int64_t time_for_attempt(const struct client *client)
{
	const int64_t left = client->limit - now();

	return deadline_earlier(client->attempt, left < LEAST_ATTEMPT ? LEAST_ATTEMPT : left);
}

void transfer_begin(struct client *client, struct transfer *transfer, size_t endpoint,
		    const char *path, const struct bytes *body)
{
	*transfer = (struct transfer){ .rpc.path = path,
				       .channel = client->channels[endpoint],
				       .limit = now() + time_for_attempt(client),
				       .next = client->transfers };
	client->transfers = transfer;
	rpc_ask(&transfer->rpc, body->all, body->n);
	begin(client, transfer);
}

void transfer_end(struct client *client, struct transfer *transfer, struct answer *answer)
{
	struct transfer **at = &client->transfers;

	while (*at != transfer)
		at = &(*at)->next;
	*at = transfer->next;
	client->retried = client->retried || transfer->sent > 1;
	channel_end(&transfer->rpc);
	if (transfer->rpc.done)
		read_answer(client, answer, &transfer->rpc);
	else
		answer_fail(answer, OUTCOME_STOPPED, memory_string("stopped"));
	rpc_free(&transfer->rpc);
}

/* --- certificates ----------------------------------------------------------------------------- */

_Static_assert(TLS_CA == (int)CREDENTIAL_CACERT && TLS_CERT == (int)CREDENTIAL_CERT &&
		       TLS_KEY == (int)CREDENTIAL_KEY && TLS_FILES == (int)CREDENTIALS,
	       "");

/* They may have been replaced since the last connection. */
static const struct tls_files *fresh_files(void *owner)
{
	struct client *client = owner;
	const struct config *config = client->config;
	const struct credential_set *set =
		config->credentials ? credentials_fresh(config->credentials) : NULL;

	client->pem = (struct tls_files){ .number = set ? set->number : 0,
					  .names = { [TLS_CA] = config->cacert,
						     [TLS_CERT] = config->cert,
						     [TLS_KEY] = config->key } };
	for (size_t i = 0; set && i < TLS_FILES; i++) {
		client->pem.bytes[i] = set->bytes[i];
		client->pem.lengths[i] = set->lengths[i];
	}
	return &client->pem;
}

static void judge_files(void *owner, unsigned number, bool worked)
{
	const struct client *client = owner;

	if (client->config->credentials)
		credentials_judge(client->config->credentials, number, worked);
}

/* --- beginning and end ------------------------------------------------------------------------ */

char *transfer_open(struct client *client)
{
	const struct config *config = client->config;
	const int64_t connect = deadline_earlier(CONNECT_LIMIT, config->dial_timeout);
	char *why = NULL;

	client->tls = (struct tls_source){ .owner = client,
					   .fresh = fresh_files,
					   .judge = judge_files,
					   .skip_verify = config->skip_verify };
	client->channels = memory_get(config->n * sizeof(struct channel *));
	for (size_t i = 0; i < config->n && !why; i++)
		client->channels[i] =
			channel_open(config->endpoints[i], &client->tls, connect, &why);
	if (!why)
		channel_dial(client->channels[client->endpoint]);
	return why;
}

void transfer_close(struct client *client)
{
	for (size_t i = 0; client->channels && i < client->config->n; i++)
		if (client->channels[i])
			channel_close(client->channels[i]);
	free(client->channels);
}
