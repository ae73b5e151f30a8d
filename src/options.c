#include "options.h"

#include <errno.h>
#include <string.h>

#include "base/deadline.h"
#include "base/duration.h"
#include "base/exit-codes.h"
#include "base/limits.h"
#include "base/number.h"
#include "kinds.h"
#include "option-rows.h"

#define MAX_EXIT_BASE 250 /* 250 + 5 is the last status there is */

#define DEFAULT_KILL_AFTER (5 * NS_PER_S)
#define DEFAULT_TTL (30 * NS_PER_S)
#define LEAST_TTL (10 * NS_PER_S)
#define MOST_TTL (300 * NS_PER_S) /* also for --hold-for */

/* The kinds whose locks can be listed. */
#define OR_THOSE_OF(kind) ", or for those of " #kind ":PREFIX"
#define OR_THOSE KINDS_LIST(OR_THOSE_OF)
#define OR_BEGINS_WITH(kind) || !strncmp(lock, #kind ":", sizeof #kind)

static const char contradict[] = " contradict each other: leave one out";

/* What takes the place of flock's form with a descriptor. */
#define SELF_LOCK "me-only --held LOCK || exec me-only LOCK \"$0\" \"$@\""

/* Says what is wrong with the option that error->option names, if it names one. */
static int wrong(struct usage_error *error, const char *text, const char *subject, const char *hint)
{
	error->text = text;
	error->subject = subject;
	error->hint = hint;
	return -EINVAL;
}

/* What is wrong from now on is the option OPTION, as it was given, or its LETTER; NULL: no one. */
static void blame(struct usage_error *error, const char *option, char letter)
{
	error->option = option;
	error->letter = letter;
}

