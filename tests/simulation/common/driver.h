/*
 * The command line of a simulator, and the report on its runs. The last line of each is "N runs, M
 * violations".
 *
 *   --runs N       at most so many runs
 *   --seconds N    for at most so long
 *   --seed S       the first seed; the others follow
 *   --kind K       worlds of this kind only; without it all kinds take turns
 *   --trace        one run, and all that happens in it
 *   --jobs N       so many processes
 *   --stop         end at the first violation
 *   --until RULE   count violations of this rule only, and end at the first
 *   --hash         print a hash of all traces: the same on every machine
 */
#ifndef DRIVER_H
#define DRIVER_H

#include <stdbool.h>
#include <stdint.h>

struct simulation {
	const char *name;	  /* as scripts/simulate knows it: "host" */
	const char *const *kinds; /* NULL after the last */
	unsigned common_kinds; /* so many of these are run without --kind; the others only if they
				  are named */

	/*
	 * One run. All that happens in it follows from KIND and SEED. Returns NULL, or what went
	 * wrong: the word before its first colon is the rule. A text that begins with "limit " is a
	 * documented limit, which is counted, and no violation.
	 */
	const char *(*run)(const char *kind, uint64_t seed);

	/* An option of this simulator alone, VALUE is the next argument or NULL. Returns how many
	 * of the two were used, 0: not known. */
	int (*option)(const char *name, const char *value);
};

struct driver_options {
	long runs;
	double seconds;
	uint64_t seed;
	const char *kind, *until;
	int jobs;
	bool stop, hash, trace;
};

/* Reads ARGV. Returns false, after a message, if it cannot be understood. */
bool driver_parse(const struct simulation *simulation, char **argv, struct driver_options *options);

/* Runs what OPTIONS ask for, and reports. Returns the exit status. */
int driver_run(const struct simulation *simulation, const struct driver_options *options);

/* The last line. Returns the exit status. */
int driver_report(long runs, long violations);

#endif
