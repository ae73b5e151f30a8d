#include "etcd/endpoint.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define PORT ":2379" /* etcd's own */

/* What may be in a host's name; bytes beyond ASCII are left to the resolver. */
static bool is_name(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const unsigned char c = (unsigned char)text[i];

		if ((c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') &&
		    c != '.' && c != '-' && c != '_' && c < 0x80)
			return false;
	}
	return n > 0;
}

/* An IPv6 address, with or without the name of an interface (fe80::1%eth0). */
static bool is_address(const char *text, size_t n)
{
	const char *percent = memchr(text, '%', n);
	const size_t length = percent ? (size_t)(percent - text) : n;
	char copy[INET6_ADDRSTRLEN];
	struct in6_addr address;

	if (length >= sizeof copy || (percent && !is_name(percent + 1, n - length - 1)))
		return false;
	memcpy(copy, text, length);
	copy[length] = 0;
	return inet_pton(AF_INET6, copy, &address) == 1;
}

/* ":" and a number from 1 to 65535, to the end of the text. */
static bool is_port(const char *text)
{
	const size_t digits = strspn(text + 1, "0123456789");
	const unsigned long port = digits > 0 && digits < 6 ? strtoul(text + 1, NULL, 10) : 0;

	return *text == ':' && !text[1 + digits] && port > 0 && port < 65536;
}

/* HOST, or HOST:PORT, with the port. NULL: it is neither. */
static char *with_port(const char *text)
{
	const bool bracket = *text == '[';
	const char *end = strchr(text, bracket ? ']' : ':');
	size_t n = end ? (size_t)(end - text) : strlen(text);

	if (!bracket && is_address(text, strlen(text)))
		return memory_format("[%s]" PORT, text);
	if (bracket && end && is_address(text + 1, n - 1))
		n++;
	else if (bracket || !is_name(text, n))
		return NULL;
	if (!text[n])
		return memory_format("%s" PORT, text);
	return is_port(text + n) ? memory_string(text) : NULL;
}

char *endpoint_read(const char *text, size_t n, bool tls, char **url)
{
	char *whole, *host, *rest, *error = NULL;

	while (n > 0 && (*text == ' ' || *text == '\t'))
		text++, n--;
	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '\t'))
		n--;
	whole = memory_text(text, n);
	rest = whole;
	if (!strncmp(whole, "http://", 7) || !strncmp(whole, "https://", 8)) {
		tls = whole[4] == 's';
		rest += tls ? 8 : 7;
	}
	for (n = strlen(rest); n > 0 && rest[n - 1] == '/'; n--)
		rest[n - 1] = 0;
	/* What is before an "@" may be a password. */
	if (strchr(rest, '@'))
		error = memory_string(
			"ETCDCTL_ENDPOINTS: put the user in ETCDCTL_USER, not in the endpoint");
	else if (n == 0)
		error = memory_string("ETCDCTL_ENDPOINTS has an empty endpoint");
	else if (strstr(rest, "://"))
		error = memory_format("ETCDCTL_ENDPOINTS: neither http:// nor https://: '%s'",
				      whole);
	host = error ? NULL : with_port(rest);
	if (host)
		*url = memory_format("%s%s", tls ? "https://" : "http://", host);
	else if (!error)
		error = memory_format("ETCDCTL_ENDPOINTS: neither HOST nor HOST:PORT: '%s'", whole);
	free(host);
	free(whole);
	return error;
}
