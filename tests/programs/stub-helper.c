/*
 * A helper for locks (src/helper/PROTOCOL.md) that asks nobody, for tests of the program's half. To
 * be called "etcd", or "toy" for me-only-toy.
 *
 * usage: etcd 1 take|held|supports NAME ...
 *
 * The lock "busy" is held by somebody, "mine" by what the caller runs under; any other is free, and
 * taken for a minute.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "toy-kinds.h"

static void say(const char *packet)
{
	if (write(STDOUT_FILENO, packet, strlen(packet)) < 0)
		_exit(1);
}

static int64_t in_a_minute(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (now.tv_sec + 60) * INT64_C(1000000000);
}

int main(int argc, char **argv)
{
	char packet[4096];
	ssize_t n;

	if (argc < 4)
		return 1;
	if (strcmp(argv[2], "supports") == 0) {
		say("supports\noptions " SUPPORTS_toy);
		return 0;
	}
	if (strcmp(argv[2], "held") == 0) {
		say(strcmp(argv[3], "mine") == 0 ? "yes" : "no");
		return 0;
	}
	if (strcmp(argv[3], "busy") == 0) {
		say("busy\npid 1\nhost elsewhere\nuser somebody\ncommand job");
		return 0;
	}
	if (strcmp(argv[3], "mine") == 0) {
		say("nested\npid 1\nhost here\nuser somebody\ncommand job");
		return 0;
	}
	snprintf(packet, sizeof packet, "held\nuntil %" PRId64 "\ntoken 7", in_a_minute());
	say(packet);
	while ((n = read(STDIN_FILENO, packet, sizeof packet - 1)) > 0) {
		packet[n] = 0;
		if (strncmp(packet, "done", 4) == 0) {
			say("released");
			return 0;
		}
	}
	return 0;
}
