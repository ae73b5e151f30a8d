/* Becoming a command, and reporting why that failed. */
#ifndef RUN_EXEC_H
#define RUN_EXEC_H

#include <stdbool.h>

/*
 * Executes COMMAND (NULL-terminated) with ENVIRONMENT. Looks it up in PATH, and hands a script
 * without "#!" to /bin/sh, as execvp(3) does (musl's has no such fallback). Returns only on
 * failure, with a negative errno.
 */
int exec_command(char *const command[], char *const environment[]);

/* Prints in one line why exec_command() failed with ERROR (positive). */
void exec_explain(char *const command[], int error);

/*
 * Whether COMMAND is a shell that has nothing to read, started by a script that has become me-only.
 * This happens if a script that locks itself is piped to a shell ("cat x.sh | sh"): $0 is that
 * shell, which has read the script. COMMAND would do nothing, and exit with 0. Waits until there is
 * something to read, or until nothing will come.
 */
bool exec_reads_nothing(char *const command[]);

#endif
