/* Base64 (RFC 4648, with padding): how the gateway has keys and values in JSON. */
#ifndef ETCD_BASE64_H
#define ETCD_BASE64_H

#include <stddef.h>

/* BYTES in base64, to be freed. */
char *base64_encode(const void *bytes, size_t n);

/* The decoded TEXT with a NUL behind it, to be freed, and its length in *N. NULL: invalid. */
char *base64_decode(const char *text, size_t *n);

#endif
