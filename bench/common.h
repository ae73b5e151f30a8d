/* What the measuring programs share: the clock, lists of commands, starting a process and seeing it end well. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

/* The jobs' own times, CLOCK_MONOTONIC nanoseconds, in a file that everybody maps: see stamp.c. */
struct stamp {
    int64_t start, end;
};

/* Says what failed, with errno, and exits with 1: a benchmark that goes on after an error measures nothing. */
__attribute__((noreturn)) void die(const char *what);

/* Says how a program is used, and exits with 2. */
__attribute__((noreturn)) void usage(const char *text);

/* Says what a command did wrong, and exits with 1. */
__attribute__((noreturn)) void blame(const char *command, const char *what);

/* A decimal number, at least `least`; anything else ends the program. */
int number(const char *text, int least);

int64_t now(void);

/* Sleeps until the given time of now(). */
void sleep_until(int64_t when);

/*
 * The commands in `args`, each ended by an argument ";": cuts the list in place.
 * Returns how many there are; `commands` has room for `max` of them.
 */
int commands_split(char **args, char ***commands, int max);

/* Starts `argv` in the caller's environment, with `input` (or, if that is -1, the caller's) as its standard input. */
pid_t start(char **argv, int input);

/* Waits for the end of a process, which must be exit status 0; `usage` may be NULL. */
void finish(pid_t pid, const char *name, struct rusage *usage);

/*
 * Waits until the process sleeps, and still does so when it is looked at again a millisecond later, `looks` times in all:
 * it has got as far as it can without somebody else.
 */
void wait_asleep(pid_t pid, int looks);

/* Makes the file of stamps, all zero, and maps it. */
struct stamp *stamps_create(const char *path, int count);

/* Starts `command` followed by `STAMP FILE SLOT [hold]`; "@" at the end of an argument becomes `number`. */
pid_t start_stamped(char **command, char *const *stamp, int slot, int number, int input);

/* A job that holds until holder_release() says so. */
struct holder {
    pid_t pid;
    int release; /* the write end of its standard input */
};

/* Starts a holder and waits until its job runs. */
struct holder holder_start(char **command, char *const *stamp, int slot, int number, const struct stamp *stamps);
void holder_release(struct holder *holder);

#endif
