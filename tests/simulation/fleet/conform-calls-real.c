/* Runs the scripts of conform-calls.c on the real kernel: FIRST COUNT STEPS, each in a process of
 * its own. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

void conform_script(uint64_t seed, int steps);

int main(int argc, char **argv)
{
	const uint64_t first = argc > 3 ? strtoull(argv[1], NULL, 10) : 1,
		       count = argc > 3 ? strtoull(argv[2], NULL, 10) : 1;

	for (uint64_t seed = first; seed < first + count; seed++) {
		printf("script %d\n", (int)seed);
		fflush(stdout);
		if (fork() == 0) {
			conform_script(seed, atoi(argv[argc - 1]));
			_exit(0);
		}
		wait(NULL);
	}
	return 0;
}
