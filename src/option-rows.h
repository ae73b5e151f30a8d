/* The options: one table for the parser, for the help, and for guesses at what was meant. */
#ifndef OPTION_ROWS_H
#define OPTION_ROWS_H

#include <stdbool.h>
#include <stddef.h>

/* What options_parse() calls an option that has no letter, or one that means something else. */
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

/* One row for each option, in the order of --help; the last has no name. */
struct option_row {
	char letter;	      /* 0: no short form */
	bool common;	      /* -h shows it */
	bool for_command;     /* how to run a command: --held, --who and --list refuse it */
	char id;	      /* its letter, or one of the above */
	const char *name;     /* long form, without the dashes */
	const char *argument; /* NULL: takes none */
	const char *help;     /* may have several lines */
	const char *also;     /* flock's other form of it, a letter or a name; NULL: none */
};

extern const struct option_row option_rows[];

/* The row of an option, NULL if there is none. NAME has LENGTH bytes, and no dashes. */
const struct option_row *option_find_letter(char letter);
const struct option_row *option_find_name(const char *name, size_t length);

/* The long form that the first LENGTH bytes of NAME are a typing error for; NULL: of none. */
const char *option_meant(const char *name, size_t length);

#endif
