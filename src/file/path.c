#include "file/path.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
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

/* Not on the stack: it has to last until the command's exec. Only relative paths touch it. */
static char absolute[sizeof "file:" + PATH_MAX];

int file_path_absolute(struct lock *lock)
{
	size_t prefix = (size_t)(lock->name - lock->spec), length;
	const char *name;
	char *folder = absolute + prefix;
	long n;

	if (*lock->name == '/')
		return 0;
	lock->failed = "cannot make the path absolute";
	/* The raw call: musl's getcwd() brings malloc in. */
	n = syscall(SYS_getcwd, folder, PATH_MAX);
	if (n < 0)
		return -errno;
	/* "(unreachable)": the directory is not below our root. */
	if (*folder != '/')
		return -ENOENT;
	name = file_path_short(lock->name);
	length = strlen(folder);
	if (length + 1 + strlen(name) >= PATH_MAX)
		return -ENAMETOOLONG;
	memcpy(absolute, lock->spec, prefix);
	if (folder[length - 1] != '/')
		folder[length++] = '/';
	strcpy(folder + length, name);
	lock->absolute = absolute;
	return 0;
}
