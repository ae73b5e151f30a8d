/* --help and --version. */
#ifndef HELP_H
#define HELP_H

/* Writes the help, or the version, to standard output. Returns 0 or a negative errno. */
int help_print(void);
int version_print(void);

#endif
