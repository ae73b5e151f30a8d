#include "who.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../deadline.h"
#include "../keeper.h"
#include "../lock-host.h"
#include "../process.h"
#include "../socket-table.h"
#include "line.h"
#include "memory.h"
#include "table.h"
#include "text.h"
#include "view.h"

/* A lock that changes hands while we look is looked at again, so often; then what was seen last has to do. */
#define TRIES 5

enum { LOCK, ROLE, PLACE, PID, USER, UID, STATE, SINCE, AGE, AT_MOST, COMMAND, HIDDEN, COLUMNS };

static const struct column columns[COLUMNS] = {
	[LOCK] = { .name = "LOCK", .json_only = true },
	[ROLE] = { .name = "ROLE" },
	[PLACE] = { .name = "PLACE", .kind = COLUMN_NUMBER, .right = true },
	[PID] = { .name = "PID", .kind = COLUMN_NUMBER, .right = true },
	[USER] = { .name = "USER" },
	[UID] = { .name = "UID", .kind = COLUMN_NUMBER, .json_only = true },
	[STATE] = { .name = "STATE" },
	[SINCE] = { .name = "SINCE", .kind = COLUMN_NUMBER },
	[AGE] = { .name = "AGE", .kind = COLUMN_NUMBER },
	[AT_MOST] = { .name = "AT_MOST", .kind = COLUMN_TRUTH, .json_only = true },
	[COMMAND] = { .name = "COMMAND", .cut = true },
	[HIDDEN] = { .name = "HIDDEN", .json_only = true },
};

/* One process, or what is known of one that is hidden. */
struct row {
	const char *role;
	size_t place;		/* 0: none, or unknown */
	pid_t pid;		/* 0: hidden */
	uid_t uid;		/* SOCKET_UID_UNKNOWN: unknown */
	char state;		/* 0: unknown */
	int64_t age;		/* -1: unknown */
	int64_t at;		/* when that was its age */
	bool at_most;
	const char *hidden;
};

struct answer {
	struct table *table;
	const char *lock;	/* as text_lock() has it */
	bool json;
	size_t rows;
};

static char *or_null(const char *text)
{
	return text ? memory_copy(text, strlen(text) + 1) : NULL;
}

static char *user_cell(uid_t uid, bool json)
{
	char *name = uid == SOCKET_UID_UNKNOWN ? NULL : text_user(uid);

	return name || json || uid == SOCKET_UID_UNKNOWN ? name : text_number(uid);
}

/* In a table the reason why somebody is hidden stands where his command would. */
static char *in_parentheses(const char *text)
{
	char *out = memory_get(strlen(text) + 3);

	stpcpy(stpcpy(stpcpy(out, "("), text), ")");
	return out;
}

static void add_row(struct answer *answer, const struct row *row)
{
	bool json = answer->json;
	char *cells[COLUMNS] = {
		[LOCK] = or_null(answer->lock),
		[ROLE] = or_null(row->role),
		[PLACE] = row->place ? text_number(row->place) : NULL,
		[PID] = row->pid ? text_number((uint64_t)row->pid) : NULL,
		[USER] = user_cell(row->uid, json),
		[UID] = row->uid == SOCKET_UID_UNKNOWN ? NULL : text_number(row->uid),
		[STATE] = or_null(text_state(row->state)),
		[AT_MOST] = or_null(row->at_most ? "1" : "0"),
		[COMMAND] = row->pid ? text_command(row->pid, row->uid) : NULL,
		[HIDDEN] = or_null(row->hidden),
	};

	if (row->age >= 0) {
		cells[SINCE] = json ? text_seconds(row->at - row->age) : text_time(row->at - row->age);
		cells[AGE] = json ? text_seconds(row->age) : text_age(row->age, row->at_most);
	}
	if (!json && row->hidden && !cells[COMMAND])
		cells[COMMAND] = in_parentheses(row->hidden);
	table_add(answer->table, cells);
	answer->rows++;
}

/* Adds what /proc says of row->pid. Returns whether it is there. */
static bool describe_process(struct row *row)
{
	struct process process;
	uid_t uid;

	if (process_read(row->pid, &process))
		return false;
	row->state = process.state;
	if (row->age < 0) {
		row->age = process.age;
		row->at = clock_now(CLOCK_REALTIME);
		row->at_most = true;
	}
	if (row->uid == SOCKET_UID_UNKNOWN && process_user(row->pid, &uid) == 0)
		row->uid = uid;
	return true;
}

/* --- those who have it ------------------------------------------------------------------------------------------------- */

