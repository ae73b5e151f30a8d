/*
 * Between the network's structures and what the helper's client speaks: today HTTP and JSON by
 * libcurl and jansson. This directory alone knows of them; a client that speaks something else gets
 * another.
 */
#ifndef SIM_GATEWAY_H
#define SIM_GATEWAY_H

#include <jansson.h>

#include "../network.h"

/* The request that PATH and BODY are. */
struct request *gateway_request(const char *path, const char *body);

/* The text of REPLY, which stays valid until the next call, and its HTTP status. */
const char *gateway_text(const struct reply *reply, long *status);

/* Reads "PATH BODY" lines from standard input, and writes what the store answers: for conform.py.
 */
int gateway_answer_all(void);

/* The next value of the text from *AT to END. */
json_t *json_read(const char **at, const char *end);

/* --- text.c ----------------------------------------------------------------------------------- */

struct text {
	char *text;
	size_t n, room;
};

void text_begin(struct text *text);
void text_add_bytes(struct text *text, const char *more, size_t n);
/* In line, so that the length of a literal is known. */
static inline void text_add(struct text *text, const char *more)
{
	text_add_bytes(text, more, __builtin_strlen(more));
}

void text_number(struct text *text, int64_t n);
void text_quoted(struct text *text, const char *more);
void text_base64(struct text *text, const char *bytes);

/* The bytes, N of them, with a NUL behind them. NULL is none. */
char *text_from_base64(const char *text, size_t *n);

#endif
