#include "base/duration.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/deadline.h"
#include "base/number.h"

static const struct unit {
	const char *suffix;
	int64_t ns;
} units[] = {
	{ "d", 86400 * NS_PER_S }, { "h", 3600 * NS_PER_S }, { "m", 60 * NS_PER_S },
	{ "s", NS_PER_S },	   { "ms", NS_PER_MS },	     { "", NS_PER_S },
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* NS nanoseconds times DIGITS, a string of decimal digits; DEADLINE_NEVER if that is too much. */
static int64_t times(int64_t ns, const char *digits, size_t n)
{
	int64_t number = 0;

	for (size_t i = 0; i < n; i++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, digits[i] - '0', &number))
			return DEADLINE_NEVER;
	return __builtin_mul_overflow(number, ns, &number) ? DEADLINE_NEVER : number;
}

/*
 * The fraction of a unit of NS nanoseconds that the digits after the point stand for, rounded up:
 * 0.0001ms is not "at once".
 */
static int64_t fraction(int64_t ns, const char *digits, size_t n)
{
	int64_t sum = 0;
	bool more = false;

	for (size_t i = 0; i < n; i++) {
		more |= ns % 10 != 0 && digits[i] != '0';
		ns /= 10;
		sum += ns * (digits[i] - '0');
		more |= ns == 0 && digits[i] != '0';
	}
	return sum + more;
}

int duration_parse(const char *text, int64_t *ns)
{
	const char *whole = text, *part, *end;
	size_t wholes, parts = 0;

	if (!strcmp(text, "inf")) {
		*ns = DEADLINE_NEVER;
		return 0;
	}
	while (is_digit(*text))
		text++;
	wholes = (size_t)(text - whole);
	part = text;
	if (*text == '.') {
		part = ++text;
		while (is_digit(*text))
			text++;
		parts = (size_t)(text - part);
	}
	end = text;
	if (wholes + parts == 0)
		return -EINVAL;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (strcmp(end, units[i].suffix) != 0)
			continue;
		*ns = times(units[i].ns, whole, wholes);
		if (__builtin_add_overflow(*ns, fraction(units[i].ns, part, parts), ns))
			*ns = DEADLINE_NEVER;
		return 0;
	}
	return -EINVAL;
}

static char *append(char *to, int64_t number, const char *unit)
{
	to = number_format((uint64_t)number, to);
	while (*unit)
		*to++ = *unit++;
	*to = 0;
	return to;
}

void duration_format(int64_t ns, char text[DURATION_TEXT_SIZE])
{
	if (ns < 0)
		ns = 0;
	if (ns < NS_PER_S) {
		append(text, ns / NS_PER_MS, "ms");
		return;
	}
	if (ns < 10 * NS_PER_S) {
		append(append(text, ns / NS_PER_S, "."), ns % NS_PER_S / (NS_PER_S / 10), "s");
		return;
	}
	for (size_t i = 0;; i++) {
		int64_t rest = ns % units[i].ns;

		if (ns < units[i].ns)
			continue;
		text = append(text, ns / units[i].ns, units[i].suffix);
		if (units[i].ns > NS_PER_S && rest / units[i + 1].ns > 0)
			append(text, rest / units[i + 1].ns, units[i + 1].suffix);
		return;
	}
}
