/* etcdctl lock: a lease that is kept alive, a key, and a wait for all that are before it. */
#include <inttypes.h>
#include <stdio.h>

#include "world.h"

struct rival {
	uint64_t lease;
	int member;
	bool over;
};
static struct rival rivals[JOBS];

static void keep_alive(struct task *task)
{
	struct rival *rival = &rivals[task->job];

	while (!rival->over) {
		struct request *request = arena_get(sizeof *request);

		*request = (struct request){ .ask = ASK_KEEPALIVE, .lease = rival->lease };
		if (!network_ask(rival->member, request, 3 * S))
			rival->member = (rival->member + 1) % MEMBERS;
		task_sleep(world.jobs[task->job].ttl / 3);
	}
}

/* Asks until there is an answer, a minute at most. */
static struct reply *ask(struct rival *rival, struct request wanted)
{
	struct request *request = arena_get(sizeof *request);

	*request = wanted;
	for (int i = 0; i < 60; i++) {
		struct reply *reply = network_ask(rival->member, request, 3 * S);

		if (reply)
			return reply;
		rival->member = (rival->member + 1) % MEMBERS;
		task_sleep(200 * MS);
	}
	return NULL;
}

static void put(struct rival *rival, const char *key)
{
	struct compare *compare = arena_get(sizeof *compare);
	struct operation *operation = arena_get(sizeof *operation);

	*compare = (struct compare){ .span.key = key };
	*operation = (struct operation){
		.kind = OPERATION_PUT, .put = { .key = key, .value = "", .lease = rival->lease }
	};
	ask(rival, (struct request){ .ask = ASK_TXN,
				      .writes = true,
				      .txn = { .compares = compare,
					       .n_compares = 1,
					       .success = operation,
					       .n_success = 1 } });
}

static void delete (struct rival *rival, const char *key)
{
	struct operation *operation = arena_get(sizeof *operation);

	*operation = (struct operation){ .kind = OPERATION_DELETE, .range.span.key = key };
	ask(rival,
	    (struct request){ .ask = ASK_TXN, .txn = { .success = operation, .n_success = 1 } });
}

/* That it asks again and again instead of watching makes no difference to anybody else. */
static void wait_for_others(struct rival *rival, uint64_t created)
{
	for (;;) {
		const struct reply *reply = ask(
			rival,
			(struct request){ .ask = ASK_RANGE,
					   .range = { .span = { .key = "lock/", .end = "lock0" },
						      .max_created = created - 1 } });

		if (reply && reply->range.n == 0)
			return;
		task_sleep(random_between(5 * MS, 100 * MS));
	}
}

static void run(struct job *job)
{
	ns until;

	job->run = now;
	totals->commands++;
	trace("etcdctl's command runs");
	until = clock_monotonic(job->host) + job->duration;
	do {
		check_alone(job);
		task_sleep(random_between(10 * MS, 100 * MS));
	} while (clock_monotonic(job->host) < until);
	check_alone(job);
	job->run_ended = now;
}

void world_rival(struct task *task)
{
	struct job *job = &world.jobs[task->job];
	struct rival *rival = &rivals[task->job];
	const struct reply *reply;
	char *key;

	*rival = (struct rival){ .lease = random_number() >> 1 };
	rival->member = (int)random_below(MEMBERS);
	ask(rival,
	    (struct request){ .ask = ASK_GRANT, .lease = rival->lease, .ttl = job->ttl / S });
	snprintf(job->key, sizeof job->key, "lock/%" PRIx64, rival->lease);
	key = arena_text(job->key);
	snprintf(job->entry, sizeof job->entry, "%s", key);
	task_fork(TASK_RIVAL, keep_alive);
	put(rival, key);
	reply = ask(rival, (struct request){ .ask = ASK_RANGE, .range.span.key = key });
	job->entered = now;
	job->created = reply && reply->range.n ? reply->range.kvs[0].created : 0;
	if (job->created) {
		wait_for_others(rival, job->created);
		run(job);
	}
	delete (rival, key);
	rival->over = true;
	job->done = true;
	job->ended = now;
}
