/*
 * Messages: one line each on standard error, beginning "me-only: ".
 *
 * A line is built piece by piece in a buffer and written at once, so that lines of several
 * processes do not mix. No stdio: it costs memory and pages in a program that is started for every
 * job.
 */
#ifndef BASE_MESSAGE_H
#define BASE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a pipe takes in one piece (PIPE_BUF). The rest is left out. */
#define LINE_SIZE 4096

/* How much of a name or path a line shows: enough for any that a person wrote. */
#define LINE_SUBJECT 1024

/* The same for text from a server or another host. */
#define LINE_FOREIGN 200

struct line {
	size_t length;
	char text[LINE_SIZE];
};

/* From now on every line has the time before its text, as "2026-11-23T16:45:19Z". */
void message_with_times(void);

/* Begins a line with "me-only: ". */
void line_begin(struct line *line);

/* Begins a line with "me-only: SUBJECT: ". SUBJECT is escaped. */
void line_begin_about(struct line *line, const char *subject);

/* Adds our own TEXT as it is. */
void line_add(struct line *line, const char *text);

/* Adds N in decimal. */
void line_number(struct line *line, uint64_t n);

/* Adds NS nanoseconds in the form of duration_format(). */
void line_duration(struct line *line, int64_t ns);

/* Adds NOW, seconds since 1970, as "2026-11-23T16:45:19Z". UTC: local time would need files. */
void line_time(struct line *line, int64_t now);

/*
 * Adds N bytes that others chose, so that they stay on one line and cannot reach the terminal:
 * control characters (C0, DEL, C1), bidirectional marks and what is not UTF-8 become \xNN, a
 * backslash becomes \\. Ends with "..." after MAX bytes of output.
 */
void line_escape(struct line *line, const char *bytes, size_t n, size_t max);

/*
 * Ends the line and writes it. Never ends or stops the process (SIGPIPE, SIGXFSZ, SIGTTOU), and
 * keeps errno. Waits at most two seconds for room, then the line is lost.
 */
void line_end(struct line *line);

/*
 * The same, but drops the line if writing it would block: a reader that does not read must not hold
 * up a lock. Returns whether it was written.
 */
bool line_end_if_ready(struct line *line);

/* The same for LENGTH bytes that are no line. */
bool line_write_if_ready(const char *text, size_t length);

/*
 * A whole line: "me-only: SUBJECT: TEXT", followed by ": " and the meaning of ERROR unless that is
 * zero. SUBJECT is escaped.
 */
void message(const char *subject, const char *text, int error);

/* A line without ERROR, as by line_end_if_ready(): while something else is due. */
bool message_if_ready(const char *subject, const char *text);

/*
 * The same, followed by what to do about ERROR if that is known. For our own failed system calls.
 */
void message_failure(const char *subject, const char *text, int error);

/* The limit that ERROR says was reached, in parentheses behind a blank; "" if it says none. */
const char *message_limit(int error);

#endif
