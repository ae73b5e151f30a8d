/* The trace of a run: printed for people to read, or only hashed, to see that a seed gives the same
 * run everywhere. */
#ifndef JOURNAL_H
#define JOURNAL_H

#include <stdint.h>

enum trace_mode { TRACE_OFF, TRACE_PRINT, JOURNAL_HASH };

extern enum trace_mode trace_mode;

/* One line: NOW is the virtual time since the run began (ns), WHO the process. */
void trace_line(int64_t now, const char *who, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The hash of all lines since the last call. */
uint64_t trace_hash(void);

#endif
