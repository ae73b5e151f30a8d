#include "journal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HASH_START 0xcbf29ce484222325ULL /* FNV-1a */
#define HASH_PRIME 0x100000001b3ULL

enum trace_mode trace_mode;
static uint64_t hash = HASH_START;

void trace_line(int64_t now, const char *who, const char *format, ...)
{
	char text[512];
	va_list list;

	if (trace_mode == TRACE_OFF)
		return;
	snprintf(text, sizeof text, "%4lld.%06lld %-8s ", (long long)(now / 1000000000),
		 (long long)(now / 1000 % 1000000), who);
	va_start(list, format);
	vsnprintf(text + strlen(text), sizeof text - strlen(text), format, list);
	va_end(list);
	if (trace_mode == TRACE_PRINT)
		puts(text);
	for (const char *c = text; *c; c++)
		hash = (hash ^ (unsigned char)*c) * HASH_PRIME;
}

uint64_t trace_hash(void)
{
	uint64_t whole = hash;

	hash = HASH_START;
	return whole;
}
