#include "helper/cgroup.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/lines.h"
#include "base/number.h"
#include "base/process.h"
#include "base/statx.h"

/* Copies at most SIZE bytes with the NUL. Returns whether all of TEXT was copied. */
static bool copy(char *to, const char *text, size_t size)
{
	size_t n = strlen(text);

	if (n >= size)
		return false;
	memcpy(to, text, n + 1);
	return true;
}

/* Our own group, from the line "0::/PATH". */
static bool find_own(char path[PATH_MAX])
{
	struct lines lines;
	const char *line;
	bool found = false;

	if (lines_open(&lines, AT_FDCWD, "/proc/self/cgroup"))
		return false;
	while (!found && (line = lines_next(&lines)))
		if (!strncmp(line, "0::/", 4))
			found = copy(path, line + 3, PATH_MAX);
	lines_close(&lines);
	return found;
}

/*
 * Which part of the tree of groups is mounted, and where: from a line "36 35 0:30 ROOT MOUNT-POINT
 * ... - cgroup2 ...".
 */
static bool find_mount(char mount[PATH_MAX], char root[PATH_MAX])
{
	struct lines lines;
	char *line;
	bool found = false;

	if (lines_open(&lines, AT_FDCWD, "/proc/self/mountinfo"))
		return false;
	while (!found && (line = lines_next(&lines))) {
		if (!strstr(line, " - cgroup2 "))
			continue;
		for (int i = 0; i < 3; i++)
			next_word(&line);
		found = copy(root, next_word(&line), PATH_MAX) &&
			copy(mount, next_word(&line), PATH_MAX);
	}
	lines_close(&lines);
	return found;
}

/* Whether the group PATH is delegated to us: systemd sets an attribute, or we own the directory. */
static bool is_delegated(const char *path)
{
	static const char *const names[] = { "user.delegate", "trusted.delegate" };
	struct statx status;
	char value;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (getxattr(path, names[i], &value, 1) == 1 && value == '1')
			return true;
	return geteuid() != 0 && file_status(AT_FDCWD, path, &status) == 0 &&
	       status.stx_uid == geteuid();
}

/* FILE of the group, for writing, or -1. */
static int open_file(const struct cgroup *cgroup, const char *file)
{
	char path[PATH_MAX];

	if (!*cgroup->path || strlen(cgroup->path) + strlen(file) >= sizeof path)
		return -1;
	strcpy(stpcpy(path, cgroup->path), file);
	return open(path, O_WRONLY | O_CLOEXEC);
}

/* Whether it could be done. */
static bool say(const struct cgroup *cgroup, const char *file, const char *text)
{
	int fd = open_file(cgroup, file);
	bool said = fd >= 0 && write(fd, text, strlen(text)) > 0;

	if (fd >= 0)
		close(fd);
	return said;
}

void cgroup_find(struct cgroup *cgroup)
{
	static const char prefix[] = "/me-only-";
	char own[PATH_MAX], mount[PATH_MAX], root[PATH_MAX];
	const char *below = own;

	cgroup->path[0] = 0;
	if (!find_own(own) || !find_mount(mount, root))
		return;
	/* What is mounted may be a part of the tree. */
	if (strcmp(root, "/") != 0) {
		if (strncmp(own, root, strlen(root)) != 0)
			return;
		below = own + strlen(root);
	}
	if (strlen(mount) + strlen(below) + sizeof prefix + NUMBER_TEXT_SIZE >= sizeof cgroup->path)
		return;
	strcpy(stpcpy(cgroup->path, mount), strcmp(below, "/") ? below : "");
	if (!is_delegated(cgroup->path)) {
		cgroup->path[0] = 0;
		return;
	}
	number_format((uint64_t)getpid(), stpcpy(cgroup->path + strlen(cgroup->path), prefix));
}

void cgroup_make(struct cgroup *cgroup)
{
	int kill;

	if (!*cgroup->path)
		return;
	if (mkdir(cgroup->path, 0755)) {
		cgroup->path[0] = 0;
		return;
	}
	/* Before Linux 5.14 it would be useless. */
	kill = open_file(cgroup, "/cgroup.kill");
	if (kill < 0)
		cgroup_remove(cgroup);
	else
		close(kill);
}

void cgroup_enter(const struct cgroup *cgroup)
{
	(void)say(cgroup, "/cgroup.procs", "0");
}

void cgroup_kill(const struct cgroup *cgroup)
{
	(void)say(cgroup, "/cgroup.kill", "1");
}

void cgroup_remove(struct cgroup *cgroup)
{
	/* If processes are still in it, it stays: the helper finds them by it. */
	if (*cgroup->path && rmdir(cgroup->path) == 0)
		cgroup->path[0] = 0;
}
