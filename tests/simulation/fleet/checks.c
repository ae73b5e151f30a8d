/* What must never happen: two at once, a command without its lock, broken promises. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "server.h"
#include "world.h"

/* What was frozen may run this long before it is killed: the manual says so. */
#define JUST_THAWED (500 * MS)

/* Between the write that takes the lock and the command: its answer, and the survey (0.3 s). */
#define UNAWARE (700 * MS)

/* The lock-delay is a second longer than a command has that was lost. */
#define MOST_LATE (900 * MS)

const char *check_only;
static uint64_t register_token, last_token;

void check_begin(void)
{
	register_token = last_token = 0;
}

/* --- violations ------------------------------------------------------------------------------- */

void violation(const char *what, const char *format, ...)
{
	va_list list;
	int i = 0;

	if (check_only && strncmp(what, check_only, strlen(check_only)) != 0)
		return;
	world.bad = true;
	while (i < KINDS - 1 && *totals->kinds[i].what && strcmp(totals->kinds[i].what, what) != 0)
		i++;
	if (totals->kinds[i].n++ == 0) {
		snprintf(totals->kinds[i].what, sizeof totals->kinds[i].what, "%s", what);
		snprintf(totals->kinds[i].profile, sizeof totals->kinds[i].profile, "%s",
			 world.profile->name);
		totals->kinds[i].seed = world.seed;
	}
	if (!tracing)
		return;
	printf("%11.6f !!! VIOLATION: %s: ", (double)now / 1e9, what);
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	putchar('\n');
}

const char *job_name(const struct job *job)
{
	static const char *const modes[] = { "exclusive", "shared", "slots" };
	static const char *const ends[] = { " was deleted", " was revoked", " has lapsed",
					    " was lost BY MISTAKE", " was deleted by hand" };
	static char text[2][400];
	static int turn;

	turn = !turn;
	snprintf(text[turn], sizeof text[turn],
		 "job %d (host %d, %s%s, ttl %d, -k %.1f, runs since %.3f, token %" PRIu64
		 ", key %s%s)",
		 (int)(job - world.jobs), job->host, job->rival ? "etcdctl, " : "",
		 modes[job->mode], (int)(job->ttl / S), (double)job->kill_after / 1e9,
		 (double)job->run / 1e9, job->token, job->key,
		 job->key_gone ? ends[job->why_gone] : " is there");
	return text[turn];
}

/* --- documented limits ------------------------------------------------------------------------ */

void excused(enum limit limit)
{
	if (totals->excuses[limit]++ > 0)
		return;
	totals->shown_by[limit].seed = world.seed;
	snprintf(totals->shown_by[limit].profile, sizeof totals->shown_by[limit].profile, "%s",
		 world.profile->name);
}

/* Whether this half can do nothing: it was killed, stopped or frozen. One that has ended by itself
 * has given up. */
static bool is_still(int pid)
{
	const struct task *task = pid ? tasks[pid - FIRST_PID] : NULL;

	if (!task || !task->alive)
		return !task || !task->exited;
	return task_is_still(task) || now - task->thawed < JUST_THAWED;
}

/*
 * me-only has exited as its command has, and its helper alone keeps the lock for what that has left
 * running. That one was killed, stopped or frozen.
 */
static bool is_left_alone(const struct job *job)
{
	const struct task *me_only = tasks[job->me - FIRST_PID];

	return job->kept && !me_only->alive && me_only->exited && job->helper &&
	       is_still(job->helper);
}

static bool is_frozen(const struct job *job)
{
	for (int i = 0; i < n_tasks; i++) {
		const struct task *task = tasks[i];

		if (task->job == job - world.jobs &&
		    (task->kind == TASK_COMMAND || task->kind == TASK_CHILD) && task->alive &&
		    (clocks[task->host].frozen || now - task->thawed < JUST_THAWED))
			return true;
	}
	return false;
}

/* Whether an event cannot come to JOB now. */
static bool is_deaf(const struct job *job)
{
	const int m = job->stream;

	/* One that is down has closed its streams: they are opened elsewhere. */
	if (!cluster.members[m].up)
		return world.one_endpoint;
	return cluster.cut_up[job->host][m] || cluster.cut_down[job->host][m] || !member_works(m) ||
	       !member_linked(m, cluster.leader);
}

