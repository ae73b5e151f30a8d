#include "base/number.h"

#include <errno.h>
#include <string.h>

char *number_format(uint64_t n, char *text)
{
	char digits[NUMBER_TEXT_SIZE], *first = digits + sizeof digits;
	size_t length;

	*--first = 0;
	do
		*--first = (char)('0' + n % 10);
	while (n /= 10);
	length = (size_t)(digits + sizeof digits - first) - 1;
	memcpy(text, first, length + 1);
	return text + length;
}

int number_parse(const char *text, unsigned max, unsigned *n)
{
	uint64_t sum = 0;

	if (!*text)
		return -EINVAL;
	for (; *text; text++) {
		if (*text < '0' || *text > '9')
			return -EINVAL;
		sum = sum * 10 + (uint64_t)(*text - '0');
		if (sum > max)
			return -EINVAL;
	}
	*n = (unsigned)sum;
	return 0;
}
