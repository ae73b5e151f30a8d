#include "helper/schedule.h"

#include <time.h>

int64_t schedule_grace_end(int64_t end, int64_t kill_after)
{
	const int64_t grace = deadline_earlier(kill_after, SCHEDULE_LOST_GRACE);

	return deadline_earlier(end, clock_now(CLOCK_BOOTTIME) + grace);
}

int64_t schedule_pause(int64_t pause)
{
	return pause == 0 ? SCHEDULE_LOOK_AGAIN : deadline_earlier(pause * 2, SCHEDULE_LOOK_SELDOM);
}
