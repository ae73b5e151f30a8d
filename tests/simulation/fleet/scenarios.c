/*
 * Scenarios: small worlds, each about one situation that was got wrong once. The random profiles
 * meet it seldom; here a large part of all seeds does. Each says what has to hold.
 */
#include <signal.h>

#include "cluster.h"
#include "server.h"
#include "world.h"

/* --- parts ------------------------------------------------------------------------------------ */

static bool is(const struct job *job, int index)
{
	return job == &world.jobs[index];
}

static void stop_event(void *argument, int64_t lasts)
{
	fault_job(FAULT_STOP_ME_ONLY, argument, lasts);
}

static void stop_me_only(struct job *job, ns delay, ns lasts)
{
	event_at(now + delay, stop_event, job, lasts);
}

static void mistake_event(void *argument, int64_t n)
{
	struct job *job = argument;
	const struct kv *kv = store_find(job->key);

	(void)n;
	if (kv && lease_is_alive(kv->lease))
		lease_revoke(lease_find(kv->lease), BY_MISTAKE);
}

/* The server ends the lease of JOB, whose command runs, too early. */
static void end_lease(struct job *job, ns delay)
{
	event_at(now + delay, mistake_event, job, 0);
}

/* TASK is stopped after so many more calls. */
static void stop_at_call(struct task *task, unsigned most, ns lasts)
{
	if (!task || !task->alive)
		return;
	task->countdown = 1 + (int)random_below(most);
	task->countdown_signal = SIGSTOP;
	task->countdown_for = lasts;
}

/* --- 1: a waiter that is stopped when it is handed the lock ----------------------------------- */

static void handover_stopped_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, random_between(2 * S, 5 * S), NEVER);
	world_add_small_job(1, 1 * S, 8 * S, NEVER);
	*last = random_between(6 * S, 19 * S);
	for (int i = 0; i < 12; i++)
		world_add_small_job(2, *last + i * 400 * MS, 1 * S, i < 11 ? 0 : NEVER);
	*last += 5 * S;
}

static void handover_stopped(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_WAITING && is(job, 1) && job->places == 1 && !job->hit)
		stop_me_only(job, 100 * MS, random_between(5 * S, 18 * S));
}

/* --- 2: the last of several ends in good order just after another was lost -------------------- */

static void shared_delay_jobs(ns *last)
{
	const enum job_mode mode = random_chance(0.5) ? JOB_SHARED : JOB_SLOTS;
	struct job *first = world_add_small_job(0, 100 * MS, 30 * S, NEVER),
		   *second = world_add_small_job(1, 500 * MS, random_between(3 * S, 8 * S), NEVER);

	first->mode = second->mode = mode;
	world_add_small_job(2, 1500 * MS, 1 * S, NEVER);
	world.only_exclusive = false;
	*last = 10 * S;
}

static void shared_delay(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_RUNS && is(job, 1))
		end_lease(&world.jobs[0], job->duration - random_between(20 * MS, 300 * MS));
}

/* --- 2b: one that stands back for a lost holder is killed before it knows that it holds ------- */

static void killed_taker_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 30 * S, NEVER);
	world_add_small_job(1, 500 * MS, 1 * S, NEVER);
	world_add_small_job(2, 1 * S, 1 * S, NEVER);
	*last = 2 * S;
}

static void term_event(void *argument, int64_t n)
{
	(void)n;
	fault_job(FAULT_TERM, argument, 0);
}

static void killed_taker(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_RUNS && is(job, 0))
		end_lease(job, random_between(3 * S, 5 * S));
	if (event != EVENT_HELD || !is(job, 1) || job->hit)
		return;
	job->hit = true;
	fault_job(FAULT_STOP_HELPER, job, random_between(100 * MS, 600 * MS));
	event_at(now + random_between(0, 50 * MS), term_event, job, 0);
}

/* --- 2c: a waiter hears only after a loss that it is in line ---------------------------------- */

static void late_entry_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 30 * S, NEVER);
	world_add_small_job(1, 2 * S, 1 * S, NEVER);
	*last = 3 * S;
}

static void hear_again(void *argument, int64_t host)
{
	(void)argument;
	for (int m = 0; m < MEMBERS; m++)
		cluster.cut_down[host][m] = false;
}

