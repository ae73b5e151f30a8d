#include "explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"
#include "simulate.h"

#define MOST_POINTS 20000
#define SHOWN 3

static const struct kind *kind;
static uint64_t seed;
static time_t end; /* 0: none */
static long runs, violations;
static bool unfinished;

static void show(const char *what)
{
	printf("VIOLATION: %s\n    scripts/simulate host --exhaustive %s %llu \"", what, kind->name,
	       (unsigned long long)seed);
	for (int i = 0; i < schedule.deviations; i++)
		printf("%s%d:%d", i ? " " : "", schedule.deviation[i].point,
		       schedule.deviation[i].choice);
	printf("\"%s\n", schedule.jump ? " --jumps" : "");
}

static void run(void)
{
	const char *what = simulate(kind, seed, BY_LIST);

	runs++;
	if (what && strncmp(what, "limit ", 6) != 0 && ++violations <= SHOWN)
		show(what);
}

/* Runs what schedule.deviation says, and all schedules with up to DEPTH more deviations behind
 * these; each from the start. */
static void explore_from(int depth)
{
	unsigned char *width = malloc(MOST_POINTS);
	int from = schedule.deviations ? schedule.deviation[schedule.deviations - 1].point + 1 : 0,
	    points;

	schedule.width = width;
	schedule.most_points = MOST_POINTS;
	run();
	points = schedule.points < MOST_POINTS ? schedule.points : MOST_POINTS;
	unfinished |= end && time(NULL) >= end;
	for (int p = from; depth > 0 && p < points && !unfinished; p++)
		for (int c = 1; c < width[p]; c++) {
			schedule.deviation[schedule.deviations].point = p;
			schedule.deviation[schedule.deviations++].choice = c;
			explore_from(depth - 1);
			schedule.deviations--;
			schedule.width = width;
		}
	free(width);
}

static bool read_deviations(const char *text)
{
	int used;

	while (schedule.deviations < MOST_DEVIATIONS &&
	       sscanf(text, "%d:%d%n", &schedule.deviation[schedule.deviations].point,
		      &schedule.deviation[schedule.deviations].choice, &used) == 2) {
		schedule.deviations++;
		text += used;
	}
	return schedule.deviations > 0 || !*text;
}

int explore(char **arguments)
{
	bool one;

	for (int i = 0; i < 3; i++)
		if (!arguments[i])
			return 2;
	kind = kind_find(arguments[0]);
	seed = strtoull(arguments[1], NULL, 10);
	one = strchr(arguments[2], ':') || !*arguments[2];
	if (!kind || !kind->small || (one && !read_deviations(arguments[2])))
		return 2;
	for (char **a = arguments + 3; *a; a++) {
		schedule.jump |= !strcmp(*a, "--jumps");
		if (!strcmp(*a, "--seconds") && a[1])
			end = time(NULL) + atol(a[1]);
		if (!strcmp(*a, "--trace"))
			trace_mode = TRACE_PRINT;
	}
	if (one) {
		static unsigned char width[MOST_POINTS];

		schedule.width = width;
		schedule.most_points = MOST_POINTS;
		run();
	} else {
		explore_from(atoi(arguments[2]));
		printf("%s %llu, at most %s deviations%s:\n", kind->name, (unsigned long long)seed,
		       arguments[2], unfinished ? ", not finished" : "");
	}
	return driver_report(runs, violations);
}
