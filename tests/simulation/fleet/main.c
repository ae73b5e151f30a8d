/* sim: see README.md. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cluster.h"
#include "explore.h"
#include "gateway/gateway.h"
#include "world.h"

/* One process makes so many runs: a crash costs no more. */
#define CHUNK 200
#define MOST_WORKERS 64

struct totals *totals;
struct world world;
extern char **environ;

static const char *const limits[] = {
	[LIMIT_FROZEN] = "the whole host was frozen",
	[LIMIT_BOTH] = "both halves were stopped or killed",
	[LIMIT_NEWCOMER] = "a server's mistake, and a newcomer",
	[LIMIT_CLOCK] = "clocks beyond the margin",
	[LIMIT_ETCDCTL] = "etcdctl runs on when its lease has lapsed",
	[LIMIT_PAUSE] = "a pause that no clock shows",
	[LIMIT_UNHEARD] = "a server's mistake, of which the holder cannot hear",
	[LIMIT_KEPT] = "the helper, left alone with a child of the command, was stopped or killed",
	[LIMIT_BY_HAND] = "the key was deleted by hand",
};

/* --- one run ---------------------------------------------------------------------------------- */

void world_event(enum world_event event, int job, int detail)
{
	if (event == EVENT_REQUEST && job >= 0 && (detail & 255) == ASK_WATCH)
		world.jobs[job].stream = detail >> 8;
	if (world.profile->react && job >= 0 && !world.faults_over)
		world.profile->react(event, &world.jobs[job], detail);
}

static const struct profile *draw_profile(uint64_t seed)
{
	size_t n = 0;

	while (n < n_profiles && !profiles[n].named)
		n++;
	return &profiles[seed % n];
}

static void set_clocks(void)
{
	double most = world.profile->drift;

	if (most < 0)
		most = 0;
	else if (most == 0)
		most = random_chance(0.5) ? 0 : 0.0097;
	for (int i = 0; i < HOSTS + MEMBERS; i++) {
		double drift = random_chance(0.5) ? most : -most;

		if (!random_chance(0.5))
			drift *= (double)random_below(1001) / 1000.0;
		clocks[i] = (struct clock){ .rate = 1 + drift,
					     .base = random_between(1 * S, 1000000 * S) };
	}
}

static void reset(uint64_t seed)
{
	network_reset();
	task_reset();
	cluster_reset();
	base_reset(seed);
	check_begin();
}

/* Until all are done; at most as long as that may take. */
static void run_to_end(ns end)
{
	ns limit = end + 40 * S;

	for (int i = 0; i < world.n_jobs; i++) {
		const struct job *job = &world.jobs[i];

		limit += (ns)(1.1 * (double)job->duration) + job->child + job->hold_for +
			 (world.profile->calm ? 0 : job->ttl + 10 * S);
	}
	while (!(now > end && world_is_over()) && event_step(limit))
		;
}

/* Until all leases have lapsed. */
static void run_down(void)
{
	const ns limit = now + 110 * S;

	if (!world_is_over())
		return;
	while (lease_count() && event_step(limit))
		;
	check_left();
}

static void prepare(const struct profile *profile)
{
	ns last = 0, end;
	bool old;

	task_preemption = random_chance(0.5) ? 0.01 : 0.1;
	task_slow_wakes = 0.001;
	if (profile->small)
		task_preemption = task_slow_wakes = 0;
	set_clocks();
	old = profile->etcd == OLD_ETCD || (profile->etcd == ANY_ETCD && random_chance(0.3));
	cluster_start(old);
	cluster.users = profile->users && random_chance(0.7);
	world.has_user = cluster.users || profile->has_user;
	world.one_endpoint = !profile->gentle && random_chance(0.1);
	if (profile->jobs)
		profile->jobs(&last);
	else
		world_draw_jobs(&last);
	end = last + random_between(10 * S, 60 * S);
	cluster.late = 0.5;
	if (profile->faults)
		profile->faults(end);
	event_at(end, faults_end, NULL, 0);
	run_to_end(end);
}

