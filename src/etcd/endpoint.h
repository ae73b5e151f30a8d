/* One endpoint of ETCDCTL_ENDPOINTS. */
#ifndef ETCD_ENDPOINT_H
#define ETCD_ENDPOINT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Reads the N bytes TEXT: HOST or HOST:PORT, with or without http:// or https:// before it
 * (without, TLS decides), and blanks around it. An IPv6 address may be without brackets if no port
 * follows. *URL becomes SCHEME://HOST:PORT, to be freed. Returns NULL, or what is wrong, to be
 * freed.
 */
char *endpoint_read(const char *text, size_t n, bool tls, char **url);

#endif
