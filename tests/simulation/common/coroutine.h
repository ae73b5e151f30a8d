/* Coroutines: each simulated process has a stack of its own, and all take turns on one thread. */
#ifndef COROUTINE_H
#define COROUTINE_H

#include <stddef.h>

struct coroutine {
	void *stack_pointer;
};

/* Prepares a coroutine that begins with BODY on the SIZE bytes STACK. BODY must not return. */
void coroutine_make(struct coroutine *coroutine, void *stack, size_t size, void (*body)(void));

/* Leaves the coroutine FROM, until somebody switches back to it, and goes on with TO. */
void coroutine_switch(struct coroutine *from, const struct coroutine *to);

#endif
