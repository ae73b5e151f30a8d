#include "run/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/message.h"

#define DEFAULT_PATH "/usr/local/bin:/bin:/usr/bin"

/* Executes the file PATH. Returns a negative errno. */
static int try_exec(const char *path, char *const command[], char *const environment[])
{
	size_t n = 0;

	execve(path, command, environment);
	if (errno != ENOEXEC)
		return -errno;
	while (command[n])
		n++;
	char *script[n + 2];

	script[0] = (char *)(uintptr_t) "/bin/sh";
	script[1] = (char *)(uintptr_t)path;
	memcpy(script + 2, command + 1, n * sizeof *command);
	execve(script[0], script, environment);
	return -errno;
}

/*
 * Puts "DIRECTORY/NAME" for the first entry of *SEARCH into PATH, and moves *SEARCH on. Returns
 * false at its end.
 */
static bool next_candidate(const char **search, const char *name, char path[PATH_MAX])
{
	while (*search) {
		const char *directory = *search;
		size_t length = strcspn(directory, ":");

		*search = directory[length] ? directory + length + 1 : NULL;
		if (length + 1 + strlen(name) >= PATH_MAX)
			continue;
		memcpy(path, directory, length);
		if (length > 0) /* an empty entry means the working directory */
			path[length++] = '/';
		strcpy(path + length, name);
		return true;
	}
	return false;
}

static const char *search_path(void)
{
	const char *path = getenv("PATH");

	return path ? path : DEFAULT_PATH;
}

/*
 * Tries all files of that name in PATH. Its buffer touches a page of the stack that absolute
 * commands do not need.
 */
__attribute__((noinline)) static int search_exec(char *const command[], char *const environment[])
{
	const char *search = search_path();
	char path[PATH_MAX];
	int error = -ENOENT;

	while (*command[0] && next_candidate(&search, command[0], path)) {
		int r = try_exec(path, command, environment);

		if (r == -EACCES)
			error = r; /* unless a later one can be executed */
		else if (r != -ENOENT && r != -ENOTDIR && r != -ESTALE && r != -ENODEV &&
			 r != -ETIMEDOUT)
			return r;
	}
	return error;
}

int exec_command(char *const command[], char *const environment[])
{
	return strchr(command[0], '/') ? try_exec(command[0], command, environment)
				       : search_exec(command, environment);
}

/*
 * The file that COMMAND means: itself, or the first one of its name in PATH; "" if there is none.
 */
static void find_file(const char *command, char path[PATH_MAX])
{
	const char *search = search_path();

	if (strchr(command, '/')) {
		if (strlen(command) < PATH_MAX)
			strcpy(path, command);
		else
			*path = 0;
		return;
	}
	while (*command && next_candidate(&search, command, path))
		if (access(path, F_OK) == 0)
			return;
	*path = 0;
}

/*
 * Adds the interpreter that the first line of the script PATH names; false if it is not a script.
 */
static bool add_interpreter(struct line *line, const char *path)
{
	char text[256];
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n;
	size_t start;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n < 3 || text[0] != '#' || text[1] != '!')
		return false;
	text[n] = 0;
	start = 2 + strspn(text + 2, " \t");
	line_escape(line, text + start, strcspn(text + start, " \t\n"), sizeof text);
	return true;
}

/*
 * Whether COMMAND, which is no file, looks like a line for the shell: blanks, and before them
 * something that could be run.
 */
static bool is_shell_line(const char *command)
{
	char first[PATH_MAX];
	size_t length;

	command += strspn(command, " \t\n");
	length = strcspn(command, " \t\n");
	if (!command[length] || length >= sizeof first)
		return false;
	*(char *)mempcpy(first, command, length) = 0;
	return !strchr(first, '/') || access(first, F_OK) == 0;
}

/* "sh x.sh" reads a script that is not in PATH; to be run by us it needs its directory. */
static bool is_in_this_directory(const char *command)
{
	struct stat status;

	return !strchr(command, '/') && stat(command, &status) == 0 && S_ISREG(status.st_mode);
}

static void explain_missing(const char *command, const char *text, int error)
{
	struct line line;

	line_begin_about(&line, command);
	line_add(&line, text);
	if (error) {
		line_add(&line, ": ");
		line_add(&line, strerror(error));
	}
	if (is_in_this_directory(command)) {
		line_add(&line, " in PATH; for the one in this directory write ./");
		line_escape(&line, command, strlen(command), PATH_MAX);
	}
	if (is_shell_line(command))
		line_add(
			&line,
			"; it is one word with blanks: a line for the shell needs sh -c, or LOCK -c LINE");
	line_end(&line);
}

void exec_explain(char *const command[], int error)
{
	char path[PATH_MAX];
	struct line line;
	struct stat status;
	bool exists;

	find_file(command[0], path);
	exists = *path && stat(path, &status) == 0;
	/* EACCES can also come from a directory in PATH that cannot be searched. */
	if (!exists && (error == ENOENT || error == ENOTDIR ||
			(error == EACCES && !strchr(command[0], '/')))) {
		explain_missing(command[0], "not found", 0);
		return;
	}
	if (!exists) {
		explain_missing(command[0], "cannot be run", error);
		return;
	}
	line_begin(&line);
	line_escape(&line, path, strlen(path), PATH_MAX);
	line_add(&line, ": cannot be run: ");
	if (S_ISDIR(status.st_mode)) {
		line_add(&line, "is a directory");
	} else if (error == ENOENT) {
		/* The file exists, so its interpreter or loader is missing. */
		line_add(&line, "its interpreter ");
		if (!add_interpreter(&line, path))
			line_add(&line, "(a dynamic loader)");
		line_add(&line, " is missing");
	} else {
		line_add(&line, strerror(error));
		line_add(&line, message_limit(error));
		if (error == EACCES && S_ISREG(status.st_mode) && access(path, X_OK) &&
		    access(path, R_OK) == 0)
			line_add(&line,
				 "; it is not executable: write sh before it, if it is a script");
	}
	line_end(&line);
}

/*
 * Whether this process was a script before: exec keeps what the kernel counts of the children that
 * a process has waited for. One that was forked for me-only has had none.
 */
static bool was_a_script(void)
{
	struct rusage children;

	return getrusage(RUSAGE_CHILDREN, &children) == 0 && children.ru_minflt > 0;
}

/* Waits as the shell would, without a time limit: only the end of a pipe tells that nothing comes.
 */
static bool input_has_ended(void)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	struct stat status;
	int left;

	if (fstat(STDIN_FILENO, &status) || S_ISCHR(status.st_mode))
		return false;
	while (poll(&input, 1, -1) < 0)
		if (errno != EINTR)
			return false;
	return ioctl(STDIN_FILENO, FIONREAD, &left) == 0 && left == 0;
}

bool exec_reads_nothing(char *const command[])
{
	static const char *const shells[] = { "sh", "dash", "bash", "ksh", "zsh", "ash" };
	const char *slash = strrchr(command[0], '/'), *name = slash ? slash + 1 : command[0];

	if (command[1])
		return false;
	for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
		if (!strcmp(name, shells[i]))
			return was_a_script() && input_has_ended();
	return false;
}
