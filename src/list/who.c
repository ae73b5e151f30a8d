#include "list/who.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/trust.h"
#include "host/socket.h"
#include "host/socket-table.h"
#include "list/line.h"
#include "list/records.h"
#include "list/text.h"
#include "list/view.h"
#include "list/who-file.h"

/*
 * How often a lock that changes hands while we look is looked at again; then the last view has to
 * do.
 */
#define TRIES 5

/* --- those who have it ------------------------------------------------------------------------ */

/*
 * Whether the holder was found among the processes that have the socket. If a job is itself a
 * me-only, the kernel names it.
 */
static bool is_found(const struct seen_lock *lock)
{
	return lock->connecting || lock->inquiry.peer.life == PEER_DEAD;
}

/*
 * The role of PID, which has the socket of LOCK. A me-only that runs inside the job also has it,
 * and so has its keeper: that is another lock's keeper.
 */
static const char *role_of(struct view *view, const struct seen_lock *lock, pid_t pid,
			   pid_t wrapper)
{
	struct process process;

	bool own_kind = view_is_me_only(view, pid) == 1;

	if (pid == lock->holder.pid && lock->holder.descendant)
		return "child";
	if (pid == lock->holder.pid && !(own_kind && is_found(lock)))
		return "job";
	if (pid == wrapper)
		return "wrapper";
	if (process_read(pid, &process))
		return "child";
	if (process_is_keeper(pid) &&
	    (process.parent == wrapper ||
	     !processes_has(&view->processes, lock->socket->inode, process.parent)))
		return "keeper";
	return own_kind && pid == lock->holder.pid ? "wrapper" : "child";
}

/*
 * The me-only, of any version, that has started the job: its parent, if that has the lock. 0: gone
 * or hidden.
 */
static pid_t find_wrapper(struct view *view, const struct seen_lock *lock)
{
	struct process job;

	if (lock->holder.pid == 0 || lock->holder.descendant ||
	    process_read(lock->holder.pid, &job) ||
	    !processes_has(&view->processes, lock->socket->inode, job.parent))
		return 0;
	return job.parent;
}

/* Why the holder is hidden, with details that the message of exit 4 has no room for. */
static const char *why_hidden(const struct seen_lock *lock)
{
	if (lock->connecting == -EPERM || lock->connecting == -EACCES)
		return "a policy forbids connecting to its socket (Landlock, SELinux, AppArmor, seccomp), and /proc does not show its process";
	if (lock->connecting == -EAGAIN && lock->socket->pending > 0)
		return "it accepts no connections, and /proc does not show its process";
	return lock->holder.hidden;
}

static void add_holder(struct records *records, struct view *view, const struct seen_lock *lock,
		       pid_t wrapper)
{
	const struct holder *holder = &lock->holder;
	struct record record = record_of("job", holder->pid);

	record_slots(&record, holder, lock->socket->slot);
	record_holder(&record, holder, lock->at);
	if (holder->pid == 0)
		record.hidden = why_hidden(lock);
	else
		record.role = role_of(view, lock, holder->pid, wrapper);
	if (holder->pid > 0 && !record_describe(&record))
		record.hidden = "/proc does not show its process";
	records_add(records, &record);
}

static void add_others(struct records *records, struct view *view, const struct seen_lock *lock,
		       pid_t wrapper)
{
	static const char *const roles[] = { "wrapper", "keeper", "child" };
	size_t n;
	const struct socket_owner *owners =
		processes_find(&view->processes, lock->socket->inode, &n);

	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
		for (size_t j = 0; j < n; j++) {
			struct record record = record_of(roles[i], owners[j].pid);

			record_slots(&record, &lock->holder, lock->socket->slot);
			if (record.pid != lock->holder.pid &&
			    !strcmp(role_of(view, lock, record.pid, wrapper), roles[i]) &&
			    record_describe(&record))
				records_add(records, &record);
		}
}

/* Others' processes may have inherited it where we may not look. */
static void add_unseen(struct records *records, const struct view *view,
		       const struct seen_lock *lock)
{
	struct record record = record_of("child", 0);

	record.hidden = "other users' processes may also hold it";
	record_slots(&record, &lock->holder, lock->socket->slot);
	if (view->processes.denied && !(lock->holder.uid_known && trust_is_self(lock->holder.uid)))
		records_add(records, &record);
}

/* --- those who wait --------------------------------------------------------------------------- */

static void add_hidden_waiter(struct records *records, const char *reason)
{
	struct record record = record_of("waiter", 0);

	record.hidden = reason;
	records_add(records, &record);
}

static void add_waiters(struct records *records, struct view *view, const struct unix_socket *first)
{
	struct line_of_waiters line;
	size_t gone = 0, before = records_count(records);

	if (!first)
		return;
	line_read(&line, view, first);
	for (size_t i = 0; i < line.n; i++) {
		const struct waiter *waiter = &line.all[i];
		struct record record = record_of("waiter", waiter->pid);

		record.uid = waiter->uid;
		record.mode = waiter->slots > 1 ? "slots" : "exclusive";
		record.slots = waiter->slots > 1 ? waiter->slots : 0;
		if (waiter->place == 1)
			gone = 0;
		if (waiter->pid == 0) {
			record.hidden = "/proc does not show its process";
		} else if (!record_describe(&record)) {
			gone += waiter->place > 0;
			continue;
		}
		record.place = waiter->place > gone ? waiter->place - gone : 0;
		if (record.place == 0)
			record.hidden = "its position in the queue is unknown";
		records_add(records, &record);
	}
	records_set_waiters(records, 0, records_count(records) - before + line.untold);
	if (line.untold)
		add_hidden_waiter(
			records, "more wait than the kernel lists in order: ss -xl shows how many");
	if (line.left_out)
		add_hidden_waiter(records, "a queue that another user created is left out");
	line_free(&line);
}

