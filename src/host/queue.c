/*
 * Waiting for a host lock: first come, first served.
 *
 *  5. The queue of a lock is a second name (host/address.h): a listening socket that belongs to the
 *     FRONT, the waiter that is next. A newcomer goes to the queue first, before trying the lock,
 *     so that nobody is overtaken. A waiter that finds the queue unbound binds it and is the front;
 *     all others connect to it and stay in its backlog, which the kernel keeps in order. Nobody
 *     keeps a list. Every user has a queue of their own, since sockets are only handed to the same
 *     user; between several users' fronts the bind decides. A lock of several slots has a queue for
 *     each number of slots that is asked for: the front waits for all of them at once, and takes
 *     the first that is free.
 *  6. The front binds the lock; while it cannot, it stays connected to it and waits for the hang-up
 *     that the kernel sends when the last descriptor of the name is closed. It also tries once a
 *     second: a stranger may close the name and keep the connection. If the hang-up comes while the
 *     name stays bound, it pauses and does not spin. Meanwhile it keeps two SUCCESSORS, the SECOND
 *     and the THIRD: the oldest live connections of the queue. Both are given a copy of the queue
 *     socket, and a link (a socket pair) to each other. A waiter that has heard the hang-up of all
 *     ahead of it is the front. So whoever of the three ends, for whatever reason and at whatever
 *     moment, the queue socket stays open and its order known: with one successor alone, a front
 *     killed in its first instant would take the queue with it. A successor that has gone or is
 *     stopped is replaced, the stopped one told so; a waiter that is stopped is passed over. A
 *     front that has no successor as it leaves gives the queue to the oldest. A successor that
 *     takes the lock past a front that does not move listens on the queue. SO_PEERCRED of the queue
 *     names the process that listened last, and only that one appoints successors. It tells those
 *     it has passed over, which join again when they resume, and it tells its successor to follow
 *     it alone.
 *  7. After every wait the bind is the only truth; everything else is only about order. If front
 *     and successors die at once, the queue socket is closed and all waiters hear it and start
 *     again, in any order. If they are stopped, nothing tells: so a waiter in line looks now and
 *     then whether the name is free, and takes it when it stays free: a successor soon if it sees
 *     that all before it are stopped, others after some seconds. Between two jobs of a line that
 *     moves the name is free as well, but not for long. A name that cannot be connected to (it does
 *     not listen, its backlog is full, policy forbids it) is tried with a growing pause. If the
 *     queue is full, of waiters or of those that have given up, a waiter waits OUTSIDE for a place
 *     in it: in connect(2), where the kernel keeps the order as well. It also looks past the front,
 *     but seldom.
 *  8. Only the same effective user is trusted with the queue. A waiter waits ALONE, on the lock's
 *     name only, if a stranger has its queue, if it may not use the queue, or if the queue is full
 *     and the kernel's socket table does not show it as its user's. A descriptor that comes is
 *     checked for what it must be. So whatever is sent to a waiter, it can lose its place in line,
 *     and nothing else.
 *
 * A waiter's state follows from what it has open (waiter_state()):
 *
 *   NOWHERE    no place yet, or lost: joins when that is due      -> FRONT, IN_LINE, OUTSIDE, ALONE
 *   OUTSIDE    the queue is full: sleeps in connect(2)             -> IN_LINE, NOWHERE
 *   IN_LINE    connected to the queue                              -> SUCCESSOR (GIVE), NOWHERE
 *   SUCCESSOR  has a copy of the queue's socket as well            -> FRONT (all ahead hung up, or
 *              are passed over), NOWHERE (DISMISS)
 *   FRONT      nobody is ahead: tries the names, appoints          -> NOWHERE (was passed over)
 *   ALONE      tries the names only, without order
 *
 * Whoever has bound a name holds the lock, from any of these but NOWHERE.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/trust.h"
#include "host/ahead.h"
#include "host/queue.h"
#include "host/reentry.h"
#include "host/slots.h"
#include "host/socket-table.h"
#include "host/socket.h"
#include "host/successors.h"
#include "host/waiter.h"

/*
 * So often in quick succession a full or silent queue is tried, or one that does not keep us,
 * before waiting alone.
 */
#define JOIN_TRIES 10

/* What a waiter needs for more slots may be more than a small stack holds (ulimit -s). */
#define FEW_SLOTS 16

static void go_alone(struct waiter *w)
{
	w->alone = true;
	w->pause = 0;
	w->look = 0;
}

