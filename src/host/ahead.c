#include "host/ahead.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/deadline.h"
#include "base/process.h"
#include "host/messages.h"
#include "host/slots.h"
#include "host/socket.h"
#include "host/successors.h"

/* Waiters further behind look ever less often, up to this: thousands of them must cost nothing. */
#define LONGEST_LOOK (5 * NS_PER_S)
#define LONGEST_LOOK_OUTSIDE (20 * NS_PER_S)

/*
 * A name that was seen free is looked at so often, and must be free so many times in a row before
 * somebody in line takes it: counted, not timed, since on a busy machine a waiter can be kept from
 * looking for as long as all the others run.
 */
#define FREE_LOOK (NS_PER_S / 20)
#define FREE_LOOKS_STOPPED 4
#define FREE_LOOKS 50

/*
 * Between two jobs of a line that moves a name is never free for so long. Somebody else was faster,
 * out of line: it is looked at again at once, then ever less often.
 */
#define FREE_LOOKS_STUCK (FREE_LOOKS / 2)

/*
 * More in one piece nobody has to say to a successor: who goes on talks to a waiter that does other
 * things, too.
 */
#define MOST_WORDS 16

static bool all_ahead_are_stopped(const struct waiter *w)
{
	for (int i = 0; i < 2; i++)
		if (w->ahead[i].fd >= 0 && !process_is_stopped(w->ahead[i].pid))
			return false;
	return true;
}

/* --- who is ahead ----------------------------------------------------------------------------- */

static void become_front(struct waiter *w)
{
	/* From now on we are the one whom SO_PEERCRED of the queue names. */
	if (listen(w->queue, INT_MAX))
		waiter_close(&w->queue);
	w->pause = w->look = 0;
	w->seen_free = 0;
}

void ahead_leave(struct waiter *w)
{
	waiter_close(&w->queue);
	for (int i = 0; i < 2; i++) {
		waiter_close(&w->ahead[i].fd);
		waiter_close(&w->successors[i].fd);
	}
}

void ahead_lose_place(struct waiter *w)
{
	ahead_leave(w);
	slots_unwatch(w);
	w->deaf = false;
	w->passed[0] = w->passed[1] = 0;
	if (deadline_now() - w->joined > LONGEST_PAUSE)
		w->losses = 0;
	if (w->losses++ > 0) {
		waiter_rest(&w->pause, &w->look);
	} else {
		w->joins = 0;
		w->pause = w->look = 0;
	}
}

/*
 * Takes from HEARD, which ahead[I] has said, what it says, and the descriptors that belong to it.
 */
static void obey(struct waiter *w, int i, struct heard *heard)
{
	if (heard->word == GIVE && w->queue < 0 && heard->fds[0] >= 0 &&
	    host_is_listener(heard->fds[0], &w->queue_name)) {
		w->queue = heard->fds[0];
		w->ahead[0].pid = heard->sender;
		w->ahead[1] = (struct link){ heard->fds[1], heard->number };
		w->look_interval = LOOK;
		w->look = deadline_now() + LOOK;
		heard->fds[0] = heard->fds[1] = -1;
	} else if (heard->word == FOLLOW && w->queue >= 0 && heard->fds[0] >= 0) {
		waiter_close(&w->successors[0].fd);
		w->successors[0] = (struct link){ heard->fds[0], 0 };
		heard->fds[0] = -1;
	} else if (heard->word == FOLLOW) {
		w->successors[0].pid = heard->number;
	} else if (heard->word == CLOSE_UP) {
		waiter_close(&w->ahead[!i].fd);
		if (heard->fds[0] >= 0) {
			waiter_close(&w->ahead[i].fd);
			w->ahead[i].fd = heard->fds[0];
			heard->fds[0] = -1;
		}
	}
}

