#include "deadline.h"

#include <limits.h>
#include <time.h>

int64_t deadline_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
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
