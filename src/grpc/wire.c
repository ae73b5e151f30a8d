#include "grpc/wire.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* The kinds of fields: the three low bits of a tag. */
enum {
	KIND_NUMBER = 0,
	KIND_FIXED_64 = 1,
	KIND_BYTES = 2,
	KIND_FIXED_32 = 5
};

void bytes_add(struct bytes *bytes, const void *more, size_t n)
{
	if (n == 0)
		return;
	if (bytes->room - bytes->n < n) {
		unsigned char *all;

		bytes->room = bytes->room * 2 > bytes->n + n ? bytes->room * 2 : bytes->n + n + 64;
		all = memory_get(bytes->room);
		if (bytes->n > 0)
			memcpy(all, bytes->all, bytes->n);
		free(bytes->all);
		bytes->all = all;
	}
	memcpy(bytes->all + bytes->n, more, n);
	bytes->n += n;
}

void bytes_free(struct bytes *bytes)
{
	free(bytes->all);
	*bytes = (struct bytes){ .n = 0 };
}

void wire_length(struct bytes *message, uint64_t n)
{
	unsigned char digits[10];
	size_t length = 0;

	for (; n > 127; n >>= 7)
		digits[length++] = (unsigned char)(n | 128);
	digits[length++] = (unsigned char)n;
	bytes_add(message, digits, length);
}

void wire_number(struct bytes *message, unsigned field, uint64_t n)
{
	wire_length(message, 8 * field + KIND_NUMBER);
	wire_length(message, n);
}

void wire_bytes(struct bytes *message, unsigned field, const void *bytes, size_t n)
{
	wire_length(message, 8 * field + KIND_BYTES);
	wire_length(message, n);
	bytes_add(message, bytes, n);
}

bool wire_read_length(struct slice *rest, uint64_t *n)
{
	*n = 0;
	for (unsigned shift = 0; shift < 64 && rest->n > 0; shift += 7) {
		const unsigned char digit = *rest->at++;

		rest->n--;
		*n |= (uint64_t)(digit & 127) << shift;
		if (digit < 128)
			return true;
	}
	return false;
}

static bool skip(struct slice *rest, uint64_t n)
{
	if (n > rest->n)
		return false;
	rest->at += n;
	rest->n -= n;
	return true;
}

enum wire wire_next(struct slice *rest, struct field *field)
{
	uint64_t tag;

	while (rest->n > 0) {
		*field = (struct field){ .number = 0 };
		if (!wire_read_length(rest, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
			return WIRE_BROKEN;
		field->number = (unsigned)(tag >> 3);
		switch (tag & 7) {
		case KIND_NUMBER:
			return wire_read_length(rest, &field->value) ? WIRE_FIELD : WIRE_BROKEN;
		case KIND_BYTES:
			if (!wire_read_length(rest, &tag))
				return WIRE_BROKEN;
			field->bytes = (struct slice){ .at = rest->at, .n = (size_t)tag };
			return skip(rest, tag) ? WIRE_FIELD : WIRE_BROKEN;
		case KIND_FIXED_64:
		case KIND_FIXED_32:
			if (!skip(rest, (tag & 7) == KIND_FIXED_64 ? 8 : 4))
				return WIRE_BROKEN;
			break;
		default: return WIRE_BROKEN;
		}
	}
	return WIRE_END;
}
