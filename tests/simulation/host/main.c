/* The simulator of host locks: see tests/simulation/README.md. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conform.h"
#include "driver.h"
#include "explore.h"
#include "simulate.h"
#include "world.h"

#define MOST_STEPS 400000

static int descending(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* How the scheduler behaves in a run that is drawn. */
static void draw_schedule(const struct kind *kind)
{
	static const int sticks[] = { 0, 512, 820, 970, 1010 };

	schedule.stick = sticks[rnd(5)];
	schedule.jump = kind->wild ? 20000 : rnd(2) ? 3000 : 0;
	schedule.longest_jump = kind->wild ? 1500 * MS : rnd(2) ? 30 * MS : MS;
}

static void draw_changes(const struct kind *kind)
{
	bool burst = kind->burst || rnd(4) == 0;
	uint32_t length = (uint32_t)kind->steps * 5 / 4;

	schedule.changes = 1 + (int)rnd(4);
	for (int i = 0; i < schedule.changes; i++)
		schedule.change[i] = rnd(length);
	schedule.faults = 3;
	for (int i = 0; i < schedule.faults; i++)
		schedule.fault[i] = burst && i > 0 ? schedule.fault[0] + rnd(60) : rnd(length);
	qsort(schedule.change, (size_t)schedule.changes, sizeof *schedule.change, descending);
	qsort(schedule.fault, (size_t)schedule.faults, sizeof *schedule.fault, descending);
}

const char *simulate(const struct kind *kind, uint64_t seed, enum strategy strategy)
{
	k_reset();
	schedule_reset();
	schedule.strategy = strategy;
	random_seed(&schedule.random, seed);
	schedule.limit = MOST_STEPS;
	if (strategy != BY_LIST)
		draw_schedule(kind);
	world_make(kind);
	if (strategy != BY_LIST)
		draw_changes(kind);
	schedule_run();
	if (!schedule.failure[0]) {
		schedule.over = false;
		world_check_end();
	}
	if (trace_mode == TRACE_PRINT)
		world_show();
	return schedule.failure[0] ? schedule.failure : NULL;
}

/* The two strategies take turns. */
static const char *run(const char *name, uint64_t seed)
{
	const struct kind *kind = kind_find(name);

	return simulate(kind, seed,
			kind->small	? BY_CHANCE
			: seed >> 5 & 1 ? BY_PRIORITY
					: BY_CHANCE);
}

static const char *names[64];

static struct simulation host = { .name = "host", .kinds = names, .run = run };

int main(int argc, char **argv)
{
	static char *nothing[] = { (char *)(uintptr_t) "PATH=/bin", NULL };
	extern char **environ;
	struct driver_options options;

	/* What the sources see must not depend on whoever runs this. */
	environ = nothing;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; kinds[i].name; i++) {
		names[i] = kinds[i].name;
		host.common_kinds += !kinds[i].small && !kinds[i].scene;
	}
	if (argc > 1 && !strcmp(argv[1], "--conform"))
		return conform_model(argv + 2);
	if (argc > 1 && !strcmp(argv[1], "--exhaustive"))
		return explore(argv + 2);
	return driver_parse(&host, argv, &options) ? driver_run(&host, &options) : 2;
}
