#include "base/memory.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/exit-codes.h"
#include "base/message.h"

void memory_fail(void)
{
	struct line line;

	line_begin(&line);
	line_add(&line, "out of memory");
	line_end(&line);
	_exit(EXIT_THIRD_PARTY);
}

void *memory_get(size_t n)
{
	void *got = calloc(n ? n : 1, 1);

	if (!got)
		memory_fail();
	return got;
}

void *memory_copy(const void *from, size_t n)
{
	void *got = memory_get(n);

	if (n > 0)
		memcpy(got, from, n);
	return got;
}

char *memory_text(const char *from, size_t n)
{
	char *text = from ? memory_get(n + 1) : NULL;

	return text ? memcpy(text, from, n) : NULL;
}

char *memory_format(const char *format, ...)
{
	va_list arguments;
	char *text;
	int n;

	va_start(arguments, format);
	n = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (n < 0)
		memory_fail();
	return text;
}

char *memory_string(const char *text)
{
	return text ? memory_text(text, strlen(text)) : NULL;
}

void *memory_grow(void *items, size_t used, size_t *room, size_t size)
{
	if (used < *room)
		return items;
	*room = *room ? *room * 2 : 64;
	items = reallocarray(items, *room, size);
	if (!items)
		memory_fail();
	return items;
}
