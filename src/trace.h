/* --verbose: a run's trace, one line for each step, with the time. */
#ifndef TRACE_H
#define TRACE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/message.h"
#include "lock.h"
#include "options.h"

/* Adds NOW, seconds since 1970, as "2026-11-23T16:45:19Z". UTC: local time would need files. */
void trace_time(struct line *line, int64_t now);

/* Begins LINE with "me-only: LOCK: ", and with --verbose with the time before LOCK. */
void trace_begin(struct line *line, const struct options *options, const struct lock *lock);

/*
 * What has happened. To be called with --verbose only: without it not even this code's pages are
 * touched.
 */
void trace(const struct options *options, const struct lock *lock, const char *what);
void trace_name(const struct options *options, const struct lock *lock);
void trace_held(const struct options *options, const struct lock *lock, int64_t waited);
void trace_start(const struct options *options, const struct lock *lock, pid_t command);
void trace_end(const struct options *options, const struct lock *lock, int status, int64_t ran);

#endif