static void add_up(void)
{
	totals->runs++;
	totals->bad_runs += world.bad;
	totals->seconds += (double)now / 1e9;
	totals->requests += cluster.n_requests;
	totals->executed += cluster.n_executed;
	totals->elections += cluster.elections;
	totals->mistakes += cluster.mistakes;
	/* A sum: it does not matter which process has made which run. */
	totals->hash += hash_value() ^ (hash_value() << 7);
}

void world_run(uint64_t seed, const struct profile *profile)
{
	totals->seed = seed;
	explore_nothing();
	reset(profile && profile->small ? explore_prepare(seed) : seed);
	world = (struct world){ .seed = seed,
				 .profile = profile ? profile : draw_profile(seed),
				 .only_exclusive = true };
	prepare(world.profile);
	check_jobs();
	run_down();
	add_up();
	if (!tracing)
		return;
	for (int i = 0; i < world.n_jobs; i++)
		printf("job %d: status %d; %s; %s\n", i, world.jobs[i].status,
		       job_name(&world.jobs[i]), world.jobs[i].message);
}

/* --- many runs -------------------------------------------------------------------------------- */

struct choice {
	uint64_t first, runs;
	double seconds;
	const struct profile *profile;
	int workers;
	bool quiet, stop;
};

/* What the workers share. */
struct shared {
	uint64_t next; /* the first run that nobody has begun */
	bool stopped;  /* a violation was found that was looked for */
	struct totals totals[MOST_WORKERS];
};
static struct shared *shared;