static void late_entry(enum world_event event, struct job *job, int detail)
{
	const ns lasts = random_between(600 * MS, 2500 * MS);

	(void)detail;
	if (event != EVENT_ENTERED || !is(job, 1) || job->hit)
		return;
	job->hit = true;
	for (int m = 0; m < MEMBERS; m++)
		cluster.cut_down[job->host][m] = true;
	event_at(now + lasts, hear_again, NULL, job->host);
	end_lease(&world.jobs[0], random_between(50 * MS, lasts));
}

/* --- 3: one that has released long ago, or has only waited, was not lost ---------------------- */

static void stand_back_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 1 * S, NEVER);
	world_add_small_job(1, 400 * MS, random_between(10500 * MS, 13 * S), NEVER);
	if (random_chance(0.5))
		world_add_small_job(2, 700 * MS, 1 * S, random_between(2 * S, 9 * S));
	world_add_small_job(3, 1 * S, 200 * MS, NEVER);
	world_add_small_job(4, 1300 * MS, 100 * MS, NEVER);
	world_add_small_job(5, 1600 * MS, 100 * MS, NEVER);
	*last = 2 * S;
}

/* --- 4: a try that has to join again after its time ------------------------------------------- */

static void late_try_jobs(ns *last)
{
	const enum job_mode mode = random_chance(0.5) ? JOB_SHARED : JOB_SLOTS;

	world_add_small_job(0, 100 * MS, 20 * S, NEVER)->mode = mode;
	world_add_small_job(1, 1 * S, 1 * S, 0)->mode = mode;
	world.only_exclusive = false;
	*last = 2 * S;
}

static void late_try(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_REQUEST && is(job, 1) && !job->hit)
		stop_me_only(job, 0, random_between(5500 * MS, 9 * S));
}

/* --- 5, 8a: me-only, or the command's process, is stopped while the command is started -------- */

static void stopped_start_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 20 * S, NEVER);
	world_add_small_job(1, 1 * S, 2 * S, NEVER);
	*last = random_between(8 * S, 20 * S);
	world_add_small_job(2, *last, 2 * S, NEVER);
}

/* It is stopped before the new process is there, or after that, or the new process is. */
static void stopped_start(enum world_event event, struct job *job, int detail)
{
	struct task *me_only = task_find(job->me);

	(void)detail;
	if (!is(job, 0) || job->run || job->hit)
		return;
	if (event == EVENT_TAKEN && random_chance(0.5)) {
		job->hit = true;
		stop_at_call(me_only, 16, random_between(6 * S, 16 * S));
	} else if (event == EVENT_STARTING && job->lease) {
		job->hit = true;
		stop_at_call(random_chance(0.7) ? me_only : me_only->borrower, 8,
			     random_between(6 * S, 16 * S));
	}
}

static void stopped_start_newcomers(ns *last)
{
	world_add_small_job(0, 100 * MS, 20 * S, NEVER);
	*last = 25 * S;
	for (ns t = 5 * S; t < *last; t += 300 * MS)
		if (world.n_jobs < 38)
			world_add_small_job(1 + world.n_jobs % 4, t + random_between(0, 300 * MS),
					    random_between(1 * S, 3 * S), 0);
}

/* --- 6: no answer just when -w ends ----------------------------------------------------------- */

static void silent_limit_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 20 * S, NEVER);
	*last = 1 * S;
	world_add_small_job(1, *last, 1 * S, random_between(3 * S, 8 * S));
}

static void cut_event(void *argument, int64_t lasts)
{
	const struct job *job = argument;

	fault_host(FAULT_CUT_CLIENT, job->host, lasts);
}

static void silent_limit(enum world_event event, struct job *job, int detail)
{
	ns before;

	(void)detail;
	if (event != EVENT_WAITING || !is(job, 1) || job->places > 1 || job->message[0])
		return;
	before = random_between(10 * MS, 300 * MS);
	job->message[0] = ' ';
	event_at(job->start + job->wait - before, cut_event, job,
		 before + random_between(500 * MS, 2500 * MS));
}

/* --- 7: a loss that only a renewal notices ---------------------------------------------------- */

static void late_loss_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 30 * S, NEVER);
	world_add_small_job(1, 500 * MS, 5 * S, NEVER);
	*last = 1 * S;
}

