/* The client's stream of events. etcd/stream.c knows what they mean. */
#include "base/memory.h"
#include "etcd/client.h"
#include "etcd/requests.h"

/* One message of the stream. One that cannot be read ends it. */
static void hear(void *owner, unsigned char *message, size_t n)
{
	struct client *client = owner;
	struct body body;

	if (!body_read(&body, PATH_WATCH, message, n))
		rpc_fail(&client->watch, FAILURE_ANSWER, NULL);
	else if (client->event)
		client->event(client->owner, &body);
	body_free(&body);
}

void client_watch(struct client *client, struct bytes *requests)
{
	const size_t endpoint = (client->endpoint + client->watch_skips) % client->config->n;
	struct slice rest = { .at = requests->all, .n = requests->n }, one;

	client_unwatch(client);
	client_log_in(client);
	client->watch = (struct rpc){
		.path = PATH_WATCH, .is_stream = true, .take = hear, .owner = client
	};
	while (list_take(&rest, &one))
		rpc_ask(&client->watch, one.at, one.n);
	request_free(requests);
	channel_begin(client->channels[endpoint], &client->watch, client->token);
	client->watching = true;
	client->watch_endpoint = endpoint;
}
