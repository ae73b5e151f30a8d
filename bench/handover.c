/*
 * usage: handover ROUNDS HELD_MS STAMP FILE {COMMAND [ARGUMENT]... ;}...
 *
 * Measures how long a lock that somebody waits for lies idle: from the last instruction of the holder's job to the
 * first of the waiter's. STAMP is the job (stamp.c), FILE is where jobs note their times. An argument that ends in "@"
 * names the lock, and gets a number in the place of the "@". A first command of one word, "-", stands for the bare job:
 * from just before its start to its first instruction.
 *
 * A holder and its waiter make a pair. In each round one pair of each command is started, then they are released one
 * after another. With HELD_MS 20 rounds go together: their pairs are started, and released when the last is that old.
 * Prints one line a measurement: the command's index, nanoseconds.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { COMMANDS_MAX = 16, BATCH = 20, PAIRS_MAX = COMMANDS_MAX * BATCH, BARE_SLOT = 2 * PAIRS_MAX, IDLE_NS = 5000000 };

struct pair {
    int command, number;
    struct holder holder;
    pid_t waiter;
};

static char *const *stamp;   /* STAMP FILE, as they were given */
static struct stamp *stamps; /* two a pair, the holder's and the waiter's; and one for the bare job */

static int slot_of_holder(const struct pair *pair)
{
    return 2 * pair->number;
}

static int slot_of_waiter(const struct pair *pair)
{
    return 2 * pair->number + 1;
}

/* A pause as long as a waiter's way to sleep takes: a processor that was idle is slower than one that was not. */
static void idle(void)
{
    sleep_until(now() + IDLE_NS);
}

static int64_t bare_start(void)
{
    int64_t begin;

    idle();
    begin = now();
    finish(start_stamped((char *[]){NULL}, stamp, BARE_SLOT, 0, -1), stamp[0], NULL);
    return stamps[BARE_SLOT].start - begin;
}

static int is_bare(const char *name)
{
    return strcmp(name, "-") == 0;
}

static struct pair pair_start(char ***commands, int command, int number)
{
    struct pair pair = {.command = command, .number = number};

    if (is_bare(commands[command][0]))
        return pair;
    stamps[slot_of_holder(&pair)].start = 0;
    pair.holder = holder_start(commands[command], stamp, slot_of_holder(&pair), number, stamps);
    pair.waiter = start_stamped(commands[command], stamp, slot_of_waiter(&pair), number, -1);
    wait_asleep(pair.waiter, 5);
    return pair;
}

static void pair_release(struct pair *pair, char ***commands)
{
    const char *name = commands[pair->command][0];
    int64_t gap;

    if (is_bare(name)) {
        printf("%d %lld\n", pair->command, (long long)bare_start());
        return;
    }
    idle();
    holder_release(&pair->holder);
    /* The waiter first: nothing then wakes us between the two jobs. */
    finish(pair->waiter, name, NULL);
    finish(pair->holder.pid, name, NULL);
    gap = stamps[slot_of_waiter(pair)].start - stamps[slot_of_holder(pair)].end;
    if (gap <= 0)
        blame(name, "the second job started before the first had ended");
    printf("%d %lld\n", pair->command, (long long)gap);
}

static void batch_measure(char ***commands, int count, int size, int64_t held)
{
    static int turn; /* another one is the first in each round: nobody always comes after the same other */
    struct pair pairs[PAIRS_MAX];
    int started = 0;

    for (int i = 0; i < size; i++, turn++) {
        for (int c = 0; c < count; c++) {
            pairs[started] = pair_start(commands, (c + turn) % count, started);
            started++;
        }
    }
    if (held > 0)
        sleep_until(now() + held);
    for (int i = 0; i < started; i++)
        pair_release(&pairs[i], commands);
}

int main(int argc, char **argv)
{
    char **commands[COMMANDS_MAX];
    int rounds, held_ms, count;

    if (argc < 6)
        usage("handover ROUNDS HELD_MS STAMP FILE {COMMAND [ARGUMENT]... ;}...");
    rounds = number(argv[1], 1);
    held_ms = number(argv[2], 0);
    stamp = argv + 3;
    stamps = stamps_create(argv[4], BARE_SLOT + 1);
    count = commands_split(argv + 5, commands, COMMANDS_MAX);
    while (rounds > 0) {
        int size = held_ms > 0 ? (rounds < BATCH ? rounds : BATCH) : 1;

        batch_measure(commands, count, size, held_ms * (int64_t)1000000);
        rounds -= size;
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
