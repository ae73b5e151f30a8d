/*
 * A job that the tests hold a lock with: it prints its pid, then reads standard input to its end.
 *
 * usage: job
 */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	char some[512];

	if (dprintf(1, "%d\n", (int)getpid()) < 0)
		return 1;
	while (read(0, some, sizeof some) > 0)
		;
	return 0;
}