/* Whether PID has the keeper's name. */
static bool is_keeper(pid_t pid)
{
	char name[64];
	size_t n = process_command(pid, false, name, sizeof name);

	return n == strlen(KEEPER_NAME) && !memcmp(name, KEEPER_NAME, n);
}

/* Whether the holder was found among those who have the socket. A job that is a me-only itself is named by the kernel. */
static bool is_found(const struct seen_lock *lock)
{
	return lock->connecting || lock->inquiry.peer.life == PEER_DEAD;
}

/*
 * What PID, which has the socket of LOCK, is for it. A me-only that runs inside the job has it, too, and so has its keeper: that
 * is the keeper of another lock.
 */
static const char *role_of(struct view *view, const struct seen_lock *lock, pid_t pid, pid_t wrapper)
{
	struct process process;

	bool own_kind = view_is_me_only(view, pid) == 1;

	if (pid == lock->holder.pid && lock->holder.heir)
		return "child";
	if (pid == lock->holder.pid && !(own_kind && is_found(lock)))
		return "job";
	if (pid == wrapper)
		return "wrapper";
	if (process_read(pid, &process))
		return "child";
	if (is_keeper(pid) && (process.parent == wrapper || !processes_has(&view->processes, lock->socket->inode, process.parent)))
		return "keeper";
	return own_kind && pid == lock->holder.pid ? "wrapper" : "child";
}

/* The me-only, of whatever version, that has started the job: its parent, if that has the lock. 0: gone, or not to be seen. */
static pid_t find_wrapper(struct view *view, const struct seen_lock *lock)
{
	struct process job;

	if (lock->holder.pid == 0 || lock->holder.heir || process_read(lock->holder.pid, &job) ||
	    !processes_has(&view->processes, lock->socket->inode, job.parent))
		return 0;
	return job.parent;
}

/* Why the holder is hidden, with what exit 4 has no room for. */
static const char *why_hidden(const struct seen_lock *lock)
{
	if (lock->connecting == -EPERM || lock->connecting == -EACCES)
		return "a policy forbids to connect to its socket (Landlock, SELinux, AppArmor, seccomp), and its process cannot be seen";
	if (lock->connecting == -EAGAIN && lock->socket->pending > 0)
		return "nobody accepts connections to its socket, and its process cannot be seen";
	return lock->holder.hidden;
}

static void add_holder(struct answer *answer, struct view *view, const struct seen_lock *lock, pid_t wrapper)
{
	const struct holder *holder = &lock->holder;
	struct row row = { .role = "job", .pid = holder->pid, .age = holder->held, .at = lock->at, .at_most = holder->at_most };

	row.uid = holder->uid_known ? holder->uid : SOCKET_UID_UNKNOWN;
	if (holder->pid == 0)
		row.hidden = why_hidden(lock);
	else
		row.role = role_of(view, lock, holder->pid, wrapper);
	if (holder->pid > 0 && !describe_process(&row))
		row.hidden = "/proc does not show its process";
	add_row(answer, &row);
}

static void add_others(struct answer *answer, struct view *view, const struct seen_lock *lock, pid_t wrapper)
{
	static const char *const roles[] = { "wrapper", "keeper", "child" };
	size_t n;
	const struct socket_owner *owners = processes_find(&view->processes, lock->socket->inode, &n);

	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
		for (size_t j = 0; j < n; j++) {
			struct row row = { .role = roles[i], .pid = owners[j].pid, .uid = SOCKET_UID_UNKNOWN, .age = -1 };

			if (row.pid != lock->holder.pid && !strcmp(role_of(view, lock, row.pid, wrapper), roles[i]) && describe_process(&row))
				add_row(answer, &row);
		}
}

/* Others' processes may have inherited it where we may not look. */
static void add_unseen(struct answer *answer, const struct view *view, const struct seen_lock *lock)
{
	const struct row row = { .role = "child", .uid = SOCKET_UID_UNKNOWN, .age = -1,
				 .hidden = "whether other users' processes have it, too, cannot be seen" };

	if (view->processes.denied && !(lock->holder.uid_known && holder_is_self(lock->holder.uid)))
		add_row(answer, &row);
}

/* --- those who wait ---------------------------------------------------------------------------------------------------- */

