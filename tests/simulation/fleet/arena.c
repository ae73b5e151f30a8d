/*
 * Memory: an arena for each run, and in it what malloc(3) gives to simulated processes.
 *
 * A run forgets its memory as a whole, so most of it is never freed. Blocks of processes are: they
 * go to a list for their size, and what a process has left when it exits is a leak.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "task.h"

#define ARENA_SIZE (1UL << 32) /* address space; a run touches some MB of it */
#define SMALL 1024
#define CLASSES (SMALL / 16 + 1 + 32)

struct block {
	struct task *owner; /* NULL: it was freed, or belongs to no process */
	uint32_t size, class;
	void *caller;	    /* of malloc() */
	struct block *next; /* in a list of free ones */
};

static char *arena, *end;
static struct block *unused[CLASSES];

void arena_reset(void)
{
	if (!arena) {
		arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (arena == MAP_FAILED)
			abort();
	}
	end = arena;
	memset(unused, 0, sizeof unused);
}

static void *take(size_t n)
{
	char *taken = end;

	end += (n + 15) / 16 * 16;
	if (end > arena + ARENA_SIZE)
		abort();
	return taken;
}

void *arena_get(size_t n)
{
	return memset(take(n), 0, n);
}

char *arena_copy(const char *text, size_t n)
{
	char *copy = take(n + 1);

	memcpy(copy, text, n);
	copy[n] = 0;
	return copy;
}

char *arena_text(const char *text)
{
	return text ? arena_copy(text, strlen(text)) : NULL;
}

/* --- malloc(3) of simulated processes --------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif

/* With a sanitizer each block is one of the real malloc(), so that it sees what is written outside.
 */
#ifdef SANITIZED
static struct block *new_block(size_t n)
{
	struct block *block = malloc(sizeof *block + n);

	*block = (struct block){ .size = (uint32_t)n };
	return block;
}

static void free_block(struct block *block)
{
	free(block);
}
#else
/* The class of blocks that have room for N bytes, and that room. */
static uint32_t class_of(size_t n, size_t *size)
{
	uint32_t bits = 10;

	if (n <= SMALL) {
		*size = (n + 15) / 16 * 16;
		return (uint32_t)((n + 15) / 16);
	}
	while (n > 1UL << bits)
		bits++;
	*size = 1UL << bits;
	return SMALL / 16 + bits - 9;
}

static struct block *new_block(size_t n)
{
	size_t size;
	const uint32_t class = class_of(n, &size);
	struct block *block = unused[class];

	if (block)
		unused[class] = block->next;
	else
		block = take(sizeof *block + size);
	block->size = (uint32_t)n;
	block->class = class;
	return block;
}

static void free_block(struct block *block)
{
	block->next = unused[block->class];
	unused[block->class] = block;
}
#endif

static void *allocate(size_t n, void *caller)
{
	struct block *block = new_block(n);

	/* Between vfork and exec a process has the memory of its parent. */
	block->owner = current && current->lender ? current->lender : current;
	block->caller = caller;
	if (block->owner) {
		block->owner->blocks++;
		block->owner->bytes += n;
	}
	return block + 1;
}

void sim_free(void *p)
{
	struct block *block = (struct block *)p - 1;

	if (!p)
		return;
	if (block->owner) {
		block->owner->blocks--;
		block->owner->bytes -= block->size;
	}
	block->owner = NULL;
	free_block(block);
}

void *sim_malloc(size_t n)
{
	return allocate(n, __builtin_return_address(0));
}

void *sim_calloc(size_t n, size_t size)
{
	return memset(allocate(n * size, __builtin_return_address(0)), 0, n * size);
}

void *sim_realloc(void *p, size_t n)
{
	void *new = allocate(n, __builtin_return_address(0));

	if (p) {
		const size_t had = ((struct block *)p - 1)->size;

		memcpy(new, p, had < n ? had : n);
		sim_free(p);
	}
	return new;
}

void *sim_reallocarray(void *p, size_t n, size_t size)
{
	return sim_realloc(p, n * size);
}

char *sim_strdup(const char *text)
{
	const size_t n = strlen(text) + 1;

	return memcpy(allocate(n, __builtin_return_address(0)), text, n);
}

int sim_vasprintf(char **text, const char *format, va_list list)
{
	char room[512];
	va_list copy;
	int n;

	va_copy(copy, list);
	n = vsnprintf(room, sizeof room, format, copy);
	va_end(copy);
	*text = allocate((size_t)n + 1, __builtin_return_address(0));
	if ((size_t)n < sizeof room)
		memcpy(*text, room, (size_t)n + 1);
	else
		vsnprintf(*text, (size_t)n + 1, format, list);
	return n;
}

int sim_asprintf(char **text, const char *format, ...)
{
	va_list list;
	int n;

	va_start(list, format);
	n = sim_vasprintf(text, format, list);
	va_end(list);
	return n;
}

/* Pages that a process maps for itself; they are gone with it, so they are no leak. */
void *sim_mmap(void *where, size_t n, int protection, int flags, int fd, long offset)
{
	(void)where, (void)protection, (void)flags, (void)fd, (void)offset;
	return arena_get(n);
}

int sim_munmap(void *where, size_t n)
{
	(void)where, (void)n;
	return 0;
}
