#include "base/message.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/duration.h"
#include "base/number.h"
#include "base/statx.h"

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
 * How long a line may wait for room: somebody may have stopped the terminal, or not read the pipe.
 * Then it is lost, as a line that cannot be written is.
 */
#define PATIENCE (2 * NS_PER_S)

/* Where there is some room, but not enough for us, we look again this often. */
#define LOOK_AGAIN_MS 10

/*
 * --- writing without blocking --------------------------------------------------------------------
 *
 * A write can block although there was room: others write as well. O_NONBLOCK would be set for all
 * who share the open file, so a pipe or a terminal is opened once more. Where that is not allowed,
 * we write when there is room.
 */

/* Returns a descriptor for writing to what standard error is; -1: there is none but that itself. */
static int open_again(const struct statx *status)
{
	struct winsize size;
	unsigned number;

	/* To open the master of a pseudo terminal would make another one. */
	if (!S_ISFIFO(status->stx_mode) &&
	    !(S_ISCHR(status->stx_mode) && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 &&
	      ioctl(STDERR_FILENO, TIOCGPTN, &number) != 0))
		return -1;
	return open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* As write(2) to standard error. */
static ssize_t write_once(const char *text, size_t length)
{
	struct statx status;
	int fd, kept;
	ssize_t n;

	if (syscall(SYS_statx, STDERR_FILENO, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status))
		return write(STDERR_FILENO, text, length);
	if (S_ISSOCK(status.stx_mode))
		return send(STDERR_FILENO, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
	fd = open_again(&status);
	if (fd < 0)
		return write(STDERR_FILENO, text, length);
	n = write(fd, text, length);
	kept = errno;
	close(fd);
	errno = kept;
	return n;
}

/* Whether there is room before DEADLINE, or that cannot be known. */
static bool has_room(int64_t deadline)
{
	struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
	int r;

	do
		r = poll(&out, 1, deadline_poll_timeout(deadline));
	while (r < 0 && errno == EINTR && deadline_now() < deadline);
	return r > 0 || (r < 0 && errno != EINTR);
}

/* Writes all of it, or what can be written before DEADLINE. Returns 0 or what has failed. */
static int write_until(const char *text, size_t length, int64_t deadline)
{
	while (length > 0) {
		ssize_t n = has_room(deadline) ? write_once(text, length) : 0;

		if (n > 0) {
			text += n;
			length -= (size_t)n;
		} else if (n == 0) {
			return ETIMEDOUT;
		} else if (errno == EAGAIN) {
			if (deadline_now() >= deadline)
				return EAGAIN;
			poll(NULL, 0, LOOK_AGAIN_MS);
		} else if (errno != EINTR) {
			return errno;
		}
	}
	return 0;
}

/*
 * Blocks what writing may raise. The first two are taken away again: a pipe without a reader, or a
 * file at its limit, would end us. A terminal in whose background we are would stop us.
 */
static int write_quietly(const char *text, size_t length, int64_t deadline)
{
	static const int raised[] = { SIGPIPE, SIGXFSZ, SIGTTOU };
	const struct timespec now = { 0 };
	sigset_t ours, before, one;
	int error;

	sigemptyset(&ours);
	for (size_t i = 0; i < sizeof raised / sizeof *raised; i++)
		sigaddset(&ours, raised[i]);
	sigprocmask(SIG_BLOCK, &ours, &before);
	error = write_until(text, length, deadline);
	for (size_t i = 0; i < sizeof raised / sizeof *raised; i++)
		if (sigismember(&before, raised[i]))
			sigdelset(&ours, raised[i]);
	sigemptyset(&one);
	sigaddset(&one, error == EPIPE ? SIGPIPE : SIGXFSZ);
	if ((error == EPIPE && sigismember(&ours, SIGPIPE)) ||
	    (error == EFBIG && sigismember(&ours, SIGXFSZ)))
		sigtimedwait(&one, NULL, &now);
	/* Not SIG_SETMASK: musl would drop three real-time signals from the mask. */
	sigprocmask(SIG_UNBLOCK, &ours, NULL);
	return error;
}

bool line_write_if_ready(const char *text, size_t length)
{
	int kept = errno, error = write_quietly(text, length, 0);

	errno = kept;
	return error == 0;
}

void line_end(struct line *line)
{
	int kept = errno;

	line->text[line->length++] = '\n';
	write_quietly(line->text, line->length, deadline_in(PATIENCE));
	errno = kept;
}

bool line_end_if_ready(struct line *line)
{
	bool written;

	line->text[line->length++] = '\n';
	written = line_write_if_ready(line->text, line->length);
	if (!written)
		line->length--;
	return written;
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

bool message_if_ready(const char *subject, const char *text)
{
	struct line line;

	begin(&line, subject, text, 0);
	return line_end_if_ready(&line);
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
