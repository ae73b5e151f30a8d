#include "holder.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"
#include "base/process.h"
#include "base/trust.h"

#define COMMAND_SHOWN 2048

static bool is_stranger(const struct holder *holder)
{
	if (holder->remote)
		return holder->remote->user && !holder->uid_known;
	return holder->uid_known && !trust_user(holder->uid);
}

bool holder_is_more_interesting(const struct holder *a, const struct holder *b)
{
	return is_stranger(a) > is_stranger(b) ||
	       (is_stranger(a) == is_stranger(b) && a->held > b->held);
}

/* In a namespace that does not map this user, a stranger with our user ID may be anybody. */
static void add_stranger(struct line *line, const struct holder *holder)
{
	line_add(line, !holder->remote && holder->uid == geteuid()
			       ? ", where all users look the same"
			       : ", neither this user nor root");
}

/* If the line of /etc/passwd is UID's, adds the name in it, MOST bytes of it, to LINE. */
static bool add_name_from(struct line *line, const char *entry, size_t length, const char *uid,
			  size_t most)
{
	const char *end = entry + length, *name_end = memchr(entry, ':', length), *at;

	if (!name_end)
		return false;
	at = memchr(name_end + 1, ':', (size_t)(end - name_end) - 1);
	if (!at || (size_t)(end - ++at) <= strlen(uid) || memcmp(at, uid, strlen(uid)) != 0 ||
	    at[strlen(uid)] != ':')
		return false;
	line_escape(line, entry, (size_t)(name_end - entry), most);
	return true;
}

/*
 * Adds the user's name, or its number where /etc/passwd has none. Not getpwuid(3): it would bring
 * stdio and malloc in.
 */
static void add_user(struct line *line, uid_t uid, size_t most)
{
	char text[4096], number[NUMBER_TEXT_SIZE], *newline;
	size_t have = 0;
	ssize_t n;
	bool found = false;
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);

	number_format(uid, number);
	while (fd >= 0 && !found && have < sizeof text &&
	       (n = read(fd, text + have, sizeof text - have)) > 0) {
		char *entry = text;

		have += (size_t)n;
		while (!found && (newline = memchr(entry, '\n', have))) {
			found = add_name_from(line, entry, (size_t)(newline - entry), number, most);
			have -= (size_t)(newline + 1 - entry);
			entry = newline + 1;
		}
		memmove(text, entry, have);
	}
	if (fd >= 0)
		close(fd);
	if (!found) {
		line_add(line, "uid ");
		line_add(line, number);
	}
}

/* The whole command line only of this user's processes, or for root. Returns its length. */
static size_t read_command(const struct holder *holder, char *text, size_t size)
{
	bool whole = geteuid() == 0 || (holder->uid_known && trust_is_self(holder->uid));

	return process_command(holder->pid, whole, text, size);
}

static void add_command(struct line *line, const struct holder *holder)
{
	const struct remote_holder *remote = holder->remote;
	char command[COMMAND_SHOWN];
	const char *known = remote ? remote->command : holder->command;
	size_t length = known ? strlen(known) : 0;

	if (!remote && !known) {
		length = read_command(holder, command, sizeof command);
		known = command;
	}
	if (length == 0)
		return;
	line_add(line, ": ");
	line_escape(line, known, length, remote ? LINE_FOREIGN : COMMAND_SHOWN);
}

void holder_keep_command(struct holder *holder, char *text, size_t size)
{
	text[read_command(holder, text, size - 1)] = 0;
	holder->command = text;
}

/* How much of a name of a user or a host is shown; briefly, room for the most usual ones. */
#define NAME_SHOWN 64
#define NAME_SHOWN_BRIEFLY 12

static const char *const beginnings[] = {
	[HOLDER_HELD] = "held by ",
	[HOLDER_AWAITED] = "waiting for ",
	[HOLDER_AWAITED_BRIEFLY] = "waiting for ",
	[HOLDER_ENDED] = "ended ",
	[HOLDER_REPLACER] = "replaced by ",
};

static void describe_hidden(const struct holder *holder, enum holder_form form, struct line *line)
{
	line_add(line, beginnings[form]);
	line_add(line, "a hidden process (");
	line_add(line, holder->hidden);
	if (is_stranger(holder)) {
		line_add(line, "; the user is ");
		add_user(line, holder->uid, NAME_SHOWN);
		add_stranger(line, holder);
	}
	line_add(line, ")");
}

