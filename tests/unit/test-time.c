#include "base/message.h"
#include "tap.h"

#include <time.h>

static bool agrees(int64_t when)
{
	char wanted[64];
	struct line line = { .length = 0 };
	time_t seconds = (time_t)when;

	strftime(wanted, sizeof wanted, "%Y-%m-%dT%H:%M:%SZ", gmtime(&seconds));
	line_time(&line, when);
	line.text[line.length] = 0;
	if (!strcmp(line.text, wanted))
		return true;
	printf("# %lld: %s instead of %s\n", (long long)when, line.text, wanted);
	return false;
}

int main(void)
{
	bool days = true, seconds = true;

	ok(agrees(0), "the first second");
	ok(agrees(951782400), "29 February 2000");
	ok(agrees(4107542400), "1 March 2100");
	/* The first and the last second of each day to the year 2243. */
	for (int64_t day = 0; day < 100000; day++)
		days &= agrees(day * 86400) && agrees(day * 86400 + 86399);
	ok(days, "every day");
	for (int64_t second = 0; second < 86400; second++)
		seconds &= agrees(1700000000 + second);
	ok(seconds, "every second of a day");
	return tap_done();
}
