#include "etcd/base64.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *bytes, size_t n)
{
	const unsigned char *in = bytes;
	char *text = memory_get((n + 2) / 3 * 4 + 1), *out = text;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t group = (uint32_t)in[i] << 16 |
				 (uint32_t)(i + 1 < n ? in[i + 1] : 0) << 8 |
				 (uint32_t)(i + 2 < n ? in[i + 2] : 0);

		for (unsigned j = 0; j < 4; j++)
			*out++ = (char)(i + j <= n ? digits[group >> (18 - 6 * j) & 63] : '=');
	}
	*out = 0;
	return text;
}

char *base64_decode(const char *text, size_t *n)
{
	size_t length = strlen(text), padding = 0;
	char *bytes = memory_get(length / 4 * 3 + 1);

	*n = 0;
	for (size_t i = 0; i < length; i += 4) {
		uint32_t group = 0;

		for (size_t j = i; j < i + 4; j++) {
			const char *digit = j < length && text[j] ? strchr(digits, text[j]) : NULL;

			if (j < length && text[j] == '=' && j + 2 >= length && j >= i + 2)
				padding++;
			else if (!digit || padding)
				return free(bytes), NULL;
			group = group << 6 | (digit ? (uint32_t)(digit - digits) : 0);
		}
		for (unsigned j = 0; j < 3 - padding; j++)
			bytes[(*n)++] = (char)(group >> (16 - 8 * j));
	}
	bytes[*n] = 0;
	return bytes;
}
