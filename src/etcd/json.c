#include "etcd/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* No writer nests deeper, and the stack is limited. */
#define DEEPEST 32

/* --- UTF-8 ------------------------------------------------------------------------------------ */

/* How many of the N bytes at AT are the first character; 0: they are not UTF-8. */
static size_t character(const unsigned char *at, size_t n)
{
	const size_t length = at[0] < 0x80   ? 1
			      : at[0] < 0xc2 ? 0
			      : at[0] < 0xe0 ? 2
			      : at[0] < 0xf0 ? 3
			      : at[0] < 0xf5 ? 4
					     : 0;

	if (length > n)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, and codes beyond the last character. */
	if ((at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xed && at[1] > 0x9f) ||
	    (at[0] == 0xf0 && at[1] < 0x90) || (at[0] == 0xf4 && at[1] > 0x8f))
		return 0;
	return length;
}

bool json_is_text(const char *text, size_t n)
{
	for (size_t i = 0, length; i < n; i += length) {
		length = character((const unsigned char *)text + i, n - i);
		if (!length)
			return false;
	}
	return true;
}

/* Writes the character CODE to AT. Returns its end. */
static char *put_character(char *at, uint32_t code)
{
	const unsigned more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
	static const unsigned char first[] = { 0, 0xc0, 0xe0, 0xf0 };

	*at++ = (char)(unsigned char)(first[more] | code >> (6 * more));
	for (unsigned i = more; i-- > 0;)
		*at++ = (char)(unsigned char)(0x80 | (code >> (6 * i) & 0x3f));
	return at;
}

/* --- reading ---------------------------------------------------------------------------------- */

struct reader {
	const char *at, *end;
	char *name, *text; /* room for the longest */
	void (*take)(void *owner, const struct member *member);
	void *owner;
};

/* The next byte, or NUL: there is no other NUL in JSON. */
static char next(const struct reader *reader)
{
	if (reader->at == reader->end)
		return 0;
	return *reader->at;
}

static void skip_space(struct reader *reader)
{
	while (next(reader) && strchr(" \t\r\n", next(reader)))
		reader->at++;
}

static bool skip(struct reader *reader, char wanted)
{
	skip_space(reader);
	if (next(reader) != wanted)
		return false;
	reader->at++;
	return true;
}

static bool read_hex(struct reader *reader, uint32_t *code)
{
	*code = 0;
	for (unsigned i = 0; i < 4; i++, reader->at++) {
		static const char digits[] = "0123456789abcdefABCDEF";
		const char *digit = next(reader) ? strchr(digits, next(reader)) : NULL;

		if (!digit)
			return false;
		*code = *code << 4 |
			(uint32_t)(digit - digits > 15 ? digit - digits - 6 : digit - digits);
	}
	return true;
}

/* What follows a backslash, to *TO. */
static bool read_escaped(struct reader *reader, char **to)
{
	static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	const char *name = next(reader) ? strchr(names, next(reader)) : NULL;
	uint32_t code, low;

	if (name) {
		*(*to)++ = meant[name - names];
		reader->at++;
		return true;
	}
	if (next(reader) != 'u')
		return false;
	reader->at++;
	if (!read_hex(reader, &code) || code == 0)
		return false;
	/* A character beyond 16 bits is written as two. */
	if (code >= 0xd800 && code < 0xdc00) {
		if (reader->end - reader->at < 6 || reader->at[0] != '\\' || reader->at[1] != 'u')
			return false;
		reader->at += 2;
		if (!read_hex(reader, &low) || low < 0xdc00 || low > 0xdfff)
			return false;
		code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
	} else if (code >= 0xdc00 && code < 0xe000) {
		return false;
	}
	*to = put_character(*to, code);
	return true;
}

static bool read_text(struct reader *reader, char *to)
{
	if (!skip(reader, '"'))
		return false;
	while (next(reader) != '"') {
		const size_t length = reader->at < reader->end
					      ? character((const unsigned char *)reader->at,
							  (size_t)(reader->end - reader->at))
					      : 0;

		if (!length || (unsigned char)*reader->at < ' ')
			return false;
		if (*reader->at == '\\') {
			reader->at++;
			if (!read_escaped(reader, &to))
				return false;
			continue;
		}
		memcpy(to, reader->at, length);
		to += length;
		reader->at += length;
	}
	reader->at++;
	*to = 0;
	return true;
}

static size_t skip_digits(struct reader *reader)
{
	const char *first = reader->at;

	while (next(reader) >= '0' && next(reader) <= '9')
		reader->at++;
	return (size_t)(reader->at - first);
}

