/*
 * The descriptor of a lock. It is never 0, 1 or 2; the command's is 60 or above, where no script's
 * "exec 3>log" finds it.
 */
#ifndef BASE_DESCRIPTOR_H
#define BASE_DESCRIPTOR_H

#include <stdbool.h>

/*
 * Moves FD away from standard input, output and error, if these were closed when we were started,
 * and fills their places, so that none of our descriptors is ever read or written instead. Exec
 * closes them again: the command finds them as they were. Returns the new descriptor, or a negative
 * errno; then FD is closed.
 */
int descriptor_off_stdio(int fd);

/*
 * Duplicates FD, which is close-on-exec, so that the duplicate stays open in exec. Returns 0 or a
 * negative errno.
 */
int descriptor_pass(int fd);

/* Closes all descriptors from FIRST on but A and B (-1: none). */
void descriptor_close_others(int first, int a, int b);

/* Whether TEST is true of one of our inherited descriptors. */
bool descriptor_inherited(bool (*test)(int fd, void *argument), void *argument);

#endif
