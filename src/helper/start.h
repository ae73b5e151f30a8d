/*
 * Helpers: programs of ours that need more than libc. They are part of the package, not of the program that runs jobs.
 *
 * A helper is looked for in the folder that the environment variable ME_ONLY_EXEC_PATH names, else beside the program (as in
 * the build tree, and wherever a tree was installed to), else where it was to be installed. The variable counts for nothing
 * where the program has more rights than its caller. A helper or a folder that others can write is refused.
 */
#ifndef HELPER_START_H
#define HELPER_START_H

#include <limits.h>

/* Others can write the helper or its folder. Below every negative errno. */
#define HELPER_REFUSED (-5000)

/*
 * Becomes the helper NAME with the arguments ARGV, the first of which tells it where me-only is: PROGRAM, or if that is NULL this
 * program. Returns only on failure: HELPER_REFUSED or a negative errno, with the file in PATH.
 */
int helper_become(const char *name, const char *program, char **argv, char path[PATH_MAX]);

#endif
