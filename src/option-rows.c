#include "option-rows.h"

#include <string.h>

#include "kinds.h"

/* The kinds of locks that helpers keep, in explanations. */
#define PLAIN(kind) #kind ": "
#define AND(kind) " and " #kind ":"
#define OR_PREFIX(kind) ", or of " #kind ":PREFIX"
#define AND_SHARED KINDS_SHARED(AND)
#define TTL_KINDS KINDS_TTL(PLAIN)
#define HOLD_FOR_KINDS KINDS_HOLD_FOR(PLAIN)
#define OR_PREFIXES KINDS_LIST(OR_PREFIX)

/* Explanations have 50 columns. */
const struct option_row option_rows[] = {
	{ 'w', true, true, 'w', "wait", "DURATION",
	  "wait at most DURATION for the lock, first come,\n"
	  "first served (inf: no limit); also --timeout",
	  "timeout" },
	{ 'n', false, true, 'n', "nonblock", NULL, "do not wait (the default); also --nb", "nb" },
	{ 'x', false, true, 'x', "exclusive", NULL, "do not share the lock (the default); also -e",
	  "e" },
	{ 's', false, true, 's', "shared", NULL,
	  "share the lock with other -s holders\n"
	  "(file:" AND_SHARED " only)",
	  NULL },
	{ 'j', true, false, 'j', "slots", "N", "let N (1 to 1024) run at a time", NULL },
	{ 0, false, true, ID_QUEUE, "queue", "N",
	  "give up if N other callers with --queue already\n"
	  "wait (requires -w or --replace)",
	  NULL },
	{ 0, true, true, ID_REPLACE, "replace", NULL,
	  "end the current holder, then wait for the lock", NULL },
	{ 'k', false, true, 'k', "kill-after", "DURATION",
	  "time between SIGTERM and SIGKILL, for a holder\n"
	  "being replaced or when a fleet lock is lost (5s)",
	  NULL },
	{ 0, false, true, ID_TTL, "ttl", "DURATION",
	  TTL_KINDS "only: how long the lock outlives a dead host\n"
		    "(30s; 10s to 300s)",
	  NULL },
	{ 0, false, true, ID_HOLD_FOR, "hold-for", "DURATION",
	  HOLD_FOR_KINDS "only: keep the lock at least this long (at\n"
			 "most 300s), even if COMMAND ends sooner",
	  NULL },
	{ 'F', false, true, 'F', "no-fork", NULL, "become COMMAND instead of starting it", NULL },
	{ 'o', false, true, 'o', "close", NULL,
	  "do not pass the lock to COMMAND: release it when\n"
	  "COMMAND ends, whatever it left running",
	  NULL },
	{ 'E', true, true, 'E', "conflict-exit-code", "N",
	  "exit with N (0 to 255), not 4, if the lock is held", NULL },
	{ 0, false, false, ID_EXIT_BASE, "exit-base", "N",
	  "move me-only's own statuses to N+1 ... N+5\n"
	  "(N: 0 to 250)",
	  NULL },
	{ 'q', true, false, 'q', "quiet", NULL, "print nothing if this user or root holds the lock",
	  NULL },
	{ 0, false, true, ID_COMPLAIN_AFTER, "complain-after", "AGE",
	  "like -q, unless the lock has been held for longer\n"
	  "than AGE",
	  NULL },
	{ 'v', false, false, 'v', "verbose", NULL, "report what happens, with times", NULL },
	{ 0, true, false, ID_HELD, "held", NULL,
	  "exit 0 if the caller runs under LOCK, otherwise 1", NULL },
	{ 0, true, false, ID_WHO, "who", NULL, "print who holds LOCK and who waits for it", NULL },
	{ 0, true, false, ID_LIST, "list", NULL, "list the locks of this host" OR_PREFIXES, NULL },
	{ 0, false, false, ID_JSON, "json", NULL, "with --who and --list: print JSON", NULL },
	{ 'h', false, false, ID_HELP, "help", NULL, "print a short (-h) or a full help (--help)",
	  NULL },
	{ 'V', false, false, ID_VERSION, "version", NULL, "print the version", NULL },
	{ 0, false, false, 0, NULL, NULL, NULL, NULL },
};

const struct option_row *option_find_letter(char letter)
{
	for (const struct option_row *row = option_rows; row->name; row++)
		if (row->letter == letter || (row->also && row->also[0] == letter && !row->also[1]))
			return row;
	return NULL;
}

/* Whether the first LENGTH bytes of TEXT are NAME, a long form. */
static bool is_name(const char *name, const char *text, size_t length)
{
	return name && length > 1 && strlen(name) == length && !memcmp(name, text, length);
}

const struct option_row *option_find_name(const char *name, size_t length)
{
	for (const struct option_row *row = option_rows; row->name; row++)
		if (is_name(row->name, name, length) || is_name(row->also, name, length))
			return row;
	return NULL;
}

/* --- what was meant? -------------------------------------------------------------------------- */

#define LONGEST 24 /* longer than any name by more than one can mistype */

static char fold(char c)
{
	return (char)(c == '_' ? '-' : c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/*
 * How many typing errors make NAME out of the N bytes of TEXT, at most LONGEST: letters too many,
 * missing, wrong, or swapped with the next one.
 */
static unsigned errors(const char *text, size_t n, const char *name)
{
	unsigned rows[3][LONGEST + 1], *now = rows[0], *last = rows[1], *before = rows[2];
	size_t length = strlen(name);

	for (size_t j = 0; j <= length; j++)
		now[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *spare = before;

		before = last;
		last = now;
		now = spare;
		now[0] = (unsigned)i;
		for (size_t j = 1; j <= length; j++) {
			char a = fold(text[i - 1]), b = name[j - 1];

			now[j] = least(least(last[j], now[j - 1]) + 1, last[j - 1] + (a != b));
			if (i > 1 && j > 1 && a == name[j - 2] && fold(text[i - 2]) == b)
				now[j] = least(now[j], before[j - 2] + 1);
		}
	}
	return now[length];
}

/* The same; an abbreviation, or a longer form of the word, is as good as few errors. */
static unsigned distance(const char *text, size_t n, const char *name)
{
	size_t length = strlen(name), common = 0;
	unsigned d = errors(text, n, name);

	while (common < n && common < length && fold(text[common]) == name[common])
		common++;
	return (common == n && n > 1) || (common == length && length > 3) ? least(d, 1) : d;
}

const char *option_meant(const char *name, size_t length)
{
	const char *meant = NULL;
	unsigned best;

	if (length > LONGEST)
		return NULL;
	best = length < 2 ? 1 : length < 6 ? 2 : 3; /* errors that are too many */
	for (const struct option_row *row = option_rows; row->name; row++) {
		const char *const names[] = { row->name, row->also };

		for (size_t i = 0; i < 2; i++) {
			unsigned d;

			if (!names[i] || !names[i][1])
				continue;
			d = distance(name, length, names[i]);
			if (d < best) {
				best = d;
				meant = names[i];
			}
		}
	}
	return meant;
}
