#include "host/sha256.h"

#include <string.h>

#define BLOCK 64

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t constants[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

static uint32_t rotate(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static uint32_t load(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	       bytes[3];
}

static void store(uint32_t word, uint8_t *bytes)
{
	for (int i = 0; i < 4; i++)
		bytes[i] = (uint8_t)(word >> (24 - 8 * i));
}

static void compress(uint32_t state[8], const uint8_t block[BLOCK])
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++)
		w[i] = load(block + 4 * (size_t)i);
	for (int i = 16; i < 64; i++) {
		uint32_t a = w[i - 15], b = w[i - 2];

		w[i] = w[i - 16] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) + w[i - 7] +
		       (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
	}
	memcpy(v, state, sizeof v);
	for (unsigned i = 0; i < 64; i++) {
		/*
		 * The eight words move on by one place each time: instead, we count from another
		 * one.
		 */
		uint32_t *at[8];

		for (unsigned k = 0; k < 8; k++)
			at[k] = &v[(k - i) % 8];
		uint32_t a = *at[0], b = *at[1], c = *at[2], e = *at[4];
		uint32_t one = *at[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
			       ((e & *at[5]) ^ (~e & *at[6])) + constants[i] + w[i];
		uint32_t two = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +
			       ((a & b) ^ (a & c) ^ (b & c));

		*at[3] += one;
		*at[7] = one + two;
	}
	for (int i = 0; i < 8; i++)
		state[i] += v[i];
}

void sha256(const void *data, size_t size, uint8_t digest[SHA256_SIZE])
{
	/* The first 32 bits of the fractional parts of the square roots of the first 8 primes. */
	uint32_t state[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	uint8_t tail[2 * BLOCK] = { 0 };
	const uint8_t *bytes = data;
	size_t left = size, padded;
	uint64_t bits = (uint64_t)size * 8;

	for (; left >= BLOCK; left -= BLOCK, bytes += BLOCK)
		compress(state, bytes);
	memcpy(tail, bytes, left);
	tail[left] = 0x80;
	padded = left < BLOCK - 8 ? BLOCK : 2 * BLOCK;
	store((uint32_t)(bits >> 32), tail + padded - 8);
	store((uint32_t)bits, tail + padded - 4);
	for (size_t i = 0; i < padded; i += BLOCK)
		compress(state, tail + i);
	for (int i = 0; i < 8; i++)
		store(state[i], digest + 4 * (size_t)i);
}
