/* Faults: what is done to members, the network, hosts and processes, and undone after a while. */
#include <signal.h>

#include "cluster.h"
#include "world.h"

/* --- undoing ---------------------------------------------------------------------------------- */

static void signal_job(const struct job *job, bool me_only, bool helper, int signal)
{
	struct task *task = task_find(job->me);

	if (me_only && task)
		task_signal(task, signal);
	task = task_find(job->helper);
	if (helper && task)
		task_signal(task, signal);
}

static void signal_group(struct job *job, int signal)
{
	for (int i = 0; i < n_tasks; i++)
		if (tasks[i]->job == job - world.jobs && tasks[i]->alive &&
		    tasks[i]->kind != TASK_HELPER)
			task_signal(tasks[i], signal);
}

static void undo(void *unused, int64_t n)
{
	const enum fault fault = n & 63;
	const int a = (int)(n >> 6 & 1023), b = (int)(n >> 16 & 1023);

	(void)unused;
	switch (fault) {
	case FAULT_UPGRADE:
		cluster_upgrade(a);
		/* fall through */
	case FAULT_CRASH: cluster_power(a, true); break;
	case FAULT_FREEZE: cluster_freeze(a, false); break;
	case FAULT_DISK: cluster_stick(a, false); break;
	case FAULT_ISOLATE:
		for (int i = 0; i < MEMBERS; i++)
			cluster.cut[a][i] = cluster.cut[i][a] = false;
		break;
	case FAULT_CUT_PEER: cluster.cut[a][b] = false; break;
	case FAULT_CUT_UP: cluster.cut_up[a][b] = false; break;
	case FAULT_CUT_DOWN: cluster.cut_down[a][b] = false; break;
	case FAULT_CUT_CLIENT:
		for (int i = 0; i < MEMBERS; i++)
			cluster.cut_up[a][i] = cluster.cut_down[a][i] = false;
		break;
	case FAULT_OUTAGE:
		for (int i = 0; i < MEMBERS; i++)
			cluster_power(i, true);
		break;
	case FAULT_SPACE: cluster.no_space = false; break;
	case FAULT_STOP_ME_ONLY:
	case FAULT_STOP_HELPER:
	case FAULT_STOP_BOTH: signal_job(&world.jobs[a], true, true, SIGCONT); break;
	case FAULT_STOP_GROUP: signal_group(&world.jobs[a], SIGCONT); break;
	default: host_thaw(a);
	}
}

static void undo_after(ns lasts, enum fault fault, int a, int b)
{
	event_at(now + lasts, undo, NULL, (int64_t)fault | (int64_t)a << 6 | (int64_t)b << 16);
}

/* --- members and the cluster ------------------------------------------------------------------ */

static void cut_off_member(int m)
{
	for (int i = 0; i < MEMBERS; i++)
		cluster.cut[m][i] = cluster.cut[i][m] = i != m;
}

void fault_member(enum fault fault, int m, ns lasts)
{
	const int other = (m + 1 + (int)random_below(MEMBERS - 1)) % MEMBERS;

	switch (fault) {
	case FAULT_CRASH:
	case FAULT_UPGRADE: cluster_power(m, false); break;
	case FAULT_FREEZE: cluster_freeze(m, true); break;
	case FAULT_DISK: cluster_stick(m, true); break;
	case FAULT_ISOLATE: cut_off_member(m); break;
	case FAULT_CUT_PEER: cluster.cut[m][other] = true; break;
	default: cluster.members[m].errors = 1 + random_below(2); return;
	}
	undo_after(lasts, fault, m, other);
}

static void delete_a_key(bool revoke)
{
	const struct kv *kv;

	if (store.n_kvs == 0)
		return;
	/* Mostly that of the one that has the lock. */
	kv = &store.kvs[random_chance(0.5) ? 0 : random_below((unsigned)store.n_kvs)];
	if (revoke && lease_is_alive(kv->lease))
		lease_revoke(lease_find(kv->lease), BY_HAND);
	else
		store_delete(kv->key, BY_HAND);
}

static void fault_cluster(enum fault fault, ns lasts)
{
	uint64_t back;

	switch (fault) {
	case FAULT_LEADER: cluster_move_leader(); break;
	case FAULT_OUTAGE:
		for (int i = 0; i < MEMBERS; i++)
			cluster_power(i, false);
		undo_after(lasts, fault, 0, 0);
		break;
	case FAULT_COMPACT:
		back = random_chance(0.5) ? 0 : random_below(5);
		cluster_compact(store.revision - back);
		break;
	case FAULT_SPACE:
		cluster.no_space = true;
		undo_after(lasts, fault, 0, 0);
		break;
	case FAULT_USERS:
		cluster.users = !cluster.users;
		trace("users are %s", cluster.users ? "on" : "off");
		break;
	case FAULT_DELETE_KEY:
	case FAULT_REVOKE_LEASE: delete_a_key(fault == FAULT_REVOKE_LEASE); break;
	default: cluster_expire_tokens();
	}
}

/* --- hosts and jobs --------------------------------------------------------------------------- */

/* One way or both. */
static void cut_off_host(int host)
{
	const unsigned how = random_below(3);

	for (int i = 0; i < MEMBERS; i++) {
		cluster.cut_up[host][i] = how != 1;
		cluster.cut_down[host][i] = how != 2;
	}
}