/* The same as wrong(), about the argument OPTION. */
static int wrong_about(struct usage_error *error, const char *option, const char *text,
		       const char *subject)
{
	blame(error, option, 0);
	return wrong(error, text, subject, "");
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
	if (options->mode >= MODE_HELD && options->mode <= MODE_LIST && options->mode != mode) {
		blame(error, NULL, 0);
		return wrong(error, "--held, --who and --list", NULL, contradict);
	}
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
	/* The last one counts, as with flock. */
	case 's':
	case 'x':
		options->shared = id == 's';
		options->exclusive = id == 'x';
		return 0;
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

/* The same for OPTION, which is as it was given; LETTER is which letter of it, or 0. */
static int take(struct options *options, const struct option_row *row, char letter,
		const char *option, const char *argument, struct usage_error *error)
{
	char id = row->id;

	if (letter == 'h') /* another help than --help */
		id = letter;
	if (row->for_command)
		options->for_command = option;
	blame(error, option, letter);
	return apply(options, id, argument, error);
}

/* An option that we do not have, at least not there. */
static int unknown(const char *option, char letter, struct usage_error *error)
{
	const char *name = letter ? "" : option + 2;
	size_t length = strcspn(name, "=");

	blame(error, option, letter);
	if (letter == 'u' || (length == 6 && !strncmp(name, "unlock", length)))
		return wrong(error,
			     "nothing has to be unlocked, a lock ends with its command; a script "
			     "that locks itself begins with " SELF_LOCK,
			     NULL, "");
	if (letter == 'c' || (length == 7 && !strncmp(name, "command", length)))
		return wrong(error, "this goes behind LOCK: me-only LOCK -c 'COMMAND LINE'", NULL,
			     "");
	error->meant = option_meant(name, length);
	return wrong(error, "unknown option", NULL, "");
}

/*
 * "--name", "--name=argument" or "--name argument" at **ARGV; moves it to the last argument that it
 * used.
 */
static int parse_long(char ***argv, struct options *options, struct usage_error *error)
{
	const char *option = **argv, *name = option + 2;
	size_t length = strcspn(name, "=");
	const struct option_row *row = option_find_name(name, length);
	const char *argument = name[length] ? name + length + 1 : NULL;

	if (!row)
		return unknown(option, 0, error);
	if (!row->argument && argument)
		return wrong_about(error, option, "this takes no argument, but has one:", argument);
	if (row->argument && !argument) {
		if (!(*argv)[1])
			return wrong_about(error, option, "an argument is missing", NULL);
		argument = *++*argv;
	}
	return take(options, row, 0, option, argument, error);
}

/* The option LETTER of **ARGV; moves that to the argument, if it takes one. */
static int parse_letter(char ***argv, const char *letter, struct options *options,
			struct usage_error *error)
{
	const char *option = **argv, *argument = NULL;
	const struct option_row *row = option_find_letter(*letter);

	if (!row)
		return unknown(option, *letter, error);
	if (row->argument) {
		argument = letter[1] ? letter + 1 : (*argv)[1];
		if (!argument) {
			blame(error, option, *letter);
			return wrong(error, "an argument is missing", NULL, "");
		}
		if (!letter[1])
			++*argv;
	}
	return take(options, row, *letter, option, argument, error);
}

/* "-abc", "-wARGUMENT" or "-w ARGUMENT" at **ARGV; moves it to the last argument that it used. */
static int parse_short(char ***argv, struct options *options, struct usage_error *error)
{
	const char *option = **argv;
	size_t length = strcspn(option + 1, "=");

	for (const char *letter = option + 1; *letter; letter++) {
		int r = parse_letter(argv, letter, options, error);

		if (r && option_find_name(option + 1, length))
			error->meant = option_meant(option + 1, length);
		if (r || option_find_letter(*letter)->argument)
			return r;
	}
	return 0;
}

/* --- LOCK and what is behind it --------------------------------------------------------------- */

static int behind_lock(const char *option, struct usage_error *error)
{
	return wrong_about(error, option,
			   "options go before LOCK (before a COMMAND of that name write --)", NULL);
}

static bool can_be_listed(const char *lock)
{
	return false KINDS_LIST(OR_BEGINS_WITH);
}

/* The forms that run nothing. */
static int check_question(char **rest, struct options *options, struct usage_error *error)
{
	const char *option = options->for_command;

	/* --who -j N: would a try with -j N get in? */
	if (options->slots && options->mode != MODE_WHO)
		option = "-j";
	if (options->mode != MODE_HELD && !option)
		option = options->quiet ? "-q" : options->verbose ? "-v" : NULL;
	if (option)
		return wrong(
			error,
			"--held, --who and --list run nothing: leave options for a command out, as",
			option, "");
	if (!*rest)
		return options->mode == MODE_LIST ? 0 : wrong(error, "no LOCK given", NULL, "");
	if (options->mode == MODE_LIST && !can_be_listed(*rest))
		return wrong(error,
			     "--list is for all locks of this host" OR_THOSE "; --who is for one:",
			     *rest, "");
	options->lock = *rest++;
	if (*rest && **rest == '-' && strcmp(*rest, "--") != 0)
		return behind_lock(*rest, error);
	return *rest ? wrong(error, "--held, --who and --list take no command:", *rest, "") : 0;
}

static int no_command(const struct options *options, struct usage_error *error)
{
	const char *lock = options->lock;
	bool is_number = *lock && !lock[strspn(lock, "0123456789")];

	return wrong(error, "no COMMAND given for the lock", lock,
		     is_number ? ", and a descriptor cannot be locked; a script that locks itself "
				 "begins with " SELF_LOCK
			       : "");
}

/* flock's LOCK -c LINE: makes a command of it, in place of the three words at LOCK. */
static int take_line(char **lock, struct options *options, struct usage_error *error)
{
	if (!lock[2])
		return wrong_about(error, lock[1], "an argument is missing, the command line",
				   NULL);
	if (lock[3])
		return wrong_about(error, lock[1], "only one command line can follow, not also",
				   lock[3]);
	lock[0] = (char *)(uintptr_t) "/bin/sh";
	lock[1] = (char *)(uintptr_t) "-c";
	options->command = lock;
	return 0;
}

/* The word behind LOCK begins with a dash. */
static int take_dash(char **lock, struct options *options, struct usage_error *error)
{
	const char *word = lock[1];

	if (!strcmp(word, "-c") || !strcmp(word, "--command"))
		return take_line(lock, options, error);
	if (!strncmp(word, "--command=", 10) || !strncmp(word, "-c", 2))
		return wrong_about(error, word, "write the command line as a word of its own: -c",
				   strchr(word, '=') ? strchr(word, '=') + 1 : word + 2);
	if (strcmp(word, "--") != 0)
		return behind_lock(word, error);
	options->command = lock + 2;
	return lock[2] ? 0 : no_command(options, error);
}

static int check_run(char **rest, struct options *options, struct usage_error *error)
{
	if (!*rest)
		return wrong(error, "no LOCK given", NULL, "");
	options->lock = rest[0];
	options->command = rest + 1;
	if (!rest[1])
		return no_command(options, error);
	if (rest[1][0] == '-' && take_dash(rest, options, error))
		return -EINVAL;
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
	if (options->exclusive && options->slots > 1)
		return wrong(error, "-x and -j", NULL, contradict);
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
	blame(error, NULL, 0);
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
	*error = (struct usage_error){ .text = NULL };
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
