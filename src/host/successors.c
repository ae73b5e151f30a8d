#include "host/successors.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/process.h"
#include "host/messages.h"

bool successors_lead(const struct waiter *w)
{
	struct ucred last;
	socklen_t size = sizeof last;

	return getsockopt(w->queue, SOL_SOCKET, SO_PEERCRED, &last, &size) || last.pid == getpid();
}

/* Whether one that we have passed over was the last to listen on the queue. */
static bool is_led_by_passed(const struct waiter *w)
{
	struct ucred last;
	socklen_t size = sizeof last;

	return getsockopt(w->queue, SOL_SOCKET, SO_PEERCRED, &last, &size) == 0 && last.pid &&
	       (last.pid == w->passed[0] || last.pid == w->passed[1]);
}

/*
 * Takes the oldest live connection out of the queue. Returns whether there is one. A waiter that
 * has been taken out and is not given the queue before we end has lost its place: nothing that
 * takes time is to be done between the two.
 */
static bool next_in_queue(const struct waiter *w, struct link *next)
{
	for (;;) {
		next->fd = accept4(w->queue, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (next->fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (next->fd < 0)
			return false;
		if (waiter_is_own_peer(next->fd, &next->pid))
			return true;
		waiter_close(&next->fd);
	}
}

void successors_drop(struct waiter *w, int i)
{
	waiter_close(&w->successors[i].fd);
	if (i == 0) {
		w->successors[0] = w->successors[1];
		w->successors[1].fd = -1;
	}
}

static void close_both(int ends[2])
{
	waiter_close(&ends[0]);
	waiter_close(&ends[1]);
}

/*
 * Two ends of a connection between the second and the third, on which messages carry credentials.
 * Returns 0 or a negative errno.
 */
static int make_link(int ends[2])
{
	const int on = 1;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends))
		return -errno;
	for (int i = 0; i < 2; i++)
		if (setsockopt(ends[i], SOL_SOCKET, SO_PASSCRED, &on, sizeof on)) {
			int kept = errno;

			close_both(ends);
			return -kept;
		}
	return 0;
}

void successors_dismiss_if_stopped(struct waiter *w, int i)
{
	if (w->successors[i].fd < 0 || !process_is_stopped(w->successors[i].pid))
		return;
	host_send_word(w->successors[i].fd, DISMISS, 0, NULL, 0);
	successors_drop(w, i);
	/* The stopped one keeps its end of the link open. */
	if (i == 0 && w->successors[0].fd >= 0)
		host_send_word(w->successors[0].fd, CLOSE_UP, 0, NULL, 0);
}

/*
 * Links the second, if there is one, to the third that is to be: ENDS[1] is for the third. The
 * second must have its end first: if we died between, the third would hear the hang-up of us and of
 * the link, and be a front beside the second. Returns 0 or a negative errno.
 */
static int link_second(struct waiter *w, int ends[2])
{
	int r;

	if (w->successors[0].fd < 0)
		return 0;
	r = make_link(ends);
	if (r)
		return r;
	r = host_send_word(w->successors[0].fd, FOLLOW, 0, &ends[0], 1);
	if (r == 0)
		return 0;
	close_both(ends);
	/*
	 * Only who has gone is dropped: who is dropped and lives still would be a front beside us.
	 */
	if ((r != -EPIPE && r != -ECONNRESET && r != -ENOTCONN) ||
	    !waiter_has_hung_up(w->successors[0].fd))
		return r;
	successors_drop(w, 0);
	return 0;
}

/* Appoints the oldest in the queue, if it lives. Returns whether there was anybody. */
static bool appoint_next(struct waiter *w)
{
	struct pollfd waiting = { .fd = w->queue, .events = POLLIN };
	int ends[2] = { -1, -1 }, given[2];
	struct link next;
	bool found = false, appointed = false;

	if (poll(&waiting, 1, 0) <= 0)
		return false;
	/* If there are no descriptors left, try again later: the queue stays readable. */
	w->deaf = link_second(w, ends) != 0;
	if (w->deaf)
		return false;
	given[0] = w->queue;
	given[1] = ends[1];
	/*
	 * The dead are passed over with the same link: a FOLLOW for each of them would fill the
	 * second's socket.
	 */
	while (!appointed && successors_lead(w) && (found = next_in_queue(w, &next))) {
		/*
		 * If we were passed over before we took it out, we must not decide whom it follows.
		 * If we are passed over from now on, its place is known: the successor has heard
		 * FOLLOW.
		 */
		appointed = successors_lead(w) &&
			    host_send_word(next.fd, GIVE, w->successors[0].pid, given,
					   ends[1] < 0 ? 1 : 2) == 0 &&
			    !waiter_has_hung_up(next.fd);
		if (!appointed)
			close(next.fd);
	}
	w->deaf = !found && errno != EAGAIN;
	if (appointed) {
		w->successors[ends[1] < 0 ? 0 : 1] = next;
		if (ends[1] >= 0)
			host_send_word(w->successors[0].fd, FOLLOW, next.pid, NULL, 0);
	}
	close_both(ends);
	return appointed;
}

void successors_appoint(struct waiter *w)
{
	while (w->successors[SUCCESSORS - 1].fd < 0 && appoint_next(w))
		successors_dismiss_if_stopped(w, w->successors[1].fd >= 0);
}

bool successors_hear(struct waiter *w, int i)
{
	struct heard heard;
	int r = host_receive_word(w->successors[i].fd, &heard);

	waiter_close(&heard.fds[0]);
	waiter_close(&heard.fds[1]);
	if (heard.word == DISMISS || r == -EPIPE)
		successors_drop(w, i);
	if (heard.word == DISMISS)
		w->passed[0] = w->passed[1] = 0;
	return heard.word == DISMISS;
}

bool successors_have_passed_us(struct waiter *w)
{
	for (int i = SUCCESSORS - 1; i >= 0; i--)
		if (w->successors[i].fd >= 0 && successors_hear(w, i))
			return true;
	return false;
}

bool successors_lead_again(struct waiter *w)
{
	if (successors_have_passed_us(w) || !is_led_by_passed(w) || listen(w->queue, INT_MAX))
		return false;
	return !successors_have_passed_us(w);
}

void successors_close_up(struct waiter *w)
{
	int ends[2] = { -1, -1 };
	const bool renewed = make_link(ends) == 0;

	if (host_send_word(w->successors[0].fd, CLOSE_UP, 0, &ends[1], renewed) == 0 && renewed) {
		waiter_close(&w->successors[0].fd);
		w->successors[0].fd = ends[0];
		ends[0] = -1;
	}
	close_both(ends);
}
