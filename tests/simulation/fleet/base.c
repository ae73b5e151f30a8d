#include "base.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "task.h"

/* --- random numbers --------------------------------------------------------------------------- */

static uint64_t random_state;

/* splitmix64 */
uint64_t random_of(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t random_number(void)
{
	return random_of(&random_state);
}

void random_seed(uint64_t seed)
{
	uint64_t first;

	/* Neighbouring seeds have nothing in common. */
	random_state = seed ^ 0x5bf03635;
	first = random_number();
	random_state = first ^ seed << 32;
	first = random_number();
	random_state = first;
}

unsigned random_below(unsigned n)
{
	return (unsigned)(random_number() % n);
}

ns random_between(ns low, ns high)
{
	return high <= low ? low : low + (ns)(random_number() % (uint64_t)(high - low + 1));
}

bool random_chance(double p)
{
	return p > 0 && (double)(random_number() >> 11) / (double)(1ULL << 53) < p;
}

/* --- time and events -------------------------------------------------------------------------- */

struct event {
	ns when;
	uint64_t number;
	void (*call)(void *, int64_t);
	void *argument;
	int64_t n;
};

ns now;
static struct event *heap;
static size_t n_events, room;
static uint64_t event_number, hash;

static bool is_earlier(const struct event *a, const struct event *b)
{
	return a->when != b->when ? a->when < b->when : a->number < b->number;
}

void event_at(ns when, void (*call)(void *, int64_t), void *argument, int64_t n)
{
	const struct event event = { when < now ? now : when, event_number++, call, argument, n };
	size_t i = n_events;

	if (when == NEVER)
		return;
	if (++n_events > room) {
		room = room ? room * 2 : 4096;
		heap = realloc(heap, room * sizeof *heap);
		if (!heap)
			abort();
	}
	for (; i > 0 && is_earlier(&event, &heap[(i - 1) / 2]); i = (i - 1) / 2)
		heap[i] = heap[(i - 1) / 2];
	heap[i] = event;
}

static struct event take_first(void)
{
	const struct event first = heap[0], last = heap[--n_events];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < n_events) {
		child += child + 1 < n_events && is_earlier(&heap[child + 1], &heap[child]);
		if (!is_earlier(&heap[child], &last))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = last;
	return first;
}

bool event_step(ns limit)
{
	struct event event;

	if (n_events == 0 || heap[0].when > limit) {
		now = limit > now ? limit : now;
		return false;
	}
	event = take_first();
	now = event.when;
	hash_add(event.number ^ (uint64_t)now);
	event.call(event.argument, event.n);
	return true;
}

void hash_add(uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15;
	hash ^= hash >> 29;
}

uint64_t hash_value(void)
{
	return hash;
}

void base_reset(uint64_t seed)
{
	now = 0;
	n_events = 0;
	event_number = 0;
	hash = seed;
	random_seed(seed);
	arena_reset();
}

/* --- clocks ----------------------------------------------------------------------------------- */

struct clock clocks[HOSTS + MEMBERS];

ns clock_boottime(int n)
{
	const struct clock *c = &clocks[n];
	const ns at = c->frozen && c->unseen ? c->since : now;

	return c->base + (ns)((double)(at - c->from) * c->rate);
}

/* CLOCK_MONOTONIC does not count the time that the host is suspended: clock_gettime(2). */
ns clock_monotonic(int n)
{
	const struct clock *c = &clocks[n];
	const ns sleeps = c->frozen && c->suspended ? (ns)((double)(now - c->since) * c->rate) : 0;

	return clock_boottime(n) - c->asleep - sleeps;
}

ns clock_when(int n, ns boottime)
{
	const struct clock *c = &clocks[n];

	if (boottime == NEVER || boottime - c->base > (ns)4e17)
		return NEVER;
	return c->from + (ns)((double)(boottime - c->base) / c->rate) + 1;
}

ns clock_duration(int n, ns left)
{
	return left > 0 ? (ns)((double)left / clocks[n].rate) + 1 : 0;
}

/* --- trace ------------------------------------------------------------------------------------ */

bool tracing;

void trace_line(const char *format, ...)
{
	static const char *const kinds[] = { "me-only", "helper", "command", "child", "etcdctl" };
	va_list list;

	printf("%11.6f ", (double)now / 1e9);
	if (current)
		printf("[job %d %s, pid %d, host %d] ", current->job, kinds[current->kind],
		       current->pid, current->host);
	va_start(list, format);
	vprintf(format, list);
	va_end(list);
	putchar('\n');
}
