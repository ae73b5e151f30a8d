/*
 * usage: requests [-w] [-n NEXT] KEY COMMAND...
 *
 * The floor of a fleet lock: makes only the requests that a lock needs, with the helper's own
 * client, and runs COMMAND in between.
 *
 * A free lock: grant a lease, write KEY; delete it at the end.
 *
 * -n: hands the lock over at the end: the write that deletes KEY also writes NEXT, which is not
 *     there, or waits with -w.
 * -w: waits until another such program has written KEY. With -n, it reads NEXT meanwhile, as a
 *     holder that has waited asks for its successor.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "etcd/client.h"
#include "etcd/config.h"
#include "etcd/requests.h"

/* What stands in KEY. */
#define WAITS "waits"
#define HELD "held"

static void need(const char *error)
{
	if (!error)
		return;
	(void)fprintf(stderr, "requests: %s\n", error);
	_exit(1);
}

static void need_answer(struct answer *answer)
{
	need(answer->outcome == OUTCOME_DONE ? NULL : answer->text);
	answer_free(answer);
}

/* Requests a lease and writes KEY with it, both at the same time. Returns the revision. */
static uint64_t enter(struct client *client, const struct keys *key, const char *value)
{
	const uint64_t lease = (uint64_t)getpid();
	struct bytes *put =
		request_txn(list_of(compare_created(key, EQUAL, 0), NULL),
			    list_of(operation_put(key, value, lease), NULL), list_of(NULL));
	struct answer grant, written;
	uint64_t revision;

	client_call_both(client,
			 &(struct two_calls){ .first_path = PATH_GRANT,
					      .first_body = request_grant(30, lease),
					      .second_path = PATH_TXN,
					      .second_body = request_copy(put),
					      .in_order = true },
			 &grant, &written);
	need_answer(&grant);
	/* The server has processed the write before the lease. */
	if (written.outcome != OUTCOME_DONE) {
		answer_free(&written);
		client_call(client, PATH_TXN, request_copy(put), INT64_MAX, &written);
	}
	revision = written.body.revision;
	need_answer(&written);
	request_free(put);
	return revision;
}

static bool granted;

static void hear(void *owner, const struct body *body)
{
	(void)owner;
	granted = granted || body->events.n > 0;
}

static bool is_granted(void *owner)
{
	(void)owner;
	return granted;
}

/* Waits until another has written KEY. */
static void await_grant(struct client *client, const struct keys *key, uint64_t revision)
{
	client->event = hear;
	client->attend = is_granted;
	client_watch(client, list_of(request_watch(key, revision + 1, WATCH_PUTS), NULL));
	(void)client_wait(client, INT64_MAX);
	client->attend = NULL;
}

static void run(char **argv)
{
	pid_t pid;
	int status;

	need(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) ? "cannot start it" : NULL);
	need(waitpid(pid, &status, 0) < 0 || status != 0 ? "the command has failed" : NULL);
}

/* Deletes KEY, and makes NEXT, unless NULL, the holder. */
static void leave(struct client *client, const struct keys *key, const struct keys *next)
{
	struct bytes *writes = list_of(operation_delete(key), NULL);
	struct answer answer;

	client_unwatch(client);
	if (next)
		list_add(writes, operation_put(next, HELD, 0));
	client_call(
		client, PATH_TXN,
		request_txn(next ? list_of(compare_created(next, GREATER, 0), NULL) : list_of(NULL),
			    writes, list_of(operation_delete(key), NULL)),
		INT64_MAX, &answer);
	need_answer(&answer);
}

int main(int argc, char **argv)
{
	struct config config;
	struct client client;
	struct transfer ask;
	struct answer answer = { .endpoint = 0 };
	struct keys key, next = { .key = NULL };
	struct bytes *body = NULL;
	bool waits = false;
	uint64_t revision;
	int option;

	while ((option = getopt(argc, argv, "+wn:")) != -1) {
		if (option == 'n')
			next = keys_one(optarg);
		waits = waits || option == 'w';
	}
	if (argc - optind < 2)
		need("usage: requests [-w] [-n NEXT] KEY COMMAND...");
	need(config_read(&config, "/dev/null"));
	need(client_open(&client, &config));
	key = keys_one(argv[optind]);
	revision = enter(&client, &key, waits ? WAITS : HELD);
	if (waits)
		await_grant(&client, &key, revision);
	if (waits && next.key) {
		body = request_range(&next, ORDER_NONE, 0, 0);
		transfer_begin(&client, &ask, client.endpoint, PATH_RANGE, body);
		transfer_move(&client);
	}
	run(argv + optind + 1);
	if (body) {
		client_await(&client, &ask, 1, INT64_MAX);
		transfer_end(&client, &ask, &answer);
		need_answer(&answer);
	}
	leave(&client, &key, next.key ? &next : NULL);
	/* Cleans up no library, like the helper. */
	_exit(0);
}