/*
 * Makes a queue socket that is bound and listens. Returns it, -EADDRINUSE if there is one already,
 * or another errno.
 */
static int found_queue(struct waiter *w)
{
	const int on = 1;
	int fd = host_socket(), r;

	if (fd < 0)
		return fd;
	/* Connections inherit this from the listener: who answers is known by every message. */
	r = setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on)
		    ? -errno
		    : host_bind(w->lock, fd, &w->queue_name);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* FD is our connection into the queue, if the queue is our user's. */
static void get_into_line(struct waiter *w, int fd)
{
	w->outside = false;
	w->joined = deadline_now();
	if (!waiter_is_own_peer(fd, &w->ahead[0].pid)) {
		close(fd);
		go_alone(w);
		return;
	}
	w->ahead[0].fd = fd;
	w->look_interval = LOOK;
	w->look = deadline_now() + LOOK;
}

/* Whether the queue is our user's, by the kernel's socket table: there is no peer to ask. */
static bool is_own_queue(const struct waiter *w)
{
	struct socket_entry entry;

	return socket_table_find(&w->queue_name, 1, &entry) == 0 && trust_is_self(entry.uid);
}

/* Becomes the front of a new queue, or gets into line in the one that is there. */
static void join(struct waiter *w)
{
	int r;

	if (w->joins++ >= JOIN_TRIES) {
		go_alone(w);
		return;
	}
	w->joined = deadline_now();
	w->queue = found_queue(w);
	if (w->queue >= 0) {
		w->pause = w->look = 0;
		return;
	}
	r = w->queue == -EADDRINUSE ? host_connect_passcred(&w->queue_name) : w->queue;
	w->queue = -1;
	if (r >= 0) {
		get_into_line(w, r);
	} else if (r == -EAGAIN && is_own_queue(w)) {
		w->outside = true;
		w->look_interval = LOOK_OUTSIDE;
		w->look = deadline_now() + LOOK_OUTSIDE;
	} else if (r == -ECONNREFUSED || r == -EAGAIN) {
		/* Not listening, or full: try again later. A stranger's, or forbidden: never. */
		waiter_rest(&w->pause, &w->look);
	} else {
		go_alone(w);
	}
}

/*
 * The queue is full, of waiters or of those that have given up. We sleep in connect(2), where the
 * kernel keeps us in order as well; alone, we would overtake those in line. An interruption would
 * cost us our place, so messages come late meanwhile.
 */
static int wait_outside(struct waiter *w)
{
	int64_t due = w->lock->options->replace ? w->wait->due : DEADLINE_NEVER;
	int64_t when = deadline_earlier(deadline_earlier(w->wait->deadline, w->look), due);
	int fd = host_connect_until(&w->queue_name, when);

	if (fd >= 0) {
		get_into_line(w, fd);
	} else if (fd != -EAGAIN && fd != -EINTR) {
		w->outside = false;
		w->joins = 0;
		w->look = 0;
	}
	return 0;
}

/* What the front does for the line. */
static void lead(struct waiter *w, int64_t now, bool due)
{
	if (!successors_lead(w) && !successors_lead_again(w)) {
		ahead_lose_place(w);
		return;
	}
	if (due)
		w->look = now + LOOK;
	for (int i = SUCCESSORS - 1; due && i >= 0; i--)
		successors_dismiss_if_stopped(w, i);
	successors_appoint(w);
}

/* Does what is due. Returns 0 when the lock is ours, LOCK_RETRY, or what failed. */
static int act(struct waiter *w)
{
	int r = slots_catch(w);
	int64_t now = deadline_now();
	/* At the deadline the names are tried once more. */
	bool over = now >= w->wait->deadline, due = over || now >= w->look;

	if (r != LOCK_RETRY)
		return r;
	if (waiter_state(w) == WAITER_NOWHERE && due) {
		join(w);
		due = over || now >= w->look;
	}
	switch (waiter_state(w)) {
	case WAITER_FRONT:
	case WAITER_ALONE: r = slots_try(w, now, over); break;
	case WAITER_OUTSIDE:
	case WAITER_IN_LINE:
	case WAITER_SUCCESSOR:
		if (due)
			r = ahead_look_past(w);
		break;
	case WAITER_NOWHERE: break;
	}
	if (r != LOCK_RETRY)
		return r;
	/*
	 * The successors come after the name: a holder sees to them when its command has started.
	 */
	if (waiter_state(w) == WAITER_FRONT)
		lead(w, now, due);
	else if (w->alone)
		w->look = DEADLINE_NEVER;
	return LOCK_RETRY;
}

