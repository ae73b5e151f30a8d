#include "base/message.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/duration.h"
#include "base/number.h"

static void add(struct line *line, const char *bytes, size_t n)
{
	size_t room = LINE_SIZE - 1 - line->length; /* one byte is for the newline */

	if (n > room)
		n = room;
	memcpy(line->text + line->length, bytes, n);
	line->length += n;
}

void line_add(struct line *line, const char *text)
{
	add(line, text, strlen(text));
}

void line_number(struct line *line, uint64_t n)
{
	char text[NUMBER_TEXT_SIZE];

	number_format(n, text);
	line_add(line, text);
}

void line_duration(struct line *line, int64_t ns)
{
	char text[DURATION_TEXT_SIZE];

	duration_format(ns, text);
	line_add(line, text);
}

static void add_two_digits(struct line *line, int64_t n)
{
	if (n < 10)
		line_add(line, "0");
	line_number(line, (uint64_t)n);
}

static bool is_leap(int64_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

void line_time(struct line *line, int64_t now)
{
	static const char lengths[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
	int64_t day = now / 86400, second = now % 86400, year = 1970;
	int month = 0;

	/* A loop is slow, and short. Libc's gmtime() would be a fiftieth of the whole program. */
	for (; day >= 365 + is_leap(year); year++)
		day -= 365 + is_leap(year);
	for (; day >= lengths[month] + (month == 1 && is_leap(year)); month++)
		day -= lengths[month] + (month == 1 && is_leap(year));
	line_number(line, (uint64_t)year);
	line_add(line, "-");
	add_two_digits(line, month + 1);
	line_add(line, "-");
	add_two_digits(line, day + 1);
	line_add(line, "T");
	add_two_digits(line, second / 3600);
	line_add(line, ":");
	add_two_digits(line, second / 60 % 60);
	line_add(line, ":");
	add_two_digits(line, second % 60);
	line_add(line, "Z");
}

/* Written only with --verbose: without it not even this page is touched. */
static bool timed;

void message_with_times(void)
{
	timed = true;
}

void line_begin(struct line *line)
{
	line->length = 0;
	line_add(line, "me-only: ");
	if (timed) {
		line_time(line, clock_now(CLOCK_REALTIME) / NS_PER_S);
		line_add(line, " ");
	}
}

/*
 * The length of the UTF-8 character at BYTES and its code point; 0 if it is invalid (also overlong,
 * surrogate, cut off).
 */
static size_t utf8_decode(const unsigned char *bytes, size_t n, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t length = bytes[0] < 0x80	      ? 1
			: bytes[0] >> 5 == 6  ? 2
			: bytes[0] >> 4 == 14 ? 3
			: bytes[0] >> 3 == 30 ? 4
					      : 0;

	if (length == 0 || length > n)
		return 0;
	*code = length == 1 ? bytes[0] : bytes[0] & (0x7fu >> length);
	for (size_t i = 1; i < length; i++) {
		if (bytes[i] >> 6 != 2)
			return 0;
		*code = *code << 6 | (bytes[i] & 0x3f);
	}
	return *code < least[length] || *code > 0x10ffff || (*code >= 0xd800 && *code <= 0xdfff)
		       ? 0
		       : length;
}

/* Characters that move the cursor, end the line or change the direction of text. */
static bool is_harmful(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e ||
	       code == 0x200f || (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2066 && code <= 0x2069);
}

void line_escape(struct line *line, const char *bytes, size_t n, size_t max)
{
	static const char hex[] = "0123456789abcdef";
	size_t end = line->length + max;

	for (size_t i = 0; i < n;) {
		const unsigned char *at = (const unsigned char *)bytes + i;
		uint32_t code = 0;
		size_t length = utf8_decode(at, n - i, &code);
		char shown[4] = { '\\', 'x', hex[*at >> 4], hex[*at & 15] };

		if (line->length + sizeof shown > end) {
			line_add(line, "...");
			return;
		}
		if (*at == '\\') {
			line_add(line, "\\\\");
			i++;
		} else if (length == 0 || is_harmful(code)) {
			/*
			 * Every byte of a harmful character is escaped: its other bytes alone are
			 * not UTF-8.
			 */
			add(line, shown, sizeof shown);
			i++;
		} else {
			add(line, bytes + i, length);
			i += length;
		}
	}
}

/*
 * Writes to standard error. Swallows the SIGPIPE of a pipe without a reader: it would lose our exit
 * status.
 */
static void write_quietly(const char *text, size_t length)
{
	sigset_t pipe_only, before;
	const struct timespec now = { 0 };

	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	sigprocmask(SIG_BLOCK, &pipe_only, &before);
	while (length > 0) {
		ssize_t n = write(STDERR_FILENO, text, length);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		text += n;
		length -= (size_t)n;
	}
	if (length > 0 && errno == EPIPE && !sigismember(&before, SIGPIPE))
		sigtimedwait(&pipe_only, NULL, &now);
	/* Not SIG_SETMASK: musl would drop three real-time signals from the mask. */
	if (!sigismember(&before, SIGPIPE))
		sigprocmask(SIG_UNBLOCK, &pipe_only, NULL);
}

void line_end(struct line *line)
{
	int kept = errno;

	line->text[line->length++] = '\n';
	write_quietly(line->text, line->length);
	errno = kept;
}

void line_end_if_ready(struct line *line)
{
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };

	if (poll(&out, 1, 0) > 0)
		line_end(line);
}

void line_begin_about(struct line *line, const char *subject)
{
	line_begin(line);
	if (*subject)
		line_escape(line, subject, strlen(subject), LINE_SUBJECT);
	else
		line_add(line, "''");
	line_add(line, ": ");
}

static void begin(struct line *line, const char *subject, const char *text, int error)
{
	line_begin_about(line, subject);
	line_add(line, text);
	if (error) {
		line_add(line, ": ");
		line_add(line, strerror(error));
	}
}

void message(const char *subject, const char *text, int error)
{
	struct line line;

	begin(&line, subject, text, error);
	line_end(&line);
}

const char *message_limit(int error)
{
	switch (error) {
	case EMFILE: return " (the limit is ulimit -n)";
	case ENFILE: return " (the limit is fs.file-max)";
	case EAGAIN: return " (the limit is ulimit -u, or pids.max of the cgroup)";
	default: return "";
	}
}

static const char *advice(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
	case EAFNOSUPPORT:
		return " (a policy forbids it: AppArmor, SELinux, seccomp, or RestrictAddressFamilies= of a service)";
	default: return message_limit(error);
	}
}

void message_failure(const char *subject, const char *text, int error)
{
	struct line line;

	begin(&line, subject, text, error);
	line_add(&line, advice(error));
	line_end(&line);
}
