#include <errno.h>

#include "base/deadline.h"
#include "base/exit-codes.h"
#include "options.h"
#include "tap.h"

#define PARSE(...) options_parse((char *[]){ (char *)"me-only", __VA_ARGS__, NULL }, &options, &error)
#define S(text) ((char *)(text))

static struct options options;
static struct usage_error error;

static void plain(void)
{
	ok(PARSE(S("L"), S("cmd"), S("-x"), S("--wait=1")) == 0, "LOCK COMMAND ARGUMENTS");
	ok(options.mode == MODE_RUN && options.wait == 0 && !options.wait_given && options.conflict_status == -1, "nothing else is set");
	is(options.lock, "L", "LOCK");
	is(options.command[0], "cmd", "COMMAND");
	is(options.command[1], "-x", "options end at LOCK");
	is(options.command[2], "--wait=1", "all of them");
	ok(!options.command[3], "the command ends with NULL");
	ok(PARSE(S("--"), S("-L"), S("cmd")) == 0, "-- ends the options");
	is(options.lock, "-L", "a LOCK may begin with a dash behind --");
	ok(PARSE(S("-"), S("cmd")) == 0, "a dash alone");
	is(options.lock, "-", "is a LOCK");
	ok(PARSE(S("L"), S("--"), S("-c"), S("x")) == 0, "-- behind LOCK");
	is(options.command[0], "-c", "is passed over");
	ok(PARSE(S("L"), S("--"), S("--")) == 0 && !strcmp(options.command[0], "--"), "once");
}

static void forms(void)
{
	ok(PARSE(S("-w"), S("10"), S("L"), S("cmd")) == 0 && options.wait == 10 * NS_PER_S, "-w 10");
	is(options.lock, "L", "the 10 is not the lock");
	ok(PARSE(S("-w10"), S("L"), S("cmd")) == 0 && options.wait == 10 * NS_PER_S, "-w10");
	ok(PARSE(S("--wait"), S("1m"), S("L"), S("cmd")) == 0 && options.wait == 60 * NS_PER_S, "--wait 1m");
	ok(PARSE(S("--wait=inf"), S("L"), S("cmd")) == 0 && options.wait == DEADLINE_NEVER, "--wait=inf");
	ok(PARSE(S("-ovqw5"), S("L"), S("cmd")) == 0 && options.close && options.verbose && options.quiet && options.wait == 5 * NS_PER_S, "-ovqw5");
	ok(PARSE(S("-Fn"), S("L"), S("cmd")) == 0 && options.no_fork && options.nonblock, "-Fn");
	ok(PARSE(S("-E0"), S("--exit-base"), S("250"), S("L"), S("cmd")) == 0, "-E0 --exit-base 250");
	ok(options_status(&options, EXIT_HELD) == 0 && options_status(&options, EXIT_USAGE) == 252, "which status they make");
	ok(PARSE(S("--conflict-exit-code=255"), S("L"), S("cmd")) == 0 && options_status(&options, EXIT_HELD) == 255, "--conflict-exit-code=255");
	ok(PARSE(S("--held"), S("L")) == 0 && options.mode == MODE_HELD, "--held L");
	ok(PARSE(S("--help")) == 0 && options.mode == MODE_HELP, "--help");
	ok(PARSE(S("-qh")) == 0 && options.mode == MODE_SHORT_HELP, "-qh");
	ok(PARSE(S("--version"), S("whatever")) == 0 && options.mode == MODE_VERSION, "--version");
}

static void refuses(int result, const char *subject, const char *what)
{
	ok(result == -EINVAL, "%s", what);
	ok(subject ? error.subject && !strcmp(error.subject, subject) : !error.subject, "names what is wrong");
}

