/*
 * A switch saves the registers that a function has to keep on the stack that is left, and takes
 * those of the other stack. The ucontext functions of libc would do the same, and set the signal
 * mask each time: two system calls for a switch of 2 ns.
 */
#include "coroutine.h"

#include <stdint.h>
#include <string.h>

void coroutine_swap(void **from, void *to);

#if defined(__x86_64__)
#define SAVED_WORDS 7 /* six registers and the address to return to */
#define RETURN_WORD 6
#define ENTRY_OFFSET \
	8 /* at a function's first instruction the stack is 8 bytes off its alignment */
__asm__(".text\n.globl coroutine_swap\n.type coroutine_swap,@function\ncoroutine_swap:\n"
	"pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
	"movq %rsp, (%rdi)\nmovq %rsi, %rsp\n"
	"popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
	".size coroutine_swap,.-coroutine_swap\n");
#elif defined(__aarch64__)
#define SAVED_WORDS 20 /* x19 to x30 and d8 to d15 */
#define RETURN_WORD 11
#define ENTRY_OFFSET 0
__asm__(".text\n.globl coroutine_swap\n.type coroutine_swap,%function\ncoroutine_swap:\n"
	"sub sp, sp, #160\n"
	"stp x19, x20, [sp, #0]\nstp x21, x22, [sp, #16]\nstp x23, x24, [sp, #32]\nstp x25, x26, "
	"[sp, #48]\n"
	"stp x27, x28, [sp, #64]\nstp x29, x30, [sp, #80]\n"
	"stp d8, d9, [sp, #96]\nstp d10, d11, [sp, #112]\nstp d12, d13, [sp, #128]\nstp d14, d15, "
	"[sp, #144]\n"
	"mov x9, sp\nstr x9, [x0]\nmov sp, x1\n"
	"ldp x19, x20, [sp, #0]\nldp x21, x22, [sp, #16]\nldp x23, x24, [sp, #32]\nldp x25, x26, "
	"[sp, #48]\n"
	"ldp x27, x28, [sp, #64]\nldp x29, x30, [sp, #80]\n"
	"ldp d8, d9, [sp, #96]\nldp d10, d11, [sp, #112]\nldp d12, d13, [sp, #128]\nldp d14, d15, "
	"[sp, #144]\n"
	"add sp, sp, #160\nret\n"
	".size coroutine_swap,.-coroutine_swap\n");
#else
#error "coroutine_swap() is missing for this machine"
#endif
__asm__(".section .note.GNU-stack,\"\",%progbits\n.text\n");

void coroutine_make(struct coroutine *coroutine, void *stack, size_t size, void (*body)(void))
{
	uintptr_t top = ((uintptr_t)stack + size) & ~(uintptr_t)63;
	uintptr_t *words = (uintptr_t *)(top - ENTRY_OFFSET) - SAVED_WORDS;

	memset(words, 0, SAVED_WORDS * sizeof *words);
	words[RETURN_WORD] = (uintptr_t)body;
	coroutine->stack_pointer = words;
}

void coroutine_switch(struct coroutine *from, const struct coroutine *to)
{
	coroutine_swap(&from->stack_pointer, to->stack_pointer);
}
