/* Any bytes as a file with a certificate or a key: what is good stays good with more before and behind it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "etcd/credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(enum credential which, const char *bytes, size_t n)
{
	static const char other[] = "-----BEGIN X-----\n-----END X-----\n";
	const char *problem = credentials_check(which, bytes, n);
	char *longer = malloc(n + 2 * sizeof other);

	if (!longer || (!problem && n < strlen("-----BEGIN CERTIFICATE----------END ")))
		abort();
	memcpy(longer, other, sizeof other - 1);
	memcpy(longer + sizeof other - 1, bytes, n);
	memcpy(longer + sizeof other - 1 + n, other, sizeof other - 1);
	if (!problem && credentials_check(which, longer, n + 2 * (sizeof other - 1)))
		abort();
	free(longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *bytes = malloc(size ? size : 1);

	if (!bytes)
		return 0;
	/* Not one byte more may be read. */
	if (size > 0)
		memcpy(bytes, data, size);
	for (int which = 0; which < CREDENTIALS; which++)
		check((enum credential)which, bytes, size);
	free(bytes);
	return 0;
}