static bool read_number(struct reader *reader, struct member *member)
{
	const char *first = reader->at;
	char digits[24];
	size_t n;

	if (next(reader) == '-')
		reader->at++;
	n = next(reader) == '0' ? (reader->at++, 1) : skip_digits(reader);
	if (n == 0)
		return false;
	member->is_integer = true;
	if (next(reader) == '.') {
		member->is_integer = false;
		reader->at++;
		if (!skip_digits(reader))
			return false;
	}
	if (next(reader) == 'e' || next(reader) == 'E') {
		member->is_integer = false;
		reader->at++;
		if (next(reader) == '+' || next(reader) == '-')
			reader->at++;
		if (!skip_digits(reader))
			return false;
	}
	if (!member->is_integer)
		return true;
	n = (size_t)(reader->at - first);
	if (n >= sizeof digits)
		return false;
	memcpy(digits, first, n);
	digits[n] = 0;
	errno = 0;
	member->integer = (uint64_t)strtoll(digits, NULL, 10);
	return errno == 0;
}

static bool read_word(struct reader *reader)
{
	static const char *const words[] = { "true", "false", "null" };

	for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
		const size_t n = strlen(words[i]);

		if ((size_t)(reader->end - reader->at) >= n && !memcmp(reader->at, words[i], n)) {
			reader->at += n;
			return true;
		}
	}
	return false;
}

static bool read_value(struct reader *reader, struct member *member, unsigned depth);

/* An object or, without names, an array. Members of the outermost are taken. */
// NOLINTNEXTLINE(misc-no-recursion): no deeper than DEEPEST
static bool read_all(struct reader *reader, bool named, unsigned depth)
{
	const char end = named ? '}' : ']';

	if (depth > DEEPEST || !skip(reader, named ? '{' : '['))
		return false;
	if (skip(reader, end))
		return true;
	do {
		struct member member = { .name = reader->name };

		/* The outermost name is still needed. */
		if (named && (!read_text(reader, depth == 0 ? reader->name : reader->text) ||
			      !skip(reader, ':')))
			return false;
		if (!read_value(reader, &member, depth + 1))
			return false;
		if (depth == 0)
			reader->take(reader->owner, &member);
	} while (skip(reader, ','));
	return skip(reader, end);
}

// NOLINTNEXTLINE(misc-no-recursion): the same
static bool read_value(struct reader *reader, struct member *member, unsigned depth)
{
	skip_space(reader);
	switch (next(reader)) {
	case '{': return read_all(reader, true, depth);
	case '[': return read_all(reader, false, depth);
	case '"': member->text = reader->text; return read_text(reader, reader->text);
	case 't':
	case 'f':
	case 'n': return read_word(reader);
	default: return read_number(reader, member);
	}
}

bool json_read(const char *text, size_t n, void (*take)(void *owner, const struct member *member),
	       void *owner)
{
	struct reader reader = { .at = text, .take = take, .owner = owner };
	bool good;

	if (n == 0)
		return false;
	reader.end = text + n;

	/* A text is not longer than what it is written as. */
	reader.name = memory_get(2 * (n + 1));
	reader.text = reader.name + n + 1;
	good = read_all(&reader, true, 0);
	skip_space(&reader);
	free(reader.name);
	return good && reader.at == reader.end;
}

/* --- writing ---------------------------------------------------------------------------------- */

static void add(struct bytes *object, const char *text)
{
	bytes_add(object, text, strlen(text));
}

static void add_quoted(struct bytes *object, const char *text, size_t n)
{
	add(object, "\"");
	for (size_t i = 0; i < n; i++) {
		char escaped[8];

		if ((unsigned char)text[i] >= ' ') {
			if (text[i] == '"' || text[i] == '\\')
				add(object, "\\");
			bytes_add(object, text + i, 1);
			continue;
		}
		(void)snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)text[i]);
		add(object, escaped);
	}
	add(object, "\"");
}

static void begin_member(struct bytes *object, const char *name)
{
	add(object, object->n == 0 ? "{" : ",");
	add_quoted(object, name, strlen(name));
	add(object, ":");
}

void json_add_text(struct bytes *object, const char *name, const char *text, size_t n)
{
	begin_member(object, name);
	add_quoted(object, text, n);
}

void json_add_number(struct bytes *object, const char *name, uint64_t n)
{
	char digits[24];

	begin_member(object, name);
	/* Older versions read signed numbers only. */
	(void)snprintf(digits, sizeof digits, "%" PRId64, (int64_t)n);
	add(object, digits);
}

void json_end(struct bytes *object)
{
	bytes_add(object, object->n == 0 ? "{}" : "}", object->n == 0 ? 3 : 2);
}
