#include "list/processes.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/process.h"

struct walk {
	struct processes *processes;
	const struct sockets *sockets;
};

/* The inode in "socket:[1234]"; 0 if LINK, of N bytes, is not a socket. */
static uint32_t inode_in(const char *link, ssize_t n)
{
	static const char prefix[] = "socket:[";
	uint64_t inode = 0;
	ssize_t i = sizeof prefix - 1;

	if (n <= i || memcmp(link, prefix, sizeof prefix - 1) != 0)
		return 0;
	for (; i < n && link[i] >= '0' && link[i] <= '9' && inode <= UINT32_MAX; i++)
		inode = inode * 10 + (uint64_t)(link[i] - '0');
	return inode <= UINT32_MAX ? (uint32_t)inode : 0;
}

static void add(struct processes *processes, uint32_t inode, pid_t pid)
{
	processes->all =
		memory_grow(processes->all, processes->n, &processes->room, sizeof *processes->all);
	processes->all[processes->n++] = (struct socket_owner){ inode, pid };
}

static bool visit(pid_t pid, void *argument)
{
	const struct walk *walk = argument;
	char path[PROCESS_PATH_SIZE], link[64];
	const struct dirent *entry;
	DIR *directory;

	directory = opendir(process_path(path, pid, "fd"));
	if (!directory) {
		walk->processes->denied |= errno == EACCES || errno == EPERM;
		return true;
	}
	while ((entry = readdir(directory))) {
		uint32_t inode = inode_in(
			link, readlinkat(dirfd(directory), entry->d_name, link, sizeof link));

		if (inode && sockets_find(walk->sockets, inode))
			add(walk->processes, inode, pid);
	}
	closedir(directory);
	return true;
}

static int compare(const void *a, const void *b)
{
	const struct socket_owner *x = a, *y = b;

	return x->inode != y->inode ? (x->inode < y->inode ? -1 : 1)
				    : (x->pid > y->pid) - (x->pid < y->pid);
}

void processes_read(struct processes *processes, const struct sockets *sockets)
{
	struct walk walk = { processes, sockets };
	size_t kept = 0;

	*processes = (struct processes){ .looked = true };
	process_walk(visit, &walk);
	if (processes->n == 0)
		return;
	qsort(processes->all, processes->n, sizeof *processes->all, compare);
	/* A process can have several descriptors of one socket. */
	for (size_t i = 0; i < processes->n; i++)
		if (i == 0 || compare(&processes->all[kept - 1], &processes->all[i]) != 0)
			processes->all[kept++] = processes->all[i];
	processes->n = kept;
}

void processes_free(struct processes *processes)
{
	free(processes->all);
	*processes = (struct processes){ 0 };
}

const struct socket_owner *processes_find(const struct processes *processes, uint32_t inode,
					  size_t *n)
{
	size_t low = 0, high = processes->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (processes->all[middle].inode < inode)
			low = middle + 1;
		else
			high = middle;
	}
	for (*n = 0; inode && low + *n < processes->n && processes->all[low + *n].inode == inode;
	     ++*n)
		;
	return *n > 0 ? processes->all + low : NULL;
}

bool processes_has(const struct processes *processes, uint32_t inode, pid_t pid)
{
	const struct socket_owner wanted = { inode, pid };

	return inode && processes->n > 0 &&
	       bsearch(&wanted, processes->all, processes->n, sizeof wanted, compare);
}