/* What users of flock type. */
static void habits(void)
{
	ok(PARSE(S("-x"), S("L"), S("cmd")) == 0 && options.exclusive && !options.shared, "-x");
	ok(PARSE(S("-ne"), S("L"), S("cmd")) == 0 && options.exclusive && options.nonblock, "-ne");
	ok(PARSE(S("--exclusive"), S("L"), S("cmd")) == 0 && options.exclusive, "--exclusive");
	ok(PARSE(S("-s"), S("-x"), S("L"), S("cmd")) == 0 && !options.shared, "-s -x: the last one counts");
	ok(PARSE(S("-xs"), S("L"), S("cmd")) == 0 && options.shared && !options.exclusive, "-xs, too");
	ok(PARSE(S("-x"), S("-j1"), S("L"), S("cmd")) == 0, "-x -j1");
	ok(PARSE(S("--nb"), S("L"), S("cmd")) == 0 && options.nonblock, "--nb");
	ok(PARSE(S("--timeout=2"), S("L"), S("cmd")) == 0 && options.wait == 2 * NS_PER_S, "--timeout=2");
	ok(PARSE(S("--timeout"), S("2"), S("L"), S("cmd")) == 0 && options.wait == 2 * NS_PER_S, "--timeout 2");
	ok(PARSE(S("-V")) == 0 && options.mode == MODE_VERSION, "-V");
	ok(PARSE(S("-qV"), S("x")) == 0 && options.mode == MODE_VERSION, "-qV");
	ok(PARSE(S("-F"), S("L"), S("-c"), S("a && b")) == 0 && options.no_fork && !options.command[3], "-c LINE behind LOCK");
	is(options.lock, "L", "LOCK");
	is(options.command[0], "/bin/sh", "a shell");
	is(options.command[1], "-c", "runs");
	is(options.command[2], "a && b", "LINE");
	ok(PARSE(S("--"), S("-L"), S("--command"), S("a")) == 0 && !strcmp(options.lock, "-L"), "--command LINE");
	is(options.command[0], "/bin/sh", "a shell");
	is(options.command[1], "-c", "with its own option");
	is(options.command[2], "a", "runs LINE");
	ok(PARSE(S("L"), S("cmd"), S("-c"), S("x")) == 0 && !strcmp(options.command[0], "cmd"), "a command's own -c");
	ok(PARSE(S("L"), S("-c"), S("")) == 0 && !*options.command[2], "an empty line");
}

/* A usage error about OPTION, which may be meant for MEANT. */
static void about(int result, const char *option, char letter, const char *meant)
{
	ok(result == -EINVAL, "%s is wrong", option);
	if (ok(error.option != NULL, "an option is named"))
		is(error.option, option, "this one");
	ok(error.letter == letter, "and its letter");
	if (ok(!meant == !error.meant, "whether another one is meant") && meant)
		is(error.meant, meant, "which one");
}

