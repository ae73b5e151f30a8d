/*
 * protobuf's encoding, as far as a client needs it: numbers, bytes, and messages in messages.
 */
#ifndef GRPC_WIRE_H
#define GRPC_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that grow; all zero: none. */
struct bytes {
	unsigned char *all;
	size_t n, room;
};

/* Bytes that belong to others. */
struct slice {
	const unsigned char *at; /* NULL: there are none, and n is 0 */
	size_t n;
};

void bytes_add(struct bytes *bytes, const void *more, size_t n);
void bytes_free(struct bytes *bytes);

/* Adds a field to MESSAGE: a number, bytes or a whole message. */
void wire_number(struct bytes *message, unsigned field, uint64_t n);
void wire_bytes(struct bytes *message, unsigned field, const void *bytes, size_t n);

/* A number without a field, such as the length in front of bytes. */
void wire_length(struct bytes *message, uint64_t n);
bool wire_read_length(struct slice *rest, uint64_t *n);

struct field {
	unsigned number;
	uint64_t value;	    /* of a number */
	struct slice bytes; /* of anything else; at NULL: it is a number */
};

enum wire {
	WIRE_FIELD,
	WIRE_END,
	WIRE_BROKEN
};

/* Takes the next field off REST. Skips fields of other types. */
enum wire wire_next(struct slice *rest, struct field *field);

#endif
