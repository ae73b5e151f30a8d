/* --verbose: a run's trace, one line for each step, with the time. */
#ifndef TRACE_H
#define TRACE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/message.h"
#include "lock.h"
#include "options.h"

/*
 * What has happened. To be called with --verbose only: without it not even this code's pages are
 * touched.
 */
void trace(const struct lock *lock, const char *what);
void trace_held(const struct options *options, const struct lock *lock, int64_t waited);
void trace_start(const struct options *options, const struct lock *lock, pid_t command);
void trace_end(const struct lock *lock, int status, int64_t ran);

#endif
