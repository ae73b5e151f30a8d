/* --verbose: the story of a run, one line for each step, with the time. */
#ifndef TRACE_H
#define TRACE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/message.h"
#include "lock.h"
#include "options.h"

/* Adds NOW, seconds since 1970, as "2026-11-23T16:45:19Z". UTC: the local time would need files. */
void story_time(struct line *line, int64_t now);

/* Begins LINE with "me-only: LOCK: ", and with --verbose with the time before LOCK. */
void story_begin(struct line *line, const struct options *options, const struct lock *lock);

/* What has happened. Each of these is to be called with --verbose only: without, not even their code is to be touched. */
void story(const struct options *options, const struct lock *lock, const char *what);
void story_held(const struct options *options, const struct lock *lock, int64_t waited);
void story_start(const struct options *options, const struct lock *lock, pid_t command);
void story_end(const struct options *options, const struct lock *lock, int status, int64_t ran);

#endif
