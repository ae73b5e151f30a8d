/* Exhaustive exploration of small worlds. */
#ifndef SIM_EXPLORE_H
#define SIM_EXPLORE_H

#include "world.h"

extern const struct profile small_worlds[];
extern const size_t n_small_worlds;

/* This many seeds in a row try each fault at each call. */
uint64_t explore_count(void);

/* Chooses what SEED stands for in a small world; returns the seed of everything else. */
uint64_t explore_prepare(uint64_t seed);

/* No deviations: it is another world. */
void explore_nothing(void);

#endif
