/*
 * The helper for etcd locks. me-only starts it, talks to it as PROTOCOL.md says, and does not trust
 * it with time.
 *
 * The sources in the order in which a run calls them:
 *
 *   etcd/main.c           this page
 *   etcd/config.c         where etcd is, and which credentials to use
 *     etcd/endpoint.c       one endpoint
 *     etcd/credentials.c    certificates and the key, which may be replaced
 *   etcd/session.c        everything that a run has
 *     helper/control.c      me-only at the other end of the socket, and its command
 *     helper/say.c          what it is told
 *     helper/identity.c     what others are told of us
 *     etcd/lease.c          the lease, and the key that is bound to it
 *     etcd/stream.c         what the events mean
 *     etcd/client.c         calls to etcd
 *       etcd/transfer.c       one call, and the loop
 *         grpc/channel.c        connections to a server
 *           grpc/connection.c     one connection: names, TLS, HTTP/2
 *       etcd/survey.c         versions and clusters of all endpoints
 *       etcd/watch.c          the stream of events
 *       etcd/answer.c         answers
 *         etcd/errors.c         errors: what to do, and what to say
 *       etcd/body.c           bodies of answers
 *     etcd/requests.c       bodies of requests
 *   etcd/take.c           taking the lock
 *     etcd/wait.c           waiting for it
 *     etcd/place.c          our place in line
 *     etcd/ahead.c          those ahead of us
 *     etcd/entry.c          an entry of the line
 *       etcd/json.c           values of keys
 *     helper/queue.c        whose turn it is
 *   etcd/hold.c           keeping it
 *     etcd/release.c        giving it back
 *   etcd/pages.c          giving memory back
 *   etcd/ask.c            --held, --who, --list
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/exit-codes.h"
#include "base/message.h"
#include "etcd/ask.h"
#include "helper/packets.h"
#include "helper/say.h"
#include "etcd/session.h"
#include "kinds.h"

static int64_t time_argument(const char *text)
{
	return !strcmp(text, "inf") ? DEADLINE_NEVER : strtoll(text, NULL, 10);
}

/* One "KEY=VALUE". Unknown keys are ignored. */
static void read_argument(struct arguments *arguments, const char *text)
{
	static const struct {
		const char *key;
		size_t offset;
	} times[] = {
		{ "wait=", offsetof(struct arguments, wait) },
		{ "ttl=", offsetof(struct arguments, ttl) },
		{ "kill-after=", offsetof(struct arguments, kill_after) },
		{ "hold-for=", offsetof(struct arguments, hold_for) },
	};
	const char *value = strchr(text, '=');

	if (!value)
		return;
	value++;
	for (size_t i = 0; i < sizeof times / sizeof *times; i++)
		if (!strncmp(text, times[i].key, strlen(times[i].key)))
			*(int64_t *)(void *)((char *)arguments + times[i].offset) =
				time_argument(value);
	if (!strncmp(text, "pid=", 4))
		arguments->pid = (pid_t)strtol(value, NULL, 10);
	else if (!strncmp(text, "command=", 8))
		arguments->command = value;
	else if (!strncmp(text, "mode=", 5))
		arguments->mode = !strcmp(value, "shared")  ? ENTRY_SHARED
				  : !strcmp(value, "slots") ? ENTRY_SLOTS
							    : ENTRY_EXCLUSIVE;
	else if (!strncmp(text, "slots=", 6))
		arguments->slots = (unsigned)strtoul(value, NULL, 10);
	else if (!strncmp(text, "queue=", 6))
		arguments->queue = (unsigned)strtoul(value, NULL, 10);
	else if (!strncmp(text, "quiet=", 6))
		arguments->quiet = true;
	else if (!strncmp(text, "verbose=", 8))
		arguments->verbose = true;
}

/* Whether standard input is a socket, as for a helper. */
static bool has_control(void)
{
	struct stat status;

	return fstat(CONTROL_FD, &status) == 0 && S_ISSOCK(status.st_mode);
}

/* Whether me-only reads the deadline from a timer; older versions do not pass one. */
static bool has_timer(void)
{
	struct itimerspec at;

	return timerfd_gettime(TIMER_FD, &at) == 0;
}

static void tell_supports(void)
{
	struct line line;

	say_begin(&line, "supports");
	say_pair(&line, "options", SUPPORTS_etcd);
	say_end(&line);
}

static void run(const struct arguments *arguments)
{
	struct session session;
	char *error = session_open(&session, arguments);

	if (error) {
		say_text("failed", error);
	} else if (!strcmp(arguments->task, "take")) {
		if (take(&session))
			hold(&session);
	} else if (!strcmp(arguments->task, "held")) {
		ask_held(&session);
	} else if (!strcmp(arguments->task, "who")) {
		ask_who(&session);
	} else if (!strcmp(arguments->task, "list")) {
		ask_list(&session);
	} else {
		say_text("failed", "the etcd helper does not understand the request");
	}
	free(error);
	session_close(&session);
}

int main(int argc, char **argv)
{
	static const int ignored[] = { SIGPIPE, SIGXFSZ, SIGTERM, SIGINT, SIGHUP,
				       SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM };
	struct arguments arguments = {
		.command = "", .ttl = 30 * NS_PER_S, .kill_after = 5 * NS_PER_S, .slots = 1
	};

	if (argc < 4 || !has_control()) {
		message("etcd", "part of me-only; use me-only etcd:NAME COMMAND", 0);
		return EXIT_USAGE;
	}
	/* Descriptors of me-only's caller are not for us. */
	arguments.has_timer = !strcmp(argv[2], "take") && has_timer();
	descriptor_close_others(arguments.has_timer	  ? TIMER_FD + 1
				: strcmp(argv[2], "take") ? PIPE_FD
							  : PIPE_FD + 1,
				-1, -1);
	/*
	 * A signal that ends a whole service or session must not end us before me-only: its end is
	 * ours, and the lock is released in order.
	 */
	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		(void)signal(ignored[i], SIG_IGN);
	prctl(PR_SET_NAME, "me-only etcd");
	if (strcmp(argv[1], PROTOCOL_VERSION) != 0) {
		say_text("failed",
			 "me-only and its etcd helper have different versions: reinstall both");
		return EXIT_THIRD_PARTY;
	}
	arguments.task = argv[2];
	arguments.name = argv[3];
	for (int i = 4; i < argc; i++)
		read_argument(&arguments, argv[i]);
	if (!strcmp(arguments.task, "supports"))
		tell_supports();
	else if (strlen(arguments.name) > LONGEST_NAME)
		say_text("failed",
			 "the name is longer than 2048 bytes, the limit for an etcd lock");
	/* In packets and in the environment it would be another name. */
	else if (strchr(arguments.name, '\n'))
		say_text("failed",
			 "the name contains a newline, which the name of an etcd lock cannot");
	else
		run(&arguments);
	/* Cleaning up the libraries would take processor time from the next holder. */
	_exit(0);
}
