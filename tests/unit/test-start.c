/*
 * Starting a process: the parent sees what the child writes. Built once more with START_BY_CLONE,
 * for machines on which vfork(2) cannot be relied on.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "base/start.h"
#include "tap.h"

#define DEEP (48 * 1024)

static volatile int seen;

/* As deep as the longest path to an exec, and more. Its red zones would outlive it. */
__attribute__((no_sanitize_address)) static void write_and_exit(void *argument)
{
	volatile char room[DEEP];

	for (unsigned i = 0; i < sizeof room; i += 1024)
		room[i] = 1;
	seen = *(int *)argument + room[0];
	_exit(7);
}

int main(void)
{
	int number = 41, status = 0;
	pid_t pid = start_process(write_and_exit, &number);

	ok(pid > 0, "a process was started");
	is_number(seen, 42, "what it has written");
	is_number(number, 41, "the caller's variable");
	ok(waitpid(pid, &status, 0) == pid, "it has ended");
	ok(WIFEXITED(status) && WEXITSTATUS(status) == 7, "its exit status");
	return tap_done();
}
