/*
 * A library to be preloaded: resolves NAME.test to 127.0.0.1, but of hangs.test nobody ever hears, nor of the others once the file
 * $RESOLVER_HANGS is there. Then a thousand seconds have passed as well, so that what was resolved before is old.
 */
#include <dlfcn.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int hangs(void)
{
	const char *file = getenv("RESOLVER_HANGS");

	return file && access(file, F_OK) == 0;
}

/* The names of the parameters are libc's. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *req, struct addrinfo **pai)
{
	int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	const char *end = name ? strstr(name, ".test") : NULL;

	*(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
	if (!end)
		return next(name, service, req, pai);
	while (!strcmp(name, "hangs.test") || hangs())
		pause();
	return next("127.0.0.1", service, req, pai);
}

time_t time(time_t *timer)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_sec += hangs() ? 1000 : 0;
	if (timer)
		*timer = t.tv_sec;
	return t.tv_sec;
}
