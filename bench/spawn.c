/*
 * usage: spawn [-a] ROUNDS {EVERY COMMAND [ARGUMENT]... ;}...
 *
 * Measures each command from just before its start to just after its end, ROUNDS times, or in every EVERYth round.
 * The commands take turns, in a new order in each round, so that whatever else the machine does hits all of them.
 * Prints one line a measurement: the command's index, nanoseconds, page faults.
 * With -a the page faults of processes that a command leaves behind count, too, and the next one begins after their end; the
 * clock does not wait for them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "common.h"

enum { COMMANDS_MAX = 32, WARM_UP = 5 };

struct sample {
    int command;
    int64_t ns;
    long faults;
};

static bool counts_all;

/* Page faults of those that have become our children because their parents have ended. */
static long faults_left_behind(void)
{
    struct rusage used;
    long faults = 0;

    while (wait4(-1, NULL, 0, &used) > 0)
        faults += used.ru_minflt + used.ru_majflt;
    return faults;
}

static struct sample measure(char ***commands, int which)
{
    struct sample sample = {.command = which};
    struct rusage used;
    char **argv = commands[which] + 1;
    int64_t begin = now();

    finish(start(argv, -1), argv[0], &used);
    sample.ns = now() - begin;
    sample.faults = used.ru_minflt + used.ru_majflt;
    if (counts_all)
        sample.faults += faults_left_behind();
    return sample;
}

/* A new order, the same in every run of this program. */
static void shuffle(int *order, int count)
{
    static uint32_t state = 2463534242;

    for (int i = count - 1; i > 0; i--) {
        int j, other;

        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        j = (int)(state % (uint32_t)(i + 1));
        other = order[i];
        order[i] = order[j];
        order[j] = other;
    }
}

int main(int argc, char **argv)
{
    char **commands[COMMANDS_MAX];
    int order[COMMANDS_MAX] = {0}, every[COMMANDS_MAX] = {0};
    int count, rounds;
    size_t taken = 0;
    struct sample *samples;

    if (argc > 1 && strcmp(argv[1], "-a") == 0) {
        counts_all = true;
        if (prctl(PR_SET_CHILD_SUBREAPER, 1))
            die("prctl");
        argc--;
        argv++;
    }
    if (argc < 4)
        usage("spawn [-a] ROUNDS {EVERY COMMAND [ARGUMENT]... ;}...");
    rounds = number(argv[1], 1);
    count = commands_split(argv + 2, commands, COMMANDS_MAX);
    for (int i = 0; i < count; i++) {
        order[i] = i;
        every[i] = number(commands[i][0], 1);
    }
    /* Kept in memory and printed at the end: output would wake its reader in the middle of a measurement. */
    samples = calloc((size_t)rounds * (size_t)count, sizeof *samples);
    if (!samples)
        die("memory");
    for (int round = -WARM_UP; round < rounds; round++) {
        shuffle(order, count);
        for (int i = 0; i < count; i++) {
            struct sample sample;

            if (round > -WARM_UP && round % every[order[i]] != 0)
                continue;
            sample = measure(commands, order[i]);
            if (round >= 0)
                samples[taken++] = sample;
        }
    }
    for (size_t i = 0; i < taken; i++)
        printf("%d %lld %ld\n", samples[i].command, (long long)samples[i].ns, samples[i].faults);
    free(samples);
    return fflush(stdout) == 0 ? 0 : 1;
}
