#include "host/holder.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/process.h"
#include "base/trust.h"
#include "host/socket.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

int host_peer_pidfd(int fd)
{
	int pidfd = -1;
	socklen_t size = sizeof pidfd;

	return getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) ? -errno : pidfd;
}

/* Whether host_peer_pidfd() failed because the process is gone. */
static bool says_gone(int r)
{
	return r == -ESRCH || r == -ENODATA || r == -EINVAL;
}

int host_peer_read(int fd, struct host_peer *peer)
{
	socklen_t size = sizeof peer->cred;
	struct pollfd ended = { .events = POLLIN };

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer->cred, &size))
		return -errno;
	ended.fd = host_peer_pidfd(fd);
	if (ended.fd < 0) {
		peer->life = says_gone(ended.fd) ? PEER_DEAD : PEER_UNKNOWN;
		return 0;
	}
	peer->life = poll(&ended, 1, 0) == 0 ? PEER_ALIVE : PEER_DEAD;
	close(ended.fd);
	return 0;
}

bool host_is_proved_holder(const struct host_address *address, const struct host_sources *sources,
			   pid_t pid)
{
	struct socket_entry entry;
	struct process process;

	if (sources->find_socket(sources, address, &entry))
		return false;
	return process_has_socket(pid, entry.inode) ||
	       (process_read(pid, &process) == 0 &&
		process_has_socket(process.parent, entry.inode));
}

bool host_peer_is_trusted(const struct host_address *address)
{
	struct host_peer peer;
	int fd = host_connect(address), r;

	if (fd < 0)
		return false;
	r = host_peer_read(fd, &peer);
	close(fd);
	return r == 0 && trust_user(peer.cred.uid);
}

bool host_is_trusted(const struct host_address *address)
{
	struct socket_entry entry;

	if (socket_table_find(address, 1, &entry) == 0 && entry.uid != SOCKET_UID_UNKNOWN)
		return trust_user(entry.uid);
	return host_peer_is_trusted(address);
}

/* --- the inquiry ------------------------------------------------------------------------------ */

void host_inquire(struct host_inquiry *inquiry, const struct host_address *address)
{
	int r;

	inquiry->fd = host_connect(address);
	if (inquiry->fd < 0)
		return;
	r = host_peer_read(inquiry->fd, &inquiry->peer);
	if (r) {
		close(inquiry->fd);
		inquiry->fd = r;
	}
}

bool host_may_be_greeted(const struct host_inquiry *inquiry)
{
	return inquiry->fd >= 0 && inquiry->peer.life != PEER_DEAD && inquiry->peer.cred.pid != 0 &&
	       trust_user(inquiry->peer.cred.uid);
}

/* Fills HOLDER in with the greeting that has come on FD. Returns whether one has. */
static bool read_greeting(int fd, struct holder *holder)
{
	struct host_greeting greeting;
	struct process job;

	if (recv(fd, &greeting, sizeof greeting, MSG_DONTWAIT) != sizeof greeting ||
	    memcmp(greeting.magic, HOST_GREETING_MAGIC, sizeof greeting.magic) != 0 ||
	    greeting.held < 0)
		return false;
	holder->held = greeting.held;
	holder->slots = greeting.slots;
	/*
	 * We came before the command had listened: then the pid was that of the me-only that was
	 * about to start it.
	 */
	if (process_read((pid_t)greeting.job, &job) == 0 && job.parent == holder->pid)
		holder->pid = (pid_t)greeting.job;
	return true;
}

static const char just_let_go[] = "it has just released the lock";

/*
 * Who has the socket when the process that listened last is gone or cannot be asked. That is a
 * descendant of its command, or a me-only: one that is about to let go, or a keeper.
 */
static void find_descendant(const struct host_address *address, const struct host_sources *sources,
			    bool peer_is_dead, struct holder *holder)
{
	struct socket_entry entry;
	struct process process;
	bool own_kind;
	int r = sources->find_socket(sources, address, &entry);

	if (r) {
		holder->hidden = r == -ENOENT	? just_let_go
				 : r == -EMFILE ? "no file descriptor is free to look for it"
						: "the kernel's socket table cannot be read";
		return;
	}
	if (entry.uid != SOCKET_UID_UNKNOWN && !holder->uid_known) {
		holder->uid = entry.uid;
		holder->uid_known = true;
	}
	holder->pid = sources->find_process(sources, entry.inode, &own_kind);
	if (holder->pid == 0) {
		holder->hidden = "/proc does not show its process";
		return;
	}
	if (process_read(holder->pid, &process)) {
		holder->pid = 0;
		holder->hidden = just_let_go;
		return;
	}
	holder->descendant = peer_is_dead && !own_kind;
	holder->uid_known = process_user(holder->pid, &holder->uid) == 0;
	holder->held = process.age;
	holder->at_most = true;
}