static void add_pid(const struct holder *holder, enum holder_form form, struct line *line)
{
	const struct remote_holder *remote = holder->remote;
	size_t most = form == HOLDER_AWAITED_BRIEFLY ? NAME_SHOWN_BRIEFLY : NAME_SHOWN;

	line_add(line, "pid ");
	line_number(line, (uint64_t)holder->pid);
	if (remote ? remote->user != NULL : holder->uid_known) {
		line_add(line, " (");
		if (remote)
			line_escape(line, remote->user, strlen(remote->user), most);
		else
			add_user(line, holder->uid, most);
		if (form == HOLDER_HELD && is_stranger(holder))
			add_stranger(line, holder);
		line_add(line, ")");
	}
	if (remote && remote->host) {
		line_add(line, " on ");
		line_escape(line, remote->host, strlen(remote->host), most);
	}
}

/* A holder that is not a me-only: what is known of it is printed as it is. */
static void describe_other(const struct holder *holder, enum holder_form form, struct line *line)
{
	line_add(line, beginnings[form]);
	line_escape(line, holder->remote->command, strlen(holder->remote->command), LINE_FOREIGN);
}

/* What is unusual about the holder. */
static void add_state(const struct holder *holder, struct line *line, const char *end)
{
	if (holder->descendant) {
		line_add(line, ", left running by a command that has ended");
		line_add(line, end);
	}
	if (holder->remote && holder->remote->kept) {
		line_add(line, ", whose command has ended (--hold-for)");
		line_add(line, end);
	}
	/* With a command that was kept it has ended. */
	if (!holder->remote && !holder->command && process_is_stopped(holder->pid)) {
		line_add(line, ", which is stopped");
		line_add(line, end);
	}
}

static void add_age(const struct holder *holder, struct line *line)
{
	if (holder->at_most)
		line_add(line, "at most ");
	line_duration(line, holder->held);
}

void holder_describe_waiter(const struct holder *waiter, unsigned n, struct line *line)
{
	if (waiter->pid)
		add_pid(waiter, HOLDER_HELD, line);
	else
		line_add(line, "someone");
	if (n > 1) {
		line_add(line, n > 2 ? " and " : " and one other");
		if (n > 2)
			line_number(line, n - 1);
		line_add(line, n > 2 ? " others wait" : " wait");
	} else {
		line_add(line, " waits");
	}
}

void holder_describe_slots(size_t used, size_t slots, struct line *line)
{
	const bool all = used >= slots;

	if (!all)
		line_number(line, used);
	line_add(line, all ? "all " : " of ");
	line_number(line, slots);
	line_add(line, " slots are in use");
	if (all)
		return;
	line_add(line, ", ");
	line_number(line, slots - used);
	line_add(line, slots - used == 1 ? " is free" : " are free");
}

/* The age comes early: a narrow terminal shows only the beginning. */
static void describe_awaited(const struct holder *holder, enum holder_form form, struct line *line)
{
	if (holder->held >= 0) {
		line_add(line, form == HOLDER_ENDED ? " after " : ", ");
		add_age(holder, line);
	}
	if (is_stranger(holder))
		add_stranger(line, holder);
	add_state(holder, line, "");
}

static void describe_held(const struct holder *holder, struct line *line)
{
	add_state(holder, line, holder->held >= 0 ? "," : "");
	if (holder->held >= 0) {
		line_add(line, " for ");
		add_age(holder, line);
	}
}

void holder_describe(const struct holder *holder, enum holder_form form, struct line *line)
{
	if (holder->remote && holder->remote->other) {
		describe_other(holder, form, line);
		return;
	}
	if (holder->pid == 0) {
		describe_hidden(holder, form, line);
		return;
	}
	line_add(line, beginnings[form]);
	add_pid(holder, form, line);
	if (form == HOLDER_HELD)
		describe_held(holder, line);
	else
		describe_awaited(holder, form, line);
	add_command(line, holder);
	if (holder->descendant && form != HOLDER_ENDED)
		line_add(line, " (with -o the lock ends with the command)");
}
