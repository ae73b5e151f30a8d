#include "random.h"

void random_seed(struct random *random, uint64_t seed)
{
	/* Seeds that follow each other must not give similar worlds (splitmix64). */
	uint64_t x = seed + 0x9E3779B97F4A7C15ULL;

	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
	x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
	x ^= x >> 31;
	random->state = x ? x : 1;
}

uint32_t random_below(struct random *random, uint32_t n)
{
	uint64_t x = random->state;

	/* xorshift64*, and instead of a division a multiplication. */
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	random->state = x;
	return (uint32_t)((((x * 0x2545F4914F6CDD1DULL) >> 32) * n) >> 32);
}