static void late_loss(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_WAITING && is(job, 1) && job->places == 1) {
		cluster.deaf[0] = true;
		end_lease(&world.jobs[0], random_between(1 * S, 6 * S));
	}
}

/* --- the stream tells of a loss late, since its host was cut off ------------------------------ */

static void late_event_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 60 * S, NEVER)->ttl = 30 * S;
	world_add_small_job(1, 500 * MS, 5 * S, NEVER)->ttl = 30 * S;
	*last = 1 * S;
}

/* The renewal that is sent is not answered any more. */
static void late_event(enum world_event event, struct job *job, int detail)
{
	if (event != EVENT_REQUEST || (detail & 255) != ASK_KEEPALIVE || !is(job, 0) || job->hit ||
	    now < 8 * S)
		return;
	job->hit = true;
	fault_host(FAULT_CUT_CLIENT, job->host, random_between(2200 * MS, 2900 * MS));
	end_lease(job, random_between(0, 300 * MS));
}

/* --- 8: a leader of 3.4 that was replaced calls a dead lease alive ---------------------------- */

static int replaced;

static void replaced_leader_jobs(ns *last)
{
	replaced = -1;
	world_add_small_job(0, 100 * MS, 60 * S, NEVER)->ttl = 30 * S;
	world_add_small_job(1, 500 * MS, 5 * S, NEVER)->mode = JOB_SHARED;
	world.only_exclusive = false;
	*last = 1 * S;
}

/* Its disk hangs, so another leads, which ends the lease; and it is the one that answers when that
 * is asked for. */
static void replaced_leader(enum world_event event, struct job *job, int detail)
{
	if (event == EVENT_WAITING && is(job, 1) && replaced < 0) {
		end_lease(&world.jobs[0], random_between(6 * S, 9 * S));
		replaced = MEMBERS;
	}
	if (event == EVENT_DELETED && is(job, 0) && replaced == MEMBERS && detail == BY_MISTAKE)
		for (int m = 0; m < MEMBERS; m++)
			if (cluster.members[m].stuck)
				replaced = m;
	if (event == EVENT_REQUEST && is(job, 1) && (detail & 255) == ASK_TIME_TO_LIVE &&
	    replaced >= 0 && replaced < MEMBERS) {
		for (int m = 0; m < MEMBERS; m++)
			cluster.members[m].errors = m == replaced ? 0 : 3;
		replaced = MEMBERS + 1;
	}
}

static void stick_event(void *unused, int64_t n)
{
	(void)unused, (void)n;
	fault_member(FAULT_DISK, cluster.leader, 60 * S);
}

static void replaced_leader_faults(ns end)
{
	(void)end;
	event_at(4 * S, stick_event, NULL, 0);
}

/* --- 8b: a suspended host whose me-only is stopped -------------------------------------------- */

static void suspended_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 90 * S, NEVER)->ttl = 30 * S;
	world_add_small_job(1, 500 * MS, 5 * S, NEVER)->ttl = 30 * S;
	*last = 1 * S;
}

static void suspend_event(void *argument, int64_t lasts)
{
	const struct job *job = argument;

	fault_host(FAULT_SUSPEND, job->host, lasts);
}

static void suspended(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event != EVENT_RUNS || !is(job, 0))
		return;
	stop_me_only(job, 1 * S, 80 * S);
	event_at(now + random_between(2 * S, 10 * S), suspend_event, job,
		 random_between(24 * S, 34 * S));
}

/* --- 8c: the stream is closed by a renewal elsewhere, and the lease is lost then -------------- */

static void deaf_renewal_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 60 * S, NEVER)->ttl = 30 * S;
	world_add_small_job(1, 500 * MS, 5 * S, NEVER)->ttl = 30 * S;
	*last = 1 * S;
}

static void deaf_renewal(enum world_event event, struct job *job, int detail)
{
	if (event != EVENT_REQUEST || (detail & 255) != ASK_KEEPALIVE || !is(job, 0) || job->hit ||
	    now < 8 * S)
		return;
	job->hit = true;
	cluster.members[detail >> 8].errors = 1;
	end_lease(job, random_between(300 * MS, 1500 * MS));
}

