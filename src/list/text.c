#include "list/text.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "base/deadline.h"
#include "base/duration.h"
#include "base/memory.h"
#include "base/message.h"
#include "base/number.h"
#include "base/process.h"
#include "base/trust.h"
#include "holder.h"
#include "lock.h"

/* How many bytes fit into a line if each takes four. */
#define PIECE 1000

/* At most this much is read of a process's arguments and environment. */
#define MOST_READ (8U << 20)

/* "host:" */
static const char engine[] = "host:";

/*
 * How many of the first N bytes can be escaped without looking at the rest: no character is split.
 */
static size_t piece_of(const char *bytes, size_t n)
{
	size_t at = PIECE;

	if (n <= PIECE)
		return n;
	while (at > PIECE - 4 && ((unsigned char)bytes[at] & 0xc0) == 0x80)
		at--;
	/* No character is longer. */
	return at > PIECE - 4 ? at : PIECE;
}

char *text_escaped(const char *bytes, size_t n)
{
	struct line *line = memory_get(sizeof *line);
	char *text = memory_get(n * 4 + 1), *end = text;

	while (n > 0) {
		size_t piece = piece_of(bytes, n);

		line->length = 0;
		line_escape(line, bytes, piece, sizeof line->text - 1);
		memcpy(end, line->text, line->length);
		end += line->length;
		bytes += piece;
		n -= piece;
	}
	*end = 0;
	free(line);
	return text;
}

char *text_printable(char *text)
{
	mbstate_t state = { 0 };
	char *shown, *out;

	if (!text)
		return NULL;
	shown = out = memory_get(strlen(text) * 4 + 1);
	for (const char *at = text; *at;) {
		wchar_t character;
		size_t n = mbrtowc(&character, at, MB_CUR_MAX, &state);

		if (n > 0 && n < (size_t)-2 && wcwidth(character) >= 0) {
			out = mempcpy(out, at, n);
		} else {
			if (n == 0 || n >= (size_t)-2) {
				n = 1;
				state = (mbstate_t){ 0 };
			}
			for (size_t i = 0; i < n; i++)
				out += sprintf(out, "\\x%02x", (unsigned char)at[i]);
		}
		at += n;
	}
	free(text);
	return shown;
}

/* The width of the character at *AT, which is moved behind it. */
static size_t next_width(const char **at, mbstate_t *state)
{
	wchar_t character;
	size_t n = mbrtowc(&character, *at, MB_CUR_MAX, state);
	int wide;

	if (n == 0 || n >= (size_t)-2) {
		*state = (mbstate_t){ 0 };
		++*at;
		return 1;
	}
	*at += n;
	wide = wcwidth(character);
	return wide > 0 ? (size_t)wide : 0;
}

size_t text_width(const char *text)
{
	mbstate_t state = { 0 };
	size_t width = 0;

	while (*text)
		width += next_width(&text, &state);
	return width;
}

void text_cut(char *text, size_t columns)
{
	mbstate_t state = { 0 };
	size_t used = 0, dots = columns < 3 ? columns : 3;
	char *end = text; /* up to here there is also room for the dots */

	for (const char *at = text; *at;) {
		used += next_width(&at, &state);
		if (used > columns) {
			memset(end, '.', dots);
			end[dots] = 0;
			return;
		}
		if (used + dots <= columns)
			end = text + (at - text);
	}
}

/*
 * How many bytes of TEXT make a line of at most COLUMNS: up to its last blank, or where there is
 * none, as many as fit.
 */
static size_t line_of(const char *text, size_t columns)
{
	mbstate_t state = { 0 };
	size_t used = 0, blank = 0, fits = 0;

	for (const char *at = text; *at;) {
		if (*at == ' ')
			blank = (size_t)(at - text);
		used += next_width(&at, &state);
		if (used > columns)
			return blank ? blank : fits ? fits : (size_t)(at - text);
		fits = (size_t)(at - text);
	}
	return fits;
}

char *text_wrapped(char *text, size_t columns)
{
	static const char indent[] = "  ";
	char *wrapped, *out;
	const char *at = text;

	if (columns <= sizeof indent)
		return text;
	/* In the worst case each byte begins a line. */
	wrapped = out = memory_get((strlen(text) + 1) * (sizeof indent + 1));
	while (*at) {
		bool first = at == text;
		size_t n = line_of(at, first ? columns : columns - (sizeof indent - 1));

		out = mempcpy(stpcpy(out, first ? "" : indent), at, n);
		at += n;
		while (*at == ' ')
			at++;
		if (*at)
			*out++ = '\n';
	}
	free(text);
	return wrapped;
}

char *text_number(uint64_t n)
{
	char text[NUMBER_TEXT_SIZE];

	number_format(n, text);
	return memory_string(text);
}

char *text_in_parentheses(const char *text)
{
	char *out = memory_get(strlen(text) + 3);

	stpcpy(stpcpy(stpcpy(out, "("), text), ")");
	return out;
}

char *text_seconds(int64_t ns)
{
	char text[64];

	/* By hand: a locale may have a comma. */
	(void)snprintf(text, sizeof text, "%s%lld.%06lld", ns < 0 ? "-" : "", llabs(ns / NS_PER_S),
		       llabs(ns % NS_PER_S / 1000));
	return memory_string(text);
}

char *text_age(int64_t ns, bool at_most)
{
	char text[DURATION_TEXT_SIZE + 1] = "<";

	duration_format(ns, text + 1);
	return memory_string(text + !at_most);
}

