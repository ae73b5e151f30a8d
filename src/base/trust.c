#include "base/trust.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"
#include "base/statx.h"

/* The kernel's default of fs/kernel.overflowuid; nobody changes it. */
#define OVERFLOW_UID 65534

/* The last number in /proc/self/uid_map's only line is how many users this namespace can name. */
static bool namespace_names_all_users(void)
{
	static const char all[] = "4294967295\n";
	char map[64];
	int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, map, sizeof map);
	close(fd);
	return n > (ssize_t)sizeof all - 1 &&
	       !memcmp(map + n - (sizeof all - 1), all, sizeof all - 1);
}

/* In a user namespace that does not map everybody, all other users look like this one. */
static bool is_certain(uid_t uid)
{
	return uid != OVERFLOW_UID || namespace_names_all_users();
}

bool trust_is_self(uid_t uid)
{
	return uid == geteuid() && is_certain(uid);
}

bool trust_user(uid_t uid)
{
	return uid == 0 || trust_is_self(uid);
}

bool trust_file(int fd)
{
	struct statx status;

	return file_status(fd, "", &status) == 0 &&
	       (status.stx_uid == 0 || status.stx_uid == geteuid()) &&
	       !(status.stx_mode & (geteuid() == 0 ? 0022 : 0002));
}
