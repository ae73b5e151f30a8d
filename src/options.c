#include "options.h"

#include <errno.h>
#include <string.h>

#include "base/deadline.h"
#include "base/duration.h"
#include "base/exit-codes.h"
#include "base/limits.h"
#include "base/number.h"

#define MAX_EXIT_BASE 250 /* 250 + 5 is the last status there is */

#define DEFAULT_KILL_AFTER (5 * NS_PER_S)
#define DEFAULT_TTL (30 * NS_PER_S)
#define LEAST_TTL (10 * NS_PER_S)
#define MOST_TTL (300 * NS_PER_S) /* also for --hold-for */

enum {
	ID_EXIT_BASE = 1,
	ID_QUEUE,
	ID_REPLACE,
	ID_TTL,
	ID_HOLD_FOR,
	ID_COMPLAIN_AFTER,
	ID_JSON,
	ID_HELD,
	ID_WHO,
	ID_LIST,
	ID_HELP,
	ID_VERSION
};

/* Explanations have 50 columns. */
const struct option_row option_rows[] = {
	{ 'w', true, 'w', "wait", "DURATION",
	  "wait at most DURATION for the lock, first come,\n"
	  "first served (inf: as long as it takes)" },
	{ 'n', false, 'n', "nonblock", NULL, "do not wait (the default)" },
	{ 's', false, 's', "shared", NULL,
	  "share the lock with other -s holders (file: and\n"
	  "etcd: only)" },
	{ 'j', true, 'j', "slots", "N", "let N (1 to 1024) run at a time" },
	{ 0, false, ID_QUEUE, "queue", "N",
	  "with -w: give up if N others with --queue already\n"
	  "wait" },
	{ 0, true, ID_REPLACE, "replace", NULL, "end the current holder, then wait for the lock" },
	{ 'k', false, 'k', "kill-after", "DURATION",
	  "time between SIGTERM and SIGKILL, for a holder\n"
	  "being replaced and when an etcd lock is lost (5s)" },
	{ 0, false, ID_TTL, "ttl", "DURATION",
	  "etcd: only: how long the lock outlives a dead host\n"
	  "(30s; 10s to 300s)" },
	{ 0, false, ID_HOLD_FOR, "hold-for", "DURATION",
	  "etcd: only: keep the lock at least this long (at\n"
	  "most 300s), even if COMMAND ends sooner" },
	{ 'F', false, 'F', "no-fork", NULL, "become COMMAND instead of starting it" },
	{ 'o', false, 'o', "close", NULL,
	  "do not pass the lock to COMMAND: release it when\n"
	  "COMMAND ends, whatever it left running" },
	{ 'E', true, 'E', "conflict-exit-code", "N",
	  "exit with N (0 to 255), not 4, if the lock is held" },
	{ 0, false, ID_EXIT_BASE, "exit-base", "N",
	  "move me-only's own statuses to N+1 ... N+5\n"
	  "(N: 0 to 250)" },
	{ 'q', true, 'q', "quiet", NULL, "print nothing if this user or root holds the lock" },
	{ 0, false, ID_COMPLAIN_AFTER, "complain-after", "AGE",
	  "like -q, until the lock has been held for longer\n"
	  "than AGE" },
	{ 'v', false, 'v', "verbose", NULL, "report what happens, with times" },
	{ 0, true, ID_HELD, "held", NULL, "exit 0 if the caller already runs under LOCK, or 1" },
	{ 0, true, ID_WHO, "who", NULL, "print who holds LOCK and who waits for it" },
	{ 0, true, ID_LIST, "list", NULL, "list the locks of this host, or of etcd:PREFIX" },
	{ 0, false, ID_JSON, "json", NULL, "with --who and --list: print JSON" },
	{ 'h', false, ID_HELP, "help", NULL, "print a short help (-h) or all (--help)" },
	{ 0, false, ID_VERSION, "version", NULL, "print the version" },
	{ 0, false, 0, NULL, NULL, NULL },
};

static const char contradict[] = " contradict each other: leave one out";

static int wrong(struct usage_error *error, const char *text, const char *subject, const char *hint)
{
	*error = (struct usage_error){ .text = text, .subject = subject, .hint = hint };
	return -EINVAL;
}

static int duration(const char *argument, int64_t *ns, struct usage_error *error)
{
	return duration_parse(argument, ns) ? wrong(error, "not a duration:", argument,
						    " (a number and ms, s, m, h or d, or inf)")
					    : 0;
}

