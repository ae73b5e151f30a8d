/* Kinds of worlds, and how one is drawn. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct world W;

// clang-format off
const struct kind kinds[] = {
	{ .name = "plain", .steps = 240 },
	{ .name = "kill1", .steps = 220, .mix = KILLS, .faults = 1 },
	{ .name = "kill2", .steps = 200, .mix = KILLS, .faults = 2 },
	{ .name = "kill3", .steps = 200, .mix = KILLS, .faults = 3 },
	/* kills close together */
	{ .name = "burst", .steps = 200, .mix = KILLS, .faults = 3, .burst = true },
	{ .name = "stop", .steps = 400, .mix = STOPS, .faults = -3 },
	{ .name = "mixed", .steps = 600, .mix = ALL_KINDS, .faults = -3, .mixed = true },
	{ .name = "slots", .steps = 260, .mix = KILLS_AND_STOPS, .faults = -3, .slots = true },
	{ .name = "queue", .steps = 240, .mix = KILLS, .faults = -3, .places = true },
	{ .name = "stranger", .steps = 280, .strangers = true },
	/* Commands that close or leave their lock, and keepers that are killed. */
	{ .name = "closers", .steps = 760, .mix = KILLS_OF_KEEPERS, .faults = -3, .closers = true },
	{ .name = "users", .steps = 340, .mix = KILLS, .faults = -3, .users = true },
	{ .name = "limit", .steps = 240, .few_fds = true },
	/* net.core.somaxconn 0 to 2 */
	{ .name = "backlog", .steps = 240, .small_backlog = true },
	/* time jumps */
	{ .name = "wild", .steps = 280, .mix = ALL_KINDS, .faults = -3, .mixed = true, .wild = true },
	/* calls fail for want of descriptors or memory */
	{ .name = "inject", .steps = 260, .mix = KILLS, .faults = -3, .inject = true },
	/* commands that call me-only, and --held */
	{ .name = "nested", .steps = 500, .mix = ALL_KINDS, .faults = -2, .nested = true },
	{ .name = "replace", .steps = 700, .mix = KILLS, .faults = -1, .replaces = true },
	/* me-only is process 1 */
	{ .name = "init", .steps = 300, .mix = KILLS_AND_STOPS, .faults = -2, .as_init = true },
	{ .name = "reuse", .steps = 900, .mix = ALL_KINDS, .faults = -3, .replaces = true, .nested = true, .reuses_pids = true },
	{ .name = "file", .steps = 500, .mix = ALL_KINDS, .faults = -3, .mixed = true, .file = true },
	{ .name = "filenested", .steps = 600, .mix = ALL_KINDS, .faults = -2, .nested = true, .file = true },
	{ .name = "filereplace", .steps = 900, .mix = KILLS, .faults = -1, .replaces = true, .file = true },
	/* the file is removed, again and again */
	{ .name = "unlink", .steps = 500, .mix = KILLS, .faults = -1, .file = true, .unlinks = true },
	/* somebody asks who holds the lock */
	{ .name = "who", .steps = 400, .mix = KILLS, .faults = -2, .asks = true },
	{ .name = "filewho", .steps = 600, .mix = KILLS, .faults = -1, .file = true, .asks = true },
	/* What was wrong once, where it shows in many seeds. Not drawn, as all that follow. */
	{ .name = "stopfront", .steps = 600, .scene = scene_stopfront },
	{ .name = "joinexec", .steps = 200, .scene = scene_joinexec },
	{ .name = "firstpause", .steps = 200, .scene = scene_firstpause, .longest_free = 4 * MS },
	{ .name = "deaf", .steps = 200, .scene = scene_deaf, .longest_free = 50 * MS },
	{ .name = "fullqueue", .steps = 600, .scene = scene_fullqueue },
	{ .name = "stopthree", .steps = 600, .scene = scene_stopthree, .longest_free = 3 * S },
	{ .name = "lastsuccessor", .steps = 200, .scene = scene_lastsuccessor },
	{ .name = "replaceend", .steps = 200, .scene = scene_replaceend, .replaces = true },
	{ .name = "deafproof", .steps = 300, .scene = scene_deafproof, .replaces = true },
	{ .name = "leftout", .steps = 400, .scene = scene_leftout },
	{ .name = "closing", .steps = 200, .scene = scene_closing },
	{ .name = "stoplisten", .steps = 400, .scene = scene_stoplisten },
	{ .name = "stoptaker", .steps = 400, .scene = scene_stoptaker },
	{ .name = "stopsecond", .steps = 400, .scene = scene_stopsecond, .longest_free = 50 * MS },
	/* Small worlds, for all schedules with few deviations. */
	{ .name = "two", .steps = 100, .runs = 2, .small = true },
	{ .name = "three", .steps = 150, .runs = 3, .small = true },
	{ .name = "twokill", .steps = 100, .runs = 2, .small = true, .mix = KILLS, .faults = 1 },
	{ .name = "threekill", .steps = 150, .runs = 3, .small = true, .mix = KILLS, .faults = 1 },
	{ .name = "twostop", .steps = 100, .runs = 2, .small = true, .mix = STOPS, .faults = 1 },
	{ .name = "threestop", .steps = 150, .runs = 3, .small = true, .mix = STOPS, .faults = 1 },
	{ .name = "twogate", .steps = 120, .runs = 2, .small = true, .mix = KEEPER_OR_FIRST, .faults = 1, .gate = true },
	{ .name = "twokeeper", .steps = 120, .runs = 2, .small = true, .mix = KILLS_OF_FIRST, .faults = 1, .long_first = true },
	{ 0 },
};
// clang-format on