void fault_host(enum fault fault, int host, ns lasts)
{
	const int m = (int)random_below(MEMBERS);

	switch (fault) {
	case FAULT_CUT_UP: cluster.cut_up[host][m] = true; break;
	case FAULT_CUT_DOWN: cluster.cut_down[host][m] = true; break;
	case FAULT_CUT_CLIENT: cut_off_host(host); break;
	default: host_freeze(host, fault == FAULT_SUSPEND, fault == FAULT_UNSEEN);
	}
	undo_after(lasts, fault, host, m);
}

/* After some more system calls TASK is killed, or stopped for a while. */
static void hit_a_call(struct task *task, ns lasts)
{
	const int signal = random_chance(0.5) ? SIGKILL : SIGSTOP;

	if (!task || !task->alive)
		return;
	task->countdown = 1 + (int)random_below(60);
	task->countdown_signal = signal;
	task->countdown_for = lasts;
}

void fault_job(enum fault fault, struct job *job, ns lasts)
{
	const int index = (int)(job - world.jobs);

	job->hit = true;
	switch (fault) {
	case FAULT_KILL_ME_ONLY:
	case FAULT_KILL_HELPER:
	case FAULT_KILL_BOTH:
		signal_job(job, fault != FAULT_KILL_HELPER, fault != FAULT_KILL_ME_ONLY, SIGKILL);
		break;
	case FAULT_STOP_ME_ONLY:
	case FAULT_STOP_HELPER:
	case FAULT_STOP_BOTH:
		signal_job(job, fault != FAULT_STOP_HELPER, fault != FAULT_STOP_ME_ONLY, SIGSTOP);
		undo_after(lasts, fault, index, 0);
		break;
	case FAULT_STOP_GROUP:
		signal_group(job, SIGSTOP);
		undo_after(lasts, fault, index, 0);
		break;
	case FAULT_CALL_OF_ME_ONLY: hit_a_call(task_find(job->me), lasts); break;
	case FAULT_CALL_OF_HELPER: hit_a_call(task_find(job->helper), lasts); break;
	default: signal_job(job, true, false, SIGTERM);
	}
}

/* --- by chance -------------------------------------------------------------------------------- */

/* One that has begun, mostly one whose command runs. */
static struct job *draw_victim(void)
{
	const bool runs = random_chance(0.7);
	struct job *job = &world.jobs[random_below((unsigned)world.n_jobs)];

	for (int tries = 0; tries < 40 && (job->done || !job->me || job->rival ||
					   (runs && tries < 20 && !job->run));
	     tries++)
		job = &world.jobs[random_below((unsigned)world.n_jobs)];
	return job;
}

static void mark_hit(const struct job *job, int host)
{
	for (int i = 0; i < world.n_jobs; i++)
		if (&world.jobs[i] == job || world.jobs[i].host == host)
			world.jobs[i].hit = true;
}

static void do_fault(void *unused, int64_t n)
{
	const enum fault fault = n & 63;
	const ns lasts = n >> 6;
	int m = (int)random_below(MEMBERS), host = (int)random_below(6);
	struct job *job = draw_victim();

	(void)unused;
	if (world.faults_over)
		return;
	/* Those of leaders count. */
	if (random_chance(0.6))
		m = cluster.leader;
	if (random_chance(0.7) && job->me)
		host = job->host;
	trace("fault %d: member %d, host %d, job %d, %.3f s", (int)fault, m, host,
	      (int)(job - world.jobs), (double)lasts / 1e9);
	if (fault <= FAULT_CUT_PEER || fault == FAULT_ERRORS)
		fault_member(fault, m, lasts);
	else if (fault == FAULT_CUT_UP || fault == FAULT_CUT_DOWN || fault == FAULT_CUT_CLIENT ||
		 fault == FAULT_HOST || fault == FAULT_SUSPEND || fault == FAULT_UNSEEN)
		fault_host(fault, host, lasts);
	else if (fault >= FAULT_KILL_ME_ONLY)
		fault_job(fault, job, lasts);
	else
		fault_cluster(fault, lasts);
	if (fault >= FAULT_KILL_ME_ONLY)
		mark_hit(job, host);
}

void fault_at(ns when, enum fault fault, ns lasts)
{
	event_at(when, do_fault, NULL, (int64_t)fault | lasts << 6);
}

ns fault_duration(void)
{
	if (random_chance(0.4))
		return random_between(50 * MS, 3 * S);
	return random_chance(0.4) ? random_between(3 * S, 12 * S) : random_between(8 * S, 40 * S);
}

/* --- the end of all faults -------------------------------------------------------------------- */

static void mend_member(int m)
{
	for (int i = 0; i < MEMBERS; i++)
		cluster.cut[m][i] = false;
	for (int h = 0; h < HOSTS; h++)
		cluster.cut_up[h][m] = cluster.cut_down[h][m] = false;
	cluster.members[m].errors = 0;
	if (cluster.members[m].frozen)
		cluster_freeze(m, false);
	if (cluster.members[m].stuck)
		cluster_stick(m, false);
	cluster_power(m, true);
}

void faults_end(void *unused, int64_t n)
{
	(void)unused, (void)n;
	world.faults_over = true;
	trace("all faults end");
	for (int m = 0; m < MEMBERS; m++)
		mend_member(m);
	cluster_slow(2 * MS);
	cluster.no_space = cluster.breaks_early = false;
	cluster.loss = cluster.slow = cluster.reset = cluster.duplicate = cluster.error = 0;
	cluster.event_loss = cluster.event_cancel = cluster.goaway = 0;
	for (int h = 0; h < HOSTS; h++)
		host_thaw(h);
	for (int i = 0; i < n_tasks; i++) {
		tasks[i]->countdown = 0;
		if (tasks[i]->alive)
			task_signal(tasks[i], SIGCONT);
	}
}
