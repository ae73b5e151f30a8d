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
	refuses("1sec");
	refuses("1m30s");
	refuses("1.2.3");
	refuses("1,5");
	refuses("1e3");
	refuses("0x10");
	refuses("Inf");
	refuses("infinity");
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
