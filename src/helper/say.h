/* What a helper sends to me-only (PROTOCOL.md): packets of a word and pairs. */
#ifndef HELPER_SAY_H
#define HELPER_SAY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/message.h"
#include "helper/packets.h"

/*
 * Begins a packet of WORD. say_end() ends and sends it, and returns whether there was room for it;
 * say_whole() waits for room.
 */
void say_begin(struct line *line, const char *word);
bool say_end(const struct line *line);
void say_whole(const struct line *line);

/* Adds a pair. A VALUE that others have written cannot begin a new one. */
void say_pair(struct line *line, const char *key, const char *value);
void say_number(struct line *line, const char *key, uint64_t n);

/*
 * Copies FROM into TEXT, of SIZE bytes. Without room for all of it, it ends after a whole character
 * of UTF-8, and in "...".
 */
void say_cut(char *text, size_t size, const char *from);

/* A packet of WORD alone, and one with TEXT. Returns whether there was room. */
bool say_word(const char *word);
void say_text(const char *word, const char *text);

#endif