int ahead_hear_messages(struct waiter *w, int i)
{
	struct heard heard;
	int r = 0;

	for (int n = 0; n < MOST_WORDS && (r = host_receive_word(w->ahead[i].fd, &heard)) == 0;
	     n++) {
		obey(w, i, &heard);
		waiter_close(&heard.fds[0]);
		waiter_close(&heard.fds[1]);
		if (heard.word == DISMISS) {
			ahead_lose_place(w);
			return 0;
		}
	}
	return r;
}

void ahead_hear(struct waiter *w, int i)
{
	if (ahead_hear_messages(w, i) != -EPIPE)
		return;
	waiter_close(&w->ahead[i].fd);
	if (waiter_is_in_line(w))
		return;
	/*
	 * After a stop, we may hear at once that we were a successor and that we were passed over.
	 */
	if (w->queue < 0 || successors_have_passed_us(w)) {
		ahead_lose_place(w);
		return;
	}
	become_front(w);
	/* A stop may have come between the two. */
	if (successors_have_passed_us(w))
		ahead_lose_place(w);
}

void ahead_pass_over(struct waiter *w)
{
	become_front(w);
	for (int i = 0; i < 2; i++)
		if (w->ahead[i].fd >= 0)
			ahead_hear_messages(w, i);
	if (successors_have_passed_us(w))
		ahead_lose_place(w);
	for (int i = 0; i < 2; i++)
		if (w->ahead[i].fd >= 0)
			host_send_word(w->ahead[i].fd, DISMISS, 0, NULL, 0);
	/* A process that listens on the queue from now on has been told. */
	for (int i = 0; w->queue >= 0 && successors_lead(w) && i < 2; i++)
		w->passed[i] = w->ahead[i].fd >= 0 ? w->ahead[i].pid : 0;
	if (w->successors[0].fd >= 0)
		successors_close_up(w);
	for (int i = 0; i < 2; i++)
		waiter_close(&w->ahead[i].fd);
}

/*
 * All before us are stopped, and whoever comes behind us is as well, or waits to be given the
 * queue. If we stopped too, nobody could lead the line.
 */
static bool is_needed_as_front(const struct waiter *w)
{
	struct pollfd waiting = { .fd = w->queue, .events = POLLIN };

	return w->successors[0].fd >= 0 ? process_is_stopped(w->successors[0].pid)
					: poll(&waiting, 1, 0) > 0;
}

/* When to look next at a name that is in use, and was free WAS_FREE times in a row before. */
static int64_t next_interval(const struct waiter *w, int was_free)
{
	const int64_t longest = w->outside     ? LONGEST_LOOK_OUTSIDE
				: w->queue < 0 ? LONGEST_LOOK
					       : LOOK;

	return was_free >= FREE_LOOKS_STUCK ? FREE_LOOK
					    : deadline_earlier(w->look_interval * 2, longest);
}

int ahead_look_past(struct waiter *w)
{
	const int was_free = w->seen_free;
	const bool stopped = w->queue >= 0 && all_ahead_are_stopped(w);
	int limit = stopped ? FREE_LOOKS_STOPPED : FREE_LOOKS;
	int r;

	if (stopped && is_needed_as_front(w)) {
		ahead_pass_over(w);
		return LOCK_RETRY;
	}
	if (w->seen_free > 0 && w->seen_free < limit) {
		w->seen_free = slots_seem_free(w) ? w->seen_free + 1 : 0;
	} else {
		/* What was seen free so often, or whatever is free now. */
		r = w->seen_free > 0 ? slots_bind(w, w->slot) : slots_bind_any(w);
		if (r == 0 && w->seen_free > 0)
			return 0;
		if (r && r != -EADDRINUSE)
			return r;
		w->seen_free = r == 0;
		if (r == 0 && (r = slots_renew_candidate(w)))
			return r;
	}
	if (!w->seen_free)
		w->look_interval = next_interval(w, was_free);
	w->look = deadline_now() + (w->seen_free ? FREE_LOOK : w->look_interval);
	return LOCK_RETRY;
}
