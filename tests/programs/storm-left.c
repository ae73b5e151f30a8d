#include "storm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The number behind KEY in FILE. */
static long number_in(const char *file, const char *key)
{
	char line[256];
	FILE *f = fopen(file, "re");
	long n = -1;

	while (f && n < 0 && fgets(line, sizeof line, f))
		if (!strncmp(line, key, strlen(key)))
			n = atol(line + strlen(key));
	if (f)
		fclose(f);
	return n;
}

struct count left_count(void)
{
	struct count count = { .sockets =
				   (int)number_in("/proc/self/net/sockstat", "sockets: used"),
			       .kernel_kb = number_in("/proc/meminfo", "Slab:") };
	DIR *fds = opendir("/proc/self/fd");
	FILE *f = fopen("/proc/self/net/unix", "re");
	char line[512];

	while (fds && readdir(fds))
		count.descriptors++;
	closedir(fds);
	while (f && fgets(line, sizeof line, f))
		count.named +=
		    strstr(line, storm.name) != NULL || strstr(line, storm.directory) != NULL;
	if (f)
		fclose(f);
	return count;
}

static void check_files(void)
{
	char path[100];

	for (unsigned lock = 0; lock < STORM_LOCKS; lock++) {
		int fd;

		if (!lock_is_file(lock))
			continue;
		snprintf(path, sizeof path, "%s/%u", storm.directory, lock);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB))
			storm_fail("the lock on file %u is not free at the end", lock);
		if (fd >= 0)
			close(fd);
		unlink(path);
	}
	rmdir(storm.directory);
}

/*
 * A socket that is in a message to itself, or to one that nobody has any more, goes when the kernel
 * collects such, which it does when a socket is closed, and in its own time.
 */
static struct count count_at_last(int sockets)
{
	double limit = storm_now() + storm.patience;
	struct count count = left_count();

	while (count.sockets > sockets && storm_now() < limit) {
		close(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		count = left_count();
	}
	return count;
}

void left_check(const struct count *before, bool apart)
{
	struct count after = apart ? count_at_last(before->sockets) : left_count();

	check_files();
	if (after.named > 0)
		storm_fail("%d sockets with our names are left", after.named);
	if (after.descriptors != before->descriptors)
		storm_fail("%d descriptors before, %d after", before->descriptors,
			   after.descriptors);
	if (apart && after.sockets != before->sockets)
		storm_fail("%d sockets before, %d after", before->sockets, after.sockets);
	if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD)
		storm_fail("processes are left");
	printf("before and after: %d and %d sockets%s, %d and %d of our names, %d and %d "
	       "descriptors, no process left, "
	       "%ld and %ld kB of kernel memory (of the whole host)\n",
	       before->sockets, after.sockets, apart ? "" : " (of the whole host)", before->named,
	       after.named, before->descriptors, after.descriptors, before->kernel_kb,
	       after.kernel_kb);
}
