/* Text files, line by line, without stdio: it would bring malloc in. */
#ifndef BASE_LINES_H
#define BASE_LINES_H

#include <stddef.h>
#include <stdint.h>

struct lines {
	int fd; /* negative: no file, or no more of it */
	size_t at, end;
	unsigned fills; /* how many pieces were read: a table of the kernel may have changed in
			   between */
	char text[4096];
};

/*
 * Opens the file PATH below the directory DIRECTORY (AT_FDCWD). Returns 0 or a negative errno; then
 * there are no lines.
 */
int lines_open(struct lines *lines, int directory, const char *path);

/*
 * The next line, without its newline, valid until the next call. A line longer than the buffer
 * comes in pieces. NULL: no more.
 */
char *lines_next(struct lines *lines);

void lines_close(struct lines *lines);

/*
 * Cuts the next word, up to a blank, off the text at *AT, and moves *AT past it. "" if there is
 * none.
 */
char *next_word(char **at);

/* The number in base 10 or 16 at the start of TEXT; END, unless NULL, is set to where it ends. */
uint64_t number_at(const char *text, unsigned base, const char **end);

#endif
