/*
 * The descriptor that a lock is. It is never 0, 1 or 2; the command's is 60 or above, where no script's "exec 3>log" finds it.
 */
#ifndef BASE_DESCRIPTOR_H
#define BASE_DESCRIPTOR_H

#include <stdbool.h>

/*
 * Moves FD away from standard input, output and error, if these were closed when we were started, and fills their places, so that
 * no descriptor of ours is ever read or written instead. exec closes them again: the command finds them as they were. Returns
 * where it is then, or a negative errno; FD is closed in that case.
 */
int descriptor_off_stdio(int fd);

/* Lets a duplicate of FD, which is close-on-exec, stay open in exec. Returns 0 or a negative errno. */
int descriptor_pass(int fd);

/* Whether TEST says of one of the descriptors that we have inherited that it is what is looked for. */
bool descriptor_inherited(bool (*test)(int fd, void *argument), void *argument);

#endif
