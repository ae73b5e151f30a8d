/* Asking all endpoints for their versions and clusters. */
#include <stdlib.h>

#include "base/memory.h"
#include "etcd/client.h"
#include "etcd/requests.h"

void client_survey(struct client *client)
{
	const struct bytes nothing = { .n = 0 };

	client->probes = memory_get(client->config->n * sizeof *client->probes);
	for (size_t i = 0; i < client->config->n; i++)
		transfer_begin(client, &client->probes[i], i, PATH_STATUS, &nothing);
}

/* Takes in the ANSWER of an endpoint. Returns what is wrong, or NULL. */
static char *read_probe(const struct client *client, const struct answer *answer, char **old)
{
	char *version = memory_text((const char *)answer->body.text.at, answer->body.text.n);

	if (version && !*old && answer_is_of_old(version))
		*old = memory_string(version);
	free(version);
	if (answer->outcome != OUTCOME_USELESS || !client->wrong_cluster)
		return NULL;
	return memory_format(
		"%s belongs to another cluster than %s: ETCDCTL_ENDPOINTS must name members of one cluster",
		client->config->endpoints[answer->endpoint],
		client->config->endpoints[client->endpoint]);
}

char *client_surveyed(struct client *client, int64_t limit, char **old)
{
	const bool retried = client->retried;
	char *error = NULL;

	*old = NULL;
	client_await(client, client->probes, client->config->n, limit);
	for (size_t i = 0; i < client->config->n; i++) {
		struct answer answer = { .endpoint = i };

		transfer_end(client, &client->probes[i], &answer);
		if (!error)
			error = read_probe(client, &answer, old);
		answer_free(&answer);
		if (i != client->endpoint)
			channel_close_idle(client->channels[i]);
	}
	/* That is about the last call. */
	client->retried = retried;
	free(client->probes);
	client->probes = NULL;
	return error;
}
