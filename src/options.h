/* The command line. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mode {
	MODE_RUN,
	MODE_HELD,
	MODE_WHO,
	MODE_LIST,
	MODE_SHORT_HELP,
	MODE_HELP,
	MODE_VERSION /* these need no LOCK */
};

struct options {
	enum mode mode;
	int64_t wait; /* nanoseconds, DEADLINE_NEVER: as long as it takes; 0: do not wait */
	bool wait_given;
	bool nonblock;
	bool shared;
	bool exclusive; /* given, though it is the default */
	unsigned slots; /* at most MOST_SLOTS; 0: not given */
	unsigned queue; /* how many may wait, at most MOST_PLACES; 0: not given */
	bool no_fork;
	bool close;
	bool quiet;
	bool json;
	bool replace;
	int64_t kill_after;	/* nanoseconds, DEADLINE_NEVER: never; -1: not given */
	int64_t ttl;		/* nanoseconds; 0: not given */
	int64_t hold_for;	/* nanoseconds; 0: not given */
	int64_t complain_after; /* nanoseconds; -1: not given */
	bool verbose;
	unsigned exit_base;
	int conflict_status;	 /* -1: EXIT_HELD + exit_base */
	const char *for_command; /* the last option that says how to run one; NULL: none */
	const char *lock;	 /* as the user wrote it; NULL if none is needed or given */
	char **command;		 /* NULL-terminated; MODE_RUN only */
};

/*
 * What is wrong with a command line: "OPTION: TEXT 'SUBJECT'HINT (did you mean --MEANT?)". What is
 * NULL is left out, with the words around it.
 */
struct usage_error {
	const char *text;
	const char *subject;
	const char *hint;
	bool hint_subject; /* HINT ends in a word that SUBJECT belongs behind */
	const char
		*option; /* as it was given: "--wait=x" is --wait; NULL: no single one is wrong */
	char letter;	 /* which letter of OPTION; 0: all of it */
	const char *meant;
};

/*
 * Reads ARGV, which keeps owning all strings. Options end at the first argument that is none;
 * everything from there belongs to the lock and the command. LOCK -c LINE becomes a command of
 * three words, which takes the place of these in ARGV. Returns 0, or -EINVAL and what is wrong in
 * ERROR; exit_base is what was read until then.
 */
int options_parse(char **argv, struct options *options, struct usage_error *error);

/*
 * The time between SIGTERM and SIGKILL, and how long a lock is kept for a host that has died: as
 * given, or else the default. Nanoseconds.
 */
int64_t options_kill_after(const struct options *options);
int64_t options_ttl(const struct options *options);

/* The exit status for CODE, one of enum exit_code. */
int options_status(const struct options *options, int code);

#endif
