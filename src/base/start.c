#include "base/start.h"

#include <errno.h>
#include <unistd.h>

pid_t start_process(void (*function)(void *argument), void *argument)
{
	pid_t pid = vfork();	// NOLINT(clang-analyzer-security.insecureAPI.vfork): nothing is to be copied

	if (pid == 0)
		function(argument);
	return pid < 0 ? -errno : pid;
}
