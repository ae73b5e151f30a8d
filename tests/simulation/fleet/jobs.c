/* Jobs: what me-only's main() does with a fleet lock, and the commands that run under it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "base/deadline.h"
#include "run/job.h"
#include "lock.h"
#include "options.h"
#include "world.h"

/* --- me-only ---------------------------------------------------------------------------------- */

static int attend(struct lock_wait *wait, const struct lock *lock)
{
	(void)lock;
	wait->due = DEADLINE_NEVER;
	return 0;
}

static int take(struct lock *lock, const struct options *options)
{
	struct lock_wait wait = { .deadline = options->wait ? deadline_in(options->wait) : 0,
				  .due = DEADLINE_NEVER,
				  .places = options->queue,
				  .place = -1,
				  .attend = attend };

	return lock->engine->take(lock, &wait);
}

static int status_of(int result)
{
	return result == LOCK_HELD || result == LOCK_TIMED_OUT || result == LOCK_QUEUE_FULL ||
			       result == LOCK_NESTED
		     ? 4
		     : 3;
}

static void me_only(struct task *task)
{
	struct job *job = &world.jobs[task->job];
	char *command[] = { (char *)(uintptr_t) "job", NULL };
	const struct options options = {
		.mode = MODE_RUN,
		.wait = job->wait,
		.wait_given = job->wait > 0,
		.shared = job->mode == JOB_SHARED,
		.slots = job->mode == JOB_SLOTS ? job->slots : 0,
		.queue = job->queue,
		.kill_after = job->kill_after,
		.ttl = job->ttl,
		.hold_for = job->hold_for,
		.close = job->close,
		.complain_after = -1,
		.conflict_status = -1,
		.lock = "etcd:lock",
		.command = command,
	};
	struct lock lock = { .engine = &lock_etcd,
			     .spec = "etcd:lock",
			     .name = "lock",
			     .shared = options.shared,
			     .slots = options.slots ? options.slots : 1,
			     .fd = -1,
			     .watched = -1,
			     .serve_due = DEADLINE_NEVER,
			     .line.fds = { -1, -1, -1 },
			     .options = &options };
	const int result = take(&lock, &options);

	trace("take() returns %d%s%s", result, lock.failed ? ": " : "",
	      lock.failed ? lock.failed : "");
	if (lock.failed)
		world_message(task, lock.failed);
	if (result)
		sim__exit(status_of(result));
	world_event(EVENT_TAKEN, task->job, 0);
	sim__exit(job_run(&lock, &options));
}

static void start_job(void *unused, int64_t index)
{
	struct job *job = &world.jobs[index];
	struct task *task = task_new(job->rival ? TASK_RIVAL : TASK_ME_ONLY, job->host, 1,
				     job->rival ? world_rival : me_only, (int)index);

	(void)unused;
	job->me = task->pid;
	descriptors_open_stdio(task);
	trace("job %d starts on host %d: pid %d, %s, -w %.1f, --ttl %.0f, -k %.1f, its command "
	      "runs for %.3f s%s",
	      (int)index, job->host, task->pid,
	      (const char *[]) { "exclusive", "shared", "slots" }[job->mode],
	      job->wait == NEVER ? -1 : (double)job->wait / 1e9, (double)job->ttl / 1e9,
	      (double)job->kill_after / 1e9, (double)job->duration / 1e9,
	      job->rival ? ", etcdctl" : "");
	task_start(task, 0);
}

struct job *world_add_job(struct job job)
{
	struct job *added = &world.jobs[world.n_jobs];

	if (world.n_jobs == JOBS)
		abort();
	*added = job;
	added->slot = -1;
	world.only_exclusive = world.only_exclusive && job.mode == JOB_EXCLUSIVE;
	event_at(job.start, start_job, NULL, world.n_jobs++);
	return added;
}

struct job *world_add_small_job(int host, ns start, ns duration, ns wait)
{
	return world_add_job((struct job){ .host = host,
					   .start = start,
					   .duration = duration,
					   .wait = wait,
					   .ttl = 10 * S,
					   .kill_after = 2 * S,
					   .slots = 2,
					   .ignores = true });
}

void world_message(struct task *task, const char *text)
{
	if (task->job >= 0)
		snprintf(world.jobs[task->job].message, sizeof world.jobs[task->job].message, "%s",
			 text);
}

/* --- drawing jobs ----------------------------------------------------------------------------- */

/* What the jobs of a run have in common. */
struct kind_of_jobs {
	bool mixed, slots, shared, quick, queue;
	ns ttl, kill_after;
	unsigned count;
};

static ns draw_duration(const struct kind_of_jobs *kind)
{
	ns duration;

	if (kind->quick || random_chance(0.3)) {
		const ns most = random_chance(0.5) ? 50 * MS : 500 * MS;

		duration = random_between(0, most);
	} else if (random_chance(0.5)) {
		duration = random_between(500 * MS, 8 * S);
	} else {
		duration = random_between(5 * S, 40 * S);
	}
	/* Long enough for most faults. */
	if (world.profile->long_jobs && !kind->quick && random_chance(0.4))
		duration = random_between(20 * S, 60 * S);
	return duration;
}

static enum job_mode draw_mode(const struct kind_of_jobs *kind)
{
	if (kind->mixed)
		return (enum job_mode)random_below(3);
	if (kind->slots)
		return JOB_SLOTS;
	return kind->shared && random_chance(0.7) ? JOB_SHARED : JOB_EXCLUSIVE;
}

