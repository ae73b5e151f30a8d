/*
 * The engine for locks that a helper keeps (helper/PROTOCOL.md): a program that talks to a service
 * on a network, and to me-only over a socket. Holding such a lock means having the writing end of a
 * pipe, which the command inherits: the helper gives the lock back when no process has it any more.
 * The helper is believed in everything but one: that the lock may be kept. When its time is over,
 * it is lost, whatever the helper says (run/guard.c).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/message.h"
#include "base/number.h"
#include "base/process.h"
#include "helper/cgroup.h"
#include "helper/child.h"
#include "helper/engine.h"
#include "helper/packets.h"
#include "helper/replies.h"
#include "helper/session.h"
#include "trace.h"

#define MOST_PACKETS 1000

/* How long we wait until others can have the lock. Without an answer, it lapses by itself. */
#define RELEASE_LIMIT (5 * NS_PER_S)

/* How often we check whether the time is over: poll(2) does not count time asleep. */
#define LOOK_AGAIN (200 * NS_PER_MS)

/*
 * Without /proc we could neither find the command's descendants nor tell whether we run under this
 * very lock.
 */
static int check_proc(struct lock *lock)
{
	struct process process;

	return process_read(getpid(), &process)
		       ? helper_cannot(
				 lock,
				 "a fleet lock needs /proc, which cannot be read; nothing was run",
				 LOCK_FAILED)
		       : 0;
}

static int helper_take(struct lock *lock, struct lock_wait *wait)
{
	struct child_start start;
	int r = check_proc(lock);

	if (r)
		return r;
	child_prepare_take(&start, lock, wait);
	r = child_begin(lock, &start, true);
	if (r)
		return r;
	/* Looking takes time, so it is done while the helper works. */
	cgroup_find(&session_of(lock)->cgroup);
	lock->lease->cgroup = &session_of(lock)->cgroup;
	r = replies_hear(lock, wait);
	if (r) {
		/* It sees the end of the socket, and leaves the line. */
		close(session_of(lock)->control);
		close(lock->fd);
		session_of(lock)->control = lock->fd = lock->watched = -1;
	}
	return r;
}

/* --- holding ---------------------------------------------------------------------------------- */

/*
 * The command dies with us: nobody would end it when the lock is lost. That does not reach what
 * sudo runs, so the helper has a pidfd of the command.
 */
static int helper_claim(struct lock *lock)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return -errno;
	return getppid() == session_of(lock)->parent ? 0 : -ESRCH;
}

static void helper_started(struct lock *lock, pid_t job, const char *cgroup)
{
	char words[80 + PATH_MAX], *end = number_format((uint64_t)job, stpcpy(words, "job\npid "));
	int fd = process_pidfd(job);

	/* Then the helper need not wait for us: the command's end releases the lock. */
	if (fd >= 0 && !lock->lease->unused) {
		close(lock->fd);
		lock->fd = -1;
		end = stpcpy(end, "\nalone 1");
	}
	if (*cgroup)
		strcpy(stpcpy(end, "\ncgroup "), cgroup);
	packet_send(session_of(lock)->control, words, fd);
	if (fd >= 0)
		close(fd);
}

/* Before the command can hear of it, so that its end does not release the lock. */
static void helper_ending(struct lock *lock)
{
	packet_send(session_of(lock)->control, "ending", -1);
}

/* Others can have it, or take care of the rest. It was ours until now. */
static void take_release(struct lock *lock)
{
	lock->lease->until = DEADLINE_NEVER;
	session_of(lock)->ended = true;
}

