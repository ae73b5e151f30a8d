#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"

/* In a build for gcov. */
void __gcov_dump(void) __attribute__((weak));

#define MOST_JOBS 64
#define MOST_RULES 64
#define SHOWN 3 /* so many of each rule are printed */

/* What is seen of each rule, in each kind of world. */
struct rule {
	char name[64];
	bool is_limit;
	long count;
};

/* What a job tells, in memory that all share: also of a job that crashed. */
struct tally {
	uint64_t seed; /* of the run that is going on */
	long runs, violations;
	uint64_t hash;
	struct rule rules[MOST_RULES];
};

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* --- the command line --- */

static bool is_kind(const struct simulation *simulation, const char *kind)
{
	for (const char *const *k = simulation->kinds; *k; k++)
		if (!strcmp(*k, kind))
			return true;
	fprintf(stderr, "no kind of world is called '%s'; there are:", kind);
	for (const char *const *k = simulation->kinds; *k; k++)
		fprintf(stderr, " %s", *k);
	fprintf(stderr, "\n");
	return false;
}

/* An option of all simulators. Returns how many arguments were used, or 0. */
static int read_option(struct driver_options *options, const char *name, const char *value)
{
	if (!strcmp(name, "--trace"))
		return options->trace = true;
	if (!strcmp(name, "--stop"))
		return options->stop = true;
	if (!strcmp(name, "--hash"))
		return options->hash = true;
	if (!value)
		return 0;
	if (!strcmp(name, "--runs"))
		options->runs = atol(value);
	else if (!strcmp(name, "--seconds"))
		options->seconds = atof(value);
	else if (!strcmp(name, "--seed"))
		options->seed = strtoull(value, NULL, 10);
	else if (!strcmp(name, "--kind"))
		options->kind = value;
	else if (!strcmp(name, "--until"))
		options->until = value;
	else if (!strcmp(name, "--jobs"))
		options->jobs = atoi(value);
	else
		return 0;
	return 2;
}

bool driver_parse(const struct simulation *simulation, char **argv, struct driver_options *options)
{
	int used;

	*options = (struct driver_options){ .runs = -1, .seconds = -1, .seed = 1, .jobs = 1 };
	for (argv++; *argv; argv += used) {
		used = read_option(options, argv[0], argv[1]);
		if (!used && simulation->option)
			used = simulation->option(argv[0], argv[1]);
		if (!used) {
			fprintf(stderr, "sim: cannot understand '%s'\n", *argv);
			return false;
		}
	}
	if (options->trace)
		options->runs = options->jobs = 1;
	if (options->runs < 0 && options->seconds < 0)
		options->seconds = 60;
	if (options->jobs < 1 || options->jobs > MOST_JOBS)
		options->jobs = 1;
	return !options->kind || is_kind(simulation, options->kind);
}

/* --- one job --- */

static const char *kind_of(const struct simulation *simulation,
			   const struct driver_options *options, uint64_t seed)
{
	return options->kind ? options->kind : simulation->kinds[seed % simulation->common_kinds];
}

/* Counts what went wrong. Returns how often that rule was broken in that kind of world. */
static long count(struct tally *tally, const char *kind, const char *what)
{
	char name[sizeof tally->rules->name];
	int i = 0;

	snprintf(name, sizeof name, "%s: %.*s", kind, (int)strcspn(what, ":"), what);
	while (i < MOST_RULES - 1 && tally->rules[i].count &&
	       strcmp(tally->rules[i].name, name) != 0)
		i++;
	strcpy(tally->rules[i].name, name);
	tally->rules[i].is_limit = !strncmp(what, "limit ", 6);
	tally->violations += !tally->rules[i].is_limit;
	return ++tally->rules[i].count;
}

static void show(const struct simulation *simulation, const char *kind, uint64_t seed,
		 const char *what)
{
	printf("%s: %s\n    scripts/simulate %s --kind %s --seed %llu --trace\n",
	       strncmp(what, "limit ", 6) ? "VIOLATION" : "documented", what, simulation->name,
	       kind, (unsigned long long)seed);
	fflush(stdout);
}

