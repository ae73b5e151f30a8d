#include "grpc/tls.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/trust.h"

#define MODULE "etcd-tls.so"

/*
 * Opens the module beside this program. Returns a descriptor or a negative errno; -EPERM: others
 * can write the module or its directory.
 */
static int open_module(void)
{
	char path[PATH_MAX];
	const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
	const char *slash;
	int directory, file = -1, error;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	if (!slash)
		return -ENOENT;
	/* With the "/", which may be all of it. */
	path[slash + 1 - path] = 0;
	directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory >= 0)
		file = openat(directory, MODULE, O_PATH | O_CLOEXEC);
	error = file < 0 ? errno : trust_file(directory) && trust_file(file) ? 0 : EPERM;
	if (directory >= 0)
		close(directory);
	if (error && file >= 0)
		close(file);
	return error ? -error : file;
}

const struct tls_engine *tls_load(char **why)
{
	static const struct tls_engine *engine;
	char path[40];
	void *module;
	int file;

	if (engine)
		return engine;
	file = open_module();
	if (file < 0) {
		*why = memory_format("TLS cannot be used: " MODULE ": %s",
				     file == -EPERM ? "it or its directory is writable by others"
						    : strerror(-file));
		return NULL;
	}
	/* Load the file that was checked. dlopen() does not search for a path with a "/". */
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (module)
		engine = dlsym(module, "tls_engine");
	if (!engine)
		*why = memory_format("TLS cannot be used: %s", dlerror());
	close(file);
	return engine;
}
