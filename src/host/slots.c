#include "host/slots.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/process.h"
#include "host/holder.h"
#include "host/socket-table.h"
#include "host/socket.h"

/* So often the name of a command that has ended is tried in a row: for some 0.4 ms. */
#define CATCH_TRIES 400

/*
 * A process that ends has closed all that it had some 50 microseconds after its lock; with much to
 * free, later. One that has only closed its lock delays us by the shorter time.
 */
#define END_SOON (10 * NS_PER_MS)
#define END_AT_LAST (1 * NS_PER_S)

/*
 * The front of many slots leaves so many descriptors free; a slot for which there is none left is
 * tried with a growing pause.
 */
#define KEPT_FDS 24

/* So many slots somebody in line looks at, at a time. */
#define MOST_LOOKS 8

/* The front looks for a holder in /proc after such a pause at the longest: it can cost 50 ms. */
#define LONGEST_SEEK (64 * NS_PER_S)

int slots_renew_candidate(struct waiter *w)
{
	waiter_close(&w->candidate);
	w->candidate = host_socket();
	if (w->candidate >= 0)
		return 0;
	w->lock->failed = "cannot create a socket";
	return w->candidate;
}

int slots_bind(struct waiter *w, unsigned slot)
{
	struct host_address address;

	w->lock->slot = slot;
	host_slot_address(&address, w->name, slot);
	return host_bind(w->lock, w->candidate, &address);
}

/*
 * A pidfd of the process that listened last at the other end of FD, or a negative errno. If its
 * number was used again, no harm is done.
 */
