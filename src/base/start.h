/* Starts a process that shares our memory until it executes a program or exits. */
#ifndef BASE_START_H
#define BASE_START_H

#include <sys/types.h>

/*
 * Runs FUNCTION(ARGUMENT) in a new process. FUNCTION must not return: it executes a program or
 * calls _exit(). Until then this process waits, as with vfork(2), and sees what FUNCTION writes.
 * Returns the new process's pid, or a negative errno.
 */
pid_t start_process(void (*function)(void *argument), void *argument);

#endif
