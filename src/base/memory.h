/* Memory, for helpers. Out of memory, the program ends. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

/* Reports that memory is used up, and exits. */
_Noreturn void memory_fail(void);

/* N bytes, zero. */
void *memory_get(size_t n);

/* A copy of the N bytes FROM. */
void *memory_copy(const void *from, size_t n);

/* The N bytes FROM as a string, and a copy of TEXT; NULL for NULL. */
char *memory_text(const char *from, size_t n);
char *memory_string(const char *text);

/* A text formatted as by printf. */
char *memory_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Makes room for one more item of SIZE bytes in ITEMS, which has USED items and room for *ROOM.
 * Returns where ITEMS are now.
 */
void *memory_grow(void *items, size_t used, size_t *room, size_t size);

#endif
