#include "base/start.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

pid_t start_process(void (*function)(void *argument), void *argument)
{
	pid_t pid = vfork(); // NOLINT(clang-analyzer-security.insecureAPI.vfork): nothing is to be
			     // copied

	if (pid == 0)
		function(argument);
	return pid < 0 ? -errno : pid;
}

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
