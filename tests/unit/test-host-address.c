#include <stddef.h>
#include <stdlib.h>

#include "host-address.h"
#include "tap.h"

static struct host_address address;

static bool address_is(const char *bytes, size_t length)
{
	return address.un.sun_family == AF_UNIX && address.length == offsetof(struct sockaddr_un, sun_path) + length &&
	       !memcmp(address.un.sun_path, bytes, length);
}

#define ADDRESS_IS(text, what) ok(address_is(text, sizeof(text) - 1), what)

/* The address of N times the byte C. */
static void repeated(char c, size_t n)
{
	char *name = malloc(n + 1);

	memset(name, c, n);
	name[n] = 0;
	host_address(&address, name);
	free(name);
}

int main(void)
{
	struct host_address lock;

	host_address(&address, "x");
	ADDRESS_IS("\0me-only:x", "a short name");
	host_address(&address, "/tmp/a b\n\xff ");
	ADDRESS_IS("\0me-only:/tmp/a b\n\xff ", "any bytes");
	repeated('a', 77);
	ADDRESS_IS("\0me-only:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "the longest plain name");
	/* printf %078d 0 | tr 0 a | sha256sum, and the like */
	repeated('a', 78);
	ADDRESS_IS("\0me-only#aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa#d3477171d6f80a02b6415538fdd58214", "the shortest with a digest");
	repeated('a', 100000);
	ADDRESS_IS("\0me-only#aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa#6d1cf22d7cc09b085dfc25ee1a1f3ae0", "a very long name");

	host_address(&lock, "x");
	host_address_suffixed(&address, &lock, "queue", 1000);
	ADDRESS_IS("\0me-only:x\0queue\0" "1000", "a queue");
	repeated('a', 77);
	lock = address;
	host_address_suffixed(&address, &lock, "queue", UINT32_MAX);
	ADDRESS_IS("\0me-only:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0queue\0" "4294967295", "the longest queue");
	ok(address.length <= sizeof address.un, "fits an address");
	return tap_done();
}
