/* What is checked of a whole run: that all end as they should, in order, and leave nothing; and
 * requests. */
#include <inttypes.h>

#include "cluster.h"
#include "world.h"

#define MOST_REQUESTS_PER_SECOND 60

/* To begin and to end, and for each time that somebody before it comes or goes. */
#define SOME 18

/* --- requests --------------------------------------------------------------------------------- */

void check_request(struct task *task, enum ask ask)
{
	/* A stream takes a moment to tell; a holder's read is about its successor. */
	if (task->job >= 0 && ask != ASK_STATUS && ask != ASK_GRANT && ask != ASK_WATCH &&
	    ask != ASK_RANGE)
		world.jobs[task->job].asked_store = now;
	task->requests++;
	task->questions += ask == ASK_TIME_TO_LIVE;
	if (now - task->second > 1 * S) {
		task->second = now;
		task->requests_in_second = 0;
	}
	if (++task->requests_in_second == MOST_REQUESTS_PER_SECOND)
		violation("too many requests", "%d in a second by job %d (%d)",
			  MOST_REQUESTS_PER_SECOND, task->job, (int)ask);
}

/* How many have been in line before JOB. */
static unsigned count_before(const struct job *job)
{
	unsigned n = 0;

	for (int i = 0; i < world.n_jobs; i++)
		n += world.jobs[i].created && world.jobs[i].created < job->created;
	return n;
}

/*
 * Without faults a helper sends no more than docs/fleet.md says: some to begin and to end, 12/T a
 * second, and one question for each that was before it; with slots, two looks for each of these.
 */
void check_requests(struct task *helper)
{
	const struct job *job = &world.jobs[helper->job];
	const unsigned before = count_before(job);
	const double life = (double)(now - helper->born) / 1e9,
		     looks = job->mode == JOB_SLOTS ? 2 * before : 0,
		     allowed = SOME + looks + life * 12 / (double)(job->ttl / S) * 1.3;

	if (!world.profile->calm)
		return;
	if (helper->requests - helper->questions > allowed)
		violation("more requests than on paper", "%u in %.1f s, %.0f would do: %s",
			  helper->requests - helper->questions, life, allowed, job_name(job));
	if (helper->questions > before)
		violation("more requests than on paper", "%u questions about %u others: %s",
			  helper->questions, before, job_name(job));
}

/* --- processes -------------------------------------------------------------------------------- */

void check_spinning(struct task *task)
{
	violation("spins", "job %d, pid %d", task->job, task->pid);
}

void check_leak(struct task *task)
{
	violation("leak", "job %d: %zu blocks, %zu bytes", task->job, task->blocks, task->bytes);
}

/* --- jobs ------------------------------------------------------------------------------------- */

/* Status 5: its lock was lost. */
static void check_loss(const struct job *job)
{
	const struct profile *profile = world.profile;

	totals->lost++;
	if (profile->gentle)
		violation("job lost", "%s: %s", job_name(job), job->message);
	if ((profile->lost_if_hit && !job->hit) ||
	    (profile->lost_by_mistake && !(job->key_gone && job->why_gone == BY_MISTAKE)))
		violation("job lost for nothing", "%s: %s", job_name(job), job->message);
}

/* Status 3: etcd has failed it. */
static void check_failure(const struct job *job)
{
	const ns limit = job->start + (ns)(0.985 * (double)job->wait) - 200 * MS;

	totals->failed++;
	if (world.profile->gentle)
		violation(job->wait && job->ended > limit ? "failed at its limit" : "failed",
			  "%s: %s", job_name(job), job->message);
}

static void check_done(const struct job *job)
{
	if (job->status == 5)
		check_loss(job);
	if (job->status == 3)
		check_failure(job);
	totals->busy += job->status == 4;
	if (job->status == 4 && job->wait == NEVER && !job->queue && !job->rival)
		violation("refused though it waits", "%s: %s", job_name(job), job->message);
	if (!job->run && job->wait > 0 && job->wait != NEVER && !job->hit &&
	    job->ended > job->start + (ns)(1.01 * (double)job->wait) + 12 * S)
		violation("waits too long", "%s: %.3f s instead of %.3f", job_name(job),
			  (double)(job->ended - job->start) / 1e9, (double)job->wait / 1e9);
	if (world.profile->quick_start && !job->run && job->wait == 0 && !job->hit &&
	    job->ended > job->start + 5600 * MS)
		violation("a start takes too long", "%s: %.3f s", job_name(job),
			  (double)(job->ended - job->start) / 1e9);
	/* Its command was ended by me-only, and yet its caller is not told. */
	if (job->status == 0 && job->run && job->asked && !job->finished)
		violation("lost without a word", "%s", job_name(job));
}

static void check_job(const struct job *job)
{
	const struct profile *profile = world.profile;

	if (job->done)
		check_done(job);
	if (!job->done || (job->run && !job->run_ended))
		violation("not done", "%s: %s%s", job_name(job),
			  job->run ? "its command runs" : "waits", store_describe());
	if (job->places > 1 && (profile->calm || (profile->gentle && profile->rivals)))
		violation("stood in line twice", "%s: %u times", job_name(job), job->places);
}

/* Exclusive jobs run in the order in which they came into line. */
static void check_order(void)
{
	for (int i = 0; i < world.n_jobs; i++)
		for (int k = 0; k < world.n_jobs; k++) {
			const struct job *first = &world.jobs[i], *second = &world.jobs[k];

			if (first->run && second->run && first->run < second->run &&
			    first->created > second->created)
				violation("order", "%s before %s", job_name(first),
					  job_name(second));
		}
}

void check_jobs(void)
{
	for (int i = 0; i < world.n_jobs; i++)
		check_job(&world.jobs[i]);
	if (world.profile->calm && world.only_exclusive)
		check_order();
}

void check_left(void)
{
	if (store.n_kvs)
		violation("keys are left", "%s", store_describe());
	if (lease_count())
		violation("leases are left", "%u", lease_count());
}
