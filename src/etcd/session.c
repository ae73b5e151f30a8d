#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../deadline.h"
#include "../lines.h"
#include "../memory.h"
#include "base64.h"

/* Of the time that a lease is granted for so much is not used: for the rate of two clocks, and for being late. */
#define MARGIN(ttl) (1 * NS_PER_S + (ttl) / 50)

/* So often a lease is renewed in the time that it is granted for: by who holds the lock, and by who waits, for whom less depends on it. */
#define RENEWALS 6
#define RENEWALS_WAITING 3

/* An attempt to renew has at most this part of that time. */
#define ATTEMPTS 10

/* While there is no answer yet, me-only is told now and then that there will be one. */
#define TRYING_AFTER (3 * NS_PER_S)

/* How soon those are looked for again that have to end, and how soon when they do not. */
#define LOOK_AGAIN (20 * NS_PER_MS)
#define LOOK_SELDOM (1 * NS_PER_S)

int64_t session_now(void)
{
	return clock_now(CLOCK_BOOTTIME);
}

uint64_t session_clock(void)
{
	return (uint64_t)(clock_now(CLOCK_REALTIME) / NS_PER_MS);
}

/* --- what is said ------------------------------------------------------------------------------------------------------------ */

void say(struct line *line, const char *word)
{
	line->length = 0;
	line_add(line, word);
}

void say_pair(struct line *line, const char *key, const char *value)
{
	line_add(line, "\n");
	line_add(line, key);
	line_add(line, " ");
	for (; *value; value++) {
		char one[2] = { (char)(*value == '\n' ? ' ' : *value), 0 };

		line_add(line, one);
	}
}

void say_number(struct line *line, const char *key, uint64_t n)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%" PRIu64, n);
	say_pair(line, key, text);
}

