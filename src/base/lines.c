#include "base/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

int lines_open(struct lines *lines, int directory, const char *path)
{
	lines->at = lines->end = lines->fills = 0;
	lines->fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
	return lines->fd < 0 ? -errno : 0;
}

/* Reads more. Returns whether there was more. */
static bool fill(struct lines *lines)
{
	ssize_t n;

	memmove(lines->text, lines->text + lines->at, lines->end - lines->at);
	lines->end -= lines->at;
	lines->at = 0;
	/* One byte is for a NUL. */
	do
		n = lines->fd < 0 || lines->end == sizeof lines->text - 1
			    ? 0
			    : read(lines->fd, lines->text + lines->end,
				   sizeof lines->text - 1 - lines->end);
	while (n < 0 && errno == EINTR);
	lines->end += n > 0 ? (size_t)n : 0;
	lines->fills += n > 0;
	return n > 0;
}

char *lines_next(struct lines *lines)
{
	char *line, *newline;

	do {
		line = lines->text + lines->at;
		newline = memchr(line, '\n', lines->end - lines->at);
	} while (!newline && fill(lines));
	line = lines->text + lines->at;
	if (!newline && lines->at == lines->end)
		return NULL;
	if (!newline)
		newline = lines->text + lines->end;
	*newline = 0;
	lines->at = (size_t)(newline - lines->text) + (newline < lines->text + lines->end);
	return line;
}

void lines_close(struct lines *lines)
{
	if (lines->fd >= 0)
		close(lines->fd);
}

char *next_word(char **at)
{
	char *word = *at + strspn(*at, " \t");

	*at = word + strcspn(word, " \t");
	if (**at)
		*(*at)++ = 0;
	return word;
}

uint64_t number_at(const char *text, unsigned base, const char **end)
{
	uint64_t n = 0;

	for (;; text++) {
		unsigned digit = (unsigned char)*text - '0';

		if (digit > 9)
			digit = (unsigned char)*text - 'a' + 10U;
		if (digit >= base)
			break;
		n = n * base + digit;
	}
	if (end)
		*end = text;
	return n;
}
