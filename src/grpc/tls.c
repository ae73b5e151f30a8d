#include "grpc/tls.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

#define MODULE "etcd-tls.so"

const struct tls_engine *tls_load(char **why)
{
	static const struct tls_engine *engine;
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof MODULE);
	char *end;
	void *module;

	if (engine)
		return engine;
	path[n > 0 ? n : 0] = 0;
	end = strrchr(path, '/');
	strcpy(end ? end + 1 : path, MODULE);
	module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (module)
		engine = dlsym(module, "tls_engine");
	if (!engine)
		*why = memory_format("TLS cannot be used: %s", dlerror());
	return engine;
}