/*
 * Its stream was open when its key went, and yet the event was lost, or comes later than the
 * lock-delay allows for. Then it has the usual time to end its command. With a --ttl of at most
 * 15 s, renewals notice the loss in time.
 */
static bool hears_late(const struct job *job)
{
	if (job->ttl <= 15 * S || world.profile->at_once ||
	    (job->lost_at && now > job->lost_at + job->kill_after + 600 * MS))
		return false;
	if (job->told_at)
		return job->told_at > job->gone_at + MOST_LATE;
	return job->listens &&
	       (job->lost_at || stream_listens((int)(job - world.jobs), job->entry));
}

/* Its lease was ended early, and it has not heard of that yet, and could not. When it does it has
 * to end at once. */
static bool could_not_hear(const struct job *job)
{
	if (!job->key_gone || job->why_gone != BY_MISTAKE)
		return false;
	return hears_late(job) || ((!job->lost_at || now < job->lost_at + 300 * MS) &&
				   (job->unheard || is_deaf(job) || is_still(job->helper)));
}

void check_told(int job, const char *key)
{
	struct job *told = &world.jobs[job];

	if (job >= 0 && told->key_gone && !told->told_at && !strcmp(told->entry, key))
		told->told_at = now;
}

enum limit excuse_of(const struct job *job, const struct job *newcomer)
{
	if (world.profile->limit)
		return world.profile->limit - 1;
	if (job->rival || (newcomer && newcomer->rival))
		return LIMIT_ETCDCTL;
	if (is_frozen(job))
		return LIMIT_FROZEN;
	if (is_still(job->me) && is_still(job->helper))
		return LIMIT_BOTH;
	if (is_left_alone(job))
		return LIMIT_KEPT;
	if (job->key_gone && job->why_gone == BY_HAND)
		return LIMIT_BY_HAND;
	if (could_not_hear(job))
		return LIMIT_UNHEARD;
	if (newcomer && job->key_gone && job->why_gone == BY_MISTAKE &&
	    newcomer->entered >= job->gone_at)
		return LIMIT_NEWCOMER;
	return LIMIT_NONE;
}

/*
 * Whether JOB lost its key before its command began, and could not know: it has asked nothing since
 * that would have told it, and has no stream yet, or has one that had no time to tell.
 */
static bool begins_unaware(const struct job *job)
{
	return job->run && job->key_gone && job->gone_at < job->run &&
	       job->run < job->gone_at + UNAWARE && job->asked_store < job->gone_at &&
	       (job->why_gone == BY_HAND || job->why_gone == BY_MISTAKE);
}

/* What it has asked since then does not count. */
static bool began_unaware(const struct job *job)
{
	return job->run && job->unaware;
}

/* Why the commands of OLDER and NEWER, which began later, may run at once though they must not. */
static enum limit excuse_of_pair(const struct job *older, const struct job *newer)
{
	enum limit limit = excuse_of(older, newer);

	/* The newer one is the one that is lost: the older one has found no key. */
	if (limit == LIMIT_NONE && began_unaware(newer) &&
	    (newer->why_gone == BY_HAND || older->entered >= newer->gone_at))
		limit = newer->why_gone == BY_HAND ? LIMIT_BY_HAND : LIMIT_NEWCOMER;
	return limit;
}

/* Reports WHAT about JOB, unless that is a documented limit. */
static void report(const char *what, const struct job *job, enum limit limit)
{
	if (limit == LIMIT_NONE)
		violation(what, "%s", job_name(job));
	else
		excused(limit);
}

/* --- two at once ------------------------------------------------------------------------------ */

static bool runs(const struct job *job)
{
	return job->run && !job->run_ended;
}

static bool may_be_together(const struct job *a, const struct job *b)
{
	return (a->mode == JOB_SHARED && b->mode == JOB_SHARED) ||
	       (a->mode == JOB_SLOTS && b->mode == JOB_SLOTS && a->slot != b->slot);
}