static struct job draw_job(const struct kind_of_jobs *kind)
{
	struct job job = { .host = (int)random_below(6),
			   .ttl = kind->ttl,
			   .kill_after = kind->kill_after,
			   .slots = kind->count };

	job.mode = draw_mode(kind);
	job.start = random_chance(0.3) ? 100 * MS : random_between(0, kind->quick ? 5 * S : 30 * S);
	job.wait = random_chance(0.7) ? NEVER
		 : random_chance(0.6) ? random_between(500 * MS, 60 * S)
				      : 0;
	job.queue = kind->queue && random_chance(0.7);
	job.hold_for = random_chance(0.08) ? random_between(2 * S, 30 * S) : 0;
	job.duration = draw_duration(kind);
	job.ignores = random_chance(0.4);
	job.cleanup = random_between(0, 3 * S);
	job.child = random_chance(0.12) ? random_between(0, job.duration + 5 * S) : 0;
	job.close = random_chance(0.1);
	if (job.close)
		job.child = 0;
	job.rival = world.profile->rivals && random_chance(world.profile->gentle ? 0.3 : 0.1);
	if (job.rival) {
		job.mode = JOB_EXCLUSIVE;
		job.wait = NEVER;
		job.child = job.hold_for = 0;
	}
	return job;
}

void world_draw_jobs(ns *last)
{
	struct kind_of_jobs kind = { .mixed = random_chance(0.2) };
	int n;

	kind.slots = !kind.mixed && random_chance(0.2);
	kind.shared = !kind.mixed && !kind.slots && random_chance(0.2);
	kind.quick = random_chance(0.3);
	kind.queue = random_chance(0.12);
	kind.ttl = random_chance(0.75) ? 10 * S : 30 * S;
	kind.kill_after = 5 * S;
	if (kind.ttl == 10 * S && (world.profile->gentle || random_chance(0.8)))
		kind.kill_after = 2 * S;
	kind.count = 1 + random_below(3);
	n = (int)(2 + random_below(kind.quick ? 18 : 8));
	for (int i = 0; i < n; i++) {
		const struct job *job = world_add_job(draw_job(&kind));

		*last = job->start > *last ? job->start : *last;
	}
}

/* --- commands --------------------------------------------------------------------------------- */

void world_exec(struct task *task, char *const environment[])
{
	struct job *job = &world.jobs[task->job];

	for (; *environment; environment++) {
		if (!strncmp(*environment, "ETCD_LOCK_KEY=", 14)) {
			snprintf(task->mark, sizeof task->mark, "%s", *environment);
			snprintf(job->key, sizeof job->key, "%s", *environment + 14);
		} else if (!strncmp(*environment, "ME_ONLY_TOKEN=", 14)) {
			task->token = job->token = strtoull(*environment + 14, NULL, 10);
		} else if (!strncmp(*environment, "ME_ONLY_SLOT=", 13)) {
			job->slot = atoi(*environment + 13);
		}
	}
	job->alive = 1;
}

static void child_of_command(struct task *task)
{
	struct job *job = &world.jobs[task->job];
	const ns end = clock_monotonic(task->host) + job->child;

	while (!task->asked_to_end && clock_monotonic(task->host) < end) {
		check_alone(job);
		task_sleep(random_between(50 * MS, 400 * MS));
	}
	sim__exit(0);
}

/* It cleans up until it is done or killed. */
_Noreturn static void clean_up(struct job *job)
{
	const ns end = clock_monotonic(current->host) + job->cleanup;

	while (clock_monotonic(current->host) < end) {
		task_sleep(random_between(20 * MS, 200 * MS));
		check_alone(job);
	}
	sim__exit(1);
}

void world_command(struct task *task)
{
	struct job *job = &world.jobs[task->job];
	const ns end = clock_monotonic(task->host) + job->duration;

	job->run = now;
	totals->commands++;
	trace("the command runs with token %" PRIu64, job->token);
	check_runs(job);
	world_event(EVENT_RUNS, task->job, 0);
	if (job->child) {
		job->alive++;
		task_fork(TASK_CHILD, child_of_command);
	}
	for (ns left; (left = end - clock_monotonic(task->host)) > 0;) {
		check_alone(job);
		check_register(job);
		if (task->asked_to_end && !job->asked) {
			job->asked = true;
			if (!job->ignores)
				clean_up(job);
		}
		task->asked_to_end = false;
		task_sleep(left < 300 * MS ? left : random_between(20 * MS, 300 * MS));
	}
	check_alone(job);
	check_register(job);
	job->finished = true;
	sim__exit(0);
}

void check_task_ended(struct task *task)
{
	struct job *job = task->job >= 0 ? &world.jobs[task->job] : NULL;

	if (!job)
		return;
	if ((task->kind == TASK_COMMAND || task->kind == TASK_CHILD) && *task->mark &&
	    --job->alive == 0 && job->run) {
		job->run_ended = now;
		world_event(EVENT_ENDED, task->job, 0);
	}
	if (task->kind == TASK_ME_ONLY) {
		job->done = true;
		job->status = task->status & 0x7f ? 128 + (task->status & 0x7f) : task->status >> 8;
		job->ended = now;
	}
	if (task->kind == TASK_HELPER)
		check_requests(task);
}

bool world_is_over(void)
{
	for (int i = 0; i < world.n_jobs; i++)
		if (!world.jobs[i].done || (world.jobs[i].run && !world.jobs[i].run_ended))
			return false;
	for (int i = 0; i < n_tasks; i++)
		if (tasks[i]->alive && tasks[i]->kind == TASK_HELPER)
			return false;
	return true;
}