static void one_run(const struct simulation *simulation, const struct driver_options *options,
		    uint64_t seed, struct tally *tally)
{
	const char *kind = kind_of(simulation, options, seed), *what;

	tally->seed = seed;
	what = simulation->run(kind, seed);
	tally->runs++;
	if (options->hash)
		tally->hash += trace_hash();
	if (!what)
		return;
	if (options->until && strncmp(what, options->until, strlen(options->until)) != 0)
		return;
	if (count(tally, kind, what) <= SHOWN)
		show(simulation, kind, seed, what);
}

/* The seeds of job JOB: each of them in turn has one. */
static void work(const struct simulation *simulation, const struct driver_options *options, int job,
		 double until, struct tally *tallies)
{
	struct tally *tally = &tallies[job];

	for (long n = job; options->runs < 0 || n < options->runs; n += options->jobs) {
		if (options->seconds >= 0 && tally->runs % 16 == 0 && seconds() >= until)
			break;
		one_run(simulation, options, options->seed + (uint64_t)n, tally);
		for (int i = 0; (options->stop || options->until) && i < options->jobs; i++)
			if (tallies[i].violations)
				return;
	}
}

/* --- all jobs --- */

/* Waits for the jobs. One that crashed has found something, too. */
static void collect(const struct simulation *simulation, const struct driver_options *options,
		    const pid_t *jobs, struct tally *tallies)
{
	for (int i = 0; i < options->jobs; i++) {
		char text[64];
		int status;

		/* Not waitpid(), nor _exit() below: those of the host simulator are simulated. */
		if (wait4(jobs[i], &status, 0, NULL) < 0 || status == 0)
			continue;
		snprintf(text, sizeof text, "CRASH: the simulator has ended with status %#x",
			 (unsigned)status);
		count(&tallies[i], kind_of(simulation, options, tallies[i].seed), text);
		show(simulation, kind_of(simulation, options, tallies[i].seed), tallies[i].seed,
		     text);
		tallies[i].runs++;
	}
}

static void print_rules(const struct driver_options *options, const struct tally *tallies)
{
	static struct tally all;

	for (int i = 0; i < options->jobs; i++)
		for (int r = 0; r < MOST_RULES; r++) {
			struct rule rule = tallies[i].rules[r];
			int to = 0;

			while (rule.count && to < MOST_RULES - 1 && all.rules[to].count &&
			       strcmp(all.rules[to].name, rule.name) != 0)
				to++;
			if (!rule.count)
				continue;
			rule.count += all.rules[to].count;
			all.rules[to] = rule;
		}
	for (int r = 0; r < MOST_RULES && all.rules[r].count; r++)
		printf("%10ld  %s\n", all.rules[r].count, all.rules[r].name);
}

int driver_report(long runs, long violations)
{
	printf("%ld runs, %ld violations\n", runs, violations);
	return violations || runs == 0;
}

int driver_run(const struct simulation *simulation, const struct driver_options *options)
{
	struct tally *tallies = mmap(NULL, MOST_JOBS * sizeof *tallies, PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0),
		     sum = { 0 };
	double began = seconds(), until = began + options->seconds, took;
	pid_t jobs[MOST_JOBS];

	if (tallies == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	trace_mode = options->trace ? TRACE_PRINT : options->hash ? JOURNAL_HASH : TRACE_OFF;
	fflush(stdout);
	for (int i = 0; i < options->jobs; i++) {
		jobs[i] = fork();
		if (jobs[i] == 0) {
			work(simulation, options, i, until, tallies);
			fflush(stdout);
			if (__gcov_dump)
				__gcov_dump();
			_Exit(0);
		}
	}
	collect(simulation, options, jobs, tallies);
	print_rules(options, tallies);
	for (int i = 0; i < options->jobs; i++) {
		sum.runs += tallies[i].runs;
		sum.violations += tallies[i].violations;
		sum.hash += tallies[i].hash;
	}
	took = seconds() - began;
	printf("%.1f s, %.0f runs a second\n", took, took > 0 ? (double)sum.runs / took : 0);
	if (options->hash)
		printf("hash %016llx\n", (unsigned long long)sum.hash);
	return driver_report(sum.runs, sum.violations);
}
