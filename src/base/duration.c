#include "base/duration.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "base/deadline.h"
#include "base/number.h"

static const struct unit {
	const char *suffix;
	int64_t ns;
	const char *names; /* as people write it, with a comma behind each */
} units[] = {
	{ "d", 86400 * NS_PER_S, "d,day,days," },
	{ "h", 3600 * NS_PER_S, "h,hr,hrs,hour,hours," },
	{ "m", 60 * NS_PER_S, "m,min,mins,minute,minutes," },
	{ "s", NS_PER_S, "s,sec,secs,second,seconds," },
	{ "ms", NS_PER_MS, "ms,msec,msecs," },
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

/* Whether the first LENGTH bytes of TEXT are one of NAMES. */
static bool is_one_of(const char *names, const char *text, size_t length)
{
	for (; *names; names += strcspn(names, ",") + 1)
		if (!strncmp(names, text, length) && names[length] == ',')
			return true;
	return false;
}

/* The unit that the first LENGTH bytes of TEXT name; 0: none. */
static int64_t find_unit(const char *text, size_t length)
{
	for (size_t i = 0; i < sizeof units / sizeof *units; i++)
		if (is_one_of(units[i].names, text, length))
			return units[i].ns;
	return 0;
}

static size_t count_digits(const char *text)
{
	size_t n = 0;

	while (is_digit(text[n]))
		n++;
	return n;
}

/*
 * Reads a number and its unit at *TEXT, and moves behind them. ALONE: there is no more, so the unit
 * can be missing. In a sum it cannot: 1h30 is half an hour to some, and 30 seconds to others.
 */
static int read_part(const char **text, bool alone, int64_t *ns)
{
	const char *whole = *text, *part, *end;
	size_t wholes = count_digits(whole), parts = 0, letters = 0;
	int64_t unit;

	part = end = whole + wholes;
	if (*end == '.') {
		part++;
		parts = count_digits(part);
		end = part + parts;
	}
	while (end[letters] >= 'a' && end[letters] <= 'z')
		letters++;
	unit = letters ? find_unit(end, letters) : alone && !*end ? NS_PER_S : 0;
	if (wholes + parts == 0 || !unit)
		return -EINVAL;
	*ns = times(unit, whole, wholes);
	if (__builtin_add_overflow(*ns, fraction(unit, part, parts), ns))
		*ns = DEADLINE_NEVER;
	*text = end + letters;
	return 0;
}

int duration_parse(const char *text, int64_t *ns)
{
	const char *at = text;
	int64_t sum = 0;

	if (!strcmp(text, "inf") || !strcmp(text, "infinity")) {
		*ns = DEADLINE_NEVER;
		return 0;
	}
	do {
		int64_t part;

		if (read_part(&at, at == text, &part))
			return -EINVAL;
		if (__builtin_add_overflow(sum, part, &sum))
			sum = DEADLINE_NEVER;
	} while (*at);
	*ns = sum;
	return 0;
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
