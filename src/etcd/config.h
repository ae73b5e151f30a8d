/* Where etcd is, and which credentials to use: etcdctl's variables, or else a file. */
#ifndef ETCD_CONFIG_H
#define ETCD_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_FILE "/etc/me-only/etcd.conf"

struct config {
	char **endpoints; /* URLs without a "/" at the end, in order */
	size_t n, room;
	char *cacert, *cert, *key; /* paths; NULL: not given */
	char *user, *password;	   /* NULL: none */
	bool skip_verify;
	int64_t dial_timeout;	 /* ns: for one endpoint to take a connection */
	int64_t command_timeout; /* ns: how long a start without success is tried */
};

/*
 * Reads the environment, or FILE if no variable is set. Returns NULL or an error, to be freed. Free
 * CONFIG with config_free() in any case.
 */
char *config_read(struct config *config, const char *file);

void config_free(struct config *config);

#endif
