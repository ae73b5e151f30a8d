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

/* --- the table -------------------------------------------------------------------------------- */

/* How often it is read until two readings agree. */
#define MOST_READINGS 5

/* Reads it once. Returns whether that was in one piece, in which nothing can change. */
static bool read_once(struct flocks *flocks)
{
	struct lines lines;
	struct file_flock flock;
	char *line;

	*flocks = (struct flocks){ 0 };
	flocks->unreadable = file_table_open(&lines) != 0;
	while (!flocks->unreadable && (line = lines_next(&lines))) {
		if (!file_flock_read(line, &flock))
			continue;
		flocks->all =
			memory_grow(flocks->all, flocks->n, &flocks->room, sizeof *flocks->all);
		flocks->all[flocks->n++] = flock;
	}
	lines_close(&lines);
	return lines.fills <= 1;
}

static bool are_equal(const struct flocks *a, const struct flocks *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (a->all[i].pid != b->all[i].pid || a->all[i].inode != b->all[i].inode)
			return false;
	return true;
}

void flocks_read(struct flocks *flocks)
{
	bool done = read_once(flocks);

	for (int readings = 1; !done && readings < MOST_READINGS; readings++) {
		struct flocks before = *flocks;

		done = read_once(flocks) || are_equal(&before, flocks);
		flocks_free(&before);
	}
}

void flocks_free(struct flocks *flocks)
{
	free(flocks->all);
}

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

void file_see(struct seen_file *seen, const struct flocks *flocks, const struct file_id *file,
	      bool owners)
{
	*seen = (struct seen_file){ .file = *file };
	if (flocks->unreadable)
		seen->blind = "/proc/locks cannot be read";
	else if (!file_table_is_whole())
		seen->blind = "locks from outside this PID namespace are not shown";
	for (size_t i = 0; i < flocks->n; i++) {
		const struct file_flock *flock = &flocks->all[i];

		if (!file_flock_is_on(flock, file))
			continue;
		add_once(flock->waits ? &seen->waiters : &seen->takers, flock->pid);
		seen->shared = seen->shared || (flock->shared && !flock->waits);
	}
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

/* Whether /proc hides a process that is in the table. */
static bool hides_some(const struct flocks *flocks)
{
	for (size_t i = 0; i < flocks->n; i++)
		if (is_hidden(flocks->all[i].pid))
			return true;
	return false;
}

const char *file_locks_find(struct file_locks *locks, const struct flocks *flocks)
{
	const char *blind = NULL;

	if (flocks->unreadable)
		blind = "/proc/locks cannot be read";
	else if (!file_table_is_whole())
		blind = "those from outside this PID namespace are not shown";
	else if (hides_some(flocks))
		blind = "/proc hides processes that hold some (hidepid)";
	*locks = (struct file_locks){ 0 };
	/* Without a lock there is nothing to look for. */
	if (flocks->n > 0 || blind)
		process_walk(ask, locks);
	return blind;
}

void file_locks_free(struct file_locks *locks)
{
	for (size_t i = 0; i < locks->n; i++)
		free(locks->all[i].name);
	free(locks->all);
}