static double wall_clock(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void make_runs(const struct choice *choice, uint64_t from)
{
	for (uint64_t i = from; i < from + CHUNK && i < choice->runs && !shared->stopped; i++) {
		world_run(choice->first + i, choice->profile);
		shared->stopped = shared->stopped || (world.bad && choice->stop);
	}
}

static void note_crash(int status)
{
	printf("CRASH (status %#x) at seed %" PRIu64 "\n", (unsigned)status, totals->seed);
	totals->runs++;
	totals->bad_runs++;
}

/* In a build for gcov. */
void __gcov_dump(void) __attribute__((weak));

_Noreturn static void end_child(void)
{
	fflush(stdout);
	if (__gcov_dump)
		__gcov_dump();
	_exit(0);
}

/* Takes chunks until there are none left, each in a process of its own. */
static void work(const struct choice *choice, int worker, double until)
{
	uint64_t from;

	totals = &shared->totals[worker];
	while (wall_clock() < until && !shared->stopped &&
	       (from = __atomic_fetch_add(&shared->next, CHUNK, __ATOMIC_SEQ_CST)) < choice->runs) {
		const pid_t pid = fork();
		int status;

		if (pid == 0) {
			make_runs(choice, from);
			end_child();
		}
		while (waitpid(pid, &status, 0) != pid)
			;
		if (status)
			note_crash(status);
	}
}

static void run_all(const struct choice *choice)
{
	const double until = wall_clock() + choice->seconds;

	totals = &shared->totals[0];
	if (choice->runs == 1) {
		world_run(choice->first, choice->profile);
		return;
	}
	for (int i = 0; i < choice->workers; i++)
		if (fork() == 0) {
			work(choice, i, until);
			end_child();
		}
	while (wait(NULL) > 0)
		;
}

/* --- the summary ------------------------------------------------------------------------------ */

static void add_kinds(struct totals *sum, const struct totals *one)
{
	for (int i = 0; i < KINDS && one->kinds[i].n; i++) {
		int k = 0;

		while (k < KINDS - 1 && sum->kinds[k].n &&
		       strcmp(sum->kinds[k].what, one->kinds[i].what) != 0)
			k++;
		if (!sum->kinds[k].n || one->kinds[i].seed < sum->kinds[k].seed) {
			const uint64_t n = sum->kinds[k].n;

			sum->kinds[k] = one->kinds[i];
			sum->kinds[k].n = n;
		}
		sum->kinds[k].n += one->kinds[i].n;
	}
}

static void add_totals(struct totals *sum, const struct totals *one)
{
	sum->runs += one->runs;
	sum->bad_runs += one->bad_runs;
	sum->commands += one->commands;
	sum->lost += one->lost;
	sum->failed += one->failed;
	sum->busy += one->busy;
	sum->requests += one->requests;
	sum->executed += one->executed;
	sum->elections += one->elections;
	sum->mistakes += one->mistakes;
	sum->accepted += one->accepted;
	sum->refused += one->refused;
	sum->hash += one->hash;
	sum->seconds += one->seconds;
	for (int i = 0; i < LIMITS; i++) {
		if (one->excuses[i] &&
		    (!sum->excuses[i] || one->shown_by[i].seed < sum->shown_by[i].seed))
			sum->shown_by[i] = one->shown_by[i];
		sum->excuses[i] += one->excuses[i];
	}
	add_kinds(sum, one);
}

static void report(const struct totals *t, double wall, bool quiet)
{
	if (!quiet) {
		printf("%.1f s, %.0f runs a second, %.0f virtual seconds; %" PRIu64
		       " commands, %" PRIu64 " lost, %" PRIu64 " failed, %" PRIu64 " busy; %" PRIu64
		       " requests, %" PRIu64 " executed; %" PRIu64 " elections, %" PRIu64
		       " leases ended by mistake; register: %" PRIu64 " writes, %" PRIu64
		       " refused\n",
		       wall, (double)t->runs / wall, t->seconds, t->commands, t->lost, t->failed,
		       t->busy, t->requests, t->executed, t->elections, t->mistakes, t->accepted,
		       t->refused);
		for (int i = 0; i < LIMITS; i++)
			if (t->excuses[i])
				printf("documented: %s: %" PRIu64
				       " times, --profile %s --seed %" PRIu64 "\n",
				       limits[i], t->excuses[i], t->shown_by[i].profile,
				       t->shown_by[i].seed);
	}
	for (int i = 0; i < KINDS && t->kinds[i].n; i++)
		printf("VIOLATION %s (%" PRIu64
		       " times): scripts/simulate fleet --profile %s --seed %" PRIu64 " --trace\n",
		       t->kinds[i].what, t->kinds[i].n, t->kinds[i].profile, t->kinds[i].seed);
	printf("hash %016" PRIx64 "\n%" PRIu64 " runs, %" PRIu64 " violations\n", t->hash, t->runs,
	       t->bad_runs);
}

/* --- the command line ------------------------------------------------------------------------- */

static const struct profile *find_profile(const char *name)
{
	for (size_t i = 0; i < n_profiles; i++)
		if (!strcmp(profiles[i].name, name))
			return &profiles[i];
	for (size_t i = 0; i < n_scenarios; i++)
		if (!strcmp(scenarios[i].name, name))
			return &scenarios[i];
	for (size_t i = 0; i < n_small_worlds; i++)
		if (!strcmp(small_worlds[i].name, name))
			return &small_worlds[i];
	fprintf(stderr, "there is no profile '%s'; --list shows all\n", name);
	exit(2);
}

static int list_profiles(void)
{
	for (size_t i = 0; i < n_profiles; i++)
		printf("profile %-20s %s%s\n", profiles[i].name, profiles[i].what,
		       profiles[i].named ? " (only by name)" : "");
	for (size_t i = 0; i < n_scenarios; i++)
		printf("scenario %-20s %s\n", scenarios[i].name, scenarios[i].what);
	for (size_t i = 0; i < n_small_worlds; i++)
		printf("small %-20s %s: %d seeds are all\n", small_worlds[i].name,
		       small_worlds[i].what, (int)explore_count());
	return 0;
}

static int answer_all(void)
{
	totals = &shared->totals[0];
	reset(1);
	world = (struct world){ .profile = &profiles[0] };
	set_clocks();
	cluster_start(false);
	return gateway_answer_all();
}

/* For conform-calls.c: the scripts "FIRST COUNT STEPS" on the simulated kernel. */
static int call_steps;
static uint64_t call_seed;
void conform_script(uint64_t seed, int steps);

static void call_task(struct task *task)
{
	(void)task;
	conform_script(call_seed, call_steps);
}

static int run_calls(const char *what)
{
	unsigned long first, count;

	if (sscanf(what, "%lu %lu %d", &first, &count, &call_steps) != 3)
		return 2;
	totals = &shared->totals[0];
	for (call_seed = first; call_seed < first + count; call_seed++) {
		struct task *task;

		reset(1);
		world = (struct world){ .profile = &profiles[0] };
		set_clocks();
		printf("script %d\n", (int)call_seed);
		task = task_new(TASK_ME_ONLY, 0, 1, call_task, -1);
		descriptors_open_stdio(task);
		task_start(task, 0);
		while (event_step(NEVER))
			;
	}
	return 0;
}

/* --profile and --kind are the same: the other simulator calls it so. */
static const struct option options[] = {
	{ "calls", required_argument, NULL, 'c' },
	{ "runs", required_argument, NULL, 'n' },
	{ "seconds", required_argument, NULL, 's' },
	{ "seed", required_argument, NULL, 'b' },
	{ "profile", required_argument, NULL, 'p' },
	{ "jobs", required_argument, NULL, 'j' },
	{ "trace", no_argument, NULL, 't' },
	{ "kind", required_argument, NULL, 'p' },
	{ "until", required_argument, NULL, 'u' },
	{ "stop", no_argument, NULL, 'S' },
	{ "hash", no_argument, NULL, 'h' },
	{ "quiet", no_argument, NULL, 'q' },
	{ "list", no_argument, NULL, 'l' },
	{ "answer", no_argument, NULL, 'a' },
	{ NULL, 0, NULL, 0 },
};

static void usage(void)
{
	fprintf(stderr, "usage: sim [--runs N] [--seconds S] [--seed S] [--profile P] [--jobs N] "
			"[--trace] [--stop] [--until VIOLATION] [--quiet] | --list | --answer\n");
	exit(2);
}

int main(int argc, char **argv)
{
	static char *nothing[] = { (char *)(uintptr_t) "PATH=/bin", NULL };
	struct choice choice = { .first = 1, .seconds = 1e9, .workers = 1 };
	struct totals sum = { .runs = 0 };
	const double began = wall_clock();
	bool answer = false;
	int c;

	shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c) {
		case 'n': choice.runs = strtoull(optarg, NULL, 10); break;
		case 's': choice.seconds = atof(optarg); break;
		case 'b': choice.first = strtoull(optarg, NULL, 10); break;
		case 'p': choice.profile = find_profile(optarg); break;
		case 'j': choice.workers = atoi(optarg); break;
		case 't': tracing = true; break;
		case 'S': choice.stop = true; break;
		case 'u':
			choice.stop = true;
			check_only = optarg;
			break;
		case 'h': break;
		case 'q': choice.quiet = true; break;
		case 'l': return list_profiles();
		case 'a': answer = true; break;
		case 'c': return run_calls(optarg);
		default: usage();
		}
	environ = nothing;
	if (answer)
		return answer_all();
	/* With a time alone as many runs as fit; with a seed alone that one. */
	if (choice.runs == 0)
		choice.runs = choice.seconds < 1e9 ? UINT64_MAX / 2 : 1;
	run_all(&choice);
	for (int i = 0; i < MOST_WORKERS; i++)
		add_totals(&sum, &shared->totals[i]);
	report(&sum, wall_clock() - began, choice.quiet);
	return sum.bad_runs != 0;
}

/* What a helper leaves behind is counted by arena.c; what this program has at its end does not
 * matter. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
