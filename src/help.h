/* -h, --help and --version. */
#ifndef HELP_H
#define HELP_H

#include <stdbool.h>

/*
 * Writes the help, or the version, to standard output. Returns 0 or a negative errno.
 * What is BRIEF fits a screen of 24 lines.
 */
int help_print(bool brief);
int version_print(void);

#endif