/* --- 8g: the stream ends by itself, and the lease is lost just then --------------------------- */

static void ended_stream_event(void *argument, int64_t n)
{
	struct job *job = argument;

	(void)n;
	/* Or its whole member is gone. */
	if (random_chance(0.5))
		server_end_streams(job->stream, random_chance(0.5) ? STREAM_CUT : STREAM_CLOSING);
	else
		fault_member(FAULT_CRASH, job->stream, 10 * S);
	end_lease(job, random_between(0, 300 * MS));
}

static void ended_stream(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_RUNS && is(job, 0))
		event_at(now + random_between(6 * S, 11 * S), ended_stream_event, job, 0);
}

/* --- streams end again and again, so that the pauses before they are opened grow -------------- */

static void restless_event(void *argument, int64_t left)
{
	struct job *job = argument;

	server_end_streams(job->stream, random_chance(0.5) ? STREAM_CUT : STREAM_CLOSING);
	if (left > 0)
		event_at(now + 20 * MS, restless_event, job, left - 1);
}

static void restless_stream(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event != EVENT_RUNS || !is(job, 0))
		return;
	event_at(now + random_between(2 * S, 6 * S), restless_event, job, 250);
	end_lease(job, random_between(4 * S, 9 * S));
}

/* --- a proxy says GOAWAY and vanishes, and the lease is lost then ----------------------------- */

static void long_lease_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 60 * S, NEVER)->ttl = 60 * S;
	world_add_small_job(2, 500 * MS, 5 * S, NEVER)->ttl = 30 * S;
	*last = 1 * S;
}

static void no_goaway_event(void *unused, int64_t n)
{
	(void)unused, (void)n;
	cluster.goaway = 0;
}

static void silent_drain(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event != EVENT_RUNS || !is(job, 0))
		return;
	cluster.goaway = 1;
	cluster.drains_silently = true;
	event_at(now + random_between(150 * MS, 550 * MS), no_goaway_event, NULL, 0);
	end_lease(job, random_between(3 * S, 6 * S));
}

/* --- the stream is opened again at a member that hangs ---------------------------------------- */

static void hung_stream_event(void *argument, int64_t n)
{
	struct job *job = argument;
	const int next = (job->stream + 1) % MEMBERS;

	(void)n;
	if (next == cluster.leader)
		return;
	fault_member(FAULT_FREEZE, next, 30 * S);
	server_end_streams(job->stream, STREAM_CUT);
	end_lease(job, random_between(0, 800 * MS));
}

static void hung_stream(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_RUNS && is(job, 0))
		event_at(now + random_between(6 * S, 11 * S), hung_stream_event, job, 0);
}

/* --- 8d: a member that has hung does what it was asked for long ago --------------------------- */

static void hung_member_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, random_between(1 * S, 3 * S), NEVER);
	*last = random_between(14 * S, 20 * S);
	world_add_small_job(1, *last, 200 * MS, NEVER);
}

static void hung_member(enum world_event event, struct job *job, int detail)
{
	if (event != EVENT_REQUEST || (detail & 255) != ASK_GRANT || !is(job, 0) || job->message[0])
		return;
	job->message[0] = ' ';
	cluster.late = 1;
	if (cluster.leader == detail >> 8)
		cluster_move_leader();
	fault_member(FAULT_FREEZE, detail >> 8, random_between(11 * S, 14 * S));
}

/* --- 8e: the lock comes just when -w ends ----------------------------------------------------- */

static void late_handover_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, random_between(3 * S, 5 * S), NEVER);
	*last = 2 * S;
}

static void late_handover(enum world_event event, struct job *job, int detail)
{
	ns start, wait;

	(void)detail;
	if (event != EVENT_RUNS || !is(job, 0))
		return;
	start = now + 500 * MS;
	wait = job->duration - 500 * MS + random_between(-25 * MS, 25 * MS);
	world_add_small_job(1, start, 100 * MS, wait);
	world_add_small_job(2, start + 300 * MS, 100 * MS, NEVER);
}

/* --- 8f: starts on a network that is bad ------------------------------------------------------ */

static void bad_network_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 3 * S, NEVER);
	for (int i = 1; i < 12; i++)
		world_add_small_job(i % 5, i * 1 * S, 500 * MS,
				    i % 2 ? 0 : random_between(500 * MS, 4 * S));
	*last = 12 * S;
}

