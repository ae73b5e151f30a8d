#include "list/all.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/process.h"
#include "file/holder.h"
#include "host/socket-table.h"
#include "list/files.h"
#include "list/line.h"
#include "list/table.h"
#include "list/text.h"
#include "list/view.h"

/* Descriptors needed for anything but connections. */
#define KEPT_FDS 32

enum {
	LOCK,
	STATE,
	PID,
	USER,
	UID,
	SINCE,
	AGE,
	AT_MOST,
	SLOT,
	WAITERS,
	COMMAND,
	HIDDEN,
	COLUMNS
};

static const struct column columns[COLUMNS] = {
	[LOCK] = { .name = "LOCK", .part = 3, .sorted = true },
	[STATE] = { .name = "STATE" },
	[PID] = { .name = "PID", .kind = COLUMN_NUMBER, .right = true },
	[USER] = { .name = "USER" },
	[UID] = { .name = "UID", .kind = COLUMN_NUMBER, .json_only = true },
	[SINCE] = { .name = "SINCE", .kind = COLUMN_NUMBER },
	[AGE] = { .name = "AGE", .kind = COLUMN_NUMBER },
	[AT_MOST] = { .name = "AT_MOST", .kind = COLUMN_TRUTH, .json_only = true },
	[SLOT] = { .name = "SLOT", .kind = COLUMN_NUMBER, .right = true },
	[WAITERS] = { .name = "WAITERS", .kind = COLUMN_NUMBER, .right = true },
	[COMMAND] = { .name = "COMMAND", .cut = true },
	[HIDDEN] = { .name = "HIDDEN", .json_only = true },
};

static const char *state_of(const struct holder *holder)
{
	if (holder->pid == 0)
		return "hidden";
	if (holder->heir)
		return "inherited";
	return process_is_stopped(holder->pid) ? "stopped" : "held";
}

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

/*
 * Adds a row for the lock NAME, which it frees, with the SLOT that HOLDER had at the time AT, and
 * the number of WAITERS.
 */
static void add_row(struct table *table, char *name, const struct holder *holder, int64_t at,
		    unsigned slot, size_t waiters, bool json)
{
	uid_t uid = holder->uid_known ? holder->uid : SOCKET_UID_UNKNOWN;
	char *cells[COLUMNS] = {
		[LOCK] = name,
		[STATE] = memory_string(state_of(holder)),
		[PID] = holder->pid ? text_number((uint64_t)holder->pid) : NULL,
		[USER] = holder->uid_known ? text_user(uid) : NULL,
		[UID] = holder->uid_known ? text_number(uid) : NULL,
		[AT_MOST] = memory_string(holder->at_most ? "1" : "0"),
		[SLOT] = text_number(slot),
		[WAITERS] = text_number(waiters),
		[COMMAND] = holder->pid ? text_command(holder->pid, uid) : NULL,
		[HIDDEN] = memory_string(holder->pid ? NULL : holder->hidden),
	};

	if (!json && !cells[USER] && holder->uid_known)
		cells[USER] = text_number(uid);
	if (holder->held >= 0) {
		cells[SINCE] = json ? text_seconds(at - holder->held)
				    : text_day_or_time(at - holder->held);
		cells[AGE] =
			json ? text_seconds(holder->held) : text_age(holder->held, holder->at_most);
	}
	if (!json && holder->pid == 0)
		cells[COMMAND] = text_in_parentheses(holder->hidden);
	table_add(table, cells);
}

static void add_host_row(struct table *table, struct view *view, const struct seen_lock *lock,
			 bool json)
{
	add_row(table, text_lock(lock->address, lock->name, lock->holder.pid), &lock->holder,
		lock->at, lock->socket->slot, count_waiters(view, lock), json);
}

/*
 * File locks that appear in the arguments or environment of some me-only or its descendants. For
 * all others there is lslocks(8).
 */
static void add_files(struct table *table, bool json)
{
	struct file_locks locks;

	file_locks_find(&locks);
	for (size_t i = 0; i < locks.n; i++) {
		struct seen_file seen;
		struct holder holder;
		int r = file_see(&seen, &locks.all[i].file, false);

		file_find_holder(&locks.all[i].file, &holder, true);
		if (r == 0 && (seen.takers.n > 0 || holder.pid))
			add_row(table,
				memory_copy(locks.all[i].name, strlen(locks.all[i].name) + 1),
				&holder, clock_now(CLOCK_REALTIME), 0, seen.waiters.n, json);
		file_forget(&seen);
	}
	file_locks_free(&locks);
}

/* Whether a lock without a visible holder was released since the table was read. */
static bool has_gone(struct view *view, const struct seen_lock *lock)
{
	return lock->holder.pid == 0 && !view_still_has(view, lock->socket->inode);
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
		if (line_is_there(view, sockets_of_lock(&view->sockets, locks[i].address))) {
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

static void add_all(struct table *table, struct view *view, bool json)
{
	struct seen_lock *locks = NULL;
	size_t n = 0, room = 0, most = most_at_once();

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
		if (!has_gone(view, &locks[i]))
			add_host_row(table, view, &locks[i], json);
		free(locks[i].name);
	}
	free(locks);
}

int all_locks(const char *program, bool json, char **text)
{
	struct view view;
	int r = view_read(&view, program);

	if (r == 0) {
		struct table *table = table_new("locks", columns, COLUMNS, json);

		add_all(table, &view, json);
		add_files(table, json);
		*text = table_finish(table);
	}
	view_free(&view);
	return r;
}
