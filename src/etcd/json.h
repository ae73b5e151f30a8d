/*
 * JSON, as far as values of keys need it: one object of texts and numbers. Older versions read and
 * write it with a library.
 */
#ifndef ETCD_JSON_H
#define ETCD_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "grpc/wire.h"

/* A member of the object. */
struct member {
	const char *name;
	const char *text; /* decoded; NULL: it is not a text */
	bool is_integer;
	uint64_t integer; /* as int64_t */
};

/*
 * Calls TAKE with each member of the object in the N bytes TEXT. Returns false if there is none;
 * then the members that were already taken mean nothing. Texts have no NUL in them.
 */
bool json_read(const char *text, size_t n, void (*take)(void *owner, const struct member *member),
	       void *owner);

/* Whether TEXT, of N bytes, is UTF-8. */
bool json_is_text(const char *text, size_t n);

/* Add a member to OBJECT, which begins empty; end it, with a NUL behind it. */
void json_add_text(struct bytes *object, const char *name, const char *text, size_t n);
void json_add_number(struct bytes *object, const char *name, uint64_t n);
void json_end(struct bytes *object);

#endif
