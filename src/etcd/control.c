/* me-only at the other end of the socket, and its command, which is ended from here, too. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/process.h"
#include "etcd/say.h"
#include "etcd/session.h"

/* While there is no answer yet, me-only is told now and then that there will be one. */
#define TRYING_AFTER (3 * NS_PER_S)

/* How soon those are looked for again that have to end, and how soon when they do not. */
#define LOOK_AGAIN (20 * NS_PER_MS)
#define LOOK_SELDOM (1 * NS_PER_S)

/* Takes the command's pidfd out of MESSAGE. */
static void take_job(struct session *session, struct msghdr *message, const char *text)
{
	const char *cgroup = strstr(text, "\ncgroup "), *pid = strstr(text, "\npid ");
	struct process process;
	struct cmsghdr *control = CMSG_FIRSTHDR(message);
	int null;

	if (session->control.started)
		return;
	session->control.started = true;
	if (control && control->cmsg_type == SCM_RIGHTS) {
		memcpy(&session->control.job, CMSG_DATA(control), sizeof session->control.job);
		session->client.fds[session->client.n_fds++] = (struct curl_waitfd){ .fd = session->control.job, .events = CURL_WAIT_POLLIN };
	}
	/* A process older than the command is not its descendant. */
	if (pid && process_read((pid_t)strtol(pid + strlen("\npid "), NULL, 10), &process) == 0)
		session->control.descendants.since = process.start;
	if (cgroup)
		(void)snprintf(session->control.cgroup.path, sizeof session->control.cgroup.path, "%s", cgroup + strlen("\ncgroup "));
	/* What is started now may outlive the terminal that we have as standard error. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0)
		dup2(null, STDERR_FILENO);
	if (null > STDERR_FILENO)
		close(null);
}

/* Stops polling FD. */
static void forget_fd(struct session *session, int fd)
{
	for (unsigned i = 0; i < session->client.n_fds; i++)
		if (session->client.fds[i].fd == fd)
			session->client.fds[i--] = session->client.fds[--session->client.n_fds];
}

static void hear_me_only(struct session *session)
{
	char text[PATH_MAX + 64];
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;

	while (!session->control.orphaned) {
		struct iovec part = { text, sizeof text - 1 };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
		ssize_t n = recvmsg(CONTROL_FD, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			session->control.orphaned = session->control.news = true;
			session->control.descendants.ancestor = 0;
			forget_fd(session, CONTROL_FD);
			return;
		}
		text[n] = 0;
		if (!strncmp(text, "job", 3)) {
			take_job(session, &message, text);
		} else if (!strncmp(text, "done", 4)) {
			session->control.done = session->control.job_ended = session->control.news = true;
			session->control.unused = strstr(text, "\nunused 1") != NULL;
			forget_fd(session, session->control.job);
		}
	}
}

static void look_at_job(struct session *session)
{
	struct pollfd fds[] = { { .fd = session->control.pipe_closed ? -1 : PIPE_FD, .events = 0 },
				{ .fd = session->control.job_ended ? -1 : session->control.job, .events = POLLIN } };

	if (poll(fds, 2, 0) <= 0)
		return;
	if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) {
		session->control.pipe_closed = session->control.news = true;
		forget_fd(session, PIPE_FD);
	}
	if (fds[1].revents) {
		session->control.job_ended = session->control.news = true;
		forget_fd(session, session->control.job);
	}
}

/* Ends the command if that is due: me-only may be stopped, or gone. */
static void guard(struct session *session)
{
	if (session_now() >= session->control.force_due) {
		/* The command first: to find all others takes milliseconds. */
		if (session->control.job >= 0)
			syscall(SYS_pidfd_send_signal, session->control.job, SIGKILL, NULL, 0);
		cgroup_kill(&session->control.cgroup);
		descendants_signal(&session->control.descendants, SIGKILL);
		session->control.force_pause = session->control.force_pause == 0 ? LOOK_AGAIN : deadline_earlier(session->control.force_pause * 2, LOOK_SELDOM);
		session->control.force_due = session_now() + session->control.force_pause;
	} else if (session_now() >= session->control.ask_due) {
		/* As long as it lives it is me-only who asks. What was frozen until the deadline gets no more time. */
		if (session->control.orphaned)
			descendants_signal(&session->control.descendants, SIGTERM);
		session->control.ask_due = DEADLINE_NEVER;
	}
}

/* What a waiter rests for: something has come by the stream, or it has ended. */
static bool has_event(const struct session *session)
{
	return session->events.changed || session->events.granted || session->events.own_gone || session->events.canceled || !session->client.watching;
}

bool session_attend(void *argument)
{
	struct session *session = argument;

	hear_me_only(session);
	if (session->phase == PHASE_TAKING) {
		if (session_now() - session->control.spoke >= TRYING_AFTER) {
			say_word("trying");
			session->control.spoke = session_now();
		}
		return session->control.orphaned || (session->events.resting && has_event(session));
	}
	look_at_job(session);
	guard(session);
	session->client.due = deadline_earlier(session->control.ask_due, session->control.force_due);
	return session->phase == PHASE_HOLDING &&
	       (session->control.news || (session->events.own_gone && !session->lost) ||
		(session->events.resting && (session->events.canceled || !session->client.watching)));
}