static void bad_network_faults(ns end)
{
	(void)end;
	cluster.loss = 0.3;
	cluster_slow(random_between(100 * MS, 450 * MS));
}

/* --- me-only is stopped for so long that not all packets of its helper have room -------------- */

static void long_stop_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, 500 * S, NEVER);
	*last = 460 * S;
}

/* The same, and the command ends meanwhile: what is dropped may be that the lock was released. */
static void full_at_end_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, random_between(330 * S, 370 * S), NEVER);
	*last = 460 * S;
}

static void long_stop(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_RUNS && is(job, 0))
		stop_me_only(job, 1 * S, random_between(370 * S, 450 * S));
}

/* --- me-only is stopped just as it learns of its command's end, until its time is over -------- */

static void stopped_reaper_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, random_between(500 * MS, 3 * S), NEVER);
	*last = 1 * S;
}

static void stopped_reaper(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_ENDED && is(job, 0))
		stop_at_call(task_find(job->me), 12, 20 * S);
}

/* --- a leader's disk hangs: it answers keepalives, and nothing that a majority has to agree to */

static void hung_leader_jobs(ns *last)
{
	world_add_small_job(0, 100 * MS, random_between(2700 * MS, 3400 * MS), NEVER);
	world_add_small_job(1, 500 * MS, 20 * S, NEVER);
	*last = 1 * S;
}

static void hang_event(void *unused, int64_t n)
{
	(void)unused, (void)n;
	fault_member(FAULT_DISK, cluster.leader, random_between(5 * S, 6 * S));
}

/* The holder's lease is not fresh: it has got the lock as a waiter. */
static void hung_leader(enum world_event event, struct job *job, int detail)
{
	(void)detail;
	if (event == EVENT_RUNS && is(job, 1))
		event_at(now + random_between(300 * MS, 1500 * MS), hang_event, NULL, 0);
}

/* --- a member hangs while a start asks it ----------------------------------------------------- */

static void hung_start_jobs(ns *last)
{
	*last = 100 * MS;
	world_add_small_job(0, *last, 1 * S, random_chance(0.5) ? 0 : NEVER);
}

static void freeze_event(void *unused, int64_t m)
{
	(void)unused;
	fault_member(FAULT_FREEZE, (int)m, random_between(5 * S, 6 * S));
}

static void hung_start(enum world_event event, struct job *job, int detail)
{
	if (event != EVENT_REQUEST || (detail & 255) != ASK_GRANT || job->hit)
		return;
	job->hit = true;
	cluster_slow(random_between(100 * MS, 300 * MS));
	event_at(now + random_between(100 * MS, 600 * MS), freeze_event, NULL, detail >> 8);
}