static char *format_time(const char *format, int64_t ns)
{
	time_t seconds = (time_t)(ns / NS_PER_S);
	struct tm parts;
	char text[64];

	return localtime_r(&seconds, &parts) && strftime(text, sizeof text, format, &parts)
		       ? memory_string(text)
		       : NULL;
}

char *text_day_or_time(int64_t ns)
{
	char *day = format_time("%Y-%m-%d", ns),
	     *today = format_time("%Y-%m-%d", clock_now(CLOCK_REALTIME)), *shown = day;

	if (day && today && !strcmp(day, today)) {
		free(day);
		shown = format_time("%H:%M:%S", ns);
	}
	free(today);
	return shown;
}

/* Not getpwuid(3): it may ask servers, and messages have their names from /etc/passwd alone. */
static char *read_user(uid_t uid)
{
	FILE *file = fopen("/etc/passwd", "re");
	const struct passwd *entry;
	char *name = NULL;

	while (file && !name && (entry = fgetpwent(file)))
		if (entry->pw_uid == uid)
			name = text_escaped(entry->pw_name, strlen(entry->pw_name));
	if (file)
		(void)fclose(file);
	return name;
}

char *text_user(uid_t uid)
{
	static uid_t last;
	static char *name;
	static bool known;

	/* Locks of one user come in thousands. */
	if (!known || last != uid) {
		free(name);
		name = read_user(uid);
		last = uid;
		known = true;
	}
	return name ? memory_string(name) : NULL;
}

char *text_command(pid_t pid, uid_t uid)
{
	bool whole = geteuid() == 0 || trust_is_self(uid);
	char *bytes = NULL, *text;
	size_t size = 2048, n;

	do {
		size *= 2;
		free(bytes);
		bytes = memory_get(size);
		n = process_command(pid, whole, bytes, size);
	} while (n == size && size < MOST_READ);
	text = n > 0 ? text_escaped(bytes, n) : NULL;
	free(bytes);
	return text;
}

const char *text_state(char letter)
{
	switch (letter) {
	case 'R': return "running";
	case 'S': return "sleeping";
	case 'D': return "blocked";
	case 'T': return "stopped";
	case 't': return "traced";
	case 'Z': return "zombie";
	case 'X': return "dead";
	case 'I': return "idle";
	default: return NULL;
	}
}

char *text_strings(pid_t pid, const char *file, size_t *n)
{
	char path[PROCESS_PATH_SIZE], *bytes = NULL;
	size_t room = 0;
	ssize_t got = 0;
	int fd;

	fd = open(process_path(path, pid, file), O_RDONLY | O_CLOEXEC);
	*n = 0;
	do {
		*n += (size_t)got;
		/* One byte stays for a NUL. */
		if (*n + 1 >= room) {
			room = room ? room : 2048;
			bytes = memory_grow(bytes, room, &room, 1);
		}
		got = fd < 0 || *n >= MOST_READ ? 0 : read(fd, bytes + *n, room - *n - 1);
	} while (got > 0);
	bytes[*n] = 0;
	if (fd >= 0)
		close(fd);
	return bytes;
}

/* --- the name of a lock ----------------------------------------------------------------------- */

#define BEGINNING 44 /* how much of a long name is in its address: host/address.h */

static bool is_name_of(const char *name, const struct host_address *address)
{
	struct host_address named = { 0 };

	if (!*name)
		return false;
	host_address(&named, name);
	return named.length == address->length &&
	       !memcmp(named.un.sun_path, address->un.sun_path,
		       named.length - offsetof(struct sockaddr_un, sun_path));
}

/* The name in the command's environment, if it is this lock's. */
static char *name_from_environment(pid_t pid, const struct host_address *address)
{
	static const char variable[] = "ME_ONLY_LOCK=";
	size_t n;
	char *environment = text_strings(pid, "environ", &n), *name = NULL;

	for (const char *at = environment; !name && at < environment + n; at += strlen(at) + 1) {
		const char *value = at + sizeof variable - 1;

		if (strncmp(at, variable, sizeof variable - 1) != 0)
			continue;
		if (is_name_of(value, address))
			name = memory_string(value);
		else if (!strncmp(value, engine, sizeof engine - 1) &&
			 is_name_of(value + sizeof engine - 1, address))
			name = memory_string(value + sizeof engine - 1);
	}
	free(environment);
	return name;
}

/* NAME as LOCK: with its engine's prefix if it would be taken for something else. */
static char *as_lock(const char *name)
{
	struct usage_error error;
	struct lock lock;
	bool plain = lock_open(&lock, name, &error) == 0 && lock.name == name;
	size_t length = strlen(name), before = plain ? 0 : sizeof engine - 1;
	char *bytes = memory_get(before + length), *text;

	memcpy(bytes, engine, before);	      // NOLINT(bugprone-not-null-terminated-result)
	memcpy(bytes + before, name, length); // NOLINT(bugprone-not-null-terminated-result)
	text = text_escaped(bytes, before + length);
	free(bytes);
	return text;
}

char *text_lock(const struct host_address *address, const char *name, pid_t job)
{
	const char *path = address->un.sun_path + sizeof "me-only:";
	size_t length =
		address->length - offsetof(struct sockaddr_un, sun_path) - sizeof "me-only:";
	char *found = NULL, *text, *beginning;

	if (!name && path[-1] == ':')
		name = found = memcpy(memory_get(length + 1), path, length);
	if (!name && job > 0)
		name = found = name_from_environment(job, address);
	if (name) {
		text = as_lock(name);
	} else {
		beginning = text_escaped(path, BEGINNING);
		text = memory_get(strlen(beginning) + 4);
		stpcpy(stpcpy(text, beginning), "...");
		free(beginning);
	}
	free(found);
	return text;
}
