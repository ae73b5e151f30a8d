/* witness FILE MILLISECONDS [TEXT]: a job that proves that it ran alone.
 *
 * It takes a record lock on FILE without ever waiting. If another process has it, two jobs run at once: that is written
 * to FILE, where it stays whatever becomes of the processes, and the status is 99. Otherwise TEXT is written to standard
 * output as one line, and the record lock is kept for so many milliseconds, or with "-" until standard input ends.
 *
 * The kernel gives a record lock back when the process ends, before it lets go of any socket: so a hand-over in the middle
 * of our end is no overlap. It must not be sanitized: the
 * search for leaks runs in a process of its own, which shares the descriptors and may outlive a killed witness.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STATUS_OVERLAP = 99, STATUS_ERROR = 98 };

static void say_line(int fd, const char *text)
{
	char line[256];
	int length = snprintf(line, sizeof line, "%s\n", text);

	if (length >= (int)sizeof line || write(fd, line, length) != length)
		_exit(STATUS_ERROR);
}

static int report_overlap(int file)
{
	struct flock other = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char line[80];

	if (fcntl(file, F_GETLK, &other) < 0)
		return STATUS_ERROR;
	snprintf(line, sizeof line, "pid %d ran beside pid %d", (int)getpid(), (int)other.l_pid);
	say_line(file, line);
	say_line(STDERR_FILENO, line);
	return STATUS_OVERLAP;
}

int main(int argc, char **argv)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	long ms;
	int file;

	if (argc < 3)
		return STATUS_ERROR;
	file = open(argv[1], O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (file < 0)
		return STATUS_ERROR;
	if (fcntl(file, F_SETLK, &whole) < 0)
		return report_overlap(file);
	if (argc > 3)
		say_line(STDOUT_FILENO, argv[3]);
	if (strcmp(argv[2], "-") == 0) {
		char byte;
		while (read(STDIN_FILENO, &byte, 1) > 0)
			;
		return 0;
	}
	ms = atol(argv[2]);
	if (ms > 0)
		nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
	return 0;
}
