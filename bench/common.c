#define _GNU_SOURCE
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 64, DEADLINE_S = 60 };

void die(const char *what)
{
    (void)fprintf(stderr, "bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

void usage(const char *text)
{
    (void)fprintf(stderr, "usage: %s\n", text);
    exit(2);
}

void blame(const char *command, const char *what)
{
    (void)fprintf(stderr, "bench: %s: %s\n", command, what);
    exit(1);
}

int number(const char *text, int least)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (end == text || *end || value < least || value > INT_MAX)
        blame(text, "not a number that makes sense");
    return (int)value;
}

int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void sleep_until(int64_t when)
{
    struct timespec t = {when / 1000000000, when % 1000000000};

    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

int commands_split(char **args, char ***commands, int max)
{
    int count = 0;

    while (*args) {
        if (count == max) {
            errno = E2BIG;
            die("commands");
        }
        commands[count++] = args;
        while (*args && strcmp(*args, ";") != 0)
            args++;
        if (*args)
            *args++ = NULL;
    }
    return count;
}

pid_t start(char **argv, int input)
{
    pid_t pid = vfork(); /* what is measured is the tool, so the harness pays as little as it can: no copied tables */

    if (pid == -1)
        die("vfork");
    if (pid == 0) {
        if (input == -1 || dup2(input, 0) != -1)
            execv(argv[0], argv);
        _exit(127);
    }
    return pid;
}

void finish(pid_t pid, const char *name, struct rusage *usage)
{
    int status;

    if (wait4(pid, &status, 0, usage) != pid)
        die("wait4");
    if (status != 0)
        blame(name, WIFSIGNALED(status) ? "ended by a signal" : "exit status is not 0");
}

static char process_state(pid_t pid)
{
    char path[40], text[512];
    ssize_t length;
    int fd;
    char *end;

    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd == -1)
        die(path);
    length = read(fd, text, sizeof text - 1);
    if (length <= 0)
        die(path);
    close(fd);
    text[length] = '\0';
    end = strrchr(text, ')'); /* the name before it may hold anything */
    return (char)(end ? end[2] : '?');
}

void wait_asleep(pid_t pid, int looks)
{
    int64_t deadline = now() + DEADLINE_S * (int64_t)1000000000;
    int asleep = 0;

    for (;;) {
        char state = process_state(pid);

        asleep = state == 'S' ? asleep + 1 : 0;
        if (asleep >= looks)
            return;
        if (state == 'Z' || now() > deadline) {
            errno = state == 'Z' ? ECHILD : ETIMEDOUT;
            die("a waiter that goes to sleep");
        }
        sleep_until(now() + 1000000);
    }
}

struct stamp *stamps_create(const char *path, int count)
{
    size_t size = (size_t)count * sizeof(struct stamp);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct stamp *stamps;

    if (fd == -1 || ftruncate(fd, (off_t)size) == -1)
        die(path);
    stamps = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (stamps == MAP_FAILED)
        die(path);
    close(fd);
    return stamps;
}

pid_t start_stamped(char **command, char *const *stamp, int slot, int number, int input)
{
    char *argv[ARGUMENTS_MAX], numbered[256], slot_text[12];
    int n = 0;

    for (; *command; command++) {
        size_t length = strlen(*command);

        if (n == ARGUMENTS_MAX - 5 || length >= sizeof numbered - 12) {
            errno = E2BIG;
            die(*command);
        }
        argv[n] = *command;
        if (length > 0 && (*command)[length - 1] == '@') {
            (void)snprintf(numbered, sizeof numbered, "%.*s%d", (int)length - 1, *command, number);
            argv[n] = numbered;
        }
        n++;
    }
    (void)snprintf(slot_text, sizeof slot_text, "%d", slot);
    argv[n++] = stamp[0];
    argv[n++] = stamp[1];
    argv[n++] = slot_text;
    if (input != -1)
        argv[n++] = (char[]){"hold"};
    argv[n] = NULL;
    return start(argv, input);
}

struct holder holder_start(char **command, char *const *stamp, int slot, int number, const struct stamp *stamps)
{
    const volatile struct stamp *mine = &stamps[slot];
    int64_t deadline = now() + DEADLINE_S * (int64_t)1000000000;
    int ends[2];
    struct holder holder;

    if (pipe2(ends, O_CLOEXEC) == -1)
        die("pipe");
    holder.pid = start_stamped(command, stamp, slot, number, ends[0]);
    holder.release = ends[1];
    close(ends[0]);
    while (mine->start == 0) {
        char state;

        sleep_until(now() + 100000);
        state = process_state(holder.pid);
        if (state == 'Z' || now() > deadline) {
            errno = state == 'Z' ? ECHILD : ETIMEDOUT;
            die("a holder's job that starts");
        }
    }
    return holder;
}

void holder_release(struct holder *holder)
{
    close(holder->release);
    holder->release = -1;
}
