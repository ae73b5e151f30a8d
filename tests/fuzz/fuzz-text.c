/* Any bytes as a name, in a message, and as a duration. */
#include <stdlib.h>
#include <string.h>

#include "base/duration.h"
#include "host/address.h"
#include "base/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), again[DURATION_TEXT_SIZE];
	struct host_address address;
	struct line line;
	int64_t ns, read;

	memcpy(text, data, size);
	text[size] = 0;
	line_begin(&line);
	line_escape(&line, text, size, 1000);
	for (size_t i = 0; i < line.length; i++)
		if ((unsigned char)line.text[i] < 0x20 || line.text[i] == 0x7f)
			abort();
	host_address(&address, text);
	if (address.length > sizeof address.un - 22)
		abort();
	host_address_suffixed(&address, &address, "queue", UINT32_MAX);
	if (duration_parse(text, &ns) == 0) {
		if (ns < 0)
			abort();
		/* What we write can be read, and is cut, not rounded up. */
		duration_format(ns, again);
		if (duration_parse(again, &read) || read > ns)
			abort();
	}
	free(text);
	return 0;
}
