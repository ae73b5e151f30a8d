/*
 * usage: herd WAITERS GAP_US STAMP FILE COMMAND [ARGUMENT]...
 *
 * Starts a holder, then WAITERS waiters for the same lock, one every GAP_US microseconds, or when the one before sleeps;
 * when the last one sleeps the holder is released. STAMP is the job of all of them (stamp.c), FILE is where jobs note
 * their times.
 * Prints two numbers a waiter, in the order in which they were started: the first and the last moment of its job,
 * in nanoseconds since the holder's job ended.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

#include "common.h"

int main(int argc, char **argv)
{
    int waiters, gap_us;
    int64_t begin;
    struct stamp *stamps;
    struct holder holder;
    pid_t *pids;

    if (argc < 6)
        usage("herd WAITERS GAP_US STAMP FILE COMMAND [ARGUMENT]...");
    waiters = number(argv[1], 1);
    gap_us = number(argv[2], 0);
    pids = calloc((size_t)waiters, sizeof *pids);
    if (!pids)
        die("memory");
    stamps = stamps_create(argv[4], waiters + 1);
    holder = holder_start(argv + 5, argv + 3, 0, 0, stamps);
    begin = now();
    for (int i = 0; i < waiters; i++) {
        sleep_until(begin + (int64_t)i * gap_us * 1000);
        /* On a busy machine it may not have come to the lock yet: then the next one would be there first. */
        if (i > 0)
            wait_asleep(pids[i - 1], 1);
        pids[i] = start_stamped(argv + 5, argv + 3, i + 1, 0, -1);
    }
    wait_asleep(pids[waiters - 1], 5);
    holder_release(&holder);
    for (int i = waiters - 1; i >= 0; i--) /* the last first: the others then end without waking us */
        finish(pids[i], argv[5], NULL);
    finish(holder.pid, argv[5], NULL);
    for (int i = 1; i <= waiters; i++)
        printf("%lld %lld\n", (long long)(stamps[i].start - stamps[0].end), (long long)(stamps[i].end - stamps[0].end));
    free(pids);
    return fflush(stdout) == 0 ? 0 : 1;
}
