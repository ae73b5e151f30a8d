#include "file/path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

const char *file_path_short(const char *name)
{
	while (name[0] == '.' && name[1] == '/') {
		name++;
		name += strspn(name, "/");
	}
	return *name ? name : ".";
}

int file_path_absolute(struct lock *lock)
{
	size_t prefix = (size_t)(lock->name - lock->spec), length;
	const char *name;
	char *absolute, *directory;
	long n;

	if (*lock->name == '/')
		return 0;
	lock->failed = "cannot make the path absolute";
	/* Lasts until the command's exec. No variable: libc's would no longer be beside ours. */
	absolute = mmap(NULL, prefix + PATH_MAX, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (absolute == MAP_FAILED)
		return -errno;
	directory = absolute + prefix;
	/* The raw call: musl's getcwd() brings malloc in. */
	n = syscall(SYS_getcwd, directory, PATH_MAX);
	if (n < 0)
		return -errno;
	/* "(unreachable)": the directory is not below our root. */
	if (*directory != '/')
		return -ENOENT;
	name = file_path_short(lock->name);
	length = strlen(directory);
	if (length + 1 + strlen(name) >= PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(absolute, lock->spec, prefix);
	if (directory[length - 1] != '/')
		directory[length++] = '/';
	strcpy(directory + length, name);
	lock->absolute = absolute;
	return 0;
}
