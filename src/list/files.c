#include "list/files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/lines.h"
#include "base/memory.h"
#include "base/statx.h"
#include "file/holder.h"
#include "file/path.h"
#include "list/text.h"

static const char engine[] = "file:";

/* --- one file --------------------------------------------------------------------------------- */

static void add(struct pids *pids, pid_t pid)
{
	pids->all = memory_grow(pids->all, pids->n, &pids->room, sizeof *pids->all);
	pids->all[pids->n++] = pid;
}

bool pids_has(const struct pids *pids, pid_t pid)
{
	for (size_t i = 0; i < pids->n; i++)
		if (pids->all[i] == pid)
			return true;
	return false;
}

/* The kernel's table can show one twice if others come while it is read in pieces. */
static void add_once(struct pids *pids, pid_t pid)
{
	if (!pids_has(pids, pid))
		add(pids, pid);
}

static bool look_at(pid_t pid, void *argument)
{
	struct seen_file *seen = argument;
	char path[PROCESS_PATH_SIZE];

	if (process_has_flock(pid, &seen->file))
		add(&seen->owners, pid);
	else if (access(process_path(path, pid, "fd"), R_OK | X_OK) != 0 && errno == EACCES)
		seen->denied = true;
	return true;
}

void file_see(struct seen_file *seen, const struct file_id *file, bool owners)
{
	struct lines lines;
	char *line;
	int r = file_table_open(&lines);

	*seen = (struct seen_file){ .file = *file };
	if (r)
		seen->blind = "/proc/locks cannot be read";
	else if (!file_table_is_whole())
		seen->blind = "locks from outside this PID namespace are not shown";
	while ((line = lines_next(&lines))) {
		bool waits, shared;
		pid_t pid;

		if (!file_lock_read(line, file, &pid, &waits, &shared))
			continue;
		add_once(waits ? &seen->waiters : &seen->takers, pid);
		seen->shared = seen->shared || (shared && !waits);
	}
	lines_close(&lines);
	if (owners)
		process_walk(look_at, seen);
}

const char *file_mode(const struct seen_file *seen)
{
	return seen->takers.n == 0 ? NULL : seen->shared ? "shared" : "exclusive";
}

void file_forget(struct seen_file *seen)
{
	free(seen->takers.all);
	free(seen->waiters.all);
	free(seen->owners.all);
}

/* --- all of them ------------------------------------------------------------------------------ */

static bool is_known(const struct file_locks *locks, const struct file_id *file)
{
	for (size_t i = 0; i < locks->n; i++)
		if (locks->all[i].file.inode == file->inode &&
		    locks->all[i].file.major == file->major &&
		    locks->all[i].file.minor == file->minor)
			return true;
	return false;
}

/* The working directory of PID, and "/"; "" if that is hidden. To be freed. */
static char *directory_of(pid_t pid)
{
	char path[PROCESS_PATH_SIZE], text[4096];
	ssize_t n = readlink(process_path(path, pid, "cwd"), text, sizeof text - 1);

	if (n <= 0)
		return memory_text("", 0);
	if (text[n - 1] != '/')
		text[n++] = '/';
	return memory_text(text, (size_t)n);
}

/* PID names the lock on the file NAME. */
static void note(struct file_locks *locks, pid_t pid, const char *name)
{
	char *directory = *name == '/' ? memory_text("", 0) : directory_of(pid),
	     path[PROCESS_PATH_SIZE], *whole;
	size_t length = strlen(directory);
	struct file_id file;

	if (length)
		name = file_path_short(name);
	process_path(path, pid, "root");
	whole = memory_get(strlen(path) + length + strlen(name) + 2);
	/* As PID sees it; if that is hidden, as we do. */
	stpcpy(stpcpy(stpcpy(whole, path), directory), name);
	if ((file_identify(whole, &file) == 0 || file_identify(whole + strlen(path), &file) == 0) &&
	    !is_known(locks, &file)) {
		char *lock = memory_get(sizeof engine + length + strlen(name));

		stpcpy(stpcpy(stpcpy(lock, engine), directory), name);
		locks->all = memory_grow(locks->all, locks->n, &locks->room, sizeof *locks->all);
		locks->all[locks->n++] =
			(struct file_lock){ file, text_escaped(lock, strlen(lock)) };
		free(lock);
	}
	free(whole);
	free(directory);
}

/* Notes the locks in PID's environment, or in its arguments if it is a me-only. */
static void read_strings(struct file_locks *locks, pid_t pid, const char *file, const char *prefix)
{
	size_t n, length = strlen(prefix);
	char *strings = text_strings(pid, file, &n);

	for (const char *at = strings; at < strings + n; at += strlen(at) + 1)
		if (!strncmp(at, prefix, length) && at[length])
			note(locks, pid, at + length);
	free(strings);
}

static bool ask(pid_t pid, void *argument)
{
	/* A keeper has left the directory that its arguments are about. */
	if (process_seems_me_only(pid) && !process_is_keeper(pid))
		read_strings(argument, pid, "cmdline", engine);
	read_strings(argument, pid, "environ", "ME_ONLY_LOCK=file:");
	return true;
}

/* Whether PID, which the kernel's table names, is there and hidden from us (hidepid). */
static bool is_hidden(pid_t pid)
{
	struct process process;

	return pid > 0 && process_read(pid, &process) != 0 && (kill(pid, 0) == 0 || errno == EPERM);
}

/*
 * Looks into the kernel's table whether there is anything to look for, into FOUND. Returns why
 * there may be more than that can tell, or NULL.
 */
static const char *look_at_table(bool *found)
{
	struct lines lines;
	const char *blind = NULL;
	char *line;

	*found = true;
	if (file_table_open(&lines))
		blind = "/proc/locks cannot be read";
	else if (!file_table_is_whole())
		blind = "those from outside this PID namespace are not shown";
	else
		*found = false;
	while (!blind && (line = lines_next(&lines))) {
		next_word(&line);
		if (strcmp(next_word(&line), "FLOCK") != 0)
			continue;
		*found = true;
		next_word(&line);
		next_word(&line);
		if (is_hidden((pid_t)number_at(next_word(&line), 10, NULL)))
			blind = "/proc hides processes that hold some (hidepid)";
	}
	lines_close(&lines);
	return blind;
}

const char *file_locks_find(struct file_locks *locks)
{
	bool found;
	const char *blind = look_at_table(&found);

	*locks = (struct file_locks){ 0 };
	if (found)
		process_walk(ask, locks);
	return blind;
}

void file_locks_free(struct file_locks *locks)
{
	for (size_t i = 0; i < locks->n; i++)
		free(locks->all[i].name);
	free(locks->all);
}