const struct kind *kind_find(const char *name)
{
	const struct kind *kind = kinds;

	while (kind->name && strcmp(kind->name, name) != 0)
		kind++;
	return kind->name ? kind : NULL;
}

/* --- a call --- */

static void add(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct run *run, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(run->text[run->argc], sizeof *run->text, format, list);
	va_end(list);
	run->argv[run->argc] = run->text[run->argc];
	run->argc++;
}

/* Short commands mostly, in some worlds only these. */
static int64_t draw_duration(bool quick)
{
	static const int64_t durations[] = { 0,	      20 * US,	300 * US,  2 * MS,
					     30 * MS, 400 * MS, 1200 * MS, 2500 * MS };

	return durations[rnd(quick ? 5 : 8)];
}

static void draw_mixed(struct run *run)
{
	if (rnd(4) == 0)
		run->limit = (1 + (int64_t)rnd(4000)) * MS;
	if (rnd(5) == 0)
		run->becomes = true;
	else if (rnd(4) == 0)
		run->gate = true;
	if (!run->becomes && rnd(3) == 0)
		run->behaviour = rnd(2) ? LEAVES : CLOSES;
}

static void draw_behaviour(struct run *run)
{
	if (W.kind->mixed)
		draw_mixed(run);
	if (W.kind->closers) {
		run->gate = rnd(2);
		run->behaviour = rnd(3) ? CLOSES : LEAVES;
	}
	if (W.kind->gate)
		run->gate = true;
	if (W.kind->long_first)
		run->behaviour = CLOSES;
	if (W.kind->file) {
		run->lock = 'F';
		run->shared = rnd(4) == 0 && !W.kind->replaces;
	}
	if (W.kind->replaces) {
		run->behaviour = (enum behaviour[]){ BEHAVES, BEHAVES, LEAVES, IGNORES }[rnd(4)];
		run->replaces = run->waits && rnd(2);
		run->becomes = rnd(6) == 0;
	}
	if (W.kind->places && rnd(3) > 0)
		run->waits = run->places = true;
}

static void add_lock(struct run *run)
{
	if (run->lock == 'F')
		add(run, "file:/l");
	else
		add(run, "%c", run->lock);
}

static void add_arguments(struct run *run)
{
	add(run, "me-only");
	if (run->asks_held) {
		add(run, "--held");
		add_lock(run);
		return;
	}
	if (run->becomes)
		add(run, "-F");
	if (run->gate)
		add(run, "-o");
	if (run->quiet)
		add(run, "-q");
	if (run->replaces)
		add(run, "--replace");
	if (run->replaces && rnd(2))
		add(run, "-k%dms", 1 + (int)rnd(300));
	if (run->places)
		add(run, "--queue=%d", 1 + (rnd(3) == 0));
	if (run->waits && run->limit == NEVER)
		add(run, "-winf");
	else if (run->waits)
		add(run, "-w%dms", (int)(run->limit / MS));
	if (run->slots > 1)
		add(run, "-j%d", run->slots);
	if (run->shared)
		add(run, "-s");
	add_lock(run);
	add(run, "/cmd");
}

/* When a call comes: soon after the others, mostly, or some time later. */
static int64_t draw_start(void)
{
	return K.now + (rnd(4) ? (int64_t)rnd(4) * rnd(300000) : (int64_t)rnd(3000) * MS);
}

struct run *world_add(int64_t start, int64_t duration)
{
	struct run *run = &W.run[W.runs];