static void guesses(void)
{
	about(PARSE(S("--exlusive"), S("L"), S("cmd")), "--exlusive", 0, "exclusive");
	about(PARSE(S("--wiat"), S("L"), S("cmd")), "--wiat", 0, "wait");
	about(PARSE(S("--wait-for=1"), S("L"), S("cmd")), "--wait-for=1", 0, "wait");
	about(PARSE(S("--time-out=1"), S("L"), S("cmd")), "--time-out=1", 0, "timeout");
	about(PARSE(S("--nonblocking"), S("L"), S("cmd")), "--nonblocking", 0, "nonblock");
	about(PARSE(S("--Held"), S("L")), "--Held", 0, "held");
	about(PARSE(S("--exit_base=1"), S("L"), S("cmd")), "--exit_base=1", 0, "exit-base");
	about(PARSE(S("--repalce"), S("L"), S("cmd")), "--repalce", 0, "replace");
	about(PARSE(S("--jsno"), S("L")), "--jsno", 0, "json");
	about(PARSE(S("--conflict"), S("L"), S("cmd")), "--conflict", 0, "conflict-exit-code");
	about(PARSE(S("--hlep")), "--hlep", 0, "help");
	about(PARSE(S("--slot=2"), S("L"), S("cmd")), "--slot=2", 0, "slots");
	about(PARSE(S("--unknown"), S("L"), S("cmd")), "--unknown", 0, NULL);
	about(PARSE(S("--x"), S("L"), S("cmd")), "--x", 0, NULL);
	about(PARSE(S("--e"), S("L"), S("cmd")), "--e", 0, NULL);
	about(PARSE(S("---")), "---", 0, NULL);
	about(PARSE(S("--=x")), "--=x", 0, NULL);
	about(PARSE(S("--waitwaitwaitwaitwaitwaitwait")), "--waitwaitwaitwaitwaitwaitwait", 0, NULL);
	about(PARSE(S("-wait"), S("5"), S("L"), S("cmd")), "-wait", 'w', "wait");
	about(PARSE(S("-held"), S("L")), "-held", 'l', "held");
	about(PARSE(S("-timeout=5"), S("L")), "-timeout=5", 't', "timeout");
	about(PARSE(S("-nw5x"), S("L"), S("cmd")), "-nw5x", 'w', NULL);
	about(PARSE(S("-qE"), S("300"), S("L"), S("cmd")), "-qE", 'E', NULL);
	about(PARSE(S("--ttl=1"), S("L"), S("cmd")), "--ttl=1", 0, NULL);
	about(PARSE(S("--slots"), S("0"), S("L"), S("cmd")), "--slots", 0, NULL);
	about(PARSE(S("-u"), S("9")), "-u", 'u', NULL);
	about(PARSE(S("--unlock"), S("9")), "--unlock", 0, NULL);
	about(PARSE(S("-c"), S("x"), S("L")), "-c", 'c', NULL);
	about(PARSE(S("--command=x"), S("L")), "--command=x", 0, NULL);
	about(PARSE(S("L"), S("-w"), S("5"), S("cmd")), "-w", 0, NULL);
	about(PARSE(S("L"), S("--wait=5"), S("cmd")), "--wait=5", 0, NULL);
	about(PARSE(S("--who"), S("L"), S("--json")), "--json", 0, NULL);
	about(PARSE(S("L"), S("-c")), "-c", 0, NULL);
	about(PARSE(S("L"), S("-c"), S("a"), S("b")), "-c", 0, NULL);
	about(PARSE(S("L"), S("-ca"), S("b")), "-ca", 0, NULL);
	about(PARSE(S("L"), S("--command=a")), "--command=a", 0, NULL);
}

static void shapes(void)
{
	ok(PARSE(S("L"), S("cmd")) == 0 && !options.shared && !options.slots && !options.queue, "none of these");
	ok(PARSE(S("-s"), S("L"), S("cmd")) == 0 && options.shared, "-s");
	ok(PARSE(S("--shared"), S("L"), S("cmd")) == 0 && options.shared, "--shared");
	ok(PARSE(S("-j4"), S("L"), S("cmd")) == 0 && options.slots == 4, "-j4");
	ok(PARSE(S("-j"), S("4"), S("L"), S("cmd")) == 0 && options.slots == 4, "-j 4");
	is(options.lock, "L", "the 4 is not the lock");
	ok(PARSE(S("--slots=1024"), S("L"), S("cmd")) == 0 && options.slots == 1024, "--slots=1024");
	ok(PARSE(S("--slots"), S("1"), S("L"), S("cmd")) == 0 && options.slots == 1, "--slots 1");
	ok(PARSE(S("-Fqj2"), S("L"), S("cmd")) == 0 && options.no_fork && options.quiet && options.slots == 2, "-Fqj2");
	ok(PARSE(S("-j2"), S("-j3"), S("L"), S("cmd")) == 0 && options.slots == 3, "the last one counts");
	ok(PARSE(S("-w1"), S("--queue=1"), S("L"), S("cmd")) == 0 && options.queue == 1, "--queue=1");
	ok(PARSE(S("--queue"), S("1024"), S("-winf"), S("L"), S("cmd")) == 0 && options.queue == 1024, "--queue 1024");
	ok(PARSE(S("--queue=1"), S("--replace"), S("L"), S("cmd")) == 0 && options.wait == DEADLINE_NEVER, "--replace waits");
	ok(PARSE(S("--replace"), S("-j1"), S("L"), S("cmd")) == 0 && options.replace && options.slots == 1, "--replace -j1");
}