static int job_of(int fd)
{
	struct ucred peer;
	socklen_t size = sizeof peer;
	int pidfd = host_peer_pidfd(fd);

	if (pidfd == -ENOPROTOOPT && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
		pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	return pidfd;
}

/* Connects to a slot, so that the hang-up tells when it is free. Returns 0 or a negative errno. */
static int watch_slot(struct waiter *w, unsigned n)
{
	struct slot *slot = &w->slots[n];
	struct host_address address;
	int fd;

	host_slot_address(&address, w->name, n);
	fd = host_connect(&address);
	if (fd > w->most_watch) {
		close(fd);
		fd = -EMFILE;
	}
	if (fd < 0)
		return fd;
	slot->watch = fd;
	waiter_close(&slot->job);
	if (w->watch_jobs)
		slot->job = job_of(fd);
	slot->watched_since = deadline_now();
	slot->look = slot->watched_since + LOOK;
	return 0;
}

/*
 * The backlog of slot N is full, of refused tries to a command that does not accept them (-F): its
 * hang-up cannot be waited for. The end of the process can.
 */
static void seek_job(struct waiter *w, unsigned n)
{
	const int64_t now = deadline_now();
	struct slot *slot = &w->slots[n];
	struct host_address address;
	struct socket_entry entry;
	bool own_kind;
	pid_t pid = 0;

	if (slot->job >= 0 || !w->watch_jobs || !waiter_is_front(w) || now < w->seek)
		return;
	w->seek_pause = w->seek_pause ? deadline_earlier(w->seek_pause * 2, LONGEST_SEEK) : LOOK;
	w->seek = now + w->seek_pause;
	host_slot_address(&address, w->name, n);
	if (socket_table_find(&address, 1, &entry) == 0)
		pid = process_find_socket((uint32_t)entry.inode, &own_kind);
	if (pid > 0)
		slot->job = process_pidfd(pid);
}

/*
 * The command that held the name has ended. Its me-only is woken up as we are, and lets go in some
 * 50 microseconds: as long as it takes to fall asleep and to wake up again, so that is not done.
 * Returns 0 when the name is ours, or what slots_bind() does.
 */
static int catch_slot(struct waiter *w, unsigned n)
{
	int r = -EADDRINUSE;

	waiter_close(&w->slots[n].job);
	for (int tries = 0; r == -EADDRINUSE && tries < CATCH_TRIES; tries++) {
		r = slots_bind(w, n);
		if (r)
			sched_yield();
	}
	return r;
}

void slots_await_end(const struct waiter *w, unsigned n)
{
	struct pollfd ended = { .fd = w->slots[n].job, .events = POLLIN };
	const int64_t soon = deadline_in(END_SOON), last = soon + END_AT_LAST;
	int64_t due = soon;
	int r;

	if (ended.fd < 0)
		return;
	while ((r = poll(&ended, 1, deadline_poll_timeout(due))) == 0 ||
	       (r < 0 && errno == EINTR)) {
		if (deadline_now() < due)
			continue;
		/* It lives, and has closed the lock: that may be long before its end. */
		if (due == last || !process_pidfd_exits(ended.fd))
			return;
		due = last;
	}
}

void slots_unwatch(struct waiter *w)
{
	for (unsigned n = 0; n < w->lock->slots; n++) {
		waiter_close(&w->slots[n].watch);
		waiter_close(&w->slots[n].job);
		w->slots[n] = (struct slot){ .watch = -1, .job = -1 };
	}
}

void slots_hear(struct waiter *w, unsigned n)
{
	struct slot *slot = &w->slots[n];

	waiter_close(&slot->watch);
	if (deadline_now() - slot->watched_since > LONGEST_PAUSE)
		slot->pause = 0;
	slot->look = 0;
	w->slot = n;
}

/* The front, or who waits alone, tries one slot. Returns as slots_try() does. */
static int try_slot(struct waiter *w, unsigned n)
{
	struct slot *slot = &w->slots[n];
	/* Hung up on just now, and it is not the first time: come here again after a pause. */
	const bool again = slot->pause && slot->look == 0;
	int r = -ECONNREFUSED;

	/* Again when nobody listened there: it has become free, or is only being looked at. */
	for (int tries = 0; r == -ECONNREFUSED && tries < 4; tries++) {
		r = slots_bind(w, n);
		if (r != -EADDRINUSE)
			return r;
		if (slot->watch >= 0)
			slot->look = deadline_now() + LOOK;
		else if (!again)
			r = watch_slot(w, n);
	}
	if (r == -EAGAIN)
		seek_job(w, n);
	if (slot->watch < 0)
		waiter_rest(&slot->pause, &slot->look);
	else if (!slot->pause)
		slot->pause = SHORTEST_PAUSE / 2;
	return LOCK_RETRY;
}

int slots_try(struct waiter *w, int64_t now, bool all)
{
	const unsigned slots = w->lock->slots;
	int r = LOCK_RETRY;

	/* The one first that has just become free. */
	for (unsigned i = 0, n = w->slot; r == LOCK_RETRY && i < slots;
	     i++, n = n + 1 < slots ? n + 1 : 0)
		if (all || now >= w->slots[n].look)
			r = try_slot(w, n);
	return r;
}

bool slots_seem_free(const struct waiter *w)
{
	struct host_address address;
	int fd;

	host_slot_address(&address, w->name, w->slot);
	fd = host_connect(&address);
	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED;
}

int slots_bind_any(struct waiter *w)
{
	int r = slots_bind(w, w->slot);

	for (unsigned looks = 1; r == -EADDRINUSE && looks < w->lock->slots && looks < MOST_LOOKS;
	     looks++) {
		w->slot = (w->slot + 1) % w->lock->slots;
		r = slots_bind(w, w->slot);
	}
	return r;
}

int64_t slots_next_try(const struct waiter *w)
{
	int64_t when = DEADLINE_NEVER;

	for (unsigned n = 0; (waiter_is_front(w) || w->alone) && n < w->lock->slots; n++)
		when = deadline_earlier(when, w->slots[n].look);
	return when;
}

int slots_catch(struct waiter *w)
{
	int r = -EADDRINUSE;

	for (unsigned n = 0; r == -EADDRINUSE && n < w->lock->slots; n++)
		if (w->slots[n].caught) {
			w->slots[n].caught = false;
			r = catch_slot(w, n);
		}
	return r == -EADDRINUSE ? LOCK_RETRY : r;
}

void slots_share_descriptors(struct waiter *w)
{
	struct rlimit limit;
	rlim_t most = INT_MAX;

	if (w->lock->slots > 1 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < most)
		most = limit.rlim_cur > KEPT_FDS ? limit.rlim_cur - KEPT_FDS : 0;
	w->most_watch = (int)most;
	w->watch_jobs = most >= 2 * (rlim_t)w->lock->slots;
}
