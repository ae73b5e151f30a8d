/* Text that is put together. */
#include <stdlib.h>
#include <string.h>

#include "gateway.h"

static void make_room(struct text *text, size_t n)
{
	if (text->n + n + 1 <= text->room)
		return;
	text->room = (text->n + n + 1) * 2 + 4096;
	text->text = realloc(text->text, text->room);
	if (!text->text)
		abort();
}

void text_begin(struct text *text)
{
	text->n = 0;
	make_room(text, 0);
	*text->text = 0;
}

void text_add_bytes(struct text *text, const char *more, size_t n)
{
	make_room(text, n);
	memcpy(text->text + text->n, more, n);
	text->n += n;
	text->text[text->n] = 0;
}

void text_number(struct text *text, int64_t n)
{
	char digits[24], *at = digits + sizeof digits;
	uint64_t left = n < 0 ? -(uint64_t)n : (uint64_t)n;

	do
		*--at = (char)('0' + left % 10);
	while (left /= 10);
	if (n < 0)
		*--at = '-';
	text_add_bytes(text, at, (size_t)(digits + sizeof digits - at));
}

void text_quoted(struct text *text, const char *more)
{
	text_add(text, "\"");
	for (size_t n; *more; more += n) {
		n = strcspn(more, "\"\\\n\t\r");
		text_add_bytes(text, more, n);
		if (more[n]) {
			const char *escape = strchr("\"\"\\\\\nn\tt\rr", more[n]);

			text_add_bytes(text, (char[]) { '\\', escape[1] }, 2);
			n++;
		}
	}
	text_add(text, "\"");
}

/* --- base64 ----------------------------------------------------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void text_base64(struct text *text, const char *bytes)
{
	const size_t n = strlen(bytes);
	char *at;

	make_room(text, (n + 2) / 3 * 4);
	at = text->text + text->n;
	for (size_t i = 0; i < n; i += 3) {
		const unsigned a = (unsigned char)bytes[i],
			       b = i + 1 < n ? (unsigned char)bytes[i + 1] : 0,
			       c = i + 2 < n ? (unsigned char)bytes[i + 2] : 0;

		*at++ = alphabet[a >> 2];
		*at++ = alphabet[(a & 3) << 4 | b >> 4];
		*at++ = i + 1 < n ? alphabet[(b & 15) << 2 | c >> 6] : '=';
		*at++ = i + 2 < n ? alphabet[c & 63] : '=';
	}
	*at = 0;
	text->n = (size_t)(at - text->text);
}

char *text_from_base64(const char *text, size_t *n)
{
	static unsigned char values[256];
	const size_t length = text ? strlen(text) : 0;
	char *bytes = arena_get(length + 4);
	unsigned bits = 0, left = 0;

	if (!values['B'])
		for (unsigned i = 0; i < 64; i++)
			values[(unsigned char)alphabet[i]] = (unsigned char)i;
	*n = 0;
	for (size_t i = 0; i < length && text[i] != '='; i++) {
		bits = bits << 6 | values[(unsigned char)text[i]];
		left += 6;
		if (left >= 8) {
			left -= 8;
			bytes[(*n)++] = (char)(bits >> left & 0xff);
		}
	}
	return bytes;
}
