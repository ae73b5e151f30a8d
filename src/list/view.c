#include "list/view.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/process.h"
#include "host/socket-table.h"

/*
 * With this many connections waiting, nobody accepts: the holder was started with -F, or is a
 * descendant. Connecting would fill its backlog.
 */
#define MOST_UNHEARD 16

/* The longest that an argument can be. */
#define LONGEST_GREETING (sizeof(struct host_greeting) + 131072)

/*
 * As socket_table_find() for one slot, from the table that was read: it is not read again for each
 * lock.
 */
static int find_socket(const struct host_sources *sources, const struct host_address *address,
		       struct socket_entry *entry)
{
	struct view *view = (struct view *)(uintptr_t)sources;
	const struct unix_socket *socket = sockets_of_slot(&view->sockets, address);

	if (!socket)
		return -ENOENT;
	*entry = (struct socket_entry){ .inode = socket->inode, .uid = socket->uid };
	return view_still_has(view, socket->inode) ? 0 : -ENOENT;
}

/* As process_find_socket(), from the results of one walk. */
static pid_t find_process(const struct host_sources *sources, uint32_t inode, bool *own_kind)
{
	struct view *view = (struct view *)(uintptr_t)sources;
	size_t n;
	const struct socket_owner *owners = processes_find(view_look(view), inode, &n);

	*own_kind = false;
	for (size_t i = 0; i < n; i++) {
		*own_kind = view_is_me_only(view, owners[i].pid) == 1;
		if (!*own_kind)
			return owners[i].pid;
	}
	return n > 0 ? owners[n - 1].pid : 0;
}

int view_read(struct view *view, const char *program)
{
	*view = (struct view){ .sources = { find_socket, find_process }, .program = program };
	view->program_failed = file_status(AT_FDCWD, program, &view->program_file);
	return sockets_read(&view->sockets);
}

void view_free(struct view *view)
{
	sockets_free(&view->sockets);
	sockets_free(&view->later);
	processes_free(&view->processes);
}

const struct processes *view_look(struct view *view)
{
	if (!view->processes.looked)
		processes_read(&view->processes, &view->sockets);
	return &view->processes;
}

bool view_still_has(struct view *view, uint32_t inode)
{
	if (!view->looked_again)
		view->looked_again = sockets_read(&view->later) == 0;
	return !view->looked_again || sockets_find(&view->later, inode);
}

bool view_is_as_it_was(struct view *view, const struct seen_lock *lock)
{
	const struct unix_socket *socket;
	struct socket_entry entry;

	if (!view->concluded) {
		sockets_free(&view->later);
		view->looked_again = view->concluded = sockets_read(&view->later) == 0;
	}
	socket = view->concluded ? sockets_of_slot(&view->later, &lock->slot_address) : NULL;
	if (socket)
		return socket->inode == lock->socket->inode;
	/* One reading of a table that changes can leave sockets out. */
	return socket_table_find(&lock->slot_address, 1, &entry) == 0 &&
	       entry.inode == lock->socket->inode;
}

int view_is_me_only(const struct view *view, pid_t pid)
{
	const struct statx *own = &view->program_file;
	struct statx other;
	char path[PROCESS_PATH_SIZE];
	int r;

	r = view->program_failed ? view->program_failed
				 : file_status(AT_FDCWD, process_path(path, pid, "exe"), &other);
	if (r)
		return r;
	return own->stx_dev_major == other.stx_dev_major &&
	       own->stx_dev_minor == other.stx_dev_minor && own->stx_ino == other.stx_ino;
}

/*
 * Whether the processes that have the lock show its holder without connecting: one of them is a
 * command that has started all others, and it is not left over. A child of init may be left over
 * from a command that has ended.
 */
static bool is_told_by_processes(struct view *view, const struct unix_socket *socket)
{
	const struct processes *processes = view_look(view);
	size_t n, roots = 0;
	const struct socket_owner *owners = processes_find(processes, socket->inode, &n);
	struct process process = { 0 };

	for (size_t i = 0; i < n; i++) {
		if (view_is_me_only(view, owners[i].pid) == 1)
			continue;
		if (process_read(owners[i].pid, &process))
			return false;
		if (processes_has(processes, socket->inode, process.parent) &&
		    view_is_me_only(view, process.parent) != 1)
			continue;
		if (process.parent == 1 || roots++ > 0)
			return false;
	}
	return roots == 1;
}