static void add_waiters(struct answer *answer, struct view *view, const struct unix_socket *first)
{
	const struct row untold = { .role = "waiter", .uid = SOCKET_UID_UNKNOWN, .age = -1,
				    .hidden = "there are more in line than the kernel tells the order of: ss -xl shows how many" };
	const struct row left_out = { .role = "waiter", .uid = SOCKET_UID_UNKNOWN, .age = -1,
				      .hidden = "there is a queue that is not its user's: left out" };
	struct line_of_waiters line;
	size_t gone = 0;

	if (!first)
		return;
	line_read(&line, view, first);
	for (size_t i = 0; i < line.n; i++) {
		const struct waiter *waiter = &line.all[i];
		struct row row = { .role = "waiter", .pid = waiter->pid, .uid = waiter->uid, .age = -1 };

		if (waiter->place == 1)
			gone = 0;
		if (waiter->pid == 0) {
			row.hidden = "its process cannot be seen";
		} else if (!describe_process(&row)) {
			gone += waiter->place > 0;
			continue;
		}
		row.place = waiter->place > gone ? waiter->place - gone : 0;
		if (row.place == 0)
			row.hidden = "its place in line is not known";
		add_row(answer, &row);
	}
	if (line.untold)
		add_row(answer, &untold);
	if (line.left_out)
		add_row(answer, &left_out);
	line_free(&line);
}

/* --- the question ------------------------------------------------------------------------------------------------------ */

/* The socket that is bound to the lock's name, among those that follow FIRST; NULL if there is none. */
static const struct unix_socket *find_holder_socket(const struct view *view, const struct unix_socket *first)
{
	for (const struct unix_socket *s = first; s && sockets_share_lock(&view->sockets, s, first); s++)
		if (socket_is_holder(s))
			return s;
	return NULL;
}

/* Whether the name is really free: a dump of a table that changes can leave sockets out. Nobody else would be connected to. */
static bool is_free(const struct host_address *address)
{
	int fd = host_connect(address);

	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED;
}

/* Asks once. Returns whether what was seen belongs together. */
static bool ask(struct view *view, struct seen_lock *lock, const struct unix_socket **first)
{
	int64_t deadline = deadline_in(HOST_GREETING_MS * NS_PER_MS);
	struct socket_entry entry;

	*first = sockets_of_lock(&view->sockets, lock->address);
	lock->socket = find_holder_socket(view, *first);
	if (!lock->socket)
		return is_free(lock->address);
	view_inquire(view, lock);
	view_look(view);
	view_hear(view, lock, deadline);
	view_conclude(view, lock);
	return socket_table_find(lock->address, &entry) == 0 && entry.inode == lock->socket->inode;
}

/* The first line: what exit 4 says. */
static char *sentence(const struct lock *lock, const struct seen_lock *seen)
{
	static const char ours[] = "me-only: ";
	struct line line;

	line_begin_about(&line, lock->spec);
	if (seen->socket)
		holder_describe(&seen->holder, false, &line);
	else
		line_add(&line, "free");
	line.text[line.length++] = '\n';
	line.text[line.length] = 0;
	return or_null(line.text + sizeof ours - 1);
}

static char *answer_text(struct view *view, const struct lock *lock, const struct seen_lock *seen,
			 const struct unix_socket *first, bool json)
{
	char *name = text_lock(seen->address, lock->name, 0), *before, *rows, *text;
	struct answer answer = { table_new("who", columns, COLUMNS, json), name, json, 0 };

	if (seen->socket) {
		pid_t wrapper = find_wrapper(view, seen);

		add_holder(&answer, view, seen, wrapper);
		add_others(&answer, view, seen, wrapper);
		add_unseen(&answer, view, seen);
	}
	add_waiters(&answer, view, first);
	rows = table_finish(answer.table);
	free(name);
	if (json)
		return rows;
	before = sentence(lock, seen);
	text = memory_get(strlen(before) + strlen(rows) + 1);
	stpcpy(stpcpy(text, before), answer.rows ? rows : "");
	free(before);
	free(rows);
	return text;
}

int who(const struct lock *lock, const char *program, bool json, char **text, bool *held)
{
	struct host_address address = { 0 };
	struct seen_lock seen;
	const struct unix_socket *first;
	struct view view;
	int r;

	host_address(&address, lock->name);
	for (int tries = 1;; tries++) {
		seen = (struct seen_lock){ .address = &address };
		r = view_read(&view, program);
		if (r)
			break;
		if (ask(&view, &seen, &first) || tries == TRIES) {
			*text = answer_text(&view, lock, &seen, first, json);
			*held = seen.socket != NULL;
			break;
		}
		free(seen.name);
		view_free(&view);
	}
	free(seen.name);
	view_free(&view);
	return r;
}
