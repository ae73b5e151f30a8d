/* One run. */
#ifndef SIMULATE_H
#define SIMULATE_H

#include "world.h"

/* A run of KIND in which everything follows from SEED and STRATEGY. Returns NULL, or what went
 * wrong. */
const char *simulate(const struct kind *kind, uint64_t seed, enum strategy strategy);

#endif
