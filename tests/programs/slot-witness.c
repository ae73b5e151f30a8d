/* slot-witness FILE MILLISECONDS [TEXT]: a job that proves that no more than $SLOTS run at once, each in a slot of its own.
 *
 * It is as witness.c, but takes a record lock on one byte of FILE only, that of its slot ($ME_ONLY_SLOT, without it 0). If the
 * slot is not one from 0 to $SLOTS - 1, or another process has that byte, this is written to FILE and the status is 99. There are
 * no more bytes than slots: so no more can run than there are. The TEXT "slot" stands for the number of the slot.
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

/* PID: that of the other one, or 0. */
static int report(int file, const char *slot, int pid)
{
	char line[200];

	if (pid)
		snprintf(line, sizeof line, "pid %d ran in slot %s beside pid %d", (int)getpid(), slot, pid);
	else
		snprintf(line, sizeof line, "pid %d ran in slot '%s'", (int)getpid(), slot);
	say_line(file, line);
	say_line(STDERR_FILENO, line);
	return STATUS_OVERLAP;
}

/* The number in TEXT, which must be written as me-only writes it; or -1. */
static long number_of(const char *text)
{
	char again[24];
	long number = atol(text);

	snprintf(again, sizeof again, "%ld", number);
	return strcmp(again, text) == 0 ? number : -1;
}

int main(int argc, char **argv)
{
	const char *slots = getenv("SLOTS"), *slot = getenv("ME_ONLY_SLOT");
	struct flock byte = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	long ms;
	int file;

	if (argc < 3 || !slots)
		return STATUS_ERROR;
	file = open(argv[1], O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (file < 0)
		return STATUS_ERROR;
	if (!slot)
		slot = "0";
	byte.l_start = number_of(slot);
	if (byte.l_start < 0 || byte.l_start >= atol(slots))
		return report(file, slot, 0);
	if (fcntl(file, F_SETLK, &byte) < 0) {
		fcntl(file, F_GETLK, &byte);
		return report(file, slot, byte.l_pid);
	}
	if (argc > 3)
		say_line(STDOUT_FILENO, strcmp(argv[3], "slot") == 0 ? slot : argv[3]);
	if (strcmp(argv[2], "-") == 0) {
		char end;
		while (read(STDIN_FILENO, &end, 1) > 0)
			;
		return 0;
	}
	ms = atol(argv[2]);
	if (ms > 0)
		nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
	return 0;
}
