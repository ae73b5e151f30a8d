#include "help.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "kinds.h"
#include "option-rows.h"
#include "version.h"

/* Where the explanations begin. */
#define COLUMN 30

static int print(const char *text)
{
	size_t length = strlen(text);
	sigset_t limit;

	/* A file at its limit: that is an error to report. Nothing else is run after this. */
	sigemptyset(&limit);
	sigaddset(&limit, SIGXFSZ);
	sigprocmask(SIG_BLOCK, &limit, NULL);
	while (length > 0) {
		ssize_t n = write(STDOUT_FILENO, text, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		length -= (size_t)n;
	}
	return 0;
}

/* One option: its forms, then its explanation in a column of its own. */
static void put_row(const struct option_row *row, char *out)
{
	char *start = out;

	out = stpcpy(out, row->letter ? "  -x, --" : "      --");
	if (row->letter)
		start[3] = row->letter;
	out = stpcpy(out, row->name);
	if (row->argument)
		out = stpcpy(stpcpy(out, "="), row->argument);
	for (const char *from = row->help;; from = strchr(from, '\n') + 1) {
		size_t length = strcspn(from, "\n");

		while (out - start < COLUMN)
			*out++ = ' ';
		memcpy(out, from, length);
		out += length;
		*out++ = '\n';
		start = out;
		if (!from[length])
			break;
	}
	*out = 0;
}

static int print_rows(bool brief)
{
	char row_text[512];
	int r = 0;

	for (const struct option_row *row = option_rows; r == 0 && row->name; row++) {
		if (brief && !row->common)
			continue;
		put_row(row, row_text);
		r = print(row_text);
	}
	return r;
}

/* The kinds of locks that helpers keep, in words. */
#define PREFIX(kind) " [" #kind ":PREFIX]"
#define PREFIXES KINDS_LIST(PREFIX)
#define NAME(kind) ";\n      " #kind ":NAME, known to all hosts that use the same " #kind " cluster"
#define NAMES KINDS_ALL(NAME)
#define OR(kind) " or " #kind
#define OR_KINDS KINDS_ALL(OR)
#define PLAIN(kind) " " #kind ":"
#define PLAIN_KINDS KINDS_ALL(PLAIN)
#define MANUAL(kind) ", me-only-" #kind "(7)"
#define MANUALS KINDS_ALL(MANUAL)

static const char usage[] =
	"Usage: me-only [OPTION]... LOCK COMMAND [ARGUMENT]...\n"
	"       me-only [OPTION]... LOCK -c 'COMMAND LINE FOR SH'\n"
	"       me-only --held LOCK | --who LOCK | --list" PREFIXES "\n"
	"       me-only -h | --help | --version\n"
	"Run one copy of COMMAND at a time, on this host or in a fleet.\n"
	"\n"
	"LOCK: NAME or host:NAME, any name, known on this host only; no file is created;\n"
	"      file:PATH, a lock on that file, as flock(1) takes it" NAMES ".\n";

static const char syntax[] =
	"Options end at LOCK. DURATION: a number with ms, s (default), m, h or d; 1h30m.\n\n";

static const char brief_end[] =
	"\n"
	"Exit status: COMMAND's own, or 1 cannot run COMMAND, 2 wrong usage,\n"
	"3 locking failed, 4 the lock is held, 5 the lock was lost.\n"
	"--help prints all. Manual: me-only(1).\n";

static const char end[] =
	"\n"
	"Exit status: COMMAND's own; a signal that ends COMMAND also ends me-only. Or:\n"
	"  1  COMMAND cannot be found or run\n"
	"  2  wrong usage\n"
	"  3  locking failed (socket, file" OR_KINDS " error); nothing was run\n"
	"  4  the lock is held, or the queue is full\n"
	"  5 " PLAIN_KINDS " only: the lock was lost, COMMAND was ended\n"
	"\n"
	"COMMAND gets ME_ONLY_LOCK; with -j ME_ONLY_SLOT, from 0; and with" PLAIN_KINDS "\n"
	"ME_ONLY_TOKEN, a fencing token: it lets stores reject late writes from\n"
	"a previous holder. Manuals: me-only(1), me-only-messages(7)" MANUALS ".\n";

int help_print(bool brief)
{
	int r = print(usage);

	if (r == 0)
		r = print(brief ? "\n" : syntax);
	if (r == 0)
		r = print_rows(brief);
	if (r == 0)
		r = print(brief ? brief_end : end);
	return r;
}

int version_print(void)
{
	return print("me-only " VERSION "\n");
}