/* Takes in what the helper reports while the lock is held. */
static void take_in(struct lock *lock)
{
	struct helper_session *session = session_of(lock);
	const char *packet = session->packet;

	if (packet_is(packet, "until")) {
		int64_t until = packet_number(packet, "until", 0);

		/*
		 * A time that has passed is final: if everything was frozen, the helper may resume
		 * first. If only we were stopped, what it sent meanwhile was in time.
		 */
		if (until > lock->lease->until &&
		    packet_number(packet, "at", DEADLINE_NEVER) < lock->lease->until &&
		    until <= clock_now(CLOCK_BOOTTIME) + options_ttl(lock->options)) {
			lock->lease->until = until;
			lock->lease->confirmed = packet_number(packet, "at", 0);
			lock->lease->trouble = NULL;
		}
	} else if (packet_is(packet, "trouble")) {
		lock->lease->trouble =
			packet_sentence(packet, "text", session->trouble, sizeof session->trouble);
		if (lock->lease->trouble && lock->options->verbose)
			trace(lock, lock->lease->trouble);
	} else if (packet_is(packet, "lost")) {
		lock->lease->lost =
			packet_sentence(packet, "text", session->said, sizeof session->said);
		if (!lock->lease->lost)
			lock->lease->lost = "it is no longer held here";
		/* The earliest time at which another may hold it. */
		lock->lease->until = deadline_earlier(
			lock->lease->until, packet_number(packet, "until", DEADLINE_NEVER));
	} else if (packet_is(packet, "note")) {
		replies_show_note(lock);
	} else if (packet_is(packet, "released") || packet_is(packet, "kept") ||
		   packet_is(packet, "unreleased")) {
		/* Others wait for nothing: this is not hidden by --quiet. */
		if (packet_is(packet, "unreleased") &&
		    packet_sentence(packet, "text", session->note, sizeof session->note))
			message_if_ready(lock->spec, session->note);
		take_release(lock);
	}
}

/*
 * While we were stopped, messages may have been dropped for want of room, so the timer has the
 * deadline as well, or that the lock was released. The helper does not set it again once it has
 * expired.
 */
static void read_timer(struct lock *lock)
{
	const int64_t now = clock_now(CLOCK_BOOTTIME), ttl = options_ttl(lock->options);
	struct itimerspec at;
	int64_t left;

	if (session_of(lock)->timer <= 0 || timerfd_gettime(session_of(lock)->timer, &at))
		return;
	left = (int64_t)at.it_value.tv_sec * NS_PER_S + at.it_value.tv_nsec;
	if (left > TIMER_RELEASED / 2)
		take_release(lock);
	if (left == 0 || left > ttl || now + left <= lock->lease->until)
		return;
	lock->lease->until = now + left;
	/* It was confirmed no earlier than this, perhaps later. */
	if (lock->lease->until - ttl > lock->lease->confirmed)
		lock->lease->confirmed = lock->lease->until - ttl;
}

static void helper_abandon(struct lock *lock)
{
	session_of(lock)->abandoned = true;
	if (!session_of(lock)->ended && child_is_there(session_of(lock)))
		kill(session_of(lock)->helper, SIGKILL);
}

static void helper_serve(struct lock *lock, pid_t job, int64_t since)
{
	struct helper_session *session = session_of(lock);

	(void)job, (void)since;
	/* A helper that never stops talking must not keep the guard from looking. */
	for (int n = 0; n < MOST_PACKETS && !session->ended; n++) {
		int r = packet_receive(session->control, session->packet);

		if (r == -EAGAIN)
			break;
		if (r > 0) {
			take_in(lock);
			continue;
		}
		/* There may have been no room for its last word. */
		read_timer(lock);
		if (session->ended)
			break;
		session->ended = true;
		/* After the command's end, only the release of the lock is unconfirmed. */
		if (!lock->lease->lost && !session->releasing)
			lock->lease->lost = child_last_words(session);
	}
	if (!session->ended && !lock->lease->lost)
		read_timer(lock);
	if (session->ended)
		lock->watched = -1;
}

/* The helper first reports the loss, then looks for what runs: so nothing starts unseen. */
static int helper_confirm(struct lock *lock)
{
	helper_serve(lock, 0, 0);
	return lock->lease->lost || clock_now(CLOCK_BOOTTIME) >= lock->lease->until ? LOCK_LOST : 0;
}

/*
 * Waits until others can have it: a caller that starts us again at once must not meet our own lock.
 */
static void helper_release(struct lock *lock)
{
	struct helper_session *session = session_of(lock);
	int64_t limit = deadline_in(RELEASE_LIMIT);

	if (lock->fd >= 0)
		close(lock->fd);
	session->releasing = true;
	packet_send(session->control, lock->lease->unused ? "done\nunused 1" : "done", -1);
	lock->fd = lock->watched = -1;
	while (!session->ended && !lock->lease->lost &&
	       clock_now(CLOCK_BOOTTIME) < lock->lease->until && deadline_now() < limit) {
		struct pollfd control = { .fd = session->control, .events = POLLIN };
		int64_t left = deadline_earlier(lock->lease->until - clock_now(CLOCK_BOOTTIME),
						LOOK_AGAIN);

		if (poll(&control, 1,
			 deadline_poll_timeout(deadline_earlier(limit, deadline_in(left)))) > 0)
			helper_serve(lock, 0, 0);
	}
	if (!session->abandoned && !lock->lease->lost && lock->lease->until != DEADLINE_NEVER)
		message_if_ready(
			lock->spec,
			"cannot confirm that the lock was released: the helper does not answer");
}

