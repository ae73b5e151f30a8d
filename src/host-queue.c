/*
 * Waiting for a host lock: first come, first served.
 *
 *  5. The queue of a lock is a second name (host-address.h): a listening socket that belongs to the FRONT, the waiter who is
 *     next. Who comes goes to the queue first, before trying the lock, so that nobody is overtaken. Who finds the queue unbound
 *     binds it and is the front; all others connect to it and stay in its backlog, which the kernel keeps in order. Nobody keeps
 *     a list. Every user has a queue of his own, since sockets are only handed to the same user; between several users' fronts
 *     the bind decides.
 *  6. The front binds the lock; while it cannot, it stays connected to it and waits for the hang-up that the kernel sends when
 *     the last descriptor of the name is closed. It also tries once a second: a stranger may close the name and keep the
 *     connection. If the hang-up comes while the name stays bound, it pauses and does not spin. Meanwhile it keeps a SECOND: the
 *     oldest live connection of the queue, asked "?" and, on its "!", given a copy of the queue socket with "=". Who has gone,
 *     is stopped or does not answer is passed over. When the front ends, for whatever reason, its end of that connection closes,
 *     and the hang-up makes the second the front. A front that has no second as it leaves gives the copy unasked.
 *  7. After every wait the bind is the only truth; everything else is only about order. If front and second die at once, the
 *     queue socket is closed and all waiters hear it and start again, in any order. If they are stopped, nothing tells: so a
 *     waiter in line looks now and then whether the name is free, and takes it when it stays free: the second at once if it sees
 *     that the front is stopped, others after some seconds. Between two jobs of a line that moves the name is free as well, but
 *     not for long. A name that cannot be connected to (it does not listen, its backlog is full, policy forbids it) is tried with
 *     a growing pause.
 *  8. Only the same effective user is trusted with the queue. A waiter that finds its queue taken by a stranger, full, or
 *     forbidden waits ALONE: on the lock's name only. A descriptor that comes is checked for what it must be. So whatever is sent
 *     to a waiter, it can lose its place in line, and nothing else.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "deadline.h"
#include "lock-host.h"
#include "process.h"

/* The front's look at the name, and the second's at a front that does not move. */
#define LOOK (1 * NS_PER_S)

/* Waiters further behind look ever less often, up to this: thousands of them must cost nothing. */
#define LONGEST_LOOK (5 * NS_PER_S)

/* A name that was seen free is looked at so often, and must stay free for so long before somebody in line takes it. */
#define FREE_LOOK (NS_PER_S / 20)
#define FREE_LIMIT_STOPPED (NS_PER_S / 5)
#define FREE_LIMIT (5 * NS_PER_S / 2)

/* The growing pause where no hang-up can be waited for. */
#define SHORTEST_PAUSE (1 * NS_PER_MS)
#define LONGEST_PAUSE (NS_PER_S / 4)

/* A waiter that was asked to be the second: when it is looked at again whether it is stopped, and when it is passed over. */
#define ANSWER_CHECK (10 * NS_PER_MS)
#define ANSWER_LIMIT (5 * NS_PER_S)
#define ANSWER_LIMIT_UNSEEN (NS_PER_S / 2)

/* So often a full or silent queue is tried before waiting alone. */
#define JOIN_TRIES 8

enum word { WORD_NONE = 0, ASK = '?', ANSWER = '!', GIVE = '=' };