/* A is there, and B. The one that began first should be gone. */
static void check_pair(const struct job *a, const struct job *b)
{
	const struct job *older = a->run < b->run ? a : b, *newer = older == a ? b : a;
	const enum limit limit = excuse_of_pair(older, newer);

	if (limit == LIMIT_NONE)
		violation("overlap", "%s with %s", job_name(newer), job_name(older));
	else
		excused(limit);
}

/* Why JOB may run beside all others that have a slot. */
static enum limit excuse_among_slots(const struct job *job)
{
	enum limit limit = excuse_of(job, NULL);

	/* Who has taken its slot has not seen it, whoever else is there. */
	for (int i = 0; i < world.n_jobs && limit == LIMIT_NONE; i++) {
		const struct job *other = &world.jobs[i];

		if (other == job || !runs(other) || other->mode != JOB_SLOTS)
			continue;
		/* One that ran before us is a newcomer only if we began without our key. */
		if (other->run >= job->run || began_unaware(job))
			limit = excuse_of(job, other);
	}
	return limit;
}

static void check_slots(const struct job *job)
{
	unsigned holders = 0, least = UINT32_MAX;

	for (int i = 0; i < world.n_jobs; i++) {
		const struct job *other = &world.jobs[i];

		if (!runs(other) || other->mode != JOB_SLOTS)
			continue;
		holders++;
		least = other->slots < least ? other->slots : least;
	}
	/* Each limit allows one that is too many. */
	for (int i = 0; i < world.n_jobs && holders > least; i++) {
		enum limit limit = LIMIT_NONE;

		if (runs(&world.jobs[i]) && world.jobs[i].mode == JOB_SLOTS)
			limit = excuse_among_slots(&world.jobs[i]);
		if (limit == LIMIT_NONE)
			continue;
		excused(limit);
		holders--;
	}
	if (holders <= least)
		return;
	violation("too many slots", "%u run, %u may: %s", holders, least, job_name(job));
}

void check_alone(struct job *job)
{
	check_deadline(job);
	for (int i = 0; i < world.n_jobs; i++) {
		const struct job *other = &world.jobs[i];

		if (other != job && runs(other) && !may_be_together(job, other))
			check_pair(job, other);
	}
	if (job->mode == JOB_SLOTS)
		check_slots(job);
}

/* --- tokens ----------------------------------------------------------------------------------- */

/* A store that refuses late writes: with a cluster that makes no mistake there are none. */
void check_register(struct job *job)
{
	if (job->rival || !world.only_exclusive)
		return;
	if (job->token >= register_token) {
		register_token = job->token;
		totals->accepted++;
		return;
	}
	totals->refused++;
	if (world.profile->no_mistakes && excuse_of(job, NULL) == LIMIT_NONE &&
	    job->why_gone != BY_MISTAKE)
		violation("register", "writes %" PRIu64 " after %" PRIu64 ": %s", job->token,
			  register_token, job_name(job));
}

static void check_token(const struct job *job)
{
	const struct kv *kv = store_find(job->key);

	/* Who fences by the key's own revision (examples/fenced-etcd.sh) has to find the token
	 * there. */
	if (kv && kv->modified != job->token)
		violation("token is not the key's revision", "%" PRIu64 ": %s", kv->modified,
			  job_name(job));
	if (!world.only_exclusive)
		return;
	if (job->token > last_token) {
		last_token = job->token;
		return;
	}
	/* Between the last look at the clock and the first instruction. */
	if (is_frozen(job) && job->looked && job->looked < now - JUST_THAWED) {
		excused(LIMIT_FROZEN);
		return;
	}
	for (int i = 0; i < world.n_jobs; i++) {
		const struct job *other = &world.jobs[i];
		const enum limit limit = other->token == last_token && other->run
					       ? excuse_of_pair(other, job)
					       : LIMIT_NONE;

		if (limit != LIMIT_NONE && began_unaware(job)) {
			excused(limit);
			return;
		}
	}
	violation("token", "%" PRIu64 " after %" PRIu64 ": %s", job->token, last_token,
		  job_name(job));
}

/* --- a command begins ------------------------------------------------------------------------- */

/* It has lapsed, and a member that hung has granted it once more: docs/design.md, Keeping it, 4. */
static bool was_granted_again(const struct job *job)
{
	return job->why_gone == BY_EXPIRY && lease_is_alive(job->lease);
}

