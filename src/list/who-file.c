#include "list/who-file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/message.h"
#include "base/trust.h"
#include "file/holder.h"
#include "list/files.h"
#include "list/records.h"
#include "list/text.h"

/*
 * How often a lock that changes hands while we look is looked at again; then the last view has to
 * do.
 */
#define TRIES 5

/* A record for PID, which has the lock, unless it was told already or has ended. */
static void add(struct records *records, struct pids *told, const struct seen_file *seen,
		const char *role, pid_t pid)
{
	struct record record = record_of(role, pid);

	record.mode = file_mode(seen);
	record.slot = 0;
	if (pids_has(told, pid) || !record_describe(&record))
		return;
	told->all = memory_grow(told->all, told->n, &told->room, sizeof *told->all);
	told->all[told->n++] = pid;
	records_add(records, &record);
}

static void add_hidden(struct records *records, const struct seen_file *seen, const char *role,
		       const char *reason)
{
	struct record record = record_of(role, 0);

	record.mode = file_mode(seen);
	record.slot = 0;
	record.hidden = reason;
	records_add(records, &record);
}

/*
 * The process that took it: a me-only and the command that it runs, or the command itself, or
 * another program.
 */
static void add_taker(struct records *records, struct pids *told, const struct seen_file *seen,
		      pid_t taker)
{
	const struct file_id *file = &seen->file;
	pid_t job = process_seems_me_only(taker) ? file_job_of(taker, file, false) : 0;

	if (!file_taker_lives(taker, file))
		return;
	if (job)
		add(records, told, seen, "job", job);
	add(records, told, seen, job || process_seems_me_only(taker) ? "wrapper" : "job", taker);
}

static void add_holders(struct records *records, const struct seen_file *seen,
			const struct holder *holder)
{
	struct pids told = { 0 };

	for (size_t i = 0; i < seen->takers.n; i++)
		add_taker(records, &told, seen, seen->takers.all[i]);
	/* The process that took it has ended. */
	if (holder->pid && told.n == 0)
		add(records, &told, seen, holder->descendant ? "child" : "job", holder->pid);
	for (size_t i = 0; i < seen->owners.n; i++)
		if (process_is_keeper(seen->owners.all[i]))
			add(records, &told, seen, "keeper", seen->owners.all[i]);
	for (size_t i = 0; i < seen->owners.n; i++)
		add(records, &told, seen, "child", seen->owners.all[i]);
	if (told.n == 0)
		add_hidden(records, seen, "job", holder->hidden);
	else if (seen->denied && !(holder->uid_known && trust_is_self(holder->uid)))
		add_hidden(records, seen, "child", "other users' processes may also hold it");
	free(told.all);
}

static void add_waiters(struct records *records, const struct seen_file *seen)
{
	size_t place = 0;

	records_set_waiters(records, 0, seen->waiters.n);
	for (size_t i = 0; i < seen->waiters.n; i++) {
		struct record record = record_of("waiter", seen->waiters.all[i]);

		if (!record_describe(&record))
			continue;
		record.place = ++place;
		record.waiters = (int64_t)seen->waiters.n;
		records_add(records, &record);
	}
}

static void sentence(const struct lock *lock, const struct seen_file *seen,
		     const struct holder *holder, struct line *line)
{
	line_begin_about(line, lock->spec);
	if (seen->takers.n > 1) {
		line_add(line, "shared by ");
		line_number(line, seen->takers.n);
		line_add(line, ", ");
	}
	if (holder)
		holder_describe(holder, HOLDER_HELD, line);
	else
		line_add(line, "free");
}

static char *answer_text(const struct lock *lock, const struct seen_file *seen,
			 const struct holder *holder, bool json)
{
	char *name = text_escaped(lock->spec, strlen(lock->spec)), *text;
	struct records *records = records_new(FORM_WHO, name, json);
	struct line first;

	sentence(lock, seen, holder, &first);
	if (holder)
		add_holders(records, seen, holder);
	add_waiters(records, seen);
	text = records_finish(records, "who", &first);
	free(name);
	return text;
}

/* Whether the lock is as it was when it was SEEN. */
static bool is_as_it_was(const struct seen_file *seen)
{
	struct file_holders holders;
	uint64_t number = 0;
	int r = file_holders_read(&seen->file, &holders);

	for (size_t i = 0; i < seen->takers.n; i++)
		number += file_number(seen->takers.all[i]);
	return (r == 0 || r == -ENOENT || r == -ENODATA) && holders.n == seen->takers.n &&
	       holders.number == number;
}

/* Nobody is seen to hold it, and somebody may. */
static int unknown(struct lock *lock, const struct seen_file *seen)
{
	static char reason[256];

	stpcpy(stpcpy(reason, "it cannot be known whether it is held: "), seen->blind);
	lock->failed = reason;
	return LOCK_FAILED;
}

int who_file(struct lock *lock, bool json, char **text, bool *held)
{
	struct seen_file seen = { .denied = false };
	struct flocks flocks;
	struct holder holder;
	struct file_id file;
	int r = file_identify(lock->name, &file);
	bool missing = r == -ENOENT || r == -ENOTDIR;

	*held = false;
	lock->failed = "cannot inspect the file";
	for (int tries = 1; r == 0; tries++) {
		flocks_read(&flocks);
		file_see(&seen, &flocks, &file, true);
		flocks_free(&flocks);
		*held = seen.takers.n > 0 || seen.owners.n > 0 || seen.waiters.n > 0;
		if (*held)
			file_find_holder(&file, &holder, true);
		if (is_as_it_was(&seen) || tries == TRIES)
			break;
		file_forget(&seen);
	}
	if (r == 0 && !*held && seen.blind)
		r = unknown(lock, &seen);
	if (r == 0 || missing)
		*text = answer_text(lock, &seen, *held ? &holder : NULL, json);
	file_forget(&seen);
	return missing ? 0 : r;
}
