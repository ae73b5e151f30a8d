/*
 * What everything in the simulator stands on: virtual time and its events, random numbers, the
 * clocks of hosts and members, and the trace.
 *
 * Nothing else may decide anything: no wall clock, no address, no order of a hash table. So a seed
 * gives the same run on every machine. C does not say in which order operands and arguments are
 * evaluated: a statement draws at most one random number where the order could matter.
 */
#ifndef SIM_BASE_H
#define SIM_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef int64_t ns;
#define US 1000LL
#define MS 1000000LL
#define S 1000000000LL
#define NEVER INT64_MAX

#define MEMBERS 3
#define HOSTS 8

/* --- random numbers --------------------------------------------------------------------------- */

void random_seed(uint64_t seed);
uint64_t random_number(void);
uint64_t random_of(uint64_t *state); /* of another state than that of the run */
unsigned random_below(unsigned n);
ns random_between(ns low, ns high); /* both included */
bool random_chance(double p);

/* --- time and events -------------------------------------------------------------------------- */

extern ns now; /* global: nothing that is simulated can see it */

/* Calls CALL(ARGUMENT, N) at WHEN. Events of the same time happen in the order of these calls. */
void event_at(ns when, void (*call)(void *argument, int64_t n), void *argument, int64_t n);

/* Runs the next event if it is not later than LIMIT; otherwise moves the time to LIMIT. */
bool event_step(ns limit);

void base_reset(uint64_t seed);

/* --- clocks: of hosts 0 to HOSTS-1, then of the members --------------------------------------- */

struct clock {
	double rate;
	ns base, from;	/* at the global time FROM it showed BASE */
	ns asleep;	/* CLOCK_MONOTONIC is this far behind CLOCK_BOOTTIME */
	bool frozen;	/* nothing runs on this host */
	bool suspended; /* CLOCK_MONOTONIC stands still meanwhile */
	bool unseen;	/* both stand still: a pause that the guest does not notice */
	ns since;	/* when that began */
};
extern struct clock clocks[HOSTS + MEMBERS];

ns clock_boottime(int clock);
ns clock_monotonic(int clock);
ns clock_when(int clock, ns boottime); /* the global time at which it will show BOOTTIME */

/* How long, in global time, until CLOCK's CLOCK_MONOTONIC has moved on by LEFT. */
ns clock_duration(int clock, ns left);

/* --- trace ------------------------------------------------------------------------------------ */

extern bool tracing;
void trace_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The arguments are not evaluated unless somebody reads them. */
#define trace(...)                                                                                 \
	do {                                                                                       \
		if (tracing)                                                                       \
			trace_line(__VA_ARGS__);                                                   \
	} while (0)

/* A number that depends on all that has happened in this run; and adds to that. */
uint64_t hash_value(void);
void hash_add(uint64_t value);

/* --- memory of the run: nothing is freed, all is forgotten by arena_reset() ------------------- */

void *arena_get(size_t n); /* zeroed */
char *arena_copy(const char *text, size_t n);
char *arena_text(const char *text); /* NULL for NULL */
void arena_reset(void);

#endif
