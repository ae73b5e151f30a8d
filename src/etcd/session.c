#include "etcd/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "helper/say.h"

/* Until there is an answer, me-only is told now and then that there will be one. */
#define TRYING_AFTER (3 * NS_PER_S)

int64_t session_now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

uint64_t session_clock(void)
{
	return (uint64_t)(clock_now(CLOCK_REALTIME) / NS_PER_MS);
}

void session_set_timer(const struct session *session, int64_t until)
{
	const struct itimerspec at = { .it_value = { .tv_sec = (time_t)(until / NS_PER_S),
						     .tv_nsec = (long)(until % NS_PER_S) } };

	if (session->arguments->has_timer)
		(void)timerfd_settime(TIMER_FD, TFD_TIMER_ABSTIME, &at, NULL);
}

char *session_surveyed(struct session *session, int64_t limit)
{
	char *old = NULL, *error = NULL;

	if (session->client.probes)
		error = client_surveyed(&session->client, limit, &old);
	if (old && !error && !session->arguments->quiet) {
		char *note = memory_format(
			"the server runs etcd %.*s, which has known lease bugs: update it to 3.4.31, 3.5.13 or later",
			32, old);

		say_text("note", note);
		free(note);
	}
	free(old);
	return error;
}

void session_failed(const struct session *session, const char *text)
{
	char *whole = memory_format("%s (%s)", text, config_source(&session->config));

	say_text("failed", whole);
	free(whole);
}

/* -v: where etcd is looked for, and why there. */
static void tell_endpoints(const struct config *config)
{
	char *text = memory_string(config_source(config));

	for (size_t i = 0; i < config->n; i++) {
		char *longer =
			memory_format("%s%s%s", text, i > 0 ? ", " : ": ", config->endpoints[i]);

		free(text);
		text = longer;
	}
	say_text("note", text);
	free(text);
}

static void describe_ourselves(struct session *session)
{
	const struct arguments *arguments = session->arguments;
	struct stat status;

	identity_read(&session->me, arguments->pid);
	say_cut(session->me.command, sizeof session->me.command, arguments->command);
	if (fstat(PIPE_FD, &status) == 0 && S_ISFIFO(status.st_mode))
		session->me.pipe = status.st_ino;
	session->own.entry = (struct entry){ .mode = arguments->mode,
					     .slots = arguments->slots,
					     .queue = arguments->queue > 0,
					     .who = session->me };
}

static void add_fd(struct client *client, int fd, short events)
{
	client->fds[client->n_fds++] = (struct pollfd){ .fd = fd, .events = events };
}

/* Polls what can still report something, beside the client's own timer. */
static void set_fds(struct session *session)
{
	const struct control *control = &session->control;

	session->client.n_fds = 1;
	if (!control->orphaned)
		add_fd(&session->client, CONTROL_FD, POLLIN);
	if (session->polls_pipe && !control->pipe_closed)
		add_fd(&session->client, PIPE_FD, POLLPRI);
	if (control->job >= 0 && !control->job_ended)
		add_fd(&session->client, control->job, POLLIN);
}

/* What a waiter rests for: the stream has brought something, or it has ended. */
static bool has_event(const struct session *session)
{
	return session->events.changed || session->events.granted || session->events.own_gone ||
	       session_stream_ends(session);
}

/* A waiter is told once that etcd does not answer, and once that it does again. */
static void tell_trouble(struct session *session)
{
	const bool troubled = session->client.trouble && session->line.entered;

	if (troubled == session->troubled)
		return;
	session->troubled = troubled;
	if (troubled)
		say_text("trouble", session->client.trouble);
	else
		say_word("answers");
}

static bool attend_waiter(struct session *session)
{
	tell_trouble(session);
	if (session_now() - session->spoke >= TRYING_AFTER) {
		say_word("trying");
		session->spoke = session_now();
	}
	return session->control.orphaned || (session->events.resting && has_event(session));
}

bool session_attend(void *argument)
{
	struct session *session = argument;
	struct control *control = &session->control;

	control_hear(control);
	if (session->phase != PHASE_TAKING) {
		control_tend(control);
		session->client.due = deadline_earlier(control->ask_due, control->force_due);
	}
	set_fds(session);
	if (session->phase == PHASE_TAKING)
		return attend_waiter(session);
	return session->phase == PHASE_HOLDING &&
	       (control->news || (session->events.own_gone && !session->lost) ||
		(session->events.resting && session_stream_ends(session)));
}

char *session_open(struct session *session, const struct arguments *arguments)
{
	size_t n = strlen(arguments->name);
	char *prefix, *error;

	*session = (struct session){
		.arguments = arguments,
		.spoke = session_now(),
	};
	if (arguments->wait &&
	    __builtin_add_overflow(session_now(), arguments->wait, &session->wait_until))
		session->wait_until = DEADLINE_NEVER;
	error = config_read(&session->config, CONFIG_FILE);
	if (!error)
		error = client_open(&session->client, &session->config);
	if (error)
		return error;
	if (arguments->verbose)
		tell_endpoints(&session->config);
	describe_ourselves(session);
	prefix = memory_get(n + 2);
	memcpy(prefix, arguments->name, n);
	prefix[n] = '/';
	session->line.keys = keys_one(prefix);
	prefix[n]++;
	session->line.keys.end = prefix;
	session->line.keys.end_length = n + 1;
	session->client.owner = session;
	session->client.attend = session_attend;
	session->client.event = session_event;
	control_open(&session->control, arguments->pid, session->me.pipe);
	set_fds(session);
	return NULL;
}

void session_close(struct session *session)
{
	client_close(&session->client);
	config_free(&session->config);
	keys_free(&session->line.keys);
	keys_free(&session->own.keys);
	keys_free(&session->events.other);
	free(session->own.name);
	entry_free(&session->events.gone);
	entry_free(&session->line.next);
}
