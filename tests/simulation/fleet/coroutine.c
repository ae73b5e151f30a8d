/*
 * A new coroutine is begun by makecontext(3). All other switches are _setjmp() and _longjmp(),
 * which make no system call: swapcontext(3) makes one each to save and to set the signal mask.
 * With AddressSanitizer swapcontext() is used, since that watches longjmp().
 */
#include "coroutine.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif

#ifdef SANITIZED
#include <sanitizer/common_interface_defs.h>
#define STACK (1UL << 20)
#else
#define STACK (256UL << 10)
#endif

struct coroutine {
	struct coroutine *next; /* in the list of free ones */
	char *stack;
	void (*function)(void *);
	void *argument;
	bool begun;
	ucontext_t context;
#ifdef SANITIZED
	void *fake;
#else
	jmp_buf at;
#endif
};

static struct coroutine *unused, *running;
static ucontext_t outside;

struct coroutine *coroutine_new(void (*function)(void *), void *argument)
{
	struct coroutine *new = unused;

	if (new) {
		unused = new->next;
	} else {
		new = calloc(1, sizeof *new);
		if (!new)
			abort();
		new->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);
		if (new->stack == MAP_FAILED)
			abort();
	}
	new->function = function;
	new->argument = argument;
	new->begun = false;
	return new;
}

void coroutine_free(struct coroutine *coroutine)
{
	coroutine->next = unused;
	unused = coroutine;
}

static void prepare(struct coroutine *coroutine, void (*entry)(void))
{
	getcontext(&coroutine->context);
	coroutine->context.uc_stack.ss_sp = coroutine->stack;
	coroutine->context.uc_stack.ss_size = STACK;
	coroutine->context.uc_link = NULL;
	makecontext(&coroutine->context, entry, 0);
	coroutine->begun = true;
}

#ifdef SANITIZED

static void *outside_fake;
static const void *outside_bottom;
static size_t outside_size;

static void entry(void)
{
	__sanitizer_finish_switch_fiber(NULL, &outside_bottom, &outside_size);
	running->function(running->argument);
	abort();
}

void coroutine_enter(struct coroutine *coroutine)
{
	if (!coroutine->begun)
		prepare(coroutine, entry);
	running = coroutine;
	__sanitizer_start_switch_fiber(&outside_fake, coroutine->stack, STACK);
	swapcontext(&outside, &coroutine->context);
	__sanitizer_finish_switch_fiber(outside_fake, NULL, NULL);
}

void coroutine_leave(struct coroutine *coroutine, int for_good)
{
	__sanitizer_start_switch_fiber(for_good ? NULL : &coroutine->fake, outside_bottom,
				       outside_size);
	swapcontext(&coroutine->context, &outside);
	__sanitizer_finish_switch_fiber(coroutine->fake, &outside_bottom, &outside_size);
}

#else

static jmp_buf back;

static void entry(void)
{
	running->function(running->argument);
	abort();
}

void coroutine_enter(struct coroutine *coroutine)
{
	running = coroutine;
	if (_setjmp(back))
		return;
	if (coroutine->begun)
		_longjmp(coroutine->at, 1);
	prepare(coroutine, entry);
	swapcontext(&outside, &coroutine->context);
}

void coroutine_leave(struct coroutine *coroutine, int for_good)
{
	(void)for_good;
	if (!_setjmp(coroutine->at))
		_longjmp(back, 1);
}

#endif