/* Who stood in line behind one that was lost stands back for 3 seconds: etcd/take.c, rule 4. */
static void check_delay(const struct job *job)
{
	for (int i = 0; i < world.n_jobs; i++) {
		const struct job *other = &world.jobs[i];

		if (other != job && !other->rival && other->key_gone && other->gone_held &&
		    other->run && other->why_gone != BY_REQUEST && other->why_gone != BY_HAND &&
		    other->created < job->created && job->saw < other->gone_at &&
		    now < other->gone_at + 2900 * MS && !may_be_together(job, other) && !was_granted_again(other) &&
		    !world.profile->limit && !world.profile->deaf)
			violation("does not stand back", "%.3f s after %s: %s",
				  (double)(now - other->gone_at) / 1e9, job_name(other),
				  job_name(job));
	}
}

/* Without faults the lock is not free for long while somebody waits. */
static void check_gap(const struct job *job)
{
	ns since = job->entered;

	for (int i = 0; i < world.n_jobs; i++) {
		const struct job *other = &world.jobs[i];

		if (other == job)
			continue;
		if (other->hold_for || runs(other))
			return;
		since = other->run_ended > since ? other->run_ended : since;
	}
	if (now - since > 700 * MS)
		violation("idle while somebody waits", "%.3f s: %s", (double)(now - since) / 1e9,
			  job_name(job));
}

void check_runs(struct job *job)
{
	job->unaware = begins_unaware(job);
	check_delay(job);
	check_token(job);
	if (world.profile->calm)
		check_gap(job);
	check_alone(job);
}

/* --- what the store sees ---------------------------------------------------------------------- */

static struct job *job_of_key(const char *key)
{
	for (int i = 0; i < world.n_jobs; i++)
		if (!strcmp(world.jobs[i].key, key) || !strcmp(world.jobs[i].entry, key))
			return &world.jobs[i];
	return NULL;
}

/* The job whose me-only is named in VALUE. */
static struct job *job_of_value(const char *value)
{
	const char *pid = strstr(value, "\"pid\":");

	for (int i = 0; pid && i < world.n_jobs; i++)
		if (world.jobs[i].me == atoi(pid + 6) && !world.jobs[i].rival)
			return &world.jobs[i];
	return NULL;
}

static void note_entry(const struct kv *kv)
{
	struct job *job = job_of_value(kv->value);

	if (!job || !strcmp(job->entry, kv->key))
		return;
	snprintf(job->entry, sizeof job->entry, "%s", kv->key);
	job->entered = now;
	job->saw = NEVER;
	job->created = kv->created;
	job->places++;
	job->key_gone = job->run && job->key_gone;
	world_event(EVENT_ENTERED, (int)(job - world.jobs), 0);
}

/* An exclusive lock is taken only if nobody is before it. */
static void check_held(const struct kv *kv)
{
	const size_t prefix = (size_t)(strrchr(kv->key, '/') - kv->key) + 1;

	if (!strstr(kv->value, "\"m\":\"x\""))
		return;
	for (size_t i = 0; i < store.n_kvs; i++)
		if (!strncmp(store.kvs[i].key, kv->key, prefix) &&
		    store.kvs[i].created < kv->created)
			violation("taken although another is before it",
				  "%s (%" PRIu64 "), but %s is there", kv->key, kv->created,
				  store.kvs[i].key);
}

void check_put(const struct kv *kv, bool held)
{
	struct job *job;

	if (kv->created == kv->modified)
		note_entry(kv);
	job = job_of_key(kv->key);
	if (held) {
		check_held(kv);
		if (job)
			world_event(EVENT_HELD, (int)(job - world.jobs), 0);
	}
	if (job && held && runs(job) && job->alive && !strcmp(job->key, kv->key) &&
	    kv->modified != job->token)
		report("token is not the key's revision", job, excuse_of(job, NULL));
}

void check_delete(const struct kv *kv, bool held, enum why why)
{
	struct job *job = job_of_key(kv->key);

	if (!job)
		return;
	if (!job->key_gone) {
		job->key_gone = true;
		job->why_gone = why;
		job->gone_held = held;
		job->gone_at = now;
		job->unheard = is_deaf(job);
		job->listens = stream_listens((int)(job - world.jobs), kv->key);
		job->told_at = 0;
	}
	world_event(EVENT_DELETED, (int)(job - world.jobs), (int)why);
	/* The lock was given away while the command runs. */
	if (runs(job) && !strcmp(job->key, kv->key) && (why == BY_REQUEST || why == BY_REVOKE))
		report("given back too early", job, excuse_of(job, NULL));
}

