#include <errno.h>

#include "base/deadline.h"
#include "base/duration.h"
#include "tap.h"

static void reads(const char *text, int64_t wanted)
{
	int64_t ns = -1;

	if (ok(duration_parse(text, &ns) == 0, "'%s' is a duration", text))
		is_number(ns, wanted, text);
}

static void refuses(const char *text)
{
	int64_t ns;

	ok(duration_parse(text, &ns) == -EINVAL, "'%s' is none", text);
}

static void writes(int64_t ns, const char *wanted)
{
	char text[DURATION_TEXT_SIZE];

	duration_format(ns, text);
	is(text, wanted, wanted);
}

int main(void)
{
	reads("0", 0);
	reads("1", NS_PER_S);
	reads("10s", 10 * NS_PER_S);
	reads("300ms", 300 * NS_PER_MS);
	reads("0.3", 300 * NS_PER_MS);
	reads(".5", 500 * NS_PER_MS);
	reads("5.", 5 * NS_PER_S);
	reads("1m", 60 * NS_PER_S);
	reads("1.5h", 5400 * NS_PER_S);
	reads("2d", 2 * 86400 * NS_PER_S);
	reads("0.25d", 6 * 3600 * NS_PER_S);
	reads("007", 7 * NS_PER_S);
	reads("inf", DEADLINE_NEVER);
	reads("infinity", DEADLINE_NEVER);
	/* As systemd and sleep users write them. */
	reads("5sec", 5 * NS_PER_S);
	reads("5secs", 5 * NS_PER_S);
	reads("1second", NS_PER_S);
	reads("90seconds", 90 * NS_PER_S);
	reads("10min", 600 * NS_PER_S);
	reads("10mins", 600 * NS_PER_S);
	reads("1minute", 60 * NS_PER_S);
	reads("1.5minutes", 90 * NS_PER_S);
	reads("1hr", 3600 * NS_PER_S);
	reads("2hrs", 7200 * NS_PER_S);
	reads("1hour", 3600 * NS_PER_S);
	reads(".5hours", 1800 * NS_PER_S);
	reads("1day", 86400 * NS_PER_S);
	reads("2days", 2 * 86400 * NS_PER_S);
	reads("250msec", 250 * NS_PER_MS);
	/* Sums. */
	reads("1h30m", 5400 * NS_PER_S);
	reads("1m30s", 90 * NS_PER_S);
	reads("1d2h3m4s5ms", (86400 + 7200 + 180 + 4) * NS_PER_S + 5 * NS_PER_MS);
	reads("1.5h30min", 7200 * NS_PER_S);
	reads("1h.5m", 3630 * NS_PER_S);
	reads("30m1h", 5400 * NS_PER_S);
	reads("1m1m", 120 * NS_PER_S);
	reads("2days12hours", 60 * 3600 * NS_PER_S);
	reads("0h0m", 0);
	reads("0.0000000001ms0.0000000001ms", 2);
	reads("106751d24h", DEADLINE_NEVER);
	reads("9223372036.854775807s1ms", DEADLINE_NEVER);
	reads("99999999999999999999h99999999999999999999h", DEADLINE_NEVER);
	reads("99999999999999999999999999", DEADLINE_NEVER);
	reads("106752d", DEADLINE_NEVER);
	reads("106751.999999999d", DEADLINE_NEVER);
	reads("9223372036.854775807", DEADLINE_NEVER);
	reads("0.0000000001", 1);	/* not at once */
	reads("0.00000000000000000000000001d", 1);
	reads("0.0000000000", 0);
	refuses("");
	refuses(".");
	refuses("s");
	refuses("-1");
	refuses("+1");
	refuses(" 1");
	refuses("1 ");
	refuses("1 s");
	refuses("1S");
	refuses("1se");
	refuses("5ss");
	refuses("1secsec");
	refuses("1day2");
	refuses("1h30"); /* minutes or seconds? */
	refuses("1 30m");
	refuses("30 1h");
	refuses("1h 30m");
	refuses("1h30m ");
	refuses("1h-30m");
	refuses("1h,30m");
	refuses("hm");
	refuses("1h.m");
	refuses("1hinf");
	refuses("inf1h");
	refuses("infs");
	refuses("infinit");
	refuses("1 day");
	refuses("1Min");
	refuses("1M");
	refuses("1y");
	refuses("1\xc2\xb5s");
	refuses("1.2.3");
	refuses("1,5");
	refuses("1e3");
	refuses("0x10");
	refuses("Inf");
	refuses("Infinity");
	refuses("nan");

	writes(-1, "0ms");
	writes(0, "0ms");
	writes(999999999, "999ms");
	writes(NS_PER_S, "1.0s");
	writes(3270 * NS_PER_MS, "3.2s");
	writes(10 * NS_PER_S, "10s");
	writes(59999 * NS_PER_MS, "59s");
	writes(60 * NS_PER_S, "1m");
	writes(61 * NS_PER_S, "1m1s");
	writes(3600 * NS_PER_S, "1h");
	writes((2 * 3600 + 13 * 60 + 59) * NS_PER_S, "2h13m");
	writes(86400 * NS_PER_S, "1d");
	writes((86400 * 3LL + 4 * 3600) * NS_PER_S, "3d4h");
	writes(INT64_MAX, "106751d23h");
	return tap_done();
}
