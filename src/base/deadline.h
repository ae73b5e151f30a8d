/* One absolute deadline, computed once and passed down. */
#ifndef BASE_DEADLINE_H
#define BASE_DEADLINE_H

#include <stdint.h>

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL
#define DEADLINE_NEVER INT64_MAX

/* Nanoseconds of CLOCK, one of clock_gettime(2). */
int64_t clock_now(int clock);

/* Nanoseconds of CLOCK_MONOTONIC, on which all deadlines are. */
int64_t deadline_now(void);

/*
 * The deadline DURATION nanoseconds from now; DEADLINE_NEVER for DEADLINE_NEVER or if it would
 * overflow.
 */
int64_t deadline_in(int64_t duration);

static inline int64_t deadline_earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * Milliseconds from now to WHEN for poll(2), rounded up; 0 when it has passed, -1 for
 * DEADLINE_NEVER.
 */
int deadline_poll_timeout(int64_t when);

#endif
