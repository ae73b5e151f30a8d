/* Any bytes as a line of the kernel's table of file locks, as a text file, and as the name of a socket that could be a slot's. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "file/holder.h"
#include "host/address.h"
#include "base/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void table(const uint8_t *data, size_t size)
{
	const struct file_id file = { .major = 254, .inode = 131 };
	char *text = malloc(size + 1);
	struct file_flock flock;

	memcpy(text, data, size);
	text[size] = 0;
	if (file_flock_read(text, &flock))
		(void)file_flock_is_on(&flock, &file);
	free(text);
}

/* All lines, with their newlines, are all there was. */
static void file(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct lines lines;
	size_t sum = 0;
	char path[64];

	if (fd < 0)
		fd = memfd_create("fuzz", 0);
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	if (lines_open(&lines, AT_FDCWD, path))
		abort();
	while (lines_next(&lines))
		sum++;
	lines_close(&lines);
	if ((size > 0) != (sum > 0) || sum > size)
		abort();
}

static void name(const uint8_t *data, size_t size)
{
	struct host_address lock, slot;
	unsigned n;

	host_address(&lock, "backup");
	n = host_address_slot(&lock, (const char *)data, size);
	if (n >= MOST_SLOTS)
		return;
	host_slot_address(&slot, &lock, n);
	if (slot.length - offsetof(struct sockaddr_un, sun_path) != size || memcmp(slot.un.sun_path, data, size) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	table(data, size);
	file(data, size);
	name(data, size);
	return 0;
}