/* What a waiter listens to: others, and behind them the watch and the job of each slot. */
enum {
	AHEAD,
	SUCCESSOR = AHEAD + 2,
	QUEUE = SUCCESSOR + SUCCESSORS,
	SLOTS
};

static size_t most_sources(unsigned slots)
{
	return SLOTS + 2 * (size_t)slots;
}

/*
 * Puts the open ones in w->fds, behind a free entry, and in w->which their places among all:
 * poll(2) takes no more entries than the limit of descriptors, which can be as low as what we need.
 * Returns how many are open.
 */
static nfds_t find_sources(const struct waiter *w)
{
	nfds_t open = 0;

	for (unsigned i = 0; i < most_sources(w->lock->slots); i++) {
		const struct slot *slot = i < SLOTS ? NULL : &w->slots[(i - SLOTS) / 2];
		const bool is_watch = slot && (i - SLOTS) % 2 == 0;
		int fd = i < SUCCESSOR ? w->ahead[i - AHEAD].fd
			 : i < QUEUE   ? w->successors[i - SUCCESSOR].fd
			 : is_watch    ? slot->watch
			 : slot	       ? slot->job
			 : waiter_is_front(w) && w->successors[SUCCESSORS - 1].fd < 0 && !w->deaf
				 ? w->queue
				 : -1;

		if (fd < 0)
			continue;
		w->which[open] = i;
		w->fds[++open] = (struct pollfd){ .fd = fd, .events = is_watch ? 0 : POLLIN };
	}
	return open;
}

/* Sleeps until somebody says something or something is due. Returns 0 or a negative errno. */
static int listen_around(struct waiter *w)
{
	bool *const ready = w->ready;
	int64_t when = deadline_earlier(deadline_earlier(w->wait->deadline, w->wait->due),
					deadline_earlier(w->look, slots_next_try(w)));
	nfds_t open = find_sources(w);

	memset(ready, 0, most_sources(w->lock->slots) * sizeof *ready);
	if (poll(w->fds + 1, open, deadline_poll_timeout(when)) < 0)
		return errno == EINTR ? 0 : -errno;
	for (nfds_t i = 0; i < open; i++)
		ready[w->which[i]] = w->fds[1 + i].revents;
	for (unsigned i = 0; i < w->lock->slots; i++) {
		if (ready[SLOTS + 2 * i])
			slots_hear(w, i);
		else if (ready[SLOTS + 2 * i + 1])
			w->slots[i].caught = true;
	}
	/* The last first: the others move up. */
	for (int i = SUCCESSORS - 1; i >= 0; i--)
		/* A front finds out by itself whether it was passed over. */
		if (ready[SUCCESSOR + i] && w->successors[i].fd >= 0 && successors_hear(w, i) &&
		    waiter_is_in_line(w))
			ahead_lose_place(w);
	for (int i = 1; i >= 0; i--)
		if (ready[AHEAD + i] && w->ahead[i].fd >= 0)
			ahead_hear(w, i);
	return 0;
}

/*
 * While we ask the holder who it is, another slot can become free, and somebody can join the queue
 * who is to be our successor.
 */
static int attend_listening(struct waiter *w)
{
	int r;

	w->lock->heed = w->fds;
	w->lock->heeded = find_sources(w);
	r = w->wait->attend(w->wait, w->lock);
	w->lock->heed = NULL;
	w->lock->heeded = 0;
	return r;
}

/*
 * Lets the caller do what it has to do. The first time the name was in use when we tried it: we may
 * be waiting for ourselves.
 */
static int attend(struct waiter *w)
{
	if (!w->begun) {
		if (waiter_state(w) == WAITER_NOWHERE)
			return 0;
		if (host_is_reentry(w->name, w->lock->slots))
			return LOCK_NESTED;
		w->begun = true;
	} else if (deadline_now() < w->wait->due) {
		return 0;
	}
	return attend_listening(w);
}

static int wait_in_line(struct waiter *w)
{
	for (;;) {
		int r = act(w);

		if (r != LOCK_RETRY)
			return r;
		r = attend(w);
		if (r)
			return r;
		if (deadline_now() >= w->wait->deadline)
			return LOCK_TIMED_OUT;
		r = w->outside ? wait_outside(w) : listen_around(w);
		if (r) {
			w->lock->failed = "cannot wait";
			return r;
		}
	}
}

