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
	int conflict_status; /* -1: EXIT_HELD + exit_base */
	const char *lock;    /* as the user wrote it; NULL if none is needed or given */
	char **command;	     /* NULL-terminated; MODE_RUN only */
};

/*
 * What is wrong with a command line: "TEXT 'SUBJECT'HINT", without the quotes where SUBJECT is
 * NULL.
 */
struct usage_error {
	const char *text;
	const char *subject;
	const char *hint;
	bool hint_subject; /* HINT ends in a word that SUBJECT belongs behind */
};

/*
 * Reads ARGV, which keeps owning all strings. Options end at the first argument that is none;
 * everything from there belongs to the lock and the command. Returns 0, or -EINVAL and what is
 * wrong in ERROR; exit_base is what was read until then.
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

/* One row for each option, in the order of --help; the last has no name. */
struct option_row {
	char letter;	      /* 0: no short form */
	bool common;	      /* -h shows it */
	char id;	      /* what options_parse() calls it: its letter, except --help */
	const char *name;     /* long form, without the dashes */
	const char *argument; /* NULL: takes none */
	const char *help;     /* may have several lines */
};

extern const struct option_row option_rows[];

#endif
