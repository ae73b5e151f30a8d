/* The client's stream of events. etcd/stream.c knows what they mean. */
#include <stdlib.h>

#include "base/memory.h"
#include "etcd/requests.h"
#include "etcd/client.h"

/* One line of the stream, or what is there of the last one when it has ended. */
void client_hear(struct client *client)
{
	json_t *result = answer_result(client->line, client->line_length);

	client->line_length = 0;
	if (result && client->event)
		client->event(client->owner, result);
	json_decref(result);
}

static size_t receive_stream(const char *data, size_t size, size_t n, void *argument)
{
	struct client *client = argument;

	(void)size;
	for (size_t i = 0; i < n; i++) {
		client->line =
			memory_grow(client->line, client->line_length, &client->line_room, 1);
		if (client->line_length > LARGEST_ANSWER)
			return 0;
		client->line[client->line_length++] = data[i];
		if (data[i] == '\n')
			client_hear(client);
	}
	return n;
}

void client_watch(struct client *client, json_t *requests)
{
	const size_t endpoint = (client->endpoint + client->watch_skips) % client->config->n;
	char *url = transfer_url(client, endpoint, PATH_WATCH), *text = memory_get(1);
	size_t i;
	json_t *request;

	client_unwatch(client);
	client_log_in(client);
	/* One after the other, in one body. */
	json_array_foreach(requests, i, request)
	{
		char *one = json_dumps(request, JSON_COMPACT),
		     *both = memory_format("%s%s\n", text, one ? one : "");

		free(one);
		free(text);
		text = both;
	}
	json_decref(requests);
	transfer_set_headers(client, &client->watch_headers);
	transfer_set_up(client, client->watch, url, client->watch_headers);
	/* Calls keep their connection: an event is followed by a call at once. */
	curl_easy_setopt(client->watch, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(client->watch, CURLOPT_COPYPOSTFIELDS, text);
	curl_easy_setopt(client->watch, CURLOPT_WRITEFUNCTION, receive_stream);
	curl_easy_setopt(client->watch, CURLOPT_WRITEDATA, client);
	curl_multi_add_handle(client->multi, client->watch);
	client->watching = true;
	client->watch_endpoint = endpoint;
	free(text);
	free(url);
}
