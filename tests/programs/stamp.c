/* stamp FILE WORD [COMMAND [ARGUMENT]...]: appends "WORD TIME" to FILE, and becomes COMMAND if there is one.
 *
 * TIME is CLOCK_MONOTONIC in nanoseconds. What is compared are two stamps: that of a call, which becomes the program under test
 * at once, and that of a command.
 */
#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct timespec now;
	char line[128];
	int file, length;

	if (argc < 3)
		return 98;
	file = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	clock_gettime(CLOCK_MONOTONIC, &now);
	length = snprintf(line, sizeof line, "%s %lld\n", argv[2], now.tv_sec * 1000000000LL + now.tv_nsec);
	if (file < 0 || write(file, line, length) != length)
		return 98;
	if (argc == 3)
		return 0;
	execv(argv[3], argv + 3);
	return 97;
}