struct waiter {
	struct lock *lock;
	const struct host_address *name;
	struct host_address queue_name;
	int64_t deadline;
	int candidate;		/* the socket that is to be bound to the name */
	int watch;		/* connection to the name; hang-up: it may be free */
	int64_t watched_since;
	int queue;		/* the queue socket: we are the front, or the second */
	int ahead;		/* our connection into the queue; hang-up: it is our turn, or the queue is gone */
	int behind;		/* the connection of whom we make the second */
	pid_t behind_pid;
	bool behind_has_copy;
	int64_t behind_asked, behind_check;
	bool alone;
	int joins;		/* tries to join the queue so far */
	int64_t pause;		/* the last one; 0: the next is not needed or the shortest */
	int64_t look;		/* when to try the name, or to join the queue, at the latest */
	int64_t look_interval;
	int64_t free_since;	/* since when the name was seen free; 0: it was in use */
	pid_t front;		/* who made us the second */
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static bool is_front(const struct waiter *w)
{
	return w->queue >= 0 && w->ahead < 0;
}

/* --- messages between front and second --------------------------------------------------------------------------------- */

/* Sends WORD, with a copy of the descriptor COPY unless that is -1. Returns 0 or a negative errno. */
static int send_word(int fd, enum word word, int copy)
{
	char byte = (char)word;
	struct iovec part = { &byte, 1 };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof copy)];
	} control = { .align = { .cmsg_len = CMSG_LEN(sizeof copy), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };

	if (copy >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof control;
		memcpy(CMSG_DATA(&control.align), &copy, sizeof copy);
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Keeps the first of the descriptors in PART, if COPY has none yet, and closes all others. */
static void take_descriptors(const struct cmsghdr *part, int *copy)
{
	const unsigned char *at = CMSG_DATA(part), *end = (const unsigned char *)part + part->cmsg_len;

	for (; at + sizeof(int) <= end; at += sizeof(int)) {
		int fd;

		memcpy(&fd, at, sizeof fd);
		if (*copy < 0)
			*copy = fd;
		else
			close(fd);
	}
}

struct heard {
	enum word word;		/* WORD_NONE if it was not sent by this user or is none of ours */
	int copy;		/* the descriptor that came with it, which is now the caller's, or -1 */
	pid_t sender;
};

/* Reads one message. Returns 0; -EAGAIN: there is none; -EPIPE: the other end has gone. */
static int receive_word(int fd, struct heard *heard)
{
	char byte = 0;
	struct iovec part = { &byte, 1 };
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	bool own = false;
	ssize_t n;

	/* The other end closed without having read our last word: that is told first, once, and then what it had sent before. */
	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == ECONNRESET);
	*heard = (struct heard){ .copy = -1 };
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		struct ucred sender;

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			take_descriptors(c, &heard->copy);
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof sender)) {
			memcpy(&sender, CMSG_DATA(c), sizeof sender);
			own = holder_is_self(sender.uid);
			heard->sender = sender.pid;
		}
	}
	/* The end of the connection and an empty message look alike; neither is of use. */
	if (n == 0 || !own || (msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
		close_fd(&heard->copy);
		return n == 0 ? -EPIPE : 0;
	}
	heard->word = (enum word)byte;
	return 0;
}

/* Whether the process at the other end of FD is this user's; its pid into PID unless that is NULL. */
static bool is_own_peer(int fd, pid_t *pid)
{
	struct ucred peer;
	socklen_t size = sizeof peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size))
		return false;
	if (pid)
		*pid = peer.pid;
	return holder_is_self(peer.uid);
}

static bool has_hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) > 0;
}

/* --- the second ---------------------------------------------------------------------------------------------------------- */

