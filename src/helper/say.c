#include "helper/say.h"

#include <string.h>
#include <sys/socket.h>

#include "base/number.h"

void say_begin(struct line *line, const char *word)
{
	line->length = 0;
	line_add(line, word);
}

void say_pair(struct line *line, const char *key, const char *value)
{
	line_add(line, "\n");
	line_add(line, key);
	line_add(line, " ");
	for (; *value; value++) {
		char one[2] = { (char)(*value == '\n' ? ' ' : *value), 0 };

		line_add(line, one);
	}
}

void say_cut(char *text, size_t size, const char *from)
{
	size_t n = strlen(from);

	if (n >= size) {
		n = size - sizeof "...";
		/* A character has at most three bytes of this kind. */
		for (int i = 0; i < 3 && ((unsigned char)from[n] & 0xc0) == 0x80; i++)
			n--;
		strcpy(text + n, "...");
	} else {
		text[n] = 0;
	}
	memcpy(text, from, n);
}

void say_number(struct line *line, const char *key, uint64_t n)
{
	char text[NUMBER_TEXT_SIZE];

	/* Not by stdio: each renewal says two, and its pages would come back each time. */
	(void)number_format(n, text);
	say_pair(line, key, text);
}

bool say_end(const struct line *line)
{
	/* It may be stopped, and its socket full: it goes by the last time that it has. */
	return send(CONTROL_FD, line->text, line->length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

void say_whole(const struct line *line)
{
	(void)send(CONTROL_FD, line->text, line->length, MSG_NOSIGNAL);
}

bool say_word(const char *word)
{
	struct line line;

	say_begin(&line, word);
	return say_end(&line);
}

void say_text(const char *word, const char *text)
{
	struct line line;

	say_begin(&line, word);
	say_pair(&line, "text", text);
	say_end(&line);
}