/* A duration from LEAST to MOST_TTL. */
static int limited(const char *argument, int64_t least, int64_t *ns, const char *hint,
		   struct usage_error *error)
{
	int r = duration(argument, ns, error);

	if (r == 0 && (*ns < least || *ns > MOST_TTL))
		return wrong(error, "the duration", argument, hint);
	return r;
}

static int count(const char *argument, unsigned max, unsigned *n, struct usage_error *error)
{
	return number_parse(argument, max, n) || *n == 0
		       ? wrong(error, "not a number from 1 to 1024:", argument, "")
		       : 0;
}

static int question(struct options *options, enum mode mode, struct usage_error *error)
{
	if (options->mode >= MODE_HELD && options->mode <= MODE_LIST && options->mode != mode)
		return wrong(error, "--held, --who and --list", NULL, contradict);
	options->mode = mode;
	return 0;
}

/* Takes one option in; ARGUMENT is NULL for those that have none. */
static int apply(struct options *options, char id, const char *argument, struct usage_error *error)
{
	unsigned n;

	switch (id) {
	case 'w': options->wait_given = true; return duration(argument, &options->wait, error);
	case 'k': return duration(argument, &options->kill_after, error);
	case ID_COMPLAIN_AFTER: return duration(argument, &options->complain_after, error);
	case ID_TTL:
		return limited(argument, LEAST_TTL, &options->ttl, " is not from 10s to 300s",
			       error);
	case ID_HOLD_FOR:
		return limited(argument, 1, &options->hold_for,
			       " is not more than 0 and at most 300s", error);
	case 's': options->shared = true; return 0;
	case 'j': return count(argument, MOST_SLOTS, &options->slots, error);
	case ID_QUEUE: return count(argument, MOST_PLACES, &options->queue, error);
	case ID_REPLACE: options->replace = true; return 0;
	case ID_JSON: options->json = true; return 0;
	case ID_WHO: return question(options, MODE_WHO, error);
	case ID_LIST: return question(options, MODE_LIST, error);
	case 'n': options->nonblock = true; return 0;
	case 'F': options->no_fork = true; return 0;
	case 'o': options->close = true; return 0;
	case 'E':
		if (number_parse(argument, 255, &n))
			return wrong(error, "not an exit status (0 to 255):", argument, "");
		options->conflict_status = (int)n;
		return 0;
	case ID_EXIT_BASE:
		if (number_parse(argument, MAX_EXIT_BASE, &n))
			return wrong(error, "not a base for exit statuses (0 to 250):", argument,
				     "");
		options->exit_base = n;
		return 0;
	case 'q': options->quiet = true; return 0;
	case 'v': options->verbose = true; return 0;
	case ID_HELD: return question(options, MODE_HELD, error);
	case 'h': options->mode = MODE_SHORT_HELP; return 0;
	case ID_HELP: options->mode = MODE_HELP; return 0;
	default: options->mode = MODE_VERSION; return 0;
	}
}

static const struct option_row *find_letter(char letter)
{
	for (const struct option_row *row = option_rows; row->name; row++)
		if (row->letter && row->letter == letter)
			return row;
	return NULL;
}

static const struct option_row *find_name(const char *name, size_t length)
{
	for (const struct option_row *row = option_rows; row->name; row++)
		if (strlen(row->name) == length && !memcmp(row->name, name, length))
			return row;
	return NULL;
}

/*
 * "--name", "--name=argument" or "--name argument" at **ARGV; moves it to the last argument that it
 * used.
 */
static int parse_long(char ***argv, struct options *options, struct usage_error *error)
{
	const char *option = **argv, *name = option + 2;
	size_t length = strcspn(name, "=");
	const struct option_row *row = find_name(name, length);
	const char *argument = name[length] ? name + length + 1 : NULL;

	if (!row)
		return wrong(error, "unknown option", option, "");
	if (!row->argument && argument)
		return wrong(error, "an option that takes no argument has one:", option, "");
	if (row->argument && !argument) {
		if (!(*argv)[1])
			return wrong(error, "an argument is missing after", option, "");
		argument = *++*argv;
	}
	return apply(options, row->id, argument, error);
}

