/*
 * Small worlds in which everything takes the same time in each run, but for one fault: at each
 * system call of each process, one after the other, that process is killed, or stopped for a while,
 * or its whole host frozen, or the lease of the holder ended early, or the request that it sends
 * lost. So all of these faults at all places are tried, not some by chance.
 */
#include "explore.h"

#include <signal.h>
#include <stdio.h>

#include "cluster.h"

/* What can happen at a call. */
enum deviation {
	KILL,
	STOP_SHORT,
	STOP_LONG,
	STOP_GROUP,
	FREEZE,
	SUSPEND,
	EARLY_END,
	CUT,
	LEADER,
	DEVIATIONS
};

/* So many calls of a small world are tried: later ones repeat what was before. */
#define CALLS 700

/* A prime: it has no divisor in common with the number of all. */
#define STRIDE 3331

static bool exploring;
static uint64_t calls; /* of this run */
static uint64_t at;    /* the call at which something happens */
static enum deviation what;

/* --- worlds ----------------------------------------------------------------------------------- */

static void add(int host, ns start, ns duration, ns wait)
{
	world_add_small_job(host, start, duration, wait)->ignores = host == 0;
}

static void pair(ns *last)
{
	add(0, 100 * MS, 4 * S, NEVER);
	add(1, 600 * MS, 1 * S, NEVER);
	*last = 600 * MS;
}

static void newcomer(ns *last)
{
	add(0, 100 * MS, 3 * S, NEVER);
	add(1, 600 * MS, 2 * S, 20 * S);
	*last = 12 * S;
	add(2, *last, 1 * S, NEVER);
}

static void shared(ns *last)
{
	for (int i = 0; i < 3; i++) {
		add(i, 100 * MS + i * 500 * MS, 3 * S, NEVER);
		world.jobs[i].mode = i < 2 ? JOB_SHARED : JOB_EXCLUSIVE;
	}
	world.only_exclusive = false;
	*last = 1100 * MS;
}

const struct profile small_worlds[] = {
	{ .name = "small-pair",
	  .what = "a holder and a waiter, one fault",
	  .jobs = pair,
	  .drift = -1,
	  .small = true },
	{ .name = "small-newcomer",
	  .what = "the same, and a newcomer, one fault",
	  .jobs = newcomer,
	  .drift = -1,
	  .small = true },
	{ .name = "small-shared",
	  .what = "two shared holders and a waiter, one fault",
	  .jobs = shared,
	  .drift = -1,
	  .small = true },
};
const size_t n_small_worlds = sizeof small_worlds / sizeof *small_worlds;

/* --- faults ----------------------------------------------------------------------------------- */

static void end_holders_lease(void)
{
	if (store.n_kvs && lease_is_alive(store.kvs[0].lease))
		lease_revoke(lease_find(store.kvs[0].lease), BY_MISTAKE);
}

static void deviate(struct task *task)
{
	struct job *job = &world.jobs[task->job];

	trace("the deviation: %d", (int)what);
	for (int i = 0; i < world.n_jobs; i++)
		world.jobs[i].hit = world.jobs[i].hit || world.jobs[i].host == task->host;
	switch (what) {
	case KILL:
		task->countdown = 1;
		task->countdown_signal = SIGKILL;
		break;
	case STOP_SHORT:
	case STOP_LONG:
		task->countdown = 1;
		task->countdown_signal = SIGSTOP;
		task->countdown_for = what == STOP_SHORT ? 4 * S : 14 * S;
		break;
	case STOP_GROUP: fault_job(FAULT_STOP_GROUP, job, 13 * S); break;
	case FREEZE:
	case SUSPEND:
		fault_host(what == FREEZE ? FAULT_HOST : FAULT_SUSPEND, task->host, 13 * S);
		break;
	case EARLY_END: end_holders_lease(); break;
	case CUT: fault_host(FAULT_CUT_CLIENT, task->host, 9 * S); break;
	default: cluster_move_leader();
	}
}

void explore_call(void)
{
	if (exploring && current->kind <= TASK_HELPER && calls++ == at)
		deviate(current);
}

/* --- all of them ------------------------------------------------------------------------------ */

uint64_t explore_count(void)
{
	return CALLS * DEVIATIONS;
}

uint64_t explore_prepare(uint64_t seed)
{
	/* Seeds that follow each other are far apart: a few of them are spread over all. */
	const uint64_t n = seed * STRIDE % explore_count();

	exploring = true;
	calls = 0;
	what = n % DEVIATIONS;
	at = n / DEVIATIONS;
	return 1 + seed / explore_count();
}

void explore_nothing(void)
{
	exploring = false;
}