static void leases(void)
{
	ok(PARSE(S("L"), S("cmd")) == 0 && !options.ttl && !options.hold_for && options.kill_after == -1, "none of these");
	ok(options_ttl(&options) == 30 * NS_PER_S && options_kill_after(&options) == 5 * NS_PER_S, "what they are then");
	ok(PARSE(S("--ttl"), S("10"), S("L"), S("cmd")) == 0 && options_ttl(&options) == 10 * NS_PER_S, "--ttl 10");
	is(options.lock, "L", "the 10 is not the lock");
	ok(PARSE(S("--ttl=300"), S("L"), S("cmd")) == 0 && options_ttl(&options) == 300 * NS_PER_S, "--ttl=300");
	ok(PARSE(S("--hold-for=5m"), S("L"), S("cmd")) == 0 && options.hold_for == 300 * NS_PER_S, "--hold-for=5m");
	ok(PARSE(S("--hold-for"), S("1ms"), S("L"), S("cmd")) == 0 && options.hold_for == NS_PER_MS, "--hold-for 1ms");
	ok(PARSE(S("-k0"), S("L"), S("cmd")) == 0 && options_kill_after(&options) == 0, "-k0, of whatever lock");
	ok(PARSE(S("--list"), S("etcd:a/")) == 0 && options.mode == MODE_LIST, "--list etcd:PREFIX");
	is(options.lock, "etcd:a/", "PREFIX");
	ok(PARSE(S("--list"), S("--json"), S("etcd:")) == 0 && options.json, "an empty one: all");
}

