/* Starting processes. */
#ifndef BASE_START_H
#define BASE_START_H

#include <sys/types.h>

/*
 * Runs FUNCTION(ARGUMENT) in a new process. FUNCTION must not return: it executes a program or
 * calls _exit(). Until then this process waits, as with vfork(2), and sees what FUNCTION writes.
 * Returns the new process's pid, or a negative errno.
 */
pid_t start_process(void (*function)(void *argument), void *argument);

/*
 * Starts a child that runs FUNCTION(ARGUMENT) in a copy of our memory, as after fork(2). FUNCTION
 * must not return. FLAGS as for clone(2). One system call: libc's fork makes five. Returns its pid,
 * or a negative errno.
 */
pid_t start_clone(int (*function)(void *argument), void *argument, int flags);

#endif
