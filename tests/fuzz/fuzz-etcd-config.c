/* Any bytes as the file that says where etcd is: it is taken or refused, and what is taken can be used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "etcd/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct config *config)
{
	if (config->n == 0 || config->dial_timeout <= 0 || config->command_timeout <= 0 || config->command_timeout > INT64_MAX / 2 ||
	    !config->cert != !config->key || (config->user && !config->password))
		abort();
	for (size_t i = 0; i < config->n; i++) {
		const char *url = config->endpoints[i], *port = strrchr(url, ':');

		if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) || strpbrk(url, "@\n ?#") || strchr(url + 8, '/') ||
		    !port || !port[1] || port[1 + strspn(port + 1, "0123456789")])
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct config config;
	char path[64], *error;

	if (fd < 0) {
		fd = memfd_create("fuzz", 0);
		if (fd < 0 || fchmod(fd, 0600) || clearenv())
			abort();
	}
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	error = config_read(&config, path);
	if (!error)
		check(&config);
	/* One line. */
	else if (!*error || strchr(error, '\n'))
		abort();
	free(error);
	config_free(&config);
	return 0;
}