static void errors(void)
{
	refuses(PARSE(S("--ttl=9.999"), S("L"), S("cmd")), "9.999", "too short a lease");
	refuses(PARSE(S("--ttl=300.001"), S("L"), S("cmd")), "300.001", "too long a lease");
	refuses(PARSE(S("--ttl=inf"), S("L"), S("cmd")), "inf", "a lease without end");
	refuses(PARSE(S("--ttl"), S("L"), S("cmd")), "L", "a lock is no lease");
	refuses(PARSE(S("--hold-for=0"), S("L"), S("cmd")), "0", "to hold for no time");
	refuses(PARSE(S("--hold-for=6m"), S("L"), S("cmd")), "6m", "to hold for too long");
	refuses(PARSE(S("--held"), S("--ttl=30"), S("L")), "--ttl=30", "--ttl and --held");
	refuses(PARSE(S("--who"), S("--hold-for=30"), S("L")), "--hold-for=30", "--hold-for and --who");
	refuses(PARSE(S("--list"), S("L")), "L", "--list of one lock");
	refuses(PARSE(S("--list"), S("host:L")), "host:L", "--list of a beginning that is not etcd's");
	refuses(PARSE(S("--list"), S("etcd:a/"), S("cmd")), "cmd", "--list with a command");
	ok(options_parse((char *[]){ NULL }, &options, &error) == -EINVAL, "not even a program name");
	ok(options_parse((char *[]){ S("me-only"), NULL }, &options, &error) == -EINVAL, "nothing");
	refuses(PARSE(S("L")), "L", "no command");
	refuses(PARSE(S("--held")), NULL, "--held without a lock");
	refuses(PARSE(S("--held"), S("L"), S("cmd")), "cmd", "--held with a command");
	refuses(PARSE(S("-Z"), S("L"), S("cmd")), NULL, "an unknown letter");
	refuses(PARSE(S("-nZ"), S("L"), S("cmd")), NULL, "an unknown letter among others");
	refuses(PARSE(S("--wai=1"), S("L"), S("cmd")), NULL, "no abbreviations");
	refuses(PARSE(S("--held=1"), S("L")), "1", "an argument too many");
	refuses(PARSE(S("-w")), NULL, "an argument too few");
	refuses(PARSE(S("--wait")), NULL, "an argument too few, long form");
	refuses(PARSE(S("-w"), S("L"), S("cmd")), "L", "a lock is no duration");
	refuses(PARSE(S("--wait="), S("L"), S("cmd")), "", "an empty duration");
	refuses(PARSE(S("-E"), S("256"), S("L"), S("cmd")), "256", "a status too high");
	refuses(PARSE(S("-E"), S("-1"), S("L"), S("cmd")), "-1", "a negative status");
	refuses(PARSE(S("-E"), S("0x1"), S("L"), S("cmd")), "0x1", "no decimal status");
	refuses(PARSE(S("--exit-base=251"), S("L"), S("cmd")), "251", "a base too high");
	refuses(PARSE(S("-j"), S("L"), S("cmd")), "L", "a lock is no number of slots");
	refuses(PARSE(S("-j0"), S("L"), S("cmd")), "0", "no slots");
	refuses(PARSE(S("-j1025"), S("L"), S("cmd")), "1025", "too many slots");
	refuses(PARSE(S("-j"), S("-1"), S("L"), S("cmd")), "-1", "less than no slots");
	refuses(PARSE(S("--slots="), S("L"), S("cmd")), "", "an empty number");
	refuses(PARSE(S("--slots=4294967297"), S("L"), S("cmd")), "4294967297", "a number that would be 1 if it were cut");
	refuses(PARSE(S("-w1"), S("--queue=0"), S("L"), S("cmd")), "0", "no places");
	refuses(PARSE(S("-w1"), S("--queue=1025"), S("L"), S("cmd")), "1025", "too many places");
	refuses(PARSE(S("-w1"), S("--queue=x"), S("L"), S("cmd")), "x", "no number of places");
	refuses(PARSE(S("--queue=1"), S("L"), S("cmd")), NULL, "--queue without -w");
	refuses(PARSE(S("--queue=1"), S("-n"), S("L"), S("cmd")), NULL, "--queue and -n");
	refuses(PARSE(S("--queue=1"), S("-w0"), S("L"), S("cmd")), NULL, "--queue and -w 0");
	refuses(PARSE(S("--replace"), S("-j2"), S("L"), S("cmd")), NULL, "--replace and -j2");
	refuses(PARSE(S("-s"), S("--held"), S("L")), "-s", "-s and --held");
	refuses(PARSE(S("-j2"), S("--held"), S("L")), "-j", "-j and --held");
	ok(PARSE(S("-j2"), S("--who"), S("L")) == 0 && options.slots == 2, "-j and --who");
	refuses(PARSE(S("--queue=1"), S("--list")), "--queue=1", "--queue and --list");
	refuses(PARSE(S("-x"), S("--list")), "-x", "-x and --list");
	refuses(PARSE(S("-q"), S("--list")), "-q", "-q and --list");
	refuses(PARSE(S("-xj2"), S("L"), S("cmd")), NULL, "-x and -j2");
	refuses(PARSE(S("9")), "9", "a descriptor");
	ok(strstr(error.hint, "me-only --held LOCK || exec me-only LOCK \"$0\" \"$@\"") != NULL, "and says what to write instead");
	refuses(PARSE(S("-w5"), S("9x")), "9x", "a name that begins with a digit");
	is(error.hint, "", "is no descriptor");
	refuses(PARSE(S("")), "", "nothing, and no command");
	is(error.hint, "", "is none either");
	refuses(PARSE(S("L"), S("--")), "L", "-- and no command");
	refuses(PARSE(S("--held"), S("L"), S("--")), "--", "-- and no command to be");
	refuses(PARSE(S("-nw1"), S("L"), S("cmd")), NULL, "-n and -w");
	refuses(PARSE(S("-Fo"), S("L"), S("cmd")), NULL, "-F and -o");
	ok(PARSE(S("--exit-base=7"), S("-Z")) == -EINVAL && options_status(&options, EXIT_USAGE) == 9, "the base counts for usage errors behind it");
}

int main(void)
{
	plain();
	forms();
	habits();
	guesses();
	shapes();
	leases();
	errors();
	return tap_done();
}
