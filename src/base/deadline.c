#include "base/deadline.h"

#include <limits.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef SYS_clock_gettime64 /* machines with 32 bits */
#define SYS_CLOCK SYS_clock_gettime64
#else
#define SYS_CLOCK SYS_clock_gettime
#endif

int64_t clock_now(int clock)
{
	int64_t now[2] = { 0 }; /* seconds and nanoseconds */

	/*
	 * The raw call: for a few calls it is as fast as finding the vDSO's, and libc's is 850
	 * bytes. If a system call filter forbids it, time stands still instead of jumping.
	 */
	for (int tries = 0; tries < 4; tries++)
		if (syscall(SYS_CLOCK, clock, now) == 0)
			return now[0] * NS_PER_S + now[1];
#ifdef SYS_clock_gettime64
	/* Linux before 5.1. */
	long old[2] = { 0 };

	syscall(SYS_clock_gettime, clock, old);
	now[0] = old[0];
	now[1] = old[1];
#endif
	return now[0] * NS_PER_S + now[1];
}

int64_t deadline_now(void)
{
	return clock_now(CLOCK_MONOTONIC);
}

int64_t deadline_in(int64_t duration)
{
	int64_t when;

	if (duration == DEADLINE_NEVER || __builtin_add_overflow(deadline_now(), duration, &when))
		return DEADLINE_NEVER;
	return when;
}

int deadline_poll_timeout(int64_t when)
{
	int64_t left;

	if (when == DEADLINE_NEVER)
		return -1;
	left = when - deadline_now();
	if (left <= 0)
		return 0;
	left = (left - 1) / NS_PER_MS + 1;
	return left > INT_MAX ? INT_MAX : (int)left;
}
