/* Any command line: it is taken or refused, and what is taken keeps its promises. */
#include <stdlib.h>
#include <string.h>

#include "base/exit-codes.h"
#include "lock.h"
#include "options.h"

#define ARGUMENTS 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1), *argv[ARGUMENTS + 2] = { (char *)(uintptr_t)"me-only" };
	struct options options;
	struct usage_error error;
	struct lock lock;
	int n = 1;

	/* Arguments are divided by NULs. */
	memcpy(text, data, size);
	text[size] = 0;
	for (char *at = text; at < text + size && n <= ARGUMENTS; at += strlen(at) + 1)
		argv[n++] = at;
	if (options_parse(argv, &options, &error) == 0) {
		int status = options_status(&options, EXIT_HELD);

		if (status < 0 || status > 255 || options.wait < 0)
			abort();
		if (options.mode == MODE_RUN && (!options.lock || !options.command || !options.command[0] || (options.no_fork && options.close)))
			abort();
		if (options.lock && lock_open(&lock, options.lock, &error) == 0 && !*lock.name)
			abort();
	} else if (!error.text || !error.hint || (error.letter && !error.option)) {
		abort();
	}
	free(text);
	return 0;
}