/* Leaves the line: when all that we have of it is closed, the second is the front. */
static void leave(struct waiter *w)
{
	for (int i = SUCCESSORS - 1; i >= 0; i--)
		if (w->successors[i].fd >= 0 && waiter_has_hung_up(w->successors[i].fd))
			successors_drop(w, i);
	/*
	 * A front that gives us the queue while we close our connection would believe that it has
	 * a successor. So from here on it cannot, and what it has given us before we hear.
	 */
	if (w->queue < 0 && w->ahead[0].fd >= 0 && shutdown(w->ahead[0].fd, SHUT_RD) == 0)
		ahead_hear_messages(w, 0);
	/*
	 * While somebody ahead of us lives, it appoints the successors: two that appoint would make
	 * two fronts. If nobody does, we may not have heard that yet, nor that we now lead the
	 * line.
	 */
	for (int i = 0; i < 2; i++)
		if (w->ahead[i].fd >= 0 && waiter_has_hung_up(w->ahead[i].fd))
			ahead_hear(w, i);
	/* Somebody that we have passed over may have resumed and listened on the queue since. */
	if (waiter_is_front(w) && (successors_lead(w) || successors_lead_again(w)))
		successors_appoint(w);
	ahead_leave(w);
}

void host_leave_line(struct lock *lock)
{
	struct waiter w = { .queue = lock->line.fds[0],
			    .ahead = { { -1, 0 }, { -1, 0 } },
			    .passed = { lock->line.passed[0], lock->line.passed[1] },
			    .successors = { { lock->line.fds[1], lock->line.successors[0] },
					    { lock->line.fds[2], lock->line.successors[1] } } };

	if (w.queue >= 0)
		leave(&w);
	lock->line.fds[0] = lock->line.fds[1] = lock->line.fds[2] = -1;
}

/* What a waiter has for each slot and for each source. */
static size_t room_size(unsigned slots)
{
	const size_t n = most_sources(slots);

	return slots * sizeof(struct slot) + (1 + n) * sizeof(struct pollfd) +
	       n * (sizeof(unsigned) + sizeof(bool));
}

static void take_room(struct waiter *w, void *room)
{
	const unsigned slots = w->lock->slots;

	w->slots = room;
	w->fds = (struct pollfd *)(w->slots + slots);
	w->which = (unsigned *)(w->fds + 1 + most_sources(slots));
	w->ready = (bool *)(w->which + most_sources(slots));
	for (unsigned n = 0; n < slots; n++)
		w->slots[n] = (struct slot){ .watch = -1, .job = -1 };
}

/* Waits with ROOM of room_size(). */
static int wait_with(void *room, struct lock *lock, const struct host_address *name,
		     struct lock_wait *wait)
{
	struct waiter w = { .lock = lock,
			    .name = name,
			    .wait = wait,
			    .candidate = -1,
			    .queue = -1,
			    .ahead = { { -1, 0 }, { -1, 0 } },
			    .successors = { { -1, 0 }, { -1, 0 } } };
	int r = slots_renew_candidate(&w);

	take_room(&w, room);
	slots_share_descriptors(&w);
	host_queue_address(&w.queue_name, name, geteuid(), lock->slots);
	if (r == 0)
		r = wait_in_line(&w);
	/* Rule 6: the name can be free before all else that its holder has. */
	if (r == 0)
		slots_await_end(&w, lock->slot);
	slots_unwatch(&w);
	if (r) {
		leave(&w);
		waiter_close(&w.candidate);
		return r;
	}
	lock->fd = lock->watched = w.candidate;
	if (w.queue >= 0 && waiter_is_in_line(&w))
		ahead_pass_over(&w);
	for (int i = 0; i < 2; i++) {
		waiter_close(&w.ahead[i].fd);
		lock->line.passed[i] = w.passed[i];
	}
	lock->line.fds[0] = w.queue;
	for (int i = 0; i < SUCCESSORS; i++) {
		lock->line.fds[1 + i] = w.successors[i].fd;
		lock->line.successors[i] = w.successors[i].pid;
	}
	return 0;
}

int host_wait(struct lock *lock, const struct host_address *name, struct lock_wait *wait)
{
	const size_t size = room_size(lock->slots);
	_Alignas(struct slot) char few[room_size(lock->slots > FEW_SLOTS ? 0 : lock->slots)];
	void *many;
	int r;

	if (lock->slots <= FEW_SLOTS)
		return wait_with(few, lock, name, wait);
	many = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (many == MAP_FAILED) {
		lock->failed = "cannot wait";
		return -errno;
	}
	r = wait_with(many, lock, name, wait);
	munmap(many, size);
	return r;
}