	run->index = W.runs++;
	run->uid = 1000;
	run->slots = 1;
	run->lock = 'L';
	run->expected = -1;
	run->start = EPOCH + start;
	run->duration = duration;
	run->waits = run->forever = run->quiet = true;
	run->limit = NEVER;
	return run;
}

void world_call(struct run *run, int limit)
{
	run->gives_away = run->gate || run->behaviour == CLOSES;
	run->forever = run->waits && run->limit == NEVER && !run->places;
	add_arguments(run);
	call_start(run, limit);
}

/* The command of OUTER calls me-only for LOCK: for the same one in vain. */
void world_nest(struct run *outer, char lock, bool asks_held)
{
	struct run *run = world_add(0, 20 * US);

	run->uid = outer->uid;
	run->outer = outer;
	run->lock = lock;
	run->asks_held = asks_held;
	run->expected = asks_held ? 0 : lock == outer->lock ? 4 : -1;
	run->waits = run->forever = rnd(2);
	run->quiet = rnd(2);
	outer->inner = run;
	add_arguments(run);
}

/* Each second command calls me-only, and somebody who runs under no lock asks whether it does. */
static void draw_nested(int runs)
{
	for (int i = 0; i < runs; i++)
		if (W.run[i].behaviour == BEHAVES && rnd(2)) {
			int what = (int)rnd(3);

			world_nest(&W.run[i], what == 0 ? 'M' : W.run[i].lock, what == 1);
		}
	if (rnd(2)) {
		struct run *run = world_add(0, 0);

		run->start = draw_start();
		run->lock = W.run[0].lock;
		run->asks_held = true;
		run->waits = false;
		run->expected = 1;
		world_call(run, 1024);
	}
}

static void draw_run(int slots, bool quick, int limit)
{
	bool small = W.kind->small;
	struct run *run = world_add(0, 0);

	run->uid = W.kind->users && rnd(2) ? 1001 : 1000;
	run->slots = W.mixed_slots ? 1 + (int)rnd(3) : slots;
	run->start = small ? K.now : draw_start();
	run->waits = small ? run->index > 0 || rnd(2) : rnd(8) > 0;
	run->quiet = rnd(2);
	draw_behaviour(run);
	run->duration = W.kind->long_first ? 1500 * MS
			: small		   ? (run->index == 0 ? 50 * US : 0)
					   : draw_duration(quick);
	world_call(run, limit);
}

/* --- a world --- */

/* What differs between versions and settings of Linux. */
static void draw_kernel(void)
{
	if (W.kind->small)
		return;
	K.exit_closes_high_first = rnd(2);
	K.close_range_high_first = rnd(2);
	K.peerpidfd = rnd(4) ? 2 : (int)rnd(2);
	K.no_diag = rnd(8) == 0;
	K.no_cookie = rnd(8) == 0;
	K.reuses_pids = W.kind->reuses_pids;
	K.has_init = W.kind->as_init;
	if (W.kind->small_backlog)
		K.somaxconn = (int)rnd(3);
}

void world_make(const struct kind *kind)
{
	bool quick = rnd(3) > 0;
	int slots = kind->slots || (kind->few_fds && rnd(2)) ? 1 + (int)rnd(3) : 1;
	int limit = kind->few_fds  ? 10 + (int)rnd(24)
		    : kind->inject ? 100
				   : 1024,
	    runs = kind->runs ? kind->runs : 2 + (int)rnd(5);

	W = (struct world){ .kind = kind };
	draw_kernel();
	W.inject = kind->inject ? 1 + (int)rnd(30) : 0;
	W.mixed_slots = kind->slots && rnd(3) == 0;
	faults_reset();
	if (kind->scene) {
		kind->scene();
		return;
	}
	for (int i = 0; i < runs; i++)
		draw_run(slots, quick, limit);
	if (kind->nested)
		draw_nested(runs);
	if (kind->asks)
		askers_start();
	if (kind->unlinks)
		unlinker_start();
	if (kind->reuses_pids)
		churner_start();
	if (kind->strangers || (kind->wild && rnd(3) == 0))
		strangers_start();
	faults_draw();
}

void world_show(void)
{
	for_each_run(r) {
		printf("    W%d:", r->index);
		for (int i = 0; i < r->argc; i++)
			printf(" %s", r->argv[i]);
		if (r->outer)
			printf("    (by the command of W%d)", r->outer->index);
		printf("    (for %.6f s, uid %u, at %.6f s)\n", (double)r->duration / (double)S,
		       r->uid, (double)(r->start - EPOCH) / (double)S);
	}
}
