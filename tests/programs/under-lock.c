/*
 * A job that proves that it runs under its lock, alone.
 *
 * usage: under-lock REPORT NAME STATUS MILLISECONDS
 *
 * It appends "PID started" to REPORT; then, once and for MILLISECONDS on, looks whether the lock NAME is taken: an abstract
 * socket name, a file for flock(2) if it begins with "file:", or "-" for one at which it cannot look. Then it appends
 * "PID held", "PID free" (the lock was not taken at some moment) or "PID overlap" (another one of us was running), and exits
 * with STATUS. The witness of an overlap is a record lock on REPORT.
 *
 * It is linked statically and needs two descriptors, for which it closes 0 and 1: it runs in an empty root and with
 * the smallest limits.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static const char *work(int report, const char *name, long milliseconds);
static int is_taken(const char *name);
static int is_locked(const char *path);
static void say(int report, const char *what);

int main(int argc, char **argv)
{
	if (argc != 5 || strlen(argv[2]) > (strncmp(argv[2], "file:", 5) ? 77 : 4000)) {
		fprintf(stderr, "usage: under-lock REPORT NAME STATUS MILLISECONDS\n");
		return 125;
	}
	close(0);
	close(1);
	int report = open(argv[1], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (report < 0) {
		perror(argv[1]);
		return 125;
	}
	say(report, "started");
	say(report, work(report, argv[2], atol(argv[4])));
	return atoi(argv[3]);
}

static const char *work(int report, const char *name, long milliseconds)
{
	const struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	if (fcntl(report, F_SETLK, &whole) != 0)
		return "overlap";
	for (long i = 0; i <= milliseconds; i++) {
		if (i > 0)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
		int taken = !strcmp(name, "-") ? 1 : !strncmp(name, "file:", 5) ? is_locked(name + 5) : is_taken(name);
		if (taken != 1)
			return taken == 0 ? "free" : "cannot-look";
	}
	return "held";
}

/* 1: taken, 0: free (we had it for an instant), -1: cannot be seen. */
static int is_taken(const char *name)
{
	static const char prefix[] = "me-only:";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(name);
	memcpy(address.sun_path + 1, prefix, sizeof prefix - 1);
	memcpy(address.sun_path + sizeof prefix, name, length);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + sizeof prefix + length);

	int probe = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return -1;
	int taken = bind(probe, (struct sockaddr *)&address, size) == 0 ? 0 : errno == EADDRINUSE ? 1 : -1;
	close(probe);
	return taken;
}

static int is_locked(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	int taken = flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : errno == EWOULDBLOCK ? 1 : -1;
	close(fd);
	return taken;
}

static void say(int report, const char *what)
{
	char line[64];
	int n = snprintf(line, sizeof line, "%ld %s\n", (long)getpid(), what);
	if (write(report, line, (size_t)n) != n)
		_exit(125);
}
