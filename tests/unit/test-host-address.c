#include <stddef.h>
#include <stdlib.h>

#include "host/address.h"
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

/* The slot of LOCK that its own address number N is said to be. */
static unsigned slot_again(const struct host_address *lock, unsigned n)
{
	host_slot_address(&address, lock, n);
	return host_address_slot(lock, address.un.sun_path, address.length - offsetof(struct sockaddr_un, sun_path));
}

/* The slot that the bytes TEXT are of the lock "x". */
#define SLOT(text) host_address_slot(&lock, text, sizeof(text) - 1)

static void slots(void)
{
	struct host_address lock;
	unsigned n = 0;

	host_address(&lock, "x");
	host_slot_address(&address, &lock, 0);
	ADDRESS_IS("\0me-only:x", "slot 0 is the lock itself");
	host_slot_address(&address, &lock, 1);
	ADDRESS_IS("\0me-only:x\0slot\0" "1", "slot 1");
	host_slot_address(&address, &lock, MOST_SLOTS - 1);
	ADDRESS_IS("\0me-only:x\0slot\0" "1023", "the last slot");
	while (n < MOST_SLOTS && slot_again(&lock, n) == n)
		n++;
	ok(n == MOST_SLOTS, "each slot is known by its address");
	repeated('a', 100);
	lock = address;
	ok(slot_again(&lock, 0) == 0 && slot_again(&lock, 1023) == 1023, "those of a long name, too");

	host_address(&lock, "x");
	ok(SLOT("\0me-only:x\0slot\0" "7") == 7, "a slot");
	ok(SLOT("\0me-only:x\0slot\0") == MOST_SLOTS, "no number");
	ok(SLOT("\0me-only:x\0slot") == MOST_SLOTS, "not even a place for one");
	ok(SLOT("\0me-only:x\0") == MOST_SLOTS, "nor for the word");
	ok(SLOT("\0me-only:x\0slot\0" "0") == MOST_SLOTS, "slot 0 has no name of its own");
	ok(SLOT("\0me-only:x\0slot\0" "07") == MOST_SLOTS, "a number is written in one form only");
	ok(SLOT("\0me-only:x\0slot\0" "7\0") == MOST_SLOTS, "with nothing behind it");
	ok(SLOT("\0me-only:x\0slot\0" "\0" "7") == MOST_SLOTS, "nor before it");
	ok(SLOT("\0me-only:x\0slot\0" "+7") == MOST_SLOTS, "no sign");
	ok(SLOT("\0me-only:x\0slot\0" "1024") == MOST_SLOTS, "one too many");
	ok(SLOT("\0me-only:x\0slot\0" "4294967296") == MOST_SLOTS, "far too many");
	ok(SLOT("\0me-only:x\0place\0" "1") == MOST_SLOTS, "a place is no slot");
	ok(SLOT("\0me-only:x\0queue\0" "1") == MOST_SLOTS, "nor is a queue");
	ok(SLOT("\0me-only:y") == MOST_SLOTS && SLOT("\0me-only:y\0slot\0" "1") == MOST_SLOTS, "another lock's");
	ok(SLOT("\0me-only:xslot1") == MOST_SLOTS && SLOT("\0me-only:") == MOST_SLOTS && SLOT("") == MOST_SLOTS, "longer and shorter names");
}

static void queues(void)
{
	struct host_address lock;

	host_address(&lock, "x");
	host_queue_address(&address, &lock, 1000, 1);
	ADDRESS_IS("\0me-only:x\0queue\0" "1000", "the queue of a plain lock");
	host_queue_address(&address, &lock, 0, 4);
	ADDRESS_IS("\0me-only:x\0queue\0" "0\0" "4", "the queue for four slots");
	repeated('a', 77);
	lock = address;
	host_queue_address(&address, &lock, UINT32_MAX, MOST_SLOTS);
	ADDRESS_IS("\0me-only:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\0queue\0" "4294967295\0" "1024",
		   "the longest one");
	ok(address.length <= sizeof address.un, "fits an address");
}

static void place(const char *suffix, size_t length, unsigned number, const char *what)
{
	char path[200];
	struct host_address lock;

	host_address(&lock, "l");
	memcpy(path, "\0me-only:l", 10);
	memcpy(path + 10, suffix, length);
	is_number(host_address_place(&lock, path, 10 + length), number, what);
}

static void places(void)
{
	place("\0place\0" "0", 8, 0, "the first place");
	place("\0place\0" "1023", 11, 1023, "the last one");
	place("\0place\0" "1024", 11, MOST_PLACES, "one too many");
	place("\0place\0" "00", 9, MOST_PLACES, "a number in another form");
	place("\0place\0" "1\0", 9, MOST_PLACES, "something behind the number");
	place("\0place\0", 7, MOST_PLACES, "no number");
	place("\0slot\0" "1", 7, MOST_PLACES, "a slot");
	place("", 0, MOST_PLACES, "the lock itself");
}

static void files(void)
{
	struct host_address file = { .length = 0 };

	host_address_of_file(&address, 8, 1, 42);
	ADDRESS_IS("\0me-only@8:1:42", "a file");
	host_address_of_file(&file, UINT32_MAX, UINT32_MAX, UINT64_MAX);
	host_address_suffixed(&address, &file, "place", MOST_PLACES - 1);
	ADDRESS_IS("\0me-only@4294967295:4294967295:18446744073709551615\0place\0" "1023", "the longest place of a file");
	ok(address.length <= sizeof address.un, "fits an address");
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
	slots();
	queues();
	places();
	files();
	return tap_done();
}
