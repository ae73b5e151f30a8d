/* Becoming a command, and reporting why that failed. */
#ifndef RUN_EXEC_H
#define RUN_EXEC_H

/*
 * Executes COMMAND (NULL-terminated) with ENVIRONMENT. Looks it up in PATH, and hands a script
 * without "#!" to /bin/sh, as execvp(3) does (musl's has no such fallback). Returns only on
 * failure, with a negative errno.
 */
int exec_command(char *const command[], char *const environment[]);

/* Prints in one line why exec_command() failed with ERROR (positive). */
void exec_explain(char *const command[], int error);

#endif
