/*
 * Helpers: programs of this package that need more than libc.
 *
 * A helper is looked for in the directory that ME_ONLY_EXEC_PATH names; else beside the program, as
 * in the build tree or an installed tree; else in the configured place. The variable is ignored
 * where the program has more rights than its caller. A helper that others can write, or in a
 * directory that others can write, is refused.
 */
#ifndef HELPER_START_H
#define HELPER_START_H

#include <limits.h>

/* Others can write the helper or its directory. Below every negative errno. */
#define HELPER_REFUSED (-5000)

/*
 * Becomes the helper NAME with the arguments ARGV. The first one tells it where me-only is:
 * PROGRAM, or this program if that is NULL. Returns only on failure: HELPER_REFUSED or a negative
 * errno, with the file in PATH.
 */
int helper_become(const char *name, const char *program, char **argv, char path[PATH_MAX]);

#endif
