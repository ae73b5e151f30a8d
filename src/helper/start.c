#include "helper/start.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/trust.h"
#include "paths.h"

/* PATH becomes DIRECTORY, of LENGTH bytes, REST and "/" NAME. Returns whether there is room. */
static bool compose(char path[PATH_MAX], const char *directory, size_t length, const char *rest,
		    const char *name)
{
	if (length + strlen(rest) + strlen(name) + 2 > PATH_MAX)
		return false;
	memcpy(path, directory, length);
	stpcpy(stpcpy(stpcpy(path + length, rest), "/"), name);
	return true;
}

/*
 * Puts the name of the file into PATH. SELF is the file of this program, "" if that is not known.
 * Returns 0 or a negative errno.
 */
static int find(const char *self, const char *name, char path[PATH_MAX])
{
	static const char *const beside[] = { "/libexec/me-only", "/../libexec/me-only" };
	const char *directory = secure_getenv("ME_ONLY_EXEC_PATH"), *slash = strrchr(self, '/');

	if (directory && *directory)
		return compose(path, directory, strlen(directory), "", name) ? 0 : -ENAMETOOLONG;
	for (size_t i = 0; slash && i < sizeof beside / sizeof *beside; i++)
		if (compose(path, self, (size_t)(slash - self), beside[i], name) &&
		    access(path, X_OK) == 0)
			return 0;
	return compose(path, HELPERS, strlen(HELPERS), "", name) ? 0 : -ENAMETOOLONG;
}

int helper_become(const char *name, const char *program, char **argv, char path[PATH_MAX])
{
	char self[PATH_MAX], *slash;
	ssize_t n = program ? 0 : readlink("/proc/self/exe", self, sizeof self - 1);
	int r, directory, file;

	self[n > 0 ? n : 0] = 0;
	if (program && strlen(program) < sizeof self)
		strcpy(self, program);
	if (*self)
		argv[0] = self;
	r = find(self, name, path);
	if (r)
		return r;
	/* We run what we checked: by descriptor, not by the path again. */
	slash = strrchr(path, '/');
	*slash = 0;
	directory = open(*path ? path : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*slash = '/';
	file = directory < 0 ? -1 : openat(directory, name, O_PATH | O_CLOEXEC);
	if (file < 0)
		return -errno;
	if (!trust_file(directory) || !trust_file(file))
		return HELPER_REFUSED;
	syscall(SYS_execveat, file, "", argv, environ, AT_EMPTY_PATH);
	return -errno;
}
