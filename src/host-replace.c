/*
 * Replacing the holder of a host lock (--replace).
 *
 * Only the holder that is there at the start is asked to end, once, and later only what is left of that holder is ended by force:
 * whoever takes the lock after it has another socket, and is none of our business.
 *
 * Nobody is signalled by a number alone, which can have been used again, but by a pidfd, and only with proof:
 *  - the command is the process that listened last on the lock's socket: SO_PEERPIDFD is the kernel's word for that (before
 *    Linux 6.5: the socket among its descriptors or its parent's);
 *  - the me-only that runs it is its parent, runs this program, and has the socket. It passes the signal on;
 *  - an heir has the socket, and descends from the command, or is in the command's session, or was started with the lock's
 *    ME_ONLY_LOCK. The socket alone is no proof: anybody who has a socket can send it to a service that accepts descriptors.
 * The socket must be this user's or root's, by the credentials of who listened last and of who made it.
 *
 * By force the command and its descendants are ended, but not the me-only that runs it, nor its keeper: they let go by themselves,
 * when the command has ended, and not before.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "host-holder.h"
#include "lock-host.h"
#include "process.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

static int open_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

/* Who is stopped cannot end: it is told to go on, too. Returns 0 or a negative errno. */
static int end(int pidfd, int number)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0))
		return -errno;
	syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, NULL, 0);
	return 0;
}

static bool has_ended(int pidfd)
{
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };

	return poll(&ended, 1, 0) != 0;
}

static int refuse(struct replacement *replacement, const char *reason)
{
	replacement->refused = reason;
	return -EPERM;
}

/* --- who is the holder ------------------------------------------------------------------------------------------------------- */

/* A pidfd of the process that listened last at the other end of FD, PEER; -1 if it has ended or nothing proves that it is it. */
static int peer_pidfd(int fd, const struct host_peer *peer, const struct host_address *address)
{
	int pidfd = -1;
	socklen_t size = sizeof pidfd;

	if (peer->life == PEER_DEAD)
		return -1;
	if (peer->life == PEER_ALIVE)
		return getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) ? -1 : pidfd;
	pidfd = open_pidfd(peer->cred.pid);
	if (pidfd >= 0 && !host_is_proved_holder(address, peer->cred.pid)) {
		close(pidfd);
		pidfd = -1;
	}
	return pidfd;
}

/* Fills in what is known of the command. */
static void know_job(struct replacement *replacement, pid_t job, int pidfd)
{
	struct process process;

	replacement->job = job;
	replacement->job_fd = pidfd;
	replacement->session = getsid(job);
	if (process_read(job, &process) == 0)
		replacement->parent = process.parent;
}

/* Finds out who holds the lock. Returns 0, -ENOENT if nobody does any more, or -EPERM and the reason. */
static int identify(const struct lock *lock, struct replacement *replacement)
{
	struct host_address address;
	struct socket_entry entry;
	struct host_peer peer;
	int r, fd, pidfd;

	*replacement = (struct replacement){ .job_fd = -1, .session = -1 };
	pidfd = open_pidfd(getpid());
	if (pidfd < 0)
		return refuse(replacement, errno == ENOSYS ? "that needs Linux 5.3" : "there is no descriptor left for that");
	close(pidfd);
	host_address(&address, lock->name);
	r = socket_table_find(&address, &entry);
	if (r)
		return r == -ENOENT ? r : refuse(replacement, "the kernel does not show its table of sockets");
	replacement->held = entry.inode;
	if (entry.uid != SOCKET_UID_UNKNOWN && !holder_is_trusted(entry.uid))
		return refuse(replacement, "the holder is neither this user nor root");
	fd = host_connect(&address);
	/* Nobody can be asked: then there are only its descriptors to tell the holder by. */
	if (fd < 0)
		return entry.uid == SOCKET_UID_UNKNOWN ? refuse(replacement, "the holder is hidden") : 0;
	r = host_peer_read(fd, &peer);
	if (r == 0 && !holder_is_trusted(peer.cred.uid)) {
		r = refuse(replacement, "the holder is neither this user nor root");
	} else if (r == 0 && peer.cred.pid == 0) {
		r = refuse(replacement, "the holder is in another pid namespace");
	} else if (r == 0) {
		pidfd = peer_pidfd(fd, &peer, &address);
		if (pidfd >= 0)
			know_job(replacement, peer.cred.pid, pidfd);
	}
	close(fd);
	return r;
}

/* --- asking ------------------------------------------------------------------------------------------------------------------ */

struct hunt {
	struct replacement *replacement;
	const struct lock *lock;
	const char *variable;	/* "ME_ONLY_LOCK=" and the lock's name */
	const char *variable_with_prefix;
	int number;		/* what is sent to whom we find */
	int found;		/* who belongs to the holder */
	int own;		/* a me-only that is about to let go */
	int unproved;
};