/* Takes the oldest live connection out of the queue. Returns whether there is one. */
static bool accept_behind(struct waiter *w)
{
	for (;;) {
		w->behind = accept4(w->queue, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (w->behind < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (w->behind < 0)
			return false;
		w->behind_has_copy = false;
		if (!has_hung_up(w->behind) && is_own_peer(w->behind, &w->behind_pid) && !process_is_stopped(w->behind_pid))
			return true;
		close_fd(&w->behind);
	}
}

/* Asks the oldest waiter whether it is alive. */
static void ask_behind(struct waiter *w)
{
	while (accept_behind(w)) {
		if (send_word(w->behind, ASK, -1) == 0) {
			w->behind_asked = deadline_now();
			w->behind_check = w->behind_asked + ANSWER_CHECK;
			return;
		}
		close_fd(&w->behind);
	}
}

static void give_copy(struct waiter *w)
{
	if (send_word(w->behind, GIVE, w->queue) == 0)
		w->behind_has_copy = true;
	else
		close_fd(&w->behind);
}

/* Something came from the second, or it hung up. */
static void hear_behind(struct waiter *w)
{
	struct heard heard;
	int r = receive_word(w->behind, &heard);

	close_fd(&heard.copy);
	if (r == -EPIPE)
		close_fd(&w->behind);
	else if (r == 0 && heard.word == ANSWER && !w->behind_has_copy)
		give_copy(w);
}

/* The second was asked a while ago and has not answered: who is stopped is passed over, who is only slow is not. */
static void check_behind(struct waiter *w)
{
	struct process process;
	int64_t now = deadline_now(), waited = now - w->behind_asked;
	bool seen = process_read(w->behind_pid, &process) == 0;

	if (waited >= ANSWER_LIMIT || (!seen && waited >= ANSWER_LIMIT_UNSEEN) || (seen && process_is_stopped(w->behind_pid)))
		close_fd(&w->behind);
	else
		w->behind_check = now + ANSWER_CHECK + waited / 2;
}

/* --- joining the queue ----------------------------------------------------------------------------------------------------- */

static void rest(struct waiter *w)
{
	w->pause = w->pause ? w->pause * 2 : SHORTEST_PAUSE;
	if (w->pause > LONGEST_PAUSE)
		w->pause = LONGEST_PAUSE;
	w->look = deadline_now() + w->pause;
}

static void go_alone(struct waiter *w)
{
	w->alone = true;
	w->pause = 0;
	w->look = 0;
}

/* Makes a queue socket that is bound and listens. Returns it, -EADDRINUSE if there is one already, or another errno. */
static int found_queue(struct waiter *w)
{
	const int on = 1;
	int fd = host_socket(), r;

	if (fd < 0)
		return fd;
	/* Connections inherit this from the listener: who answers is known by every message. */
	r = setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) ? -errno : host_bind(w->lock, fd, &w->queue_name);
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

/* Becomes the front of a new queue, or gets into line in the one that is there. */
static void join(struct waiter *w)
{
	int r;

	w->joins++;
	w->queue = found_queue(w);
	if (w->queue >= 0) {
		w->pause = w->look = 0;
		w->joins = 0;
		return;
	}
	r = w->queue == -EADDRINUSE ? host_connect_passcred(&w->queue_name) : w->queue;
	w->queue = -1;
	if (r >= 0 && is_own_peer(r, NULL)) {
		w->ahead = r;
		w->pause = 0;
		w->joins = 0;
		w->look_interval = LOOK;
		w->look = deadline_now() + LOOK;
		return;
	}
	/* Between bind and listen, as it ends, or full: again after a while. A stranger's, or forbidden: never. */
	if ((r == -ECONNREFUSED || r == -EAGAIN) && w->joins < JOIN_TRIES) {
		rest(w);
		return;
	}
	if (r >= 0)
		close(r);
	go_alone(w);
}

/* --- the name -------------------------------------------------------------------------------------------------------------- */

/* A fresh socket for the name. Returns 0 or a negative errno. */
static int renew_candidate(struct waiter *w)
{
	close_fd(&w->candidate);
	w->candidate = host_socket();
	if (w->candidate >= 0)
		return 0;
	w->lock->failed = "cannot make a socket";
	return w->candidate;
}

static int bind_name(struct waiter *w)
{
	return host_bind(w->lock, w->candidate, w->name);
}

/*
 * Connects to the name, so that the hang-up tells when it is free; where that cannot be, sets a time to try again.
 * Returns 0 or a negative errno.
 */
static int watch_name(struct waiter *w)
{
	int fd = host_connect(w->name);

	if (fd < 0) {
		rest(w);
		return fd;
	}
	w->watch = fd;
	w->watched_since = deadline_now();
	w->look = w->watched_since + LOOK;
	return 0;
}

/* The name may be free. If the hang-ups come fast while it stays bound, the next connection waits for a pause. */
static void hear_name(struct waiter *w)
{
	close_fd(&w->watch);
	if (deadline_now() - w->watched_since > LONGEST_PAUSE)
		w->pause = 0;
	w->look = 0;
}

/*
 * The front, or who waits alone, tries the name; while it is in use, arranges to be woken up.
 * Returns 0 when it is ours, -EAGAIN, or what failed.
 */
static int try_name(struct waiter *w)
{
	/* Again when nobody listened there: it has become free, or is only being looked at. */
	for (int tries = 0; tries < 4; tries++) {
		int r = bind_name(w);

		if (r != -EADDRINUSE)
			return r;
		if (w->watch >= 0) {
			w->look = deadline_now() + LOOK;
			break;
		}
		if (w->pause && w->look == 0) {
			rest(w);	/* hung up on just now, and it is not the first time: come here again after a pause */
			break;
		}
		if (watch_name(w) != -ECONNREFUSED)
			break;
	}
	if (w->watch >= 0 && !w->pause)
		w->pause = SHORTEST_PAUSE / 2;
	return -EAGAIN;
}

/* Whether nobody has the name, without taking it. */
static bool name_is_free(const struct waiter *w)
{
	int fd = host_connect(w->name);

	if (fd >= 0)
		close(fd);
	return fd == -ECONNREFUSED;
}

/*
 * Somebody in line looks whether the front takes the name when it is free. Binding tells that at no cost as long as it is in
 * use; once it was seen free, connecting tells without being in the front's way.
 * Returns 0 when the name is ours, -EAGAIN, or what failed.
 */
static int look_past_front(struct waiter *w)
{
	int64_t now = deadline_now(), limit = w->queue >= 0 && process_is_stopped(w->front) ? FREE_LIMIT_STOPPED : FREE_LIMIT;
	int r;

	if (w->free_since && !name_is_free(w))
		w->free_since = 0;
	else if (!w->free_since || now - w->free_since >= limit) {
		r = bind_name(w);
		if (r == 0 && w->free_since)
			return 0;
		if (r && r != -EADDRINUSE)
			return r;
		w->free_since = r == 0 ? now : 0;
		if (r == 0 && (r = renew_candidate(w)))
			return r;
	}
	if (!w->free_since && w->queue < 0)
		w->look_interval = earlier(w->look_interval * 2, LONGEST_LOOK);
	w->look = now + (w->free_since ? FREE_LOOK : w->look_interval);
	return -EAGAIN;
}

/* --- who is ahead ------------------------------------------------------------------------------------------------------------ */

static void become_front(struct waiter *w)
{
	close_fd(&w->ahead);
	/* From now on we are the one whom SO_PEERCRED of the queue names. */
	if (listen(w->queue, INT_MAX))
		close_fd(&w->queue);
	w->pause = w->look = 0;
	w->free_since = 0;
}

/* The front said something, or has gone: then we are the front, or there is no queue any more. */
static void hear_ahead(struct waiter *w)
{
	struct heard heard;
	int r;

	while ((r = receive_word(w->ahead, &heard)) == 0) {
		if (heard.word == ASK)
			send_word(w->ahead, ANSWER, -1);
		if (heard.word == GIVE && w->queue < 0 && heard.copy >= 0 && host_is_listener(heard.copy, &w->queue_name)) {
			w->queue = heard.copy;
			w->front = heard.sender;
			w->look_interval = LOOK;
			w->look = deadline_now() + LOOK;
		} else {
			close_fd(&heard.copy);
		}
	}
	if (r == -EAGAIN)
		return;
	if (w->queue >= 0) {
		become_front(w);
		return;
	}
	close_fd(&w->ahead);
	w->look = 0;
}

/* --- the loop ---------------------------------------------------------------------------------------------------------------- */

/* Does what is due. Returns 0 when the lock is ours, -EAGAIN, or what failed. */
static int act(struct waiter *w)
{
	/* At the deadline the name is tried once more. */
	bool due = deadline_now() >= earlier(w->look, w->deadline);

	if (w->behind >= 0 && !w->behind_has_copy && deadline_now() >= w->behind_check)
		check_behind(w);
	if (w->queue < 0 && w->ahead < 0 && !w->alone && due) {
		join(w);
		due = deadline_now() >= earlier(w->look, w->deadline);
	}
	if (is_front(w) && w->behind < 0)
		ask_behind(w);
	if (!due)
		return -EAGAIN;
	if (is_front(w) || w->alone)
		return try_name(w);
	return w->ahead >= 0 ? look_past_front(w) : -EAGAIN;
}

/* Sleeps until somebody says something or something is due. Returns 0 or a negative errno. */
static int listen_around(struct waiter *w)
{
	struct pollfd fds[] = {
		{ .fd = w->watch },
		{ .fd = w->ahead, .events = POLLIN },
		{ .fd = w->behind, .events = POLLIN },
		{ .fd = is_front(w) && w->behind < 0 ? w->queue : -1, .events = POLLIN },
	};
	int64_t until = earlier(w->deadline, w->look);

	if (w->behind >= 0 && !w->behind_has_copy)
		until = earlier(until, w->behind_check);
	if (poll(fds, sizeof fds / sizeof *fds, deadline_poll_timeout(until)) < 0)
		return errno == EINTR ? 0 : -errno;
	if (fds[0].revents)
		hear_name(w);
	if (fds[1].revents)
		hear_ahead(w);
	if (fds[2].revents)
		hear_behind(w);
	return 0;
}

/* The name was in use when the first try was made: now the user is told, unless we are waiting for ourselves. */
static int begin_wait(struct waiter *w, lock_wait_begins *begins, const struct options *options)
{
	if (host_is_reentry(w->name))
		return -EDEADLK;
	begins(w->lock, options);
	return 0;
}

static int wait_in_line(struct waiter *w, lock_wait_begins *begins, const struct options *options)
{
	bool begun = false;

	for (;;) {
		int r = act(w);

		if (r != -EAGAIN)
			return r;
		if (!begun && (is_front(w) || w->ahead >= 0 || w->alone)) {
			begun = true;
			r = begin_wait(w, begins, options);
			if (r)
				return r;
		}
		if (deadline_now() >= w->deadline)
			return -ETIMEDOUT;
		r = listen_around(w);
		if (r) {
			w->lock->failed = "cannot wait";
			return r;
		}
	}
}

/* Leaves the line so that the next one comes to the front: the second, or whoever is the oldest in the queue. */
static void leave(struct waiter *w)
{
	if (w->queue >= 0) {
		while ((w->behind >= 0 && !has_hung_up(w->behind)) || (close_fd(&w->behind), accept_behind(w))) {
			if (!w->behind_has_copy)
				give_copy(w);
			if (w->behind >= 0 && w->behind_has_copy)
				break;
		}
	}
	close_fd(&w->queue);
	close_fd(&w->behind);
}

void host_leave_line(struct lock *lock)
{
	/* What had no copy when the lock was taken has been given one then. */
	struct waiter w = { .queue = lock->line[0], .behind = lock->line[1], .behind_has_copy = true };

	leave(&w);
	lock->line[0] = lock->line[1] = -1;
}

int host_wait(struct lock *lock, const struct host_address *address, int64_t deadline, lock_wait_begins *begins,
	      const struct options *options)
{
	struct waiter w = { .lock = lock, .name = address, .deadline = deadline, .candidate = -1, .watch = -1,
			    .queue = -1, .ahead = -1, .behind = -1 };
	int r = renew_candidate(&w);

	host_address_suffixed(&w.queue_name, address, "queue", geteuid());
	if (r == 0)
		r = wait_in_line(&w, begins, options);
	close_fd(&w.watch);
	close_fd(&w.ahead);
	if (r == 0) {
		if (w.behind >= 0 && !w.behind_has_copy)
			give_copy(&w);
		lock->fd = lock->watched = w.candidate;
		lock->line[0] = w.queue;
		lock->line[1] = w.behind;
		return 0;
	}
	leave(&w);
	close_fd(&w.candidate);
	return r;
}
