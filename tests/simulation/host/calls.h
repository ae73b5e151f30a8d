/*
 * The system calls of the project's sources: the linker leads each call of socket() to
 * __wrap_socket() here (ld --wrap). Each is a point at which others may run, and then what the
 * simulated kernel does.
 */
#ifndef CALLS_H
#define CALLS_H

#include "schedule.h"

/* A system call begins: others may run first. */
void enter(void);

/* As libc returns what the kernel has returned. */
long result(long r);

/* "EAGAIN" or the number, for traces. */
const char *show_result(long r);

/* In worlds in which calls fail for want of descriptors or memory: whether this one does. */
bool is_refused(const char *what);

/* The program has learnt a call that the model does not know. */
_Noreturn void not_simulated(const char *call, long number);

/* For commands. */
pid_t __wrap_waitpid(pid_t pid, int *status, int options);

#endif
