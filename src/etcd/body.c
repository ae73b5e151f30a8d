#include "etcd/body.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "etcd/requests.h"

/* Nested transactions: etcd itself allows only a few levels. */
#define DEEPEST 16

enum kind {
	NUMBER, /* uint64_t */
	BYTES,	/* struct slice */
	INSIDE, /* a message, into the structure at the offset */
	EACH,	/* a message, into one more item of the list at the offset */
};

/* Where a field belongs. The last row's number is 0. */
struct row {
	unsigned number;
	enum kind kind;
	size_t offset;
	const struct row *rows; /* of a message */
	size_t size;		/* of an item */
};

/* --- etcd's messages: the numbers are those of rpc.proto and kv.proto ------------------------- */

static const struct row header[] = {
	{ 1, NUMBER, offsetof(struct body, cluster), NULL, 0 },
	{ 3, NUMBER, offsetof(struct body, revision), NULL, 0 },
	{ 4, NUMBER, offsetof(struct body, term), NULL, 0 },
	{ 0 },
};

static const struct row pair[] = {
	{ 1, BYTES, offsetof(struct pair, key), NULL, 0 },
	{ 2, NUMBER, offsetof(struct pair, created), NULL, 0 },
	{ 3, NUMBER, offsetof(struct pair, modified), NULL, 0 },
	{ 5, BYTES, offsetof(struct pair, value), NULL, 0 },
	{ 6, NUMBER, offsetof(struct pair, lease), NULL, 0 },
	{ 0 },
};

static const struct row event[] = {
	{ 1, NUMBER, offsetof(struct event, type), NULL, 0 },
	{ 2, INSIDE, offsetof(struct event, pair), pair, 0 },
	{ 3, INSIDE, offsetof(struct event, before), pair, 0 },
	{ 0 },
};

static const struct row lease[] = {
	{ 1, INSIDE, 0, header, 0 },
	{ 2, NUMBER, offsetof(struct body, lease), NULL, 0 },
	{ 3, NUMBER, offsetof(struct body, ttl), NULL, 0 },
	{ 0 },
};

static const struct row range[] = {
	{ 1, INSIDE, 0, header, 0 },
	{ 2, EACH, offsetof(struct body, pairs), pair, sizeof(struct pair) },
	{ 3, NUMBER, offsetof(struct body, more), NULL, 0 },
	{ 0 },
};

static const struct row txn[];

static const struct row response[] = {
	{ 1, INSIDE, 0, range, 0 },
	{ 4, INSIDE, 0, txn, 0 },
	{ 0 },
};

static const struct row txn[] = {
	{ 1, INSIDE, 0, header, 0 },
	{ 2, NUMBER, offsetof(struct body, succeeded), NULL, 0 },
	{ 3, EACH, offsetof(struct body, responses), response, sizeof(struct body) },
	{ 0 },
};

static const struct row watch[] = {
	{ 1, INSIDE, 0, header, 0 },
	{ 3, NUMBER, offsetof(struct body, created), NULL, 0 },
	{ 4, NUMBER, offsetof(struct body, canceled), NULL, 0 },
	{ 5, NUMBER, offsetof(struct body, compacted), NULL, 0 },
	{ 6, BYTES, offsetof(struct body, text), NULL, 0 },
	{ 11, EACH, offsetof(struct body, events), event, sizeof(struct event) },
	{ 0 },
};

/* The version in a member's status, and the token of an authentication. */
static const struct row text[] = {
	{ 1, INSIDE, 0, header, 0 },
	{ 2, BYTES, offsetof(struct body, text), NULL, 0 },
	{ 0 },
};

static const struct {
	const char *path;
	const struct row *rows;
} answers[] = {
	{ PATH_GRANT, lease },	     { PATH_KEEPALIVE, lease }, { PATH_TIME_TO_LIVE, lease },
	{ PATH_REVOKE, lease },	     { PATH_RANGE, range },	{ PATH_TXN, txn },
	{ PATH_AUTHENTICATE, text }, { PATH_STATUS, text },	{ PATH_WATCH, watch },
};

/* --- reading ---------------------------------------------------------------------------------- */

static void *one_more(struct list *list, size_t size)
{
	list->all = memory_grow(list->all, list->n, &list->room, size);
	return memset((char *)list->all + list->n++ * size, 0, size);
}

// NOLINTNEXTLINE(misc-no-recursion): no deeper than DEEPEST
static bool read_message(void *target, const struct row *rows, struct slice rest, unsigned depth)
{
	struct field field;
	enum wire wire;

	while ((wire = wire_next(&rest, &field)) == WIRE_FIELD) {
		const struct row *row = rows;
		void *at;

		while (row->number && row->number != field.number)
			row++;
		if (!row->number)
			continue;
		if ((row->kind == NUMBER) != !field.bytes.at || depth == DEEPEST)
			return false;
		at = (char *)target + row->offset;
		switch (row->kind) {
		case NUMBER: *(uint64_t *)at = field.value; break;
		case BYTES: *(struct slice *)at = field.bytes; break;
		case EACH: at = one_more(at, row->size); /* fall through */
		case INSIDE:
			if (!read_message(at, row->rows, field.bytes, depth + 1))
				return false;
		}
	}
	return wire == WIRE_END;
}

bool body_read(struct body *body, const char *path, const unsigned char *bytes, size_t n)
{
	*body = (struct body){ .cluster = 0 };
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
		if (!strcmp(answers[i].path, path))
			return read_message(body, answers[i].rows,
					    (struct slice){ .at = bytes, .n = n }, 0);
	return false;
}

// NOLINTNEXTLINE(misc-no-recursion): as deep as it was read
void body_free(struct body *body)
{
	struct body *responses = body->responses.all;

	for (size_t i = 0; i < body->responses.n; i++)
		body_free(&responses[i]);
	free(body->responses.all);
	free(body->pairs.all);
	free(body->events.all);
	free(body->bytes);
	*body = (struct body){ .cluster = 0 };
}