void host_conclude(struct host_inquiry *inquiry, const struct host_address *address,
		   const struct host_sources *sources, struct holder *holder)
{
	const struct host_peer *peer = &inquiry->peer;
	struct process process;

	*holder = (struct holder){ .held = -1 };
	if (inquiry->fd < 0) {
		find_descendant(address, sources, false, holder);
		return;
	}
	holder->uid = peer->cred.uid;
	holder->uid_known = true;
	if (peer->cred.pid == 0) {
		holder->hidden = "in another PID namespace";
	} else if (peer->life == PEER_DEAD ||
		   (peer->life == PEER_UNKNOWN &&
		    !host_is_proved_holder(address, sources, peer->cred.pid))) {
		find_descendant(address, sources, true, holder);
	} else {
		holder->pid = peer->cred.pid;
		/*
		 * The kernel's word on the age of the process is never less than what the holder
		 * says.
		 */
		if (!(host_may_be_greeted(inquiry) && read_greeting(inquiry->fd, holder)) &&
		    process_read(holder->pid, &process) == 0) {
			holder->held = process.age;
			holder->at_most = true;
		}
	}
	close(inquiry->fd);
}

/* --- the command, to be replaced -------------------------------------------------------------- */

/*
 * A pidfd of the process that listened last at the other end of FD, PEER: SO_PEERPIDFD is the
 * kernel's word for it; before Linux 6.5 the socket among its descriptors or its parent's. -ESRCH
 * if it has ended or nothing proves that it is it.
 */
static int proved_pidfd(int fd, const struct host_peer *peer, const struct host_address *address)
{
	int pidfd;

	if (peer->life == PEER_DEAD)
		return -ESRCH;
	if (peer->life == PEER_ALIVE) {
		pidfd = host_peer_pidfd(fd);
		return says_gone(pidfd) ? -ESRCH : pidfd; /* it has ended since */
	}
	pidfd = process_pidfd(peer->cred.pid);
	if (pidfd < 0 || host_is_proved_holder(address, &host_kernel, peer->cred.pid))
		return pidfd;
	close(pidfd);
	return -ESRCH;
}

int host_find_job(const struct lock *lock, struct lock_job *job)
{
	struct host_address address;
	struct host_inquiry inquiry;
	struct socket_entry entry;
	int pidfd;

	host_address(&address, lock->name);
	host_inquire(&inquiry, &address);
	/*
	 * Nobody can be asked: then there are only its descriptors to tell the holder by. Or it has
	 * gone.
	 */
	if (inquiry.fd < 0) {
		int r = socket_table_find(&address, 1, &entry);

		return r == -ENOENT || (r == 0 && entry.uid != SOCKET_UID_UNKNOWN)
			       ? -ESRCH
			       : lock_refuse_unproved(&job->refused);
	}
	job->pid = inquiry.peer.cred.pid;
	pidfd = proved_pidfd(inquiry.fd, &inquiry.peer, &address);
	close(inquiry.fd);
	if (trust_user(inquiry.peer.cred.uid) && job->pid != 0 && (pidfd >= 0 || pidfd == -ESRCH))
		return pidfd;
	if (pidfd >= 0)
		close(pidfd);
	if (!trust_user(inquiry.peer.cred.uid))
		return lock_refuse_stranger(&job->refused);
	return job->pid == 0 ? lock_refuse(&job->refused, "the holder is in another PID namespace")
			     : lock_refuse_unproved(&job->refused);
}

/* --- the kernel's own tables ------------------------------------------------------------------ */

static int find_socket(const struct host_sources *sources, const struct host_address *address,
		       struct socket_entry *entry)
{
	(void)sources;
	return socket_table_find(address, 1, entry);
}

static pid_t find_process(const struct host_sources *sources, uint32_t inode, bool *own_kind)
{
	(void)sources;
	return process_find_socket(inode, own_kind);
}

const struct host_sources host_kernel = { find_socket, find_process };

static int find_nothing(const struct host_sources *sources, const struct host_address *address,
			struct socket_entry *entry)
{
	(void)sources, (void)address, (void)entry;
	return -ENOENT;
}

void host_find_holder(const struct host_address *address, struct holder *holder, bool thorough,
		      int64_t deadline, const struct lock *lock)
{
	static const struct host_sources nothing = { find_nothing, NULL };
	struct host_inquiry inquiry;

	host_inquire(&inquiry, address);
	if (host_may_be_greeted(&inquiry)) {
		struct pollfd alone = { .fd = -1 }, *fds = lock->heed ? lock->heed : &alone;

		fds[0] = (struct pollfd){ .fd = inquiry.fd, .events = POLLIN };
		poll(fds, 1 + lock->heeded, deadline_poll_timeout(deadline));
	}
	host_conclude(&inquiry, address, thorough ? &host_kernel : &nothing, holder);
}
