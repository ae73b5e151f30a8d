/*
 * TLS for a connection. The module etcd-tls.so beside the helper implements it and brings in the
 * TLS library: it is loaded only if an endpoint needs it.
 */
#ifndef GRPC_TLS_H
#define GRPC_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "grpc/rpc.h"

enum tls_file {
	TLS_CA,
	TLS_CERT,
	TLS_KEY,
	TLS_FILES
};

/* The contents of the files, in PEM; NULL: the system's CAs, or no client certificate. */
struct tls_files {
	unsigned number; /* another one whenever the contents have changed */
	const char *bytes[TLS_FILES];
	size_t lengths[TLS_FILES];
	const char *names[TLS_FILES]; /* for messages */
};

/* Where each connection gets them from: they can be replaced. */
struct tls_source {
	void *owner;
	const struct tls_files *(*fresh)(void *owner);
	/* A connection that used those of NUMBER works, or has failed, perhaps because of them. */
	void (*judge)(void *owner, unsigned number, bool worked);
	bool skip_verify;
};

struct tls;

/* What the module exports, by the name tls_engine. */
struct tls_engine {
	/*
	 * TLS over the socket FD to HOST, a name or an address. On failure returns NULL, *FAILURE
	 * and *WHY, to be freed.
	 */
	struct tls *(*open)(const struct tls_files *files, bool skip_verify, const char *host,
			    int fd, enum failure *failure, char **why);
	void (*close)(struct tls *tls);

	/* 0: done; -EAGAIN: poll for *EVENTS; other errors: it has failed, as above. */
	int (*shake_hands)(struct tls *tls, short *events, enum failure *failure, char **why);

	/* Like recv(2) and send(2), but errors are negative errnos; *EVENTS as above. */
	ssize_t (*read)(struct tls *tls, void *bytes, size_t n, short *events);
	ssize_t (*write)(struct tls *tls, const void *bytes, size_t n, short *events);
};

/* Loads the module. On failure returns NULL, and *WHY, to be freed. */
const struct tls_engine *tls_load(char **why);

#endif