/* --- the question ----------------------------------------------------------------------------- */

/* The lock in question: its holders, one for each slot in use. */
struct question {
	struct host_address name;
	struct seen_lock *seen;
	size_t n, room;
	const struct unix_socket *first; /* of all sockets with a name of it */
};

/*
 * Whether the name is really free: a dump of a changing table can leave sockets out. No other
 * holder is connected to.
 */
static bool is_free(const struct host_address *address)
{
	int fd = host_connect(address);

	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED;
}

/* Looks once. Returns whether the results are consistent. */
static bool ask(struct view *view, struct question *question)
{
	int64_t deadline = deadline_in(HOST_GREETING_MS * NS_PER_MS);
	bool belongs = true;

	question->first = sockets_of_lock(&view->sockets, &question->name);
	for (const struct unix_socket *s = question->first;
	     s && sockets_share_lock(&view->sockets, s, question->first); s++)
		if (socket_is_holder(s)) {
			question->seen = memory_grow(question->seen, question->n, &question->room,
						     sizeof *question->seen);
			question->seen[question->n++] = view_lock(s);
		}
	if (question->n == 0)
		return is_free(&question->name);
	for (size_t i = 0; i < question->n; i++)
		view_inquire(view, &question->seen[i]);
	view_look(view);
	for (size_t i = 0; i < question->n; i++)
		view_hear(view, &question->seen[i], deadline);
	for (size_t i = 0; i < question->n; i++)
		view_conclude(view, &question->seen[i]);
	for (size_t i = 0; i < question->n; i++)
		belongs = belongs && view_is_as_it_was(view, &question->seen[i]);
	return belongs;
}

static void forget(struct view *view, struct question *question)
{
	for (size_t i = 0; i < question->n; i++)
		free(question->seen[i].name);
	free(question->seen);
	question->seen = NULL;
	question->n = question->room = 0;
	view_free(view);
}

/* How many slots the lock has, if known: from its holders, and from the queue of waiters. */
static unsigned count_slots(const struct view *view, const struct question *question)
{
	unsigned slots = 1;

	for (size_t i = 0; i < question->n; i++) {
		if (question->seen[i].holder.slots > slots)
			slots = question->seen[i].holder.slots;
		if (question->seen[i].socket->slot >= slots)
			slots = question->seen[i].socket->slot + 1;
	}
	for (const struct unix_socket *s = question->first;
	     s && sockets_share_lock(&view->sockets, s, question->first); s++)
		if (s->kind == SOCKET_QUEUE && s->queue_slots > slots)
			slots = s->queue_slots;
	return slots;
}

/* How many of the first SLOTS are in use. */
static unsigned count_used(const struct question *question, unsigned slots)
{
	unsigned used = 0;

	for (size_t i = 0; i < question->n; i++)
		used += question->seen[i].socket->slot < slots;
	return used;
}

/*
 * The first line: what a refused caller prints, or of several SLOTS how many are in use.
 */
static void sentence(const struct lock *lock, const struct question *question, unsigned slots,
		     struct line *line)
{
	unsigned used = count_used(question, slots);

	line_begin_about(line, lock->spec);
	if (question->n > 0 && (slots > 1 || used == 0)) {
		holder_describe_slots(used, slots, line);
	} else if (question->n > 0) {
		holder_describe(&question->seen[0].holder, HOLDER_HELD, line);
	} else {
		line_add(line, "free");
	}
}

static char *answer_text(struct view *view, const struct lock *lock,
			 const struct question *question, bool json)
{
	unsigned slots = lock->options->slots ? lock->options->slots : count_slots(view, question);
	char *name = text_lock(&question->name, lock->name, 0), *text;
	struct records *records = records_new(FORM_WHO, name, json);
	struct line first;

	sentence(lock, question, slots, &first);
	for (size_t i = 0; i < question->n; i++) {
		const struct seen_lock *seen = &question->seen[i];
		pid_t wrapper = find_wrapper(view, seen);

		add_holder(records, view, seen, wrapper);
		add_others(records, view, seen, wrapper);
		add_unseen(records, view, seen);
	}
	records_set_waiters(records, 0, 0);
	add_waiters(records, view, question->first);
	text = records_finish(records, "who", &first);
	free(name);
	return text;
}

/* Whether the lock is held; with -j whether a try with the same -j would be refused. */
static bool is_refused(const struct lock *lock, const struct question *question)
{
	unsigned slots = lock->options->slots;

	return slots ? count_used(question, slots) == slots : question->n > 0;
}

/* Whether somebody listens at the name, whatever the kernel's table shows. */
static bool is_answered(const struct host_address *address)
{
	int fd = host_connect(address);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || fd == -EAGAIN;
}

static int who_host(struct lock *lock, const char *program, bool json, char **text, bool *held)
{
	struct question question = { .n = 0 };
	struct view view;
	bool belongs;
	int r;

	host_address(&question.name, lock->name);
	for (int tries = 1;; tries++) {
		r = view_read(&view, program);
		if (r)
			break;
		belongs = ask(&view, &question);
		if (!belongs && question.n == 0 && tries == TRIES && is_answered(&question.name)) {
			lock->failed = "held, and the kernel's socket table does not show by whom";
			r = LOCK_FAILED;
			break;
		}
		if (belongs || tries == TRIES) {
			*text = answer_text(&view, lock, &question, json);
			*held = is_refused(lock, &question);
			break;
		}
		forget(&view, &question);
	}
	forget(&view, &question);
	return r;
}

int who(struct lock *lock, const char *program, bool json, char **text, bool *held)
{
	if (!lock->engine->by_socket)
		return who_file(lock, json, text, held);
	return who_host(lock, program, json, text, held);
}
