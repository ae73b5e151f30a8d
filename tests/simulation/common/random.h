/* Random numbers: the same seed gives the same ones on every machine. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

struct random {
	uint64_t state;
};

void random_seed(struct random *random, uint64_t seed);

/* A number below N; 0 if N is 0. */
uint32_t random_below(struct random *random, uint32_t n);

#endif