void say_end(struct line *line)
{
	/* It may be stopped, and its socket full: it goes by the last time that it has. */
	(void)send(CONTROL_FD, line->text, line->length, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void say_text(const char *word, const char *text)
{
	struct line line;

	say(&line, word);
	say_pair(&line, "text", text);
	say_end(&line);
}

/* --- me-only and the command ------------------------------------------------------------------------------------------------- */

/* Takes the command's pidfd out of MESSAGE. */
static void take_job(struct session *session, struct msghdr *message, const char *text)
{
	const char *cgroup = strstr(text, "\ncgroup ");
	struct cmsghdr *control = CMSG_FIRSTHDR(message);
	int null;

	if (session->started)
		return;
	session->started = true;
	if (control && control->cmsg_type == SCM_RIGHTS) {
		memcpy(&session->job, CMSG_DATA(control), sizeof session->job);
		session->client.fds[session->client.n_fds++] = (struct curl_waitfd){ .fd = session->job, .events = CURL_WAIT_POLLIN };
	}
	if (cgroup)
		(void)snprintf(session->cgroup.path, sizeof session->cgroup.path, "%s", cgroup + strlen("\ncgroup "));
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

	while (!session->orphaned) {
		struct iovec part = { text, sizeof text - 1 };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
		ssize_t n = recvmsg(CONTROL_FD, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			session->orphaned = session->news = true;
			session->family.ancestor = 0;
			forget_fd(session, CONTROL_FD);
			return;
		}
		text[n] = 0;
		if (!strncmp(text, "job", 3)) {
			take_job(session, &message, text);
		} else if (!strncmp(text, "done", 4)) {
			session->done = session->job_ended = session->news = true;
			session->unused = strstr(text, "\nunused 1") != NULL;
			forget_fd(session, session->job);
		}
	}
}

static void look_at_job(struct session *session)
{
	struct pollfd fds[] = { { .fd = session->pipe_closed ? -1 : PIPE_FD, .events = 0 },
				{ .fd = session->job_ended ? -1 : session->job, .events = POLLIN } };

	if (poll(fds, 2, 0) <= 0)
		return;
	if (fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) {
		session->pipe_closed = session->news = true;
		forget_fd(session, PIPE_FD);
	}
	if (fds[1].revents) {
		session->job_ended = session->news = true;
		forget_fd(session, session->job);
	}
}

/* Ends the command if that is due: me-only may be stopped, or gone. */
static void guard(struct session *session)
{
	if (session_now() >= session->force_due) {
		/* The command first: to find all others takes milliseconds. */
		if (session->job >= 0)
			syscall(SYS_pidfd_send_signal, session->job, SIGKILL, NULL, 0);
		cgroup_kill(&session->cgroup);
		family_signal(&session->family, SIGKILL, NULL);
		session->force_pause = session->force_pause == 0 ? LOOK_AGAIN : session->force_pause < LOOK_SELDOM ? session->force_pause * 2 : LOOK_SELDOM;
		session->force_due = session_now() + session->force_pause;
	} else if (session_now() >= session->ask_due) {
		/* As long as it lives it is me-only who asks. What was frozen until the deadline gets no more time. */
		if (session->orphaned)
			family_signal(&session->family, SIGTERM, NULL);
		session->ask_due = DEADLINE_NEVER;
	}
}

bool session_attend(void *argument)
{
	struct session *session = argument;

	hear_me_only(session);
	if (session->phase == PHASE_TAKING) {
		if (session_now() - session->asked >= TRYING_AFTER) {
			struct line line;

			say(&line, "trying");
			say_end(&line);
			session->asked = session_now();
		}
		return session->orphaned || (session->resting && (session->changed || session->granted || session->own_gone || session->canceled || !session->client.watching));
	}
	look_at_job(session);
	guard(session);
	session->client.due = session->ask_due < session->force_due ? session->ask_due : session->force_due;
	return session->phase == PHASE_HOLDING && !session->brief && (session->news || (session->own_gone && !session->lost));
}

/* --- the lease --------------------------------------------------------------------------------------------------------------- */

static char *copy(const char *text)
{
	return memory_text(text, strlen(text));
}

/* A lease id: positive, and nobody else's. */
static uint64_t random_id(void)
{
	uint64_t id = 0;

	while (id == 0) {
		if (getrandom(&id, sizeof id, 0) != sizeof id)
			id = (uint64_t)session_now() << 20 ^ (uint64_t)getpid();
		id &= INT64_MAX;
	}
	return id;
}

static void name_key(struct session *session)
{
	free(session->key);
	keys_free(&session->own);
	if (asprintf(&session->key, "%s/%" PRIx64, session->arguments->name, session->lease) < 0)
		abort();
	session->own = keys_one(session->key);
}

/* The time, in ns, that the answer BODY gives the lease: never more than was granted. 0: it has ended. */
static int64_t time_in(const struct session *session, const json_t *body)
{
	const int64_t seconds = (int64_t)json_number(body, "TTL");

	return seconds <= 0 ? 0 : seconds < session->ttl / NS_PER_S ? seconds * NS_PER_S : session->ttl;
}

void session_renew_place(struct session *session)
{
	session->lease = random_id();
	session->created = session->token = session->granted = 0;
	session->own_gone = session->others = session->doubtful = false;
	entry_free(&session->gone);
	name_key(session);
	session->lease_asked = 0;
}

json_t *session_grant_request(struct session *session)
{
	if (!session->lease_asked)
		session->lease_asked = session_now();
	return request_grant((session->arguments->ttl + NS_PER_S - 1) / NS_PER_S, session->lease);
}

char *session_granted(struct session *session, struct answer *answer)
{
	char *text = NULL;

	session->ttl = session->arguments->ttl;
	if (answer->code == CODE_OK) {
		int64_t granted = time_in(session, answer->body);

		/* A server can grant more, which is not used; it is not known why one should grant less. */
		session->ttl = granted ? granted : session->ttl;
	} else if (answer->code != CODE_PRECONDITION) {
		text = answer->text;
		answer->text = NULL;
	}
	/* "Already exists": by a request of ours whose answer was lost. The time counts from the first of them. */
	session->deadline = session->lease_asked + session->ttl - MARGIN(session->ttl);
	session->renew_due = session->lease_asked + session_interval(session);
	session->failures = 0;
	session->client.attempt = session->ttl / ATTEMPTS < session->client.attempt ? session->ttl / ATTEMPTS : session->client.attempt;
	answer_free(answer);
	return text;
}

int64_t session_interval(const struct session *session)
{
	const int64_t interval = session->ttl / (session->phase == PHASE_TAKING ? RENEWALS_WAITING : RENEWALS);
	uint64_t spread = 0;

	/* Not all at once, after they were started at the same minute. */
	(void)!getrandom(&spread, sizeof spread, GRND_NONBLOCK);
	return interval / 10 * 9 + (int64_t)(spread % (uint64_t)(interval / 5 + 1));
}

/* The key-value pair that the range at INDEX of the transaction BODY has found, or NULL. */
static const json_t *found(const json_t *body, size_t index)
{
	const json_t *response = json_array_get(json_object_get(body, "responses"), index);

	return json_array_get(json_object_get(json_object_get(response, "response_range"), "kvs"), 0);
}

/* Reads our key and the other. */
static void read_keys(struct session *session, size_t endpoint, struct answer *answer)
{
	json_t *ranges = list_of(operation("request_range", request_range(&session->own, ORDER_NONE, 0, 0)), NULL);

	if (session->other.key && !session->other.end)
		json_array_append_new(ranges, operation("request_range", request_range(&session->other, ORDER_NONE, 0, 0)));
	client_call_at(&session->client, endpoint, PATH_TXN, request_txn(list_of(NULL), ranges, list_of(NULL)), answer);
}

enum renewal session_renew(struct session *session, char **text)
{
	const size_t endpoint = (session->client.endpoint + session->failures) % session->config.n;
	struct answer answer;
	int64_t sent;
	int64_t ttl;
	uint64_t term;
	enum renewal renewal = RENEWAL_FAILED;

	*text = NULL;
	client_call_at(&session->client, endpoint, PATH_KEEPALIVE, request_lease(session->lease), &answer);
	sent = answer.sent;
	term = header_number(answer.body, "raft_term");
	if (answer.code == CODE_OK && json_number(answer.body, "ID") != session->lease) {
		*text = copy("etcd's answer is about another lease");
		goto out;
	}
	ttl = time_in(session, answer.body);
	if (answer.code == CODE_OK && !ttl) {
		*text = copy("the lease has ended: etcd has not heard of us in time, or somebody has revoked it");
		renewal = RENEWAL_LOST;
	}
	if (answer.code != CODE_OK || renewal == RENEWAL_LOST)
		goto out;
	answer_free(&answer);
	read_keys(session, endpoint, &answer);
	if (answer.code != CODE_OK)
		goto out;
	if (!json_array_size(json_object_get(answer.body, "responses")) || !term) {
		*text = copy("etcd's answer says nothing");
	} else if (json_number(found(answer.body, 0), "create_revision") != session->created) {
		*text = copy("its key in etcd is gone: somebody has deleted it, or the server has ended the lease too early");
		renewal = RENEWAL_LOST;
	} else if (header_number(answer.body, "raft_term") != term) {
		*text = copy("etcd is electing a leader");
	} else {
		int64_t deadline = sent + ttl - MARGIN(ttl);

		renewal = RENEWAL_DONE;
		/* Where nothing is heard any more the stream would stay open for ever. */
		if (session->client.watching && session->client.watch_endpoint != endpoint)
			client_unwatch(&session->client);
		session->revision = header_number(answer.body, "revision");
		if (session->other.key)
			session->changed = session->changed || session->other.end || json_number(found(answer.body, 1), "mod_revision") != session->other_modified;
		/* A time that has passed is final. */
		if (session_now() < session->deadline && deadline > session->deadline)
			session->deadline = deadline;
	}
out:
	if (!*text && renewal == RENEWAL_FAILED) {
		*text = answer.text ? answer.text : copy("etcd does not answer");
		answer.text = NULL;
	}
	/* What stops a call is no failure of etcd. */
	if (renewal == RENEWAL_DONE)
		session->failures = 0;
	else if (answer.code != CODE_STOPPED)
		session->failures++;
	answer_free(&answer);
	return renewal;
}

char *session_surveyed(struct session *session, int64_t limit)
{
	char *old = NULL, *error = NULL;

	if (session->client.probes)
		error = client_surveyed(&session->client, limit, &old);
	if (old && !error && !session->arguments->quiet) {
		char *note = memory_format("the server is etcd %s, which has known bugs with leases: update it to 3.4.31, 3.5.13 or later", old);

		say_text("note", note);
		free(note);
	}
	free(old);
	return error;
}

void session_withdraw(struct session *session)
{
	struct answer answer;

	session->phase = PHASE_GIVING_BACK;
	client_unwatch(&session->client);
	if (!session->lease)
		return;
	client_call(&session->client, PATH_REVOKE, request_lease(session->lease), session_now() + session->client.attempt, &answer);
	answer_free(&answer);
	session->lease = 0;
	session->created = 0;
}

/* --- the stream -------------------------------------------------------------------------------------------------------------- */

/* Reads the key-value pair KV into ENTRY, which is freed before. */
static void read_one(const json_t *kv, struct entry *entry)
{
	json_t *list = list_of(json_incref((json_t *)(uintptr_t)kv), NULL);
	struct entries entries;

	entries_read(&entries, list);
	json_decref(list);
	entry_free(entry);
	if (entries.n == 1)
		*entry = entry_copy(&entries.all[0]);
	entries_free(&entries);
}

/* Our key was deleted, or the one before us has handed the lock over, or it is our own write that we see. */
static void own_event(struct session *session, const json_t *kv, bool deleted)
{
	struct entry entry = { .key = NULL };

	if (deleted) {
		session->own_gone = true;
		return;
	}
	read_one(kv, &entry);
	if (entry.key && entry.state == ENTRY_HELD && entry.created == session->created)
		session->granted = entry.modified;
	entry_free(&entry);
}

void session_event(void *argument, json_t *result)
{
	struct session *session = argument;
	size_t i;
	json_t *event;

	/* Also an error, as that of a token that is not valid any more: it comes with "created". */
	if (json_is_true(json_object_get(result, "canceled"))) {
		session->canceled = true;
		return;
	}
	json_array_foreach(json_object_get(result, "events"), i, event) {
		const json_t *kv = json_object_get(event, "kv"), *before = json_object_get(event, "prev_kv");
		const char *type = json_string_value(json_object_get(event, "type")), *key = json_string_value(json_object_get(kv, "key"));
		bool deleted = type && !strcmp(type, "DELETE");

		if (key && session->own.key && !strcmp(key, session->own.key)) {
			own_event(session, kv, deleted);
		} else if (session->phase == PHASE_HOLDING) {
			session->others = session->others || !deleted;
			continue;
		} else if (deleted) {
			read_one(before ? before : kv, &session->gone);
		}
		session->changed = true;
	}
}

void session_watch(struct session *session, struct keys *other, bool puts)
{
	json_t *requests = list_of(request_watch(&session->own, session->revision, session->phase == PHASE_TAKING), NULL);

	session->changed = session->canceled = false;
	keys_free(&session->other);
	if (other) {
		json_array_append_new(requests, request_watch(other, session->revision, puts));
		session->other = *other;
	}
	client_watch(&session->client, requests);
}

/* --- beginning --------------------------------------------------------------------------------------------------------------- */

static void describe_ourselves(struct session *session)
{
	const struct arguments *arguments = session->arguments;
	struct stat status;

	identity_read(&session->me, arguments->pid);
	(void)snprintf(session->me.command, sizeof session->me.command, "%s", arguments->command);
	if (fstat(PIPE_FD, &status) == 0 && S_ISFIFO(status.st_mode))
		session->me.pipe = status.st_ino;
	session->entry = (struct entry){ .mode = arguments->mode, .slots = arguments->slots, .queue = arguments->queue > 0, .who = session->me };
}

char *session_open(struct session *session, const struct arguments *arguments)
{
	size_t n = strlen(arguments->name);
	char *prefix, *error;

	*session = (struct session){ .arguments = arguments, .job = -1, .asked = session_now(), .ask_due = DEADLINE_NEVER, .force_due = DEADLINE_NEVER };
	if (arguments->wait && __builtin_add_overflow(session_now(), arguments->wait, &session->wait_until))
		session->wait_until = DEADLINE_NEVER;
	error = config_read(&session->config, CONFIG_FILE);
	if (!error)
		error = client_open(&session->client, &session->config);
	if (error)
		return error;
	describe_ourselves(session);
	prefix = memory_get(n + 2);
	memcpy(prefix, arguments->name, n);
	prefix[n] = '/';
	session->prefix.key = base64_encode(prefix, n + 1);
	prefix[n]++;
	session->prefix.end = base64_encode(prefix, n + 1);
	free(prefix);
	session->client.owner = session;
	session->client.attend = session_attend;
	session->client.event = session_event;
	session->client.fds[session->client.n_fds++] = (struct curl_waitfd){ .fd = CONTROL_FD, .events = CURL_WAIT_POLLIN };
	session->family = (struct family){ .ancestor = arguments->pid, .helper = getpid(), .pipe = session->me.pipe };
	return NULL;
}

void session_close(struct session *session)
{
	client_close(&session->client);
	config_free(&session->config);
	keys_free(&session->prefix);
	keys_free(&session->own);
	keys_free(&session->other);
	free(session->key);
	entry_free(&session->gone);
}
