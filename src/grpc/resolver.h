/* Names of hosts, resolved by a thread: the system's resolver can hang. */
#ifndef GRPC_RESOLVER_H
#define GRPC_RESOLVER_H

#include <netdb.h>

struct resolver;

/*
 * Begins to resolve HOST with PORT. NULL: out of memory or threads. An address is not asked for
 * anywhere.
 */
struct resolver *resolver_begin(const char *host, const char *port);

/* A descriptor that can be read when it is done; -1: it is. */
int resolver_fd(const struct resolver *resolver);

/*
 * The addresses, for freeaddrinfo(), if it is done; NULL: none, or not done yet. *ERROR is 0 or why
 * there are none, for gai_strerror().
 */
struct addrinfo *resolver_take(struct resolver *resolver, int *error);

/* Forgets it. A thread that still waits ends when it has its answer. */
void resolver_end(struct resolver *resolver);

#endif
