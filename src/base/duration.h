/* Durations as people write and read them. */
#ifndef BASE_DURATION_H
#define BASE_DURATION_H

#include <stddef.h>
#include <stdint.h>

/*
 * Reads a number with an optional fraction and a unit behind it: ms, s (default), m, h or d, or a
 * longer form such as "sec", "min" or "days"; or a sum of them, "1h30m"; or "inf", "infinity".
 * Returns 0 and the nanoseconds (DEADLINE_NEVER for "inf" and for more than 292 years), or -EINVAL.
 */
int duration_parse(const char *text, int64_t *ns);

#define DURATION_TEXT_SIZE 32

/*
 * Writes NS in its two largest units, "2h13m"; below ten seconds as "3.2s", below one as "300ms".
 */
void duration_format(int64_t ns, char text[DURATION_TEXT_SIZE]);

#endif
