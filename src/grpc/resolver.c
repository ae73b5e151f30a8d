#include "grpc/resolver.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Enough for the modules of the system's resolver. */
#define STACK (256UL << 10)

struct resolver {
	int fd; /* -1: there is no thread */
	int error;
	struct addrinfo *addresses;
	atomic_int users; /* the thread and its starter */
	char *port, host[];
};

static void leave(struct resolver *resolver)
{
	if (atomic_fetch_sub(&resolver->users, 1) > 1)
		return;
	if (resolver->addresses)
		freeaddrinfo(resolver->addresses);
	if (resolver->fd >= 0)
		close(resolver->fd);
	free(resolver);
}

static bool is_address(const char *host)
{
	unsigned char bytes[sizeof(struct in6_addr)];

	/* "%" begins the interface of an IPv6 address. */
	return strchr(host, '%') || inet_pton(AF_INET, host, bytes) == 1 ||
	       inet_pton(AF_INET6, host, bytes) == 1;
}

static int resolve(struct resolver *resolver, int flags)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
					.ai_flags = flags | AI_NUMERICSERV };

	return getaddrinfo(resolver->host, resolver->port, &hints, &resolver->addresses);
}

static void *resolve_in_thread(void *argument)
{
	const uint64_t one = 1;
	struct resolver *resolver = argument;

	resolver->error = resolve(resolver, AI_ADDRCONFIG);
	(void)!write(resolver->fd, &one, sizeof one);
	leave(resolver);
	return NULL;
}

static int start_thread(struct resolver *resolver)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int error = pthread_attr_init(&attributes);

	if (error)
		return error;
	pthread_attr_setstacksize(&attributes, STACK);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = pthread_create(&thread, &attributes, resolve_in_thread, resolver);
	pthread_attr_destroy(&attributes);
	return error;
}

struct resolver *resolver_begin(const char *host, const char *port)
{
	const size_t n = strlen(host) + 1, m = strlen(port) + 1;
	struct resolver *resolver = calloc(1, sizeof *resolver + n + m);

	if (!resolver)
		return NULL;
	resolver->fd = -1;
	resolver->users = 1;
	memcpy(resolver->host, host, n);
	resolver->port = memcpy(resolver->host + n, port, m);
	if (is_address(host)) {
		resolver->error = resolve(resolver, AI_NUMERICHOST);
		return resolver;
	}
	resolver->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (resolver->fd >= 0) {
		resolver->users = 2;
		if (!start_thread(resolver))
			return resolver;
		resolver->users = 1;
	}
	leave(resolver);
	return NULL;
}

int resolver_fd(const struct resolver *resolver)
{
	return resolver->fd;
}

struct addrinfo *resolver_take(struct resolver *resolver, int *error)
{
	struct addrinfo *addresses;
	uint64_t one;

	*error = 0;
	if (resolver->fd >= 0 && read(resolver->fd, &one, sizeof one) < 0)
		return NULL;
	*error = resolver->error;
	addresses = resolver->addresses;
	resolver->addresses = NULL;
	return addresses;
}

void resolver_end(struct resolver *resolver)
{
	leave(resolver);
}