const struct profile scenarios[] = {
	{ .name = "handover-stopped",
	  .what = "a waiter is stopped (Ctrl-Z) when it is handed the lock, and goes on later",
	  .jobs = handover_stopped_jobs,
	  .react = handover_stopped,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "shared-delay",
	  .what = "of two shared holders one is lost, and the other ends just after that",
	  .jobs = shared_delay_jobs,
	  .react = shared_delay,
	  .lost_by_mistake = true },
	{ .name = "killed-taker",
	  .what = "a waiter is killed while its write takes the lock of a lost holder",
	  .jobs = killed_taker_jobs,
	  .react = killed_taker,
	  .lost_by_mistake = true },
	{ .name = "late-entry",
	  .what = "a waiter hears that it is in line only when a holder ahead of it was lost",
	  .jobs = late_entry_jobs,
	  .react = late_entry,
	  .lost_by_mistake = true },
	{ .name = "stand-back",
	  .what = "entries that have gone long ago, or have only waited: nobody stands back for "
		  "them",
	  .jobs = stand_back_jobs,
	  .calm = true,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "late-try",
	  .what = "a try with -s or -j joins again after its time",
	  .jobs = late_try_jobs,
	  .react = late_try,
	  .no_mistakes = true },
	{ .name = "stopped-start",
	  .what = "me-only is stopped while it starts the command, with a waiter",
	  .jobs = stopped_start_jobs,
	  .react = stopped_start,
	  .no_mistakes = true },
	{ .name = "stopped-newcomer",
	  .what = "the same, with newcomers that try again and again",
	  .jobs = stopped_start_newcomers,
	  .react = stopped_start,
	  .no_mistakes = true },
	{ .name = "silent-limit",
	  .what = "nobody answers just when -w ends: that is status 4",
	  .jobs = silent_limit_jobs,
	  .react = silent_limit,
	  .gentle = true,
	  .no_mistakes = true,
	  .drift = -1 },
	{ .name = "late-loss",
	  .what = "a lease is ended early, and only a renewal notices",
	  .jobs = late_loss_jobs,
	  .react = late_loss,
	  .lost_by_mistake = true },
	{ .name = "late-event",
	  .what = "a host is cut off, a lease ended early, and the stream tells of it when that is "
		  "over",
	  .jobs = late_event_jobs,
	  .react = late_event,
	  .at_once = true },
	{ .name = "replaced-leader",
	  .what = "a leader of 3.4 that was replaced calls a dead lease alive",
	  .jobs = replaced_leader_jobs,
	  .react = replaced_leader,
	  .faults = replaced_leader_faults,
	  .etcd = OLD_ETCD },
	{ .name = "suspended",
	  .what = "a host is suspended for longer than a lease, and me-only is stopped",
	  .jobs = suspended_jobs,
	  .react = suspended,
	  .no_mistakes = true },
	{ .name = "deaf-renewal",
	  .what = "a renewal at another member closes the stream, and the lease is ended early "
		  "then",
	  .jobs = deaf_renewal_jobs,
	  .react = deaf_renewal,
	  .lost_by_mistake = true },
	{ .name = "restless-stream",
	  .what = "the stream ends whenever it is opened, and the lease is ended early then",
	  .jobs = deaf_renewal_jobs,
	  .react = restless_stream,
	  .lost_by_mistake = true },
	{ .name = "silent-drain",
	  .what = "a connection drains and falls silent, and the lease is ended early then",
	  .jobs = long_lease_jobs,
	  .react = silent_drain,
	  .lost_by_mistake = true },
	{ .name = "hung-stream",
	  .what = "the stream is opened at a member that hangs, and the lease is ended early then",
	  .jobs = long_lease_jobs,
	  .react = hung_stream,
	  .lost_by_mistake = true },
	{ .name = "ended-stream",
	  .what = "the stream ends by itself, and the lease is ended early then",
	  .jobs = deaf_renewal_jobs,
	  .react = ended_stream,
	  .lost_by_mistake = true },
	{ .name = "hung-member",
	  .what = "a member that has hung grants a lease that has lapsed once more",
	  .jobs = hung_member_jobs,
	  .react = hung_member,
	  .no_mistakes = true },
	{ .name = "late-handover",
	  .what = "the lock is handed over just when -w ends",
	  .jobs = late_handover_jobs,
	  .react = late_handover,
	  .calm = true,
	  .gentle = true,
	  .no_mistakes = true,
	  .drift = -1 },
	{ .name = "bad-network",
	  .what = "starts on a network on which requests take as long as they may",
	  .jobs = bad_network_jobs,
	  .faults = bad_network_faults,
	  .quick_start = true,
	  .no_mistakes = true },
	{ .name = "long-stop",
	  .what = "me-only is stopped for so long that packets are dropped",
	  .jobs = long_stop_jobs,
	  .react = long_stop,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "full-at-end",
	  .what = "the same, and the command ends meanwhile",
	  .jobs = full_at_end_jobs,
	  .react = long_stop,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "stopped-reaper",
	  .what = "me-only is stopped as it learns of its command's end, until its time is over",
	  .jobs = stopped_reaper_jobs,
	  .react = stopped_reaper,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "hung-leader",
	  .what = "a leader's disk hangs, and it goes on to answer keepalives",
	  .jobs = hung_leader_jobs,
	  .react = hung_leader,
	  .etcd = OLD_ETCD,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "hung-start",
	  .what = "a member hangs while a start asks it for a lease",
	  .jobs = hung_start_jobs,
	  .react = hung_start,
	  .gentle = true,
	  .no_mistakes = true },
};
const size_t n_scenarios = sizeof scenarios / sizeof *scenarios;
