/*
 * usage: requests KEY COMMAND...
 *
 * The floor of a fleet lock: makes only the requests that a free lock needs (grant a lease, write a
 * key, delete it), with the helper's own client, and runs COMMAND in between.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "etcd/client.h"
#include "etcd/config.h"
#include "etcd/requests.h"

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

/* Requests a lease and writes KEY with it, both at the same time. */
static void take(struct client *client, const struct keys *key)
{
	const uint64_t lease = (uint64_t)getpid();
	struct bytes *put =
		request_txn(list_of(compare_created(key, EQUAL, 0), NULL),
			    list_of(operation_put(key, "held", lease), NULL), list_of(NULL));
	struct answer granted, written;

	client_call_both(client,
			 &(struct two_calls){ .first_path = PATH_GRANT,
					      .first_body = request_grant(30, lease),
					      .second_path = PATH_TXN,
					      .second_body = request_copy(put),
					      .in_order = true },
			 &granted, &written);
	need_answer(&granted);
	/* The server has processed the write before the lease. */
	if (written.outcome != OUTCOME_DONE) {
		answer_free(&written);
		client_call(client, PATH_TXN, request_copy(put), INT64_MAX, &written);
	}
	need_answer(&written);
	request_free(put);
}

static void run(char **argv)
{
	pid_t pid;
	int status;

	need(posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) ? "cannot start it" : NULL);
	need(waitpid(pid, &status, 0) < 0 || status != 0 ? "the command has failed" : NULL);
}

int main(int argc, char **argv)
{
	struct config config;
	struct client client;
	struct answer answer;
	struct keys key;

	if (argc < 3)
		need("usage: requests KEY COMMAND...");
	need(config_read(&config, "/dev/null"));
	need(client_open(&client, &config));
	key = keys_one(argv[1]);
	take(&client, &key);
	run(argv + 2);
	client_call(
		&client, PATH_TXN,
		request_txn(list_of(NULL), list_of(operation_delete(&key), NULL), list_of(NULL)),
		INT64_MAX, &answer);
	need_answer(&answer);
	/* Cleans up no library, like the helper. */
	_exit(0);
}
