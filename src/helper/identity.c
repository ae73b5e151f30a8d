#include "helper/identity.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/process.h"

static void read_line(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = 0;
	text[strcspn(text, "\n")] = 0;
	if (fd >= 0)
		close(fd);
}

void identity_read(struct identity *identity, pid_t pid)
{
	struct process process;
	struct passwd *user = getpwuid(geteuid());
	struct stat status;

	memset(identity, 0, sizeof *identity);
	if (gethostname(identity->host, sizeof identity->host - 1))
		identity->host[0] = 0;
	read_line("/proc/sys/kernel/random/boot_id", identity->boot, sizeof identity->boot);
	if (user)
		(void)snprintf(identity->user, sizeof identity->user, "%s", user->pw_name);
	else
		(void)snprintf(identity->user, sizeof identity->user, "uid %u",
			       (unsigned)geteuid());
	if (stat("/proc/self/ns/pid", &status) == 0)
		identity->pid_namespace = status.st_ino;
	identity->pid = (uint64_t)pid;
	if (process_read(pid, &process) == 0)
		identity->start = (uint64_t)process.start;
}

bool identity_is_trusted(const struct identity *identity, const struct identity *me)
{
	return identity->user[0] &&
	       (!strcmp(identity->user, me->user) || !strcmp(identity->user, "root"));
}

bool identity_is_above(const struct identity *identity, const struct identity *me, pid_t caller)
{
	struct process process;
	pid_t pid = (pid_t)identity->pid;

	if (!identity->boot[0] || strcmp(identity->boot, me->boot) != 0)
		return false;
	/* An earlier entry of the caller itself. */
	if (identity->pid == me->pid && identity->start == me->start &&
	    identity->pid_namespace == me->pid_namespace)
		return false;
	/* Inodes of pipes are unique on the host. */
	if (identity->pipe && process_has_pipe(caller, identity->pipe))
		return true;
	return pid > 1 && pid != caller && identity->pid_namespace == me->pid_namespace &&
	       process_descends(caller, pid) && process_read(pid, &process) == 0 &&
	       (uint64_t)process.start == identity->start;
}
