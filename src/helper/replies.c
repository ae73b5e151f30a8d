#include "helper/replies.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/message.h"
#include "helper/child.h"
#include "helper/packets.h"
#include "helper/session.h"

/* How long a helper may be silent before its first answer: it sends "trying" more often. */
#define ANSWER_LIMIT (30 * NS_PER_S)

/* How much later than its own deadline a helper may report that it has given up. */
#define GRACE (5 * NS_PER_S)

/* KEY with PREFIX before it. */
static const char *prefixed(const char *prefix, const char *key, char name[32])
{
	strcpy(stpcpy(name, prefix), key);
	return name;
}

/*
 * Reads the one that the packet names, with PREFIX before each key, into HOLDER; N is the place for
 * its texts.
 */
static void read_holder(struct helper_session *session, struct holder *holder, const char *prefix,
			unsigned n)
{
	struct remote_holder *remote = &session->remote[n];
	const char *packet = session->packet;
	char(*texts)[256] = session->texts[n], name[32];
	int64_t since = packet_time(packet, prefixed(prefix, "since", name), NS_PER_MS);

	*remote = (struct remote_holder){
		.host = packet_text(packet, prefixed(prefix, "host", name), texts[0],
				    sizeof *texts),
		.user = packet_text(packet, prefixed(prefix, "user", name), texts[1],
				    sizeof *texts),
		.kept = packet_number(packet, prefixed(prefix, "kept", name), 0) != 0,
	};
	remote->command =
		packet_text(packet, prefixed(prefix, "other", name), texts[2], sizeof *texts);
	remote->other = remote->command != NULL;
	if (!remote->other)
		remote->command = packet_text(packet, prefixed(prefix, "command", name), texts[2],
					      sizeof *texts);
	*holder = (struct holder){
		.pid = (pid_t)packet_number(packet, prefixed(prefix, "pid", name), 0),
		.held = -1,
		.remote = remote,
		.slot = (unsigned)packet_number(packet, prefixed(prefix, "slot", name), 0),
		.slots = (unsigned)packet_number(packet, prefixed(prefix, "slots", name), 0),
		.hidden = "nothing is known about it"
	};
	if (since >= 0) {
		holder->held = clock_now(CLOCK_REALTIME) - since;
		if (holder->held < 0)
			holder->held = 0;
	}
	/* Users of other hosts have names only: ours stands for the same name. */
	holder->uid_known = packet_number(packet, prefixed(prefix, "trusted", name), 0) != 0;
	holder->uid = geteuid();
}

void replies_read_holder(struct helper_session *session, const char *prefix)
{
	read_holder(session, &session->holder, prefix, 0);
	session->told = deadline_now();
	session->times++;
}

static void add_variable(struct helper_session *session, char **end, const char *name,
			 const char *value, size_t length)
{
	unsigned n = 0;

	while (session->entries[n])
		n++;
	if (n + 1 >= sizeof session->entries / sizeof *session->entries ||
	    strlen(name) + length + 1 >
		    (size_t)(session->variables + sizeof session->variables - *end))
		return;
	session->entries[n] = *end;
	*end = stpcpy(*end, name);
	memcpy(*end, value, length);
	*end += length;
	*(*end)++ = 0;
}

/* The packet is "held". */
static void read_held(struct lock *lock)
{
	struct helper_session *session = session_of(lock);
	char *end = session->variables;
	const char *at = NULL, *value;
	size_t length;

	lock->lease->until =
		deadline_earlier(packet_number(session->packet, "until", 0),
				 clock_now(CLOCK_BOOTTIME) + options_ttl(lock->options));
	lock->lease->confirmed = clock_now(CLOCK_BOOTTIME);
	lock->slot = (unsigned)packet_number(session->packet, "slot", 0);
	value = packet_field(session->packet, "token", &length, NULL);
	if (value)
		add_variable(session, &end, "ME_ONLY_TOKEN=", value, length);
	while ((value = packet_field(session->packet, "variable", &length, &at)))
		add_variable(session, &end, "", value, length);
	lock->variables = session->entries;
	lock->watched = session->control;
}