/* "-abc", "-wARGUMENT" or "-w ARGUMENT" at **ARGV; moves it to the last argument that it used. */
static int parse_short(char ***argv, struct options *options, struct usage_error *error)
{
	const char *option = **argv;

	for (const char *letter = option + 1; *letter; letter++) {
		const struct option_row *row = find_letter(*letter);
		const char *argument = NULL;
		int r;

		if (!row)
			return wrong(error, "unknown option", option, "");
		if (row->argument) {
			argument = letter[1] ? letter + 1 : (*argv)[1];
			if (!argument)
				return wrong(error, "an argument is missing after", option, "");
			if (!letter[1])
				++*argv;
		}
		/* By its letter: -h is another help than --help. */
		r = apply(options, *letter, argument, error);
		if (r || row->argument)
			return r;
	}
	return 0;
}

/* Options that are about running a command. */
static bool has_run_options(const struct options *options)
{
	return options->wait_given || options->nonblock || options->no_fork || options->close ||
	       options->conflict_status >= 0 || options->shared || options->slots ||
	       options->queue || options->replace || options->kill_after >= 0 ||
	       options->complain_after >= 0 || options->ttl || options->hold_for;
}

/* The forms that run nothing. */
static int check_question(char **rest, struct options *options, struct usage_error *error)
{
	if (has_run_options(options) ||
	    (options->mode != MODE_HELD && (options->quiet || options->verbose)))
		return wrong(
			error,
			"--held, --who and --list run nothing: leave options for a command out",
			NULL, "");
	if (!*rest)
		return options->mode == MODE_LIST ? 0 : wrong(error, "no LOCK given", NULL, "");
	if (options->mode == MODE_LIST && strncmp(*rest, "etcd:", 5) != 0)
		return wrong(
			error,
			"--list is for all locks of this host, or for those of etcd:PREFIX; --who is for one:",
			*rest, "");
	options->lock = *rest++;
	return *rest ? wrong(error, "--held, --who and --list take no command:", *rest, "") : 0;
}

static int check_run(char **rest, struct options *options, struct usage_error *error)
{
	if (!*rest)
		return wrong(error, "no LOCK given", NULL, "");
	options->lock = *rest++;
	if (!*rest)
		return wrong(error, "no COMMAND given for the lock", options->lock, "");
	options->command = rest;
	if (options->nonblock && options->wait_given)
		return wrong(error, "-n and -w", NULL, contradict);
	if (options->replace && !options->wait_given)
		options->wait = DEADLINE_NEVER;
	if (options->replace && (options->nonblock || !options->wait))
		return wrong(error, "--replace waits: leave -n and -w 0 out", NULL, "");
	if (options->queue && !options->wait)
		return wrong(error, "--queue is for those who wait: give -w, too", NULL, "");
	if (options->replace && options->slots > 1)
		return wrong(
			error,
			"--replace and -j do not go together: which of the holders would be meant?",
			NULL, "");
	if (options->quiet && options->complain_after >= 0)
		return wrong(error, "-q and --complain-after", NULL, contradict);
	if (options->no_fork && options->close)
		return wrong(
			error,
			"-F and -o contradict each other: with -F only the command holds the lock",
			NULL, "");
	return 0;
}

/* What no single option can see: combinations, and whether LOCK and COMMAND are there. */
static int check(char **rest, struct options *options, struct usage_error *error)
{
	if (options->mode >= MODE_SHORT_HELP)
		return 0;
	if (options->json && options->mode != MODE_WHO && options->mode != MODE_LIST)
		return wrong(error, "--json is for --who and --list", NULL, "");
	return options->mode == MODE_RUN ? check_run(rest, options, error)
					 : check_question(rest, options, error);
}

int options_parse(char **argv, struct options *options, struct usage_error *error)
{
	*options = (struct options){
		.mode = MODE_RUN, .conflict_status = -1, .kill_after = -1, .complain_after = -1
	};
	if (!*argv)
		return wrong(error, "no LOCK given", NULL, "");
	while (*++argv && argv[0][0] == '-' && argv[0][1]) {
		int r;

		if (!strcmp(*argv, "--")) {
			argv++;
			break;
		}
		r = argv[0][1] == '-' ? parse_long(&argv, options, error)
				      : parse_short(&argv, options, error);
		if (r)
			return r;
	}
	return check(argv, options, error);
}

int64_t options_kill_after(const struct options *options)
{
	return options->kill_after < 0 ? DEFAULT_KILL_AFTER : options->kill_after;
}

int64_t options_ttl(const struct options *options)
{
	return options->ttl ? options->ttl : DEFAULT_TTL;
}

int options_status(const struct options *options, int code)
{
	if (code == EXIT_HELD && options->conflict_status >= 0)
		return options->conflict_status;
	return (int)options->exit_base + code;
}
