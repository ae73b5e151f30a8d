/* Asking all endpoints for their versions and clusters. */
#include <stdlib.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "etcd/requests.h"
#include "etcd/client.h"

void client_survey(struct client *client)
{
	client->probes = memory_get(client->config->n * sizeof *client->probes);
	transfer_set_headers(client, &client->probe_headers);
	for (size_t i = 0; i < client->config->n; i++) {
		CURL *easy = curl_easy_init();

		if (easy)
			transfer_begin(client, &client->probes[i], easy, client->probe_headers, i,
				       PATH_STATUS, "{}");
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
	json_t *body =
		bytes->text ? json_loadb(bytes->text, bytes->length, JSON_DISABLE_EOF_CHECK, NULL)
			    : NULL;
	const char *version = json_string_value(json_object_get(body, "version"));
	uint64_t cluster = answer_header(body, "cluster_id");
	char *error = NULL;

	if (cluster && client->cluster && cluster != client->cluster)
		error = memory_format(
			"%s belongs to another cluster than %s: ETCDCTL_ENDPOINTS must name members of one cluster",
			client->config->endpoints[i], client->config->endpoints[client->endpoint]);
	if (version && !*old && answer_is_of_old(version))
		*old = memory_string(version);
	json_decref(body);
	return error;
}

char *client_surveyed(struct client *client, int64_t limit, char **old)
{
	char *error = NULL;

	*old = NULL;
	while (!is_surveyed(client) && clock_now(CLOCK_BOOTTIME) < limit) {
		transfer_move(client);
		if (transfer_attend(client))
			break;
		if (!is_surveyed(client))
			transfer_rest(client, limit);
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
