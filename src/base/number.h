/* Decimal numbers without stdio or locale. */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdint.h>

#define NUMBER_TEXT_SIZE 21 /* 2^64-1 has 20 digits, and a NUL */

/* Writes N and a NUL; returns where the NUL is. */
char *number_format(uint64_t n, char *text);

/* Reads all of TEXT as a decimal number of at most MAX. Returns 0, or -EINVAL. */
int number_parse(const char *text, unsigned max, unsigned *n);

#endif
