#include "base/start.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * musl's vfork() was fork() before 1.2.4 on arm64, and longer on other machines: then the parent
 * would not see what the child writes. So there it is clone(2), with room for the child's stack.
 */
#ifndef START_BY_CLONE
#if defined(__GLIBC__) || defined(__x86_64__) || defined(__i386__)
#define START_BY_CLONE 0
#else
#define START_BY_CLONE 1
#endif
#endif

#if START_BY_CLONE

/* For the environment of the command: ARG_MAX allows some 6 MiB. Untouched pages cost nothing. */
#define CHILD_STACK (8UL << 20)

struct call {
	void (*function)(void *argument);
	void *argument;
};

static int run(void *argument)
{
	const struct call *call = argument;

	call->function(call->argument);
	return 0;
}

pid_t start_process(void (*function)(void *), void *argument)
{
	struct call call = { function, argument };
	/* Not on our own stack: a small one (ulimit -s) has no room for two. */
	char *stack = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	pid_t pid;

	if (stack == MAP_FAILED)
		return -errno;
	pid = clone(run, stack + CHILD_STACK, CLONE_VM | CLONE_VFORK | SIGCHLD, &call);
	pid = pid < 0 ? -errno : pid;
	munmap(stack, CHILD_STACK);
	return pid;
}

#else

pid_t start_process(void (*function)(void *argument), void *argument)
{
	pid_t pid = vfork(); // NOLINT(clang-analyzer-security.insecureAPI.vfork): nothing is to be
			     // copied

	if (pid == 0)
		function(argument);
	return pid < 0 ? -errno : pid;
}

#endif

/* Not sanitized: a red zone would be below the child's stack. */
__attribute__((no_sanitize_address)) pid_t start_clone(int (*function)(void *argument),
						       void *argument, int flags)
{
	/*
	 * The top of the child's stack in its copy of our memory. It may outgrow this: below is
	 * only free stack.
	 */
	_Alignas(16) char stack[1024];
	pid_t pid = clone(function, stack + sizeof stack, flags | SIGCHLD, argument);

	return pid < 0 ? -errno : pid;
}
