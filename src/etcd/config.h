/*
 * Where etcd is, and which credentials to use: etcdctl's variables. With ETCDCTL_ENDPOINTS in the
 * environment, the file is not read; without, each variable of the environment that is not empty
 * replaces that of the file. So no other variable leads to another cluster.
 */
#ifndef ETCD_CONFIG_H
#define ETCD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "etcd/credentials.h"

#define CONFIG_FILE "/etc/me-only/etcd.conf"

enum config_source {
	CONFIG_BY_DEFAULT,
	CONFIG_OF_FILE,
	CONFIG_OF_ENVIRONMENT
};

struct config {
	char **endpoints; /* SCHEME://HOST:PORT, in order */
	size_t n, room;
	enum config_source source;	 /* of the endpoints */
	char *cacert, *cert, *key;	 /* absolute paths, links not followed; NULL: not given */
	struct credentials *credentials; /* what is in them; NULL: none is given */
	char *user, *password;		 /* NULL: none */
	bool skip_verify;
	int64_t dial_timeout;	 /* ns: for one endpoint to take a connection */
	int64_t command_timeout; /* ns: how long a start without success is tried */
};

/*
 * Reads the environment and FILE. Returns NULL or an error, to be freed. Free CONFIG with
 * config_free() in any case.
 */
char *config_read(struct config *config, const char *file);

/* Where the endpoints come from, in words. */
const char *config_source(const struct config *config);

void config_free(struct config *config);

#endif