/* --- asking ----------------------------------------------------------------------------------- */

/*
 * Waits for the answer to a question. Returns 0, or LOCK_FAILED with lock->failed: how a take can
 * end is no answer, and says nothing in lock->failed.
 */
static int hear_told(struct lock *lock, struct lock_wait *wait)
{
	int r = replies_hear(lock, wait);

	if (r == 0 || r == LOCK_FAILED)
		return r;
	return helper_cannot(lock, "the helper gave no valid answer", LOCK_FAILED);
}

static int helper_is_ours(struct lock *lock)
{
	struct lock_wait wait = { .due = DEADLINE_NEVER };
	struct child_start start;
	int r = check_proc(lock);

	if (r)
		return r;
	child_prepare(&start, lock, "held");
	r = child_begin(lock, &start, false);
	if (r)
		return r;
	r = hear_told(lock, &wait);
	child_end(session_of(lock));
	return r == 0 ? packet_is(session_of(lock)->packet, "yes") : r;
}

/* The packet is "entry". */
static void read_told(struct helper_session *session, struct lock_told *told,
		      char texts[3][PACKET_SIZE])
{
	*told = (struct lock_told){
		.name = packet_text(session->packet, "name", texts[0], PACKET_SIZE),
		.state = packet_text(session->packet, "state", texts[1], PACKET_SIZE),
		.mode = packet_text(session->packet, "mode", texts[2], PACKET_SIZE),
		.slots = (unsigned)packet_number(session->packet, "slots", 1),
		.token = (uint64_t)packet_number(session->packet, "token", 0),
		.since = packet_time(session->packet, "since", NS_PER_MS),
		.left = packet_time(session->packet, "left", NS_PER_S),
	};
	replies_read_holder(session, "");
	told->holder = session->holder;
}

int helper_ask(struct lock *lock, const char *task, const char *program,
	       void (*tell)(void *argument, const struct lock_told *told), void *argument)
{
	static char texts[3][PACKET_SIZE];
	struct lock_wait wait = { .due = DEADLINE_NEVER };
	struct lock_told told;
	struct child_start start;
	int r;

	child_prepare(&start, lock, task);
	start.program = program;
	r = child_begin(lock, &start, false);
	while (r == 0 && (r = hear_told(lock, &wait)) == 0 &&
	       packet_is(session_of(lock)->packet, "entry")) {
		read_told(session_of(lock), &told, texts);
		tell(argument, &told);
	}
	if (session_of(lock))
		child_end(session_of(lock));
	return r;
}

static int helper_identify(const struct lock *lock, struct lock_identity *identity)
{
	const struct helper_session *session = session_of(lock);

	*identity = (struct lock_identity){ .number = session->times,
					    .uid = session->holder.uid,
					    .uid_known = session->holder.uid_known };
	return 0;
}

static void helper_find_holder(const struct lock *lock, struct holder *holder, bool thorough)
{
	const struct helper_session *session = session_of(lock);

	(void)thorough;
	*holder = session->holder;
	/* It was as old as that when the helper told of it. */
	if (holder->held >= 0)
		holder->held += deadline_now() - session->told;
}

static const struct lock_leased leased = { .confirm = helper_confirm,
					   .started = helper_started,
					   .ending = helper_ending,
					   .abandon = helper_abandon };

/* A row of the table that the build generates: kinds differ only in what they support. */
#define ROW(kind, library, ...) \
	const struct lock_engine lock_##kind = { \
		.prefix = #kind, \
		.missing = "the helper is missing; it is built with " library, \
		.leased = &leased, \
		.take = helper_take, \
		.claim = helper_claim, \
		.serve = helper_serve, \
		.release = helper_release, \
		.is_ours = helper_is_ours, \
		.identify = helper_identify, \
		.find_holder = helper_find_holder, \
		__VA_ARGS__ \
	};
KIND_ROWS(ROW)
