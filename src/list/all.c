#include "list/all.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/message.h"
#include "base/process.h"
#include "file/holder.h"
#include "host/socket-table.h"
#include "list/files.h"
#include "list/line.h"
#include "list/records.h"
#include "list/text.h"
#include "list/view.h"

/* Descriptors needed for anything but connections. */
#define KEPT_FDS 32

static size_t count_waiters(struct view *view, const struct seen_lock *lock)
{
	const struct unix_socket *first = sockets_of_lock(&view->sockets, lock->address);
	struct line_of_waiters line;
	size_t n;

	line_read(&line, view, first);
	n = line.n + line.untold;
	line_free(&line);
	return n;
}

/* Adds RECORD for the lock NAME, which it frees, with the HOLDER that it had at the time AT. */
static void add(struct records *records, struct record *record, char *name,
		const struct holder *holder, int64_t at)
{
	record->lock = name;
	record->role = holder->descendant ? "child" : "job";
	record->pid = holder->pid;
	record_holder(record, holder, at);
	/* Its state: what the holder has said of its age is better. */
	if (holder->pid)
		record_describe(record);
	records_add(records, record);
	free(name);
}

static void add_host(struct records *records, const struct seen_lock *lock, size_t waiters)
{
	struct record record = record_of(NULL, 0);

	record_slots(&record, &lock->holder, lock->socket->slot);
	record.waiters = (int64_t)waiters;
	add(records, &record, text_lock(lock->address, lock->name, lock->holder.pid), &lock->holder,
	    lock->at);
}

/* From the table that was read: it is not read again for each lock that it shows. */
static void find_file_holder(const struct seen_file *seen, struct holder *holder)
{
	struct file_holders holders = { 0 };

	for (size_t i = 0; i < seen->takers.n; i++)
		file_holders_add(&holders, seen->takers.all[i], &seen->file);
	if (holders.n > 0)
		file_name_holder(&seen->file, 0, &holders, holder, true);
	else
		file_find_holder(&seen->file, holder, true);
}

/*
 * File locks that appear in the arguments or environment of some me-only or its descendants. For
 * all others there is lslocks(8).
 */
static void add_files(struct records *records)
{
	struct flocks flocks;
	struct file_locks locks;
	const char *blind;

	flocks_read(&flocks);
	blind = file_locks_find(&locks, &flocks);

	/* Not in the table: JSON has no place for it, and nobody is to take it for a lock. */
	if (blind)
		message("some file locks may be missing", blind, 0);
	for (size_t i = 0; i < locks.n; i++) {
		struct record record = record_of(NULL, 0);
		struct seen_file seen;
		struct holder holder;

		file_see(&seen, &flocks, &locks.all[i].file, false);
		find_file_holder(&seen, &holder);
		if (seen.takers.n > 0 || holder.pid) {
			record.slot = 0;
			record.mode = file_mode(&seen);
			record.waiters = (int64_t)seen.waiters.n;
			add(records, &record, memory_string(locks.all[i].name), &holder,
			    clock_now(CLOCK_REALTIME));
		}
		file_forget(&seen);
	}
	file_locks_free(&locks);
	flocks_free(&flocks);
}

/* Whether a lock without a visible holder was released since the table was read. */
static bool has_gone(struct view *view, const struct seen_lock *lock)
{
	return lock->holder.pid == 0 && !view_still_has(view, lock->socket->inode);
}

/* The slots of a lock follow each other, and have one line. */
static bool is_same_lock(const struct view *view, const struct seen_lock *a,
			 const struct seen_lock *b)
{
	return sockets_share_lock(&view->sockets, a->socket, b->socket);
}

/*
 * All holders are asked before we wait for any of them, so they answer in parallel. All have the
 * same deadline, so many stopped ones cost no more than one.
 */
static void ask(struct view *view, struct seen_lock *locks, size_t n)
{
	int64_t deadline = deadline_in(HOST_GREETING_MS * NS_PER_MS);

	for (size_t i = 0; i < n; i++)
		view_inquire(view, &locks[i]);
	for (size_t i = 0; i < n; i++)
		if ((i == 0 || !is_same_lock(view, &locks[i - 1], &locks[i])) &&
		    line_is_there(view, sockets_of_lock(&view->sockets, locks[i].address))) {
			view_look(view);
			break;
		}
	for (size_t i = 0; i < n; i++)
		view_hear(view, &locks[i], deadline);
	for (size_t i = 0; i < n; i++)
		view_conclude(view, &locks[i]);
}

/* How many connections can be open at once. */
static size_t most_at_once(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return 1;
	if (limit.rlim_cur < limit.rlim_max) {
		rlim_t before = limit.rlim_cur;

		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit))
			limit.rlim_cur = before;
	}
	return limit.rlim_cur > KEPT_FDS ? (size_t)(limit.rlim_cur - KEPT_FDS) : 1;
}

static void add_all(struct records *records, struct view *view)
{
	struct seen_lock *locks = NULL;
	size_t n = 0, room = 0, most = most_at_once(), waiters = 0;

	for (size_t i = 0; i < view->sockets.n; i++) {
		const struct unix_socket *socket = &view->sockets.all[i];

		if (!socket_is_holder(socket))
			continue;
		locks = memory_grow(locks, n, &room, sizeof *locks);
		locks[n++] = view_lock(socket);
	}
	for (size_t done = 0; done < n; done += most)
		ask(view, locks + done, n - done < most ? n - done : most);
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || !is_same_lock(view, &locks[i - 1], &locks[i]))
			waiters = count_waiters(view, &locks[i]);
		if (!has_gone(view, &locks[i]))
			add_host(records, &locks[i], waiters);
		free(locks[i].name);
	}
	free(locks);
}

int all_locks(const char *program, bool json, char **text)
{
	struct view view;
	int r = view_read(&view, program);

	if (r == 0) {
		struct records *records = records_new(FORM_LIST, NULL, json);

		add_all(records, &view);
		add_files(records);
		records_sort(records);
		*text = records_finish(records, "locks", NULL);
	}
	view_free(&view);
	return r;
}
