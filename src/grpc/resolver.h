/* Host names, resolved by a thread: the system's resolver can hang. */
#ifndef GRPC_RESOLVER_H
#define GRPC_RESOLVER_H

#include <netdb.h>

struct resolver;

/*
 * Starts to resolve HOST and PORT. NULL: out of memory or threads. A numeric address needs neither
 * a thread nor a server.
 */
struct resolver *resolver_begin(const char *host, const char *port);

/* A descriptor that can be read when it is done; -1: it is done. */
int resolver_fd(const struct resolver *resolver);

/*
 * The addresses, for freeaddrinfo(), if it is done; NULL: none, or not done yet. *ERROR is 0 or why
 * there are none, for gai_strerror().
 */
struct addrinfo *resolver_take(struct resolver *resolver, int *error);

/* Frees it. A thread that still waits exits when it has its answer. */
void resolver_end(struct resolver *resolver);

#endif
