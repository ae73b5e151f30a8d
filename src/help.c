#include "help.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "version.h"

/* Where the explanations begin. */
#define COLUMN 34

static int print(const char *text)
{
	size_t length = strlen(text);

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

int help_print(void)
{
	char row_text[512];
	int r = print("Usage: me-only [OPTION]... LOCK COMMAND [ARGUMENT]...\n"
		      "       me-only --held | --who LOCK\n"
		      "       me-only --list [etcd:PREFIX]\n"
		      "       me-only --help | --version\n"
		      "Run COMMAND as the only instance: whoever asks for LOCK while it runs is refused.\n"
		      "\n"
		      "LOCK: NAME or host:NAME, any name, known on this host only: no file is made;\n"
		      "      file:PATH, a lock on that file, as flock(1) takes it; or\n"
		      "      etcd:NAME, known to all hosts that use the same etcd cluster, see me-only-etcd(7).\n"
		      "Options end at LOCK. DURATION: a number with ms, s (default), m, h or d.\n"
		      "\n");

	for (const struct option_row *row = option_rows; r == 0 && row->name; row++) {
		put_row(row, row_text);
		r = print(row_text);
	}
	if (r == 0)
		r = print("\n"
			  "Exit status: COMMAND's own; if a signal ended it, me-only ends by the same signal.\n"
			  "  1  COMMAND cannot be found or run\n"
			  "  2  wrong usage\n"
			  "  3  the third party failed: no socket, no lock on the file, no answer of etcd; nothing was run\n"
			  "  4  the lock is held: not the only instance; or the queue is full\n"
			  "  5  the lock was lost, and COMMAND was ended (etcd: only)\n"
			  "\n"
			  "COMMAND finds the lock in ME_ONLY_LOCK, and of etcd a number in ME_ONLY_TOKEN, by which what it\n"
			  "writes to can refuse a predecessor that is late. More in me-only(1) and me-only-etcd(7).\n");
	return r;
}

int version_print(void)
{
	return print("me-only " VERSION "\n");
}