/* Whether PID has inherited the lock, or runs for who has. */
static bool belongs(const struct hunt *hunt, pid_t pid)
{
	const struct replacement *r = hunt->replacement;

	if (r->job && process_descends(pid, r->job) && !has_ended(r->job_fd))
		return true;
	if (!process_has_socket(pid, (uint32_t)r->held))
		return false;
	return (r->session > 0 && getsid(pid) == r->session) || process_has_variable(pid, hunt->variable) ||
	       process_has_variable(pid, hunt->variable_with_prefix);
}

/* Signals PID if it belongs to the holder. The pidfd comes before the proof: it cannot become another process's. */
static bool visit(pid_t pid, void *argument)
{
	struct hunt *hunt = argument;
	struct replacement *r = hunt->replacement;
	int pidfd;

	/* Those that are ours: the one that runs the command, and its keeper. */
	if (pid == r->job || pid == r->parent)
		return true;
	pidfd = open_pidfd(pid);
	if (pidfd < 0)
		return true;
	if (belongs(hunt, pid)) {
		hunt->found++;
		if (end(pidfd, hunt->number) == -EPERM)
			r->stubborn = pid;
	} else if (!r->job && process_has_socket(pid, (uint32_t)r->held)) {
		if (process_is_me_only(pid))
			hunt->own++;
		else
			hunt->unproved++;
	}
	close(pidfd);
	return true;
}

static void hunt_down(struct hunt *hunt)
{
	static const char name[] = "ME_ONLY_LOCK=", prefix[] = "host:";
	size_t length = strlen(hunt->lock->name) + sizeof name + sizeof prefix;
	char plain[length], prefixed[length];

	strcpy(stpcpy(plain, name), hunt->lock->name);
	strcpy(stpcpy(stpcpy(prefixed, name), prefix), hunt->lock->name);
	hunt->variable = plain;
	hunt->variable_with_prefix = prefixed;
	process_walk(visit, hunt);
}

/* Whether the command's parent is the me-only that runs it. */
static bool has_wrapper(const struct replacement *replacement)
{
	return replacement->parent > 0 && process_is_me_only(replacement->parent) &&
	       process_has_socket(replacement->parent, (uint32_t)replacement->held);
}

/* Asks the command to end; by way of the me-only that runs it, so that that knows it was a signal of somebody. */
static int ask_job(struct replacement *replacement)
{
	struct process process;
	int wrapper = open_pidfd(replacement->parent), r;

	if (wrapper >= 0 && has_wrapper(replacement) && process_read(replacement->job, &process) == 0 && process.parent == replacement->parent)
		r = end(wrapper, SIGTERM);
	else
		r = end(replacement->job_fd, SIGTERM);
	if (wrapper >= 0)
		close(wrapper);
	return r == -EPERM ? refuse(replacement, "this user may not signal it") : 0;
}

static int ask_heirs(const struct lock *lock, struct replacement *replacement)
{
	struct hunt hunt = { .replacement = replacement, .lock = lock, .number = SIGTERM };
	struct lock_identity identity;

	hunt_down(&hunt);
	if (replacement->stubborn)
		return refuse(replacement, "this user may not signal it");
	if (hunt.found == 0 && hunt.unproved > 0)
		return refuse(replacement, "nothing proves that it was started under this lock");
	if (hunt.found + hunt.own == 0 && lock->engine->identify(lock, &identity) == 0 && identity.number == replacement->held)
		return refuse(replacement, "the holder cannot be seen");
	return 0;
}

int host_replace(const struct lock *lock, struct replacement *replacement)
{
	int r = identify(lock, replacement);

	if (r == 0)
		r = replacement->job ? ask_job(replacement) : ask_heirs(lock, replacement);
	return r == -EPERM ? r : 0;
}

/* --- by force ------------------------------------------------------------------------------------------------------------------ */

void host_replace_by_force(const struct lock *lock, struct replacement *replacement)
{
	struct hunt hunt = { .replacement = replacement, .lock = lock, .number = SIGKILL };
	struct lock_identity identity;

	if (lock->engine->identify(lock, &identity) || identity.number != replacement->held)
		return;
	/* The command last: when it has ended, nobody descends from it any more. */
	hunt_down(&hunt);
	if (replacement->job && end(replacement->job_fd, SIGKILL) == -EPERM)
		replacement->stubborn = replacement->job;
	/* Who runs it must go on, to see that it has ended. */
	if (replacement->parent > 0 && has_wrapper(replacement))
		kill(replacement->parent, SIGCONT);
}