/* The lease of KEY ends as it should. */
void check_lapse(const char *key)
{
	const struct job *job = job_of_key(key);

	if (job && runs(job) && !strcmp(job->key, key))
		report("runs when its lease ends", job, excuse_of(job, NULL));
}

/* --- promises --------------------------------------------------------------------------------- */

/* What its helper has promised is over: its command should be gone. */
void check_deadline(struct job *job)
{
	const ns grace = job->kill_after < 2 * S ? job->kill_after : 2 * S;
	ns end = job->until + 400 * MS;
	enum limit limit;

	if (job->lost_at && job->lost_at + grace + 600 * MS < end)
		end = job->lost_at + 2 * S + 600 * MS;
	if (job->rival || job->late || now <= end)
		return;
	job->late = true;
	limit = excuse_of(job, NULL);
	/* Of a loss me-only alone is told. */
	if (limit == LIMIT_NONE && now <= job->until + 400 * MS && is_still(job->me))
		limit = LIMIT_BOTH;
	if (limit == LIMIT_NONE)
		violation("runs too long", "until %.3f, lost at %.3f: %s", (double)job->until / 1e9,
			  (double)job->lost_at / 1e9, job_name(job));
	else
		excused(limit);
}

static bool begins(const char *text, const char *word)
{
	return !strncmp(text, word, strlen(word));
}

/* With --queue=1 one at most waits behind the one that has the lock. */
static void check_queue(const struct job *job)
{
	for (int i = 0; i < world.n_jobs; i++) {
		const struct job *other = &world.jobs[i];

		if (other != job && other->queue && other->waits && !other->done &&
		    other->created > store_oldest() && job->created > store_oldest())
			violation("two wait with --queue=1", "%s, %s", job_name(job),
				  job_name(other));
	}
}

/* A second of the margin is for being late. */
static void check_promise(struct job *job, ns until)
{
	const ns ends = lease_ends(job->lease);

	job->until = until;
	if (ends >= 0 && now < until && until > ends - 980 * MS && !world.profile->limit &&
	    !(ends == 0 && job->gone_at > now - 2 * S))
		violation("promises too much", "until %.3f, but its lease ends at %.3f: %s",
			  (double)until / 1e9, (double)ends / 1e9, job_name(job));
}

/*
 * Others wait for what is left in the store: nobody is to be told that it is not. What a member that
 * hung makes of an old request, with the lease of a place that was given up, is nobody's.
 */
static void check_released(const struct job *job)
{
	const struct kv *kv = store_find(job->entry);

	if (kv && kv->created == job->created && kv->lease == job->lease && !job->hold_for)
		violation("not released", "%s is still there: %s", kv->key, job_name(job));
}

void check_word(struct task *helper, const char *text)
{
	struct job *job = &world.jobs[helper->job];
	const char *until = strstr(text, "\nuntil "), *key = strstr(text, "ETCD_LOCK_KEY=lock/");

	if (begins(text, "lost"))
		job->lost_at = now;
	if (begins(text, "kept"))
		job->kept = true;
	if (begins(text, "waiting")) {
		job->waits = true;
		job->saw = job->saw == NEVER ? now : job->saw;
		if (job->queue && world.only_exclusive && world.profile->gentle)
			check_queue(job);
		world_event(EVENT_WAITING, helper->job, 0);
	} else if (!begins(text, "trying") && !begins(text, "note") && !begins(text, "trouble") &&
		   !begins(text, "answers")) {
		job->waits = false;
	}
	if (begins(text, "released"))
		check_released(job);
	if (begins(text, "held") && key)
		job->lease = strtoull(key + strlen("ETCD_LOCK_KEY=lock/"), NULL, 16);
	if (until && (begins(text, "held") || begins(text, "until")))
		check_promise(job, clock_when(helper->host,
					      strtoll(until + strlen("\nuntil "), NULL, 10)));
}
