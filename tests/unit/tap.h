/* Just enough of the Test Anything Protocol. A test program calls ok() and is(), and ends with `return tap_done();`. */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static int tap_count, tap_failures;

/* Notes whether GOOD; the rest is printf's: what is tested. Returns GOOD. */
__attribute__((format(printf, 2, 3))) static inline bool ok(bool good, const char *what, ...)
{
	va_list arguments;

	va_start(arguments, what);
	printf("%sok %d - ", good ? "" : "not ", ++tap_count);
	vprintf(what, arguments);
	printf("\n");
	va_end(arguments);
	tap_failures += !good;
	return good;
}

static inline void is(const char *got, const char *wanted, const char *what)
{
	if (!ok(!strcmp(got, wanted), "%s", what))
		printf("# got    '%s'\n# wanted '%s'\n", got, wanted);
}

static inline void is_number(int64_t got, int64_t wanted, const char *what)
{
	if (!ok(got == wanted, "%s", what))
		printf("# got    %lld\n# wanted %lld\n", (long long)got, (long long)wanted);
}

static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failures > 0;
}

#endif