/*
 * Whether somebody is there to greet us: the me-only, of any version, that has started the holder
 * and has the lock. If that is hidden, it may be there.
 */
static bool can_greet(const struct view *view, const struct seen_lock *lock)
{
	struct process process;
	char path[PROCESS_PATH_SIZE];

	if (view_is_me_only(view, lock->inquiry.peer.cred.pid) == 1 ||
	    process_read(lock->inquiry.peer.cred.pid, &process) || process.parent == 0 ||
	    process_has_socket(process.parent, lock->socket->inode))
		return true;
	return access(process_path(path, process.parent, "fd"), R_OK | X_OK) != 0;
}

static bool is_long(const struct host_address *address)
{
	return address->un.sun_path[sizeof "me-only"] == '#';
}

struct seen_lock view_lock(const struct unix_socket *socket)
{
	struct seen_lock lock = { .address = &socket->lock, .socket = socket };

	host_slot_address(&lock.slot_address, &socket->lock, socket->slot);
	return lock;
}

void view_inquire(struct view *view, struct seen_lock *lock)
{
	const struct unix_socket *socket = lock->socket;

	lock->at = clock_now(CLOCK_REALTIME);
	lock->inquiry = (struct host_inquiry){ .fd = -EAGAIN };
	/* Never more than half of a backlog. */
	if (socket->pending <= MOST_UNHEARD ||
	    (socket->pending < socket->most_pending / 2 && !is_told_by_processes(view, socket)))
		host_inquire(&lock->inquiry, &lock->slot_address);
	lock->connecting = lock->inquiry.fd < 0 ? lock->inquiry.fd : 0;
	lock->may_greet = !lock->connecting &&
			  (host_may_be_greeted(&lock->inquiry) || is_long(lock->address));
}

/*
 * The name in a greeting of N bytes, if the lock's address proves it, whoever sent it. To be freed;
 * or NULL.
 */
static char *name_in(const char *bytes, size_t n, const struct host_address *address)
{
	struct host_greeting greeting;
	struct host_address named = { 0 };
	char *name;

	if (n <= sizeof greeting)
		return NULL;
	memcpy(&greeting, bytes, sizeof greeting);
	if (memcmp(greeting.magic, HOST_GREETING_MAGIC, sizeof greeting.magic) != 0 ||
	    greeting.name_length != n - sizeof greeting)
		return NULL;
	name = memory_get(greeting.name_length + 1);
	memcpy(name, bytes + sizeof greeting, greeting.name_length);
	host_address(&named, name);
	if (named.length == address->length && strlen(name) == greeting.name_length &&
	    !memcmp(named.un.sun_path, address->un.sun_path,
		    named.length - offsetof(struct sockaddr_un, sun_path)))
		return name;
	free(name);
	return NULL;
}

/* Waits for something to come on FD. Returns whether it has. */
static bool wait_until(int fd, int64_t deadline)
{
	struct pollfd answer = { .fd = fd, .events = POLLIN };
	int r;

	do
		r = poll(&answer, 1, deadline_poll_timeout(deadline));
	while (r < 0 && errno == EINTR);
	return r > 0;
}

void view_hear(const struct view *view, struct seen_lock *lock, int64_t deadline)
{
	char *bytes;
	ssize_t n;

	if (!lock->may_greet)
		return;
	/* Finding out whether it can greet takes time: only if it has not. */
	if (!wait_until(lock->inquiry.fd, 0) &&
	    (!can_greet(view, lock) || !wait_until(lock->inquiry.fd, deadline)))
		return;
	if (!is_long(lock->address))
		return;
	bytes = memory_get(LONGEST_GREETING);
	n = recv(lock->inquiry.fd, bytes, LONGEST_GREETING, MSG_DONTWAIT | MSG_PEEK);
	if (n > 0)
		lock->name = name_in(bytes, (size_t)n, lock->address);
	free(bytes);
}

void view_conclude(struct view *view, struct seen_lock *lock)
{
	host_conclude(&lock->inquiry, &lock->slot_address, &view->sources, &lock->holder);
	if (lock->holder.at_most)
		lock->at = clock_now(CLOCK_REALTIME);
}
