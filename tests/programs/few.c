/*
 * Runs a command where there are few processes, so that a walk through /proc is short: in a PID
 * namespace with a /proc of its own. All that the command leaves behind ends with it.
 *
 * usage: few COMMAND [ARGUMENT]...
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void die(const char *what)
{
	perror(what);
	exit(125);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dprintf(fd, "%s", text) < 0)
		die(path);
	close(fd);
}

static void become_root(unsigned uid, unsigned gid)
{
	char text[40];

	write_file("/proc/self/setgroups", "deny");
	snprintf(text, sizeof text, "0 %u 1", uid);
	write_file("/proc/self/uid_map", text);
	snprintf(text, sizeof text, "0 %u 1", gid);
	write_file("/proc/self/gid_map", text);
}

/* Returns in the child; the parent exits as the child does. */
static void fork_and_wait(void)
{
	pid_t pid = fork(), ended;
	int status;

	if (pid < 0)
		die("fork");
	if (pid == 0)
		return;
	do /* the first process of the namespace inherits others */
		ended = waitpid(-1, &status, 0);
	while (ended != pid && (ended >= 0 || errno == EINTR));
	if (ended < 0)
		die("wait");
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int main(int argc, char **argv)
{
	const unsigned uid = geteuid(), gid = getegid();

	if (argc < 2)
		return 125;
	if (unshare(CLONE_NEWPID | CLONE_NEWNS | (uid ? CLONE_NEWUSER : 0)))
		die("unshare");
	if (uid)
		become_root(uid, gid);
	fork_and_wait();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL))
		die("proc");
	fork_and_wait();
	execvp(argv[1], argv + 1);
	die(argv[1]);
}
