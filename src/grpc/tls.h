/*
 * TLS, as a connection needs it. The module etcd-tls.so beside the helper has it, and with it the
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

/* What is in the files, in PEM; NULL: the system's CAs, or no certificate of ours. */
struct tls_files {
	unsigned number; /* tells those of one time from those of another */
	const char *bytes[TLS_FILES];
	size_t lengths[TLS_FILES];
	const char *names[TLS_FILES]; /* for messages */
};

/* Where a connection gets them from, each time, since they can be replaced. */
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
	 * TLS over the socket FD to HOST, a name or an address. NULL: *FAILURE and *WHY, to be
	 * freed, say why not.
	 */
	struct tls *(*open)(const struct tls_files *files, bool skip_verify, const char *host,
			    int fd, enum failure *failure, char **why);
	void (*close)(struct tls *tls);

	/* 0: done; -EAGAIN: poll for *EVENTS; else it has failed, as above. */
	int (*shake_hands)(struct tls *tls, short *events, enum failure *failure, char **why);

	/* As of recv(2) and send(2), but -EAGAIN and other errors; *EVENTS as above. */
	ssize_t (*read)(struct tls *tls, void *bytes, size_t n, short *events);
	ssize_t (*write)(struct tls *tls, const void *bytes, size_t n, short *events);
};

/* Loads the module. Returns NULL and in *WHY, to be freed, why not. */
const struct tls_engine *tls_load(char **why);

#endif
