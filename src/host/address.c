#include "host/address.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/number.h"
#include "host/sha256.h"

#define LONGEST_PLAIN 77
#define BEGINNING 44
#define DIGEST_BYTES 16

static char *begin(struct host_address *address, char separator)
{
	char *out = address->un.sun_path;

	address->un.sun_family = AF_UNIX;
	*out++ = 0;
	out = (char *)memcpy(out, "me-only", 7) + 7;
	*out++ = separator;
	return out;
}

static void finish(struct host_address *address, const char *end)
{
	address->length = (socklen_t)(end - (const char *)&address->un);
}

static void shortened(struct host_address *address, const char *name, size_t length)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t digest[SHA256_SIZE];
	char *out = begin(address, '#');

	sha256(name, length, digest);
	out = (char *)memcpy(out, name, BEGINNING) + BEGINNING;
	*out++ = '#';
	for (int i = 0; i < DIGEST_BYTES; i++) {
		*out++ = hex[digest[i] >> 4];
		*out++ = hex[digest[i] & 15];
	}
	finish(address, out);
}

void host_address(struct host_address *address, const char *name)
{
	size_t length = strlen(name);
	char *out;

	if (length > LONGEST_PLAIN) {
		shortened(address, name, length);
		return;
	}
	out = begin(address, ':');
	memcpy(out, name, length); // NOLINT(bugprone-not-null-terminated-result)
	finish(address, out + length);
}

/* Puts N to OUT, without a NUL: for it there may be no room. Returns where it ends. */
static char *put_number(char *out, uint64_t n)
{
	char text[NUMBER_TEXT_SIZE];

	return mempcpy(out, text, (size_t)(number_format(n, text) - text));
}

void host_address_suffixed(struct host_address *address, const struct host_address *lock,
			   const char *kind, uint64_t n)
{
	char *out;

	memcpy(address, lock, sizeof *address);
	out = (char *)&address->un + address->length;
	*out++ = 0;
	out = stpcpy(out, kind) + 1; /* with its NUL */
	finish(address, put_number(out, n));
}

void host_address_of_file(struct host_address *address, uint32_t major, uint32_t minor,
			  uint64_t inode)
{
	char *out = begin(address, '@');

	out = number_format(major, out);
	*out++ = ':';
	out = number_format(minor, out);
	*out++ = ':';
	finish(address, number_format(inode, out));
}

void host_slot_address(struct host_address *address, const struct host_address *name, unsigned n)
{
	if (n > 0)
		host_address_suffixed(address, name, "slot", n);
	else
		memcpy(address, name, sizeof *address);
}

/*
 * Whether PATH, of *LENGTH bytes, is a name of the lock NAME; then moves both behind the lock's own
 * name.
 */
static bool skip_name(const struct host_address *name, const char **path, size_t *length)
{
	size_t named = name->length - offsetof(struct sockaddr_un, sun_path);

	if (*length < named || memcmp(*path, name->un.sun_path, named) != 0)
		return false;
	*path += named;
	*length -= named;
	return true;
}

/*
 * The N in "\0KIND\0N", the LENGTH bytes at SUFFIX, if it is written as we write it and below
 * LIMIT; else LIMIT.
 */
static unsigned read_suffix(const char *suffix, size_t length, const char *kind, unsigned limit)
{
	size_t before = strlen(kind) + 2;
	char number[8];
	unsigned n;

	if (length <= before || length - before >= sizeof number || suffix[0] != 0 ||
	    memcmp(suffix + 1, kind, before - 1) != 0)
		return limit;
	*(char *)mempcpy(number, suffix + before, length - before) = 0;
	if (strlen(number) != length - before || (number[0] == '0' && number[1]) ||
	    number_parse(number, limit - 1, &n))
		return limit;
	return n;
}

unsigned host_address_slot(const struct host_address *name, const char *path, size_t length)
{
	unsigned n;

	if (!skip_name(name, &path, &length))
		return MOST_SLOTS;
	if (length == 0)
		return 0;
	n = read_suffix(path, length, "slot", MOST_SLOTS);
	return n ? n : MOST_SLOTS;
}

unsigned host_address_place(const struct host_address *name, const char *path, size_t length)
{
	return skip_name(name, &path, &length) ? read_suffix(path, length, "place", MOST_PLACES)
					       : MOST_PLACES;
}

void host_queue_address(struct host_address *address, const struct host_address *name, uid_t uid,
			unsigned slots)
{
	host_address_suffixed(address, name, "queue", uid);
	if (slots > 1) {
		char *out = (char *)&address->un + address->length;

		*out++ = 0;
		finish(address, put_number(out, slots));
	}
}