/* The packet says that something has failed. */
static int read_failed(struct lock *lock)
{
	struct helper_session *session = session_of(lock);

	if (!packet_sentence(session->packet, "text", session->said, sizeof session->said))
		strcpy(session->said, "the helper failed without giving a reason");
	return helper_cannot(lock, session->said, LOCK_FAILED);
}

void replies_show_note(const struct lock *lock)
{
	struct helper_session *session = session_of(lock);

	if (packet_sentence(session->packet, "text", session->note, sizeof session->note) &&
	    !lock->options->quiet)
		message_if_ready(lock->spec, session->note);
}

/* While waiting: prints that the service does not answer, or that it answers again. */
static void show_trouble(const struct lock *lock)
{
	struct helper_session *session = session_of(lock);
	const char *packet = session->packet;
	struct line line;

	if (!lock->options->verbose)
		return;
	line_begin_about(&line, lock->spec);
	if (packet_is(packet, "answers")) {
		line_add(&line, lock->engine->prefix);
		line_add(&line, " answers again");
	} else {
		if (!packet_sentence(packet, "text", session->trouble, sizeof session->trouble))
			return;
		line_add(&line, session->trouble);
		line_add(&line, "; still waiting");
	}
	line_end_if_ready(&line);
}

/* Takes in a packet before the lock is held. Returns 1 to continue, or as take() does. */
static int take_in_reply(struct lock *lock, struct lock_wait *wait)
{
	struct helper_session *session = session_of(lock);
	const char *packet = session->packet;

	if (packet_is(packet, "held")) {
		read_held(lock);
		return 0;
	}
	if (packet_is(packet, "yes") || packet_is(packet, "no") || packet_is(packet, "entry") ||
	    packet_is(packet, "end"))
		return 0;
	if (packet_is(packet, "failed") || packet_is(packet, "lost"))
		return read_failed(lock);
	if (packet_is(packet, "busy") || packet_is(packet, "nested")) {
		replies_read_holder(session, "");
		return packet_is(packet, "nested")	     ? LOCK_NESTED
		       : packet_number(packet, "timeout", 0) ? LOCK_TIMED_OUT
							     : LOCK_HELD;
	}
	if (packet_is(packet, "full")) {
		read_holder(session, &wait->waiter, "", 1);
		wait->waiters = (unsigned)packet_number(packet, "waiters", 1);
		replies_read_holder(session, "holder-");
		return LOCK_QUEUE_FULL;
	}
	if (packet_is(packet, "waiting"))
		replies_read_holder(session, "");
	else if (packet_is(packet, "note"))
		replies_show_note(lock);
	else if (packet_is(packet, "trouble") || packet_is(packet, "answers"))
		show_trouble(lock);
	return 1;
}

/* Waits for an answer. */
int replies_hear(struct lock *lock, struct lock_wait *wait)
{
	struct helper_session *session = session_of(lock);
	int64_t limit = deadline_in(ANSWER_LIMIT);
	bool waiting = false;

	for (;;) {
		struct pollfd control = { .fd = session->control, .events = POLLIN };
		int r;

		if (waiting && wait->attend && deadline_now() >= wait->due &&
		    (r = wait->attend(wait, lock)))
			return r;
		if (deadline_now() >= limit) {
			child_end(session);
			return waiting ? LOCK_TIMED_OUT
				       : helper_cannot(lock, "the helper does not answer",
						       LOCK_FAILED);
		}
		if (poll(&control, 1,
			 deadline_poll_timeout(waiting ? deadline_earlier(limit, wait->due)
						       : limit)) <= 0)
			continue;
		r = packet_receive(session->control, session->packet);
		if (r == -EAGAIN)
			continue;
		if (r <= 0)
			return helper_cannot(lock, child_last_words(session), LOCK_FAILED);
		if (!waiting)
			limit = deadline_in(ANSWER_LIMIT);
		r = take_in_reply(lock, wait);
		if (r <= 0)
			return r;
		if (!waiting && packet_is(session->packet, "waiting")) {
			waiting = true;
			limit = wait->deadline > DEADLINE_NEVER - GRACE || wait->deadline == 0
					? DEADLINE_NEVER
					: wait->deadline + GRACE;
			r = wait->attend ? wait->attend(wait, lock) : 0;
			if (r)
				return r;
		}
	}
}
