/* SHA-256 (FIPS 180-4), for lock names that are too long for a socket address. */
#ifndef HOST_SHA256_H
#define HOST_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32

void sha256(const void *data, size_t size, uint8_t digest[SHA256_SIZE]);

#endif
