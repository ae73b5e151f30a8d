/*
 * The engine for locks that a helper keeps (etcd/PROTOCOL.md): a program that speaks to a service on a network, and to us over a
 * socket. What holding such a lock is, is the writing end of a pipe, which the command inherits: the helper gives the lock back when
 * nobody has it any more. The helper's words are taken for true but for one: that the lock may be kept. When its time is over, it is
 * lost, whatever else is said (run/guard.c).
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/lines.h"
#include "base/number.h"
#include "base/process.h"
#include "base/start.h"
#include "base/statx.h"
#include "helper/cgroup.h"
#include "helper/engine.h"
#include "helper/start.h"
#include "trace.h"

#define VERSION "1"
#define PACKET_SIZE 4096
#define PIPE_FD 3
#define TIMER_FD 4
#define MOST_ARGUMENTS 16
#define MOST_VARIABLES 8

#define MOST_PACKETS 1000

/* For so long a helper may say nothing before its first answer: it says "trying" more often. */
#define ANSWER_LIMIT (30 * NS_PER_S)

/* So much later than its own deadline a helper may say that it has given up. */
#define GRACE (5 * NS_PER_S)

/* For so long we wait until others can have the lock. If the service does not answer, it ends by itself. */
#define RELEASE_LIMIT (5 * NS_PER_S)

/* How often we check whether the time is over: poll(2) does not count time asleep. */
#define LOOK_AGAIN (200 * NS_PER_MS)

/* The helper and what it has said. In pages of its own, so that a run with another kind of lock has none of it. */
struct helper_session {
	struct lock_lease lease;		/* first: lock->lease leads to all of it */
	int control;			/* our end of the socket */
	int timer;			/* which the helper sets to the deadline; 0: none */
	pid_t parent;			/* this process */
	pid_t helper;			/* 0: none, or reaped */
	char path[PATH_MAX];		/* of its file */
	char packet[PACKET_SIZE];	/* the last one, with a NUL */
	struct holder holder;		/* the last one that it has named */
	struct remote_holder remote[2];	/* what holder and a waiter point to */
	char words[2][3][256];		/* what these point to */
	uint64_t times;			/* how often it has named one */
	char variables[PACKET_SIZE];	/* all for the command, each with a NUL */
	const char *entries[MOST_VARIABLES + 4];
	char said[PACKET_SIZE];		/* why something failed */
	char trouble[PACKET_SIZE], note[PACKET_SIZE];
	bool releasing;			/* the command has ended */
	bool ended;			/* it has closed the socket, or has nothing more to say */
	struct cgroup cgroup;		/* where the command may have a control group of its own */
};

static struct helper_session *session_of(const struct lock *lock)
{
	return (struct helper_session *)lock->lease;
}

/* --- packets ----------------------------------------------------------------------------------------------------------------- */

/* The value of the line KEY in the packet, of LENGTH bytes; from *AT on, which moves behind it, unless that is NULL. NULL: none. */
static const char *field(const struct helper_session *session, const char *key, size_t *length, const char **at)
{
	const char *line = at && *at ? *at : session->packet;

	while ((line = strchr(line, '\n'))) {
		size_t n = strlen(key);

		line++;
		if (strncmp(line, key, n) != 0 || line[n] != ' ')
			continue;
		*length = strcspn(line + n + 1, "\n");
		if (at)
			*at = line + n + 1 + *length;
		return line + n + 1;
	}
	return NULL;
}

static int64_t number_field(const struct helper_session *session, const char *key, int64_t otherwise)
{
	size_t length;
	const char *value = field(session, key, &length, NULL);

	return value ? (int64_t)number_at(value, 10, NULL) : otherwise;
}

/* The value of KEY, which is in UNITs of so many ns, in ns; -1: none, or none that can be. */
static int64_t time_field(const struct helper_session *session, const char *key, int64_t unit)
{
	int64_t n = number_field(session, key, -1), ns;

	return n < 0 || __builtin_mul_overflow(n, unit, &ns) ? -1 : ns;
}

/* Copies the value of KEY into TEXT; "" if there is none. Returns TEXT, or NULL for none. */
static char *text_field(const struct helper_session *session, const char *key, char *text, size_t size)
{
	size_t length = 0;
	const char *value = field(session, key, &length, NULL);

	if (length >= size)
		length = size - 1;
	if (value)
		memcpy(text, value, length);
	text[length] = 0;
	return value ? text : NULL;
}

/* The same for a sentence, which may have in it what the service has said: escaped. */
static char *sentence_field(const struct helper_session *session, const char *key, char *text, size_t size)
{
	size_t length = 0;
	const char *value = field(session, key, &length, NULL);
	struct line line = { .length = 0 };

	if (!value)
		return NULL;
	line_escape(&line, value, length, size - sizeof "...");
	memcpy(text, line.text, line.length);
	text[line.length] = 0;
	return text;
}

static bool is_word(const struct helper_session *session, const char *word)
{
	size_t n = strlen(word);

	return !strncmp(session->packet, word, n) && (session->packet[n] == '\n' || session->packet[n] == 0);
}

/* Reads the next packet. Returns 1; 0: the helper has closed the socket; -EAGAIN: there is none now. */
static int receive(struct helper_session *session)
{
	ssize_t n;

	do
		n = recv(session->control, session->packet, sizeof session->packet - 1, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	session->packet[n > 0 ? n : 0] = 0;
	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;
	return n > 0;
}

/* Says WORDS, with the descriptor FD unless that is negative. */
static void say(const struct helper_session *session, const char *words, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { (void *)(uintptr_t)words, strlen(words) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		memset(&control, 0, sizeof control);
		message.msg_control = &control;
		message.msg_controllen = sizeof control.room;
		control.header.cmsg_len = CMSG_LEN(sizeof fd);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	}
	/* Fails when the helper has gone: that is seen at the next reading. */
	(void)sendmsg(session->control, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* --- whom it names ----------------------------------------------------------------------------------------------------------- */

/* KEY with PREFIX before it. */
static const char *prefixed(const char *prefix, const char *key, char name[32])
{
	strcpy(stpcpy(name, prefix), key);
	return name;
}

/* The one that the packet names with PREFIX before each key, into HOLDER; N says which of the two places for words is used. */
static void read_holder(struct helper_session *session, struct holder *holder, const char *prefix, unsigned n)
{
	struct remote_holder *remote = &session->remote[n];
	char name[32];
	int64_t since = time_field(session, prefixed(prefix, "since", name), NS_PER_MS);

	*remote = (struct remote_holder){
		.host = text_field(session, prefixed(prefix, "host", name), session->words[n][0], sizeof session->words[n][0]),
		.user = text_field(session, prefixed(prefix, "user", name), session->words[n][1], sizeof session->words[n][1]),
		.kept = number_field(session, prefixed(prefix, "kept", name), 0) != 0,
	};
	remote->command = text_field(session, prefixed(prefix, "other", name), session->words[n][2], sizeof session->words[n][2]);
	remote->other = remote->command != NULL;
	if (!remote->other)
		remote->command = text_field(session, prefixed(prefix, "command", name), session->words[n][2], sizeof session->words[n][2]);
	*holder = (struct holder){ .pid = (pid_t)number_field(session, prefixed(prefix, "pid", name), 0), .held = -1, .remote = remote,
				   .slot = (unsigned)number_field(session, prefixed(prefix, "slot", name), 0),
				   .slots = (unsigned)number_field(session, prefixed(prefix, "slots", name), 0), .hidden = "nothing is known of it" };
	if (since >= 0) {
		holder->held = clock_now(CLOCK_REALTIME) - since;
		if (holder->held < 0)
			holder->held = 0;
	}
	/* Users of other hosts have names only: ours stands for the same name. */
	holder->uid_known = number_field(session, prefixed(prefix, "trusted", name), 0) != 0;
	holder->uid = geteuid();
}

static void read_the_holder(struct helper_session *session, const char *prefix)
{
	read_holder(session, &session->holder, prefix, 0);
	session->times++;
}

/* --- the helper -------------------------------------------------------------------------------------------------------------- */

struct start {
	struct helper_session *session;
	const char *name;	/* of the helper */
	char *argv[MOST_ARGUMENTS];
	char command[1024];
	char text[1024];	/* what the arguments with numbers point to */
	char *end;
	unsigned n;
	const char *program;	/* the file of me-only, if that is not this program; NULL */
	int socket, pipe, timer;	/* passed to the helper; pipe and timer may be -1 */
	int failed;		/* what the new process could not do: HELPER_REFUSED or a negative errno */
};

static void add_argument(struct start *start, const char *key, const char *value)
{
	size_t need = strlen(key) + strlen(value) + 1;

	if (start->n + 1 >= MOST_ARGUMENTS || need > (size_t)(start->text + sizeof start->text - start->end))
		return;
	start->argv[start->n++] = start->end;
	start->argv[start->n] = NULL;
	start->end = stpcpy(stpcpy(start->end, key), value) + 1;
}

static void add_number(struct start *start, const char *key, int64_t n)
{
	char text[NUMBER_TEXT_SIZE];

	number_format((uint64_t)n, text);
	add_argument(start, key, n == DEADLINE_NEVER ? "inf" : text);
}

/* The new process, which shares our memory until it is the helper. Its descriptors have numbers that it may find free. */
static void become_helper(void *argument)
{
	struct start *start = argument;
	const bool take = start->pipe >= 0;
	int socket = fcntl(start->socket, F_DUPFD_CLOEXEC, 10), pipe = take ? fcntl(start->pipe, F_DUPFD_CLOEXEC, 10) : -1,
	    timer = take ? fcntl(start->timer, F_DUPFD_CLOEXEC, 10) : -1;

	setsid();
	/* Also where the limit is below 10, of which fcntl(2) says EINVAL. */
	if (socket < 0 || (take && (pipe < 0 || timer < 0)))
		start->failed = -EMFILE;
	else if (dup2(socket, STDIN_FILENO) < 0 || dup2(socket, STDOUT_FILENO) < 0 ||
	    (take && (dup2(pipe, PIPE_FD) < 0 || dup2(timer, TIMER_FD) < 0)) ||
	    (syscall(SYS_close_range, take ? TIMER_FD + 1 : PIPE_FD, ~0U, 0) && errno != ENOSYS))
		start->failed = -errno;
	else
		start->failed = helper_become(start->name, start->program, start->argv, start->session->path);
	_exit(EXIT_FAILURE);
}

static void end_helper(struct helper_session *session)
{
	if (session->helper > 0) {
		kill(session->helper, SIGKILL);
		while (waitpid(session->helper, NULL, 0) < 0 && errno == EINTR)
			;
	}
	session->helper = 0;
}

static int cannot(struct lock *lock, const char *what, int r)
{
	lock->failed = what;
	return r;
}

/* A pair of descriptors, none of them 0, 1 or 2. */
static int off_stdio(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		fds[i] = descriptor_off_stdio(fds[i]);
		if (fds[i] < 0)
			return fds[i];
	}
	return 0;
}

/* Starts the helper. Returns 0 or a negative errno with lock->failed. START's descriptors are closed. */
static int start_helper(struct lock *lock, struct start *start, int ours)
{
	struct helper_session *session = session_of(lock);
	pid_t pid;

	start->session = session;
	start->name = lock->engine->prefix;
	pid = start_process(become_helper, start);
	close(start->socket);
	if (start->pipe >= 0)
		close(start->pipe);
	session->control = ours;
	if (pid < 0)
		return cannot(lock, "cannot start the helper", pid);
	session->parent = getpid();
	session->helper = lock->lease->helper = pid;
	if (!start->failed)
		return 0;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	session->helper = 0;
	if (*session->path)
		lock->spec = session->path;
	if (start->failed == -ENOENT)
		return cannot(lock, "the helper for such locks is not there; it is built with libcurl and jansson", LOCK_FAILED);
	if (start->failed == HELPER_REFUSED)
		return cannot(lock, "the helper for such locks is not run: others can write it or its folder", LOCK_FAILED);
	return cannot(lock, "the helper for such locks cannot be run", start->failed);
}

/* Returns a descriptor that is not 0, 1 or 2, or a negative errno. */
static int make_timer(void)
{
	int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);

	return fd < 0 ? -errno : descriptor_off_stdio(fd);
}

/* Opens the socket, and the pipe if LOCK is to be taken, and starts the helper. */
static int begin(struct lock *lock, struct start *start, bool take)
{
	int sockets[2], pipes[2] = { -1, -1 }, r;
	void *pages = mmap(NULL, sizeof(struct helper_session), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return cannot(lock, "not enough memory for the helper", -errno);
	lock->lease = &((struct helper_session *)pages)->lease;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		return cannot(lock, "cannot make a socket", -errno);
	r = off_stdio(sockets);
	if (r == 0 && take)
		r = pipe2(pipes, O_CLOEXEC) ? -errno : off_stdio(pipes);
	if (r)
		return cannot(lock, "cannot make a pipe", r);
	if (take) {
		session_of(lock)->timer = make_timer();
		if (session_of(lock)->timer < 0)
			return cannot(lock, "cannot create a timer", session_of(lock)->timer);
	}
	start->socket = sockets[1];
	start->pipe = pipes[0];
	start->timer = session_of(lock)->timer;
	lock->fd = pipes[1];
	return start_helper(lock, start, sockets[0]);
}

static void prepare(struct start *start, const struct lock *lock, const char *what)
{
	*start = (struct start){ .argv = { (char *)"", (char *)VERSION, (char *)(uintptr_t)what, (char *)(uintptr_t)lock->name }, .n = 4, .pipe = -1 };
	start->end = start->text;
	add_number(start, "pid=", getpid());
}

static void prepare_take(struct start *start, const struct lock *lock, const struct lock_wait *wait)
{
	const struct options *options = lock->options;

	prepare(start, lock, "take");
	add_number(start, "ttl=", options_ttl(options));
	add_number(start, "kill-after=", options_kill_after(options));
	if (wait->deadline)
		add_number(start, "wait=", options->wait);
	if (lock->shared)
		add_argument(start, "mode=", "shared");
	if (options->slots) {
		add_argument(start, "mode=", "slots");
		add_number(start, "slots=", lock->slots);
	}
	if (wait->places)
		add_number(start, "queue=", wait->places);
	if (options->hold_for)
		add_number(start, "hold-for=", options->hold_for);
	if (options->quiet)
		add_argument(start, "quiet=", "1");
	strncpy(stpcpy(start->command, "command="), options->command[0], sizeof start->command - sizeof "command=");
	start->argv[start->n++] = start->command;
	start->argv[start->n] = NULL;
}

/* --- taking ------------------------------------------------------------------------------------------------------------------ */

/* Whether the helper, alive or dead, is still a child of ours: the runner reaps all that it finds. */
static bool is_there(const struct helper_session *session)
{
	siginfo_t info;

	return session->helper > 0 && waitid(P_PID, (id_t)session->helper, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* How the helper has ended, in words. */
static const char *last_words(struct helper_session *session)
{
	char *end = stpcpy(session->said, "the helper for such locks has ended");
	int status;

	/* Who has closed the socket is of no use any more. */
	if (is_there(session))
		kill(session->helper, SIGKILL);
	if (is_there(session) && waitpid(session->helper, &status, 0) == session->helper) {
		session->helper = 0;
		end = stpcpy(end, WIFSIGNALED(status) ? ", by signal " : ", with status ");
		number_format((uint64_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)), end);
	}
	return session->said;
}

static void add_variable(struct helper_session *session, char **end, const char *name, const char *value, size_t length)
{
	unsigned n = 0;

	while (session->entries[n])
		n++;
	if (n + 1 >= sizeof session->entries / sizeof *session->entries ||
	    strlen(name) + length + 1 > (size_t)(session->variables + sizeof session->variables - *end))
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

	lock->lease->until = deadline_earlier(number_field(session, "until", 0), clock_now(CLOCK_BOOTTIME) + options_ttl(lock->options));
	lock->lease->confirmed = clock_now(CLOCK_BOOTTIME);
	lock->slot = (unsigned)number_field(session, "slot", 0);
	value = field(session, "token", &length, NULL);
	if (value)
		add_variable(session, &end, "ME_ONLY_TOKEN=", value, length);
	while ((value = field(session, "variable", &length, &at)))
		add_variable(session, &end, "", value, length);
	lock->variables = session->entries;
	lock->watched = session->control;
}

/* The packet says that something has failed. */
static int read_failed(struct lock *lock)
{
	struct helper_session *session = session_of(lock);
	if (!sentence_field(session, "text", session->said, sizeof session->said))
		strcpy(session->said, "the helper has not said why it failed");
	return cannot(lock, session->said, LOCK_FAILED);
}

static void show_note(const struct lock *lock)
{
	struct helper_session *session = session_of(lock);
	if (sentence_field(session, "text", session->note, sizeof session->note) && !lock->options->quiet)
		message(lock->spec, session->note, 0);
}

/* Takes in what the helper has said before it has the lock. Returns 1 to go on, or as take() does. */
static int answer(struct lock *lock, struct lock_wait *wait)
{
	struct helper_session *session = session_of(lock);
	if (is_word(session, "held")) {
		read_held(lock);
		return 0;
	}
	if (is_word(session, "yes") || is_word(session, "no") || is_word(session, "entry") || is_word(session, "end"))
		return 0;
	if (is_word(session, "failed") || is_word(session, "lost"))
		return read_failed(lock);
	if (is_word(session, "busy") || is_word(session, "nested")) {
		read_the_holder(session, "");
		return is_word(session, "nested") ? LOCK_NESTED : number_field(session, "timeout", 0) ? LOCK_TIMED_OUT : LOCK_HELD;
	}
	if (is_word(session, "full")) {
		read_holder(session, &wait->waiter, "", 1);
		wait->waiters = (unsigned)number_field(session, "waiters", 1);
		read_the_holder(session, "holder-");
		return LOCK_QUEUE_FULL;
	}
	if (is_word(session, "waiting"))
		read_the_holder(session, "");
	else if (is_word(session, "note"))
		show_note(lock);
	return 1;
}

/* Waits for an answer. */
static int hear(struct lock *lock, struct lock_wait *wait)
{
	struct helper_session *session = session_of(lock);
	int64_t limit = deadline_in(ANSWER_LIMIT);
	bool waiting = false;

	for (;;) {
		struct pollfd control = { .fd = session->control, .events = POLLIN };
		int r;

		if (waiting && wait->attend && deadline_now() >= wait->due && (r = wait->attend(wait, lock)))
			return r;
		if (deadline_now() >= limit) {
			end_helper(session);
			return waiting ? LOCK_TIMED_OUT : cannot(lock, "the helper does not answer", LOCK_FAILED);
		}
		if (poll(&control, 1, deadline_poll_timeout(waiting ? deadline_earlier(limit, wait->due) : limit)) <= 0)
			continue;
		r = receive(session);
		if (r == -EAGAIN)
			continue;
		if (r <= 0)
			return cannot(lock, last_words(session), LOCK_FAILED);
		if (!waiting)
			limit = deadline_in(ANSWER_LIMIT);
		r = answer(lock, wait);
		if (r <= 0)
			return r;
		if (!waiting && is_word(session, "waiting")) {
			waiting = true;
			limit = wait->deadline > DEADLINE_NEVER - GRACE || wait->deadline == 0 ? DEADLINE_NEVER : wait->deadline + GRACE;
			r = wait->attend ? wait->attend(wait, lock) : 0;
			if (r)
				return r;
		}
	}
}

/* Without /proc nobody could find all that the command has started, nor know whether this is a job of its own lock. */
static int check_proc(struct lock *lock)
{
	struct process process;

	return process_read(getpid(), &process) ? cannot(lock, "/proc cannot be read, which such a lock needs; nothing was run", LOCK_FAILED) : 0;
}

static int helper_take(struct lock *lock, struct lock_wait *wait)
{
	struct start start;
	int r = check_proc(lock);

	if (r)
		return r;
	prepare_take(&start, lock, wait);
	r = begin(lock, &start, true);
	if (r)
		return r;
	/* Looking takes time, so it is done while the helper works. */
	cgroup_find(&session_of(lock)->cgroup);
	lock->lease->cgroup = &session_of(lock)->cgroup;
	r = hear(lock, wait);
	if (r) {
		/* It is told by the end of the socket, and leaves the line. */
		close(session_of(lock)->control);
		close(lock->fd);
		session_of(lock)->control = lock->fd = lock->watched = -1;
	}
	return r;
}

/* --- holding ----------------------------------------------------------------------------------------------------------------- */

/*
 * The command ends with us: nobody would end it when the lock is lost. That does not reach what sudo runs; the helper has a pidfd of
 * the command, too.
 */
static int helper_claim(struct lock *lock)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL))
		return -errno;
	return getppid() == session_of(lock)->parent ? 0 : -ESRCH;
}

static void helper_started(struct lock *lock, pid_t job, const char *cgroup)
{
	char words[64 + PATH_MAX], *end = number_format((uint64_t)job, stpcpy(words, "job\npid "));
	int fd = process_pidfd(job);

	if (*cgroup)
		strcpy(stpcpy(end, "\ncgroup "), cgroup);
	say(session_of(lock), words, fd);
	if (fd >= 0)
		close(fd);
}

/* Takes in what the helper has said while the lock is held. */
static void take_in(struct lock *lock)
{
	struct helper_session *session = session_of(lock);
	if (is_word(session, "until")) {
		int64_t until = number_field(session, "until", 0);

		/*
		 * A time that has passed is final: if all were frozen the helper may be the first to go on. If only we were, what was said in
		 * the meantime was said in time.
		 */
		if (until > lock->lease->until && number_field(session, "at", DEADLINE_NEVER) < lock->lease->until && until <= clock_now(CLOCK_BOOTTIME) + options_ttl(lock->options)) {
			lock->lease->until = until;
			lock->lease->confirmed = number_field(session, "at", 0);
			lock->lease->trouble = NULL;
		}
	} else if (is_word(session, "trouble")) {
		lock->lease->trouble = sentence_field(session, "text", session->trouble, sizeof session->trouble);
		if (lock->lease->trouble && lock->options->verbose)
			trace(lock->options, lock, lock->lease->trouble);
	} else if (is_word(session, "lost")) {
		lock->lease->lost = sentence_field(session, "text", session->said, sizeof session->said);
		if (!lock->lease->lost)
			lock->lease->lost = "it is not ours any more";
		/* The earliest time at which another may hold it. */
		lock->lease->until = deadline_earlier(lock->lease->until, number_field(session, "until", DEADLINE_NEVER));
	} else if (is_word(session, "note")) {
		show_note(lock);
	} else if (is_word(session, "released") || is_word(session, "kept")) {
		/* It was ours until now, and others see to what follows. */
		lock->lease->until = DEADLINE_NEVER;
		session->ended = true;
	}
}

/*
 * While we were stopped, messages may have been dropped for want of room, so the timer has the
 * deadline as well. The helper does not set it again once it has expired.
 */
static void read_timer(struct lock *lock)
{
	const int64_t now = clock_now(CLOCK_BOOTTIME), ttl = options_ttl(lock->options);
	struct itimerspec at;
	int64_t left;

	if (session_of(lock)->timer <= 0 || timerfd_gettime(session_of(lock)->timer, &at))
		return;
	left = (int64_t)at.it_value.tv_sec * NS_PER_S + at.it_value.tv_nsec;
	if (left == 0 || left > ttl || now + left <= lock->lease->until)
		return;
	lock->lease->until = now + left;
	/* It was confirmed no earlier than this, perhaps later. */
	if (lock->lease->until - ttl > lock->lease->confirmed)
		lock->lease->confirmed = lock->lease->until - ttl;
}

static void helper_abandon(struct lock *lock)
{
	if (!session_of(lock)->ended && is_there(session_of(lock)))
		kill(session_of(lock)->helper, SIGKILL);
}

static void helper_serve(struct lock *lock, pid_t job, int64_t since)
{
	struct helper_session *session = session_of(lock);
	int r;

	(void)job, (void)since;
	/* One that never stops talking does not keep the guard from looking. */
	for (int n = 0; n < MOST_PACKETS && !session->ended && (r = receive(session)) != -EAGAIN; n++) {
		if (r > 0) {
			take_in(lock);
			continue;
		}
		session->ended = true;
		lock->watched = -1;
		/* After the command's end it is only not known whether the lock was given back. */
		if (!lock->lease->lost && !session->releasing)
			lock->lease->lost = last_words(session);
	}
	if (!session->ended && !lock->lease->lost)
		read_timer(lock);
}

/* The helper first reports the loss, then looks for what runs: so nothing starts unseen. */
static int helper_confirm(struct lock *lock)
{
	helper_serve(lock, 0, 0);
	return lock->lease->lost || clock_now(CLOCK_BOOTTIME) >= lock->lease->until ? LOCK_LOST : 0;
}

/* Waits until others can have it: whoever starts us again at once does not meet our own lock. */
static void helper_release(struct lock *lock)
{
	struct helper_session *session = session_of(lock);
	int64_t limit = deadline_in(RELEASE_LIMIT);

	close(lock->fd);
	/* What was said while we were stopped. */
	helper_serve(lock, 0, 0);
	session->releasing = true;
	say(session, lock->lease->unused ? "done\nunused 1" : "done", -1);
	lock->fd = lock->watched = -1;
	while (!session->ended && !lock->lease->lost && clock_now(CLOCK_BOOTTIME) < lock->lease->until && deadline_now() < limit) {
		struct pollfd control = { .fd = session->control, .events = POLLIN };
		int64_t left = deadline_earlier(lock->lease->until - clock_now(CLOCK_BOOTTIME), LOOK_AGAIN);

		if (poll(&control, 1, deadline_poll_timeout(deadline_earlier(limit, deadline_in(left)))) > 0)
			helper_serve(lock, 0, 0);
	}
}

/* --- asking ------------------------------------------------------------------------------------------------------------------ */

/*
 * Waits for the answer to a question. Returns 0, or LOCK_FAILED with lock->failed: how a take can
 * end is no answer, and says nothing in lock->failed.
 */
static int hear_told(struct lock *lock, struct lock_wait *wait)
{
	int r = hear(lock, wait);

	if (r == 0 || r == LOCK_FAILED)
		return r;
	return cannot(lock, "the helper has not answered what it was asked", LOCK_FAILED);
}

static int helper_is_ours(struct lock *lock)
{
	struct lock_wait wait = { .due = DEADLINE_NEVER };
	struct start start;
	int r = check_proc(lock);

	if (r)
		return r;
	prepare(&start, lock, "held");
	r = begin(lock, &start, false);
	if (r)
		return r;
	r = hear_told(lock, &wait);
	end_helper(session_of(lock));
	return r == 0 ? is_word(session_of(lock), "yes") : r;
}

/* The packet is "entry". */
static void read_told(struct helper_session *session, struct lock_told *told, char texts[3][PACKET_SIZE])
{
	*told = (struct lock_told){
		.name = text_field(session, "name", texts[0], PACKET_SIZE),
		.state = text_field(session, "state", texts[1], PACKET_SIZE),
		.mode = text_field(session, "mode", texts[2], PACKET_SIZE),
		.slots = (unsigned)number_field(session, "slots", 1),
		.token = (uint64_t)number_field(session, "token", 0),
		.since = time_field(session, "since", NS_PER_MS),
		.left = time_field(session, "left", NS_PER_S),
	};
	read_the_holder(session, "");
	told->holder = session->holder;
}

int lock_helper_ask(struct lock *lock, const char *task, const char *program, void (*tell)(void *argument, const struct lock_told *told), void *argument)
{
	static char texts[3][PACKET_SIZE];
	struct lock_wait wait = { .due = DEADLINE_NEVER };
	struct lock_told told;
	struct start start;
	int r;

	prepare(&start, lock, task);
	start.program = program;
	r = begin(lock, &start, false);
	while (r == 0 && (r = hear_told(lock, &wait)) == 0 && is_word(session_of(lock), "entry")) {
		read_told(session_of(lock), &told, texts);
		tell(argument, &told);
	}
	if (lock->lease)
		end_helper(session_of(lock));
	return r;
}

static int helper_identify(const struct lock *lock, struct lock_identity *identity)
{
	const struct helper_session *session = session_of(lock);

	*identity = (struct lock_identity){ .number = session->times, .uid = session->holder.uid, .uid_known = session->holder.uid_known };
	return 0;
}

static void helper_find_holder(const struct lock *lock, struct holder *holder, bool thorough)
{
	(void)thorough;
	*holder = session_of(lock)->holder;
}

static const struct lock_leased leased = { .confirm = helper_confirm, .started = helper_started, .abandon = helper_abandon };

const struct lock_engine lock_etcd = {
	.prefix = "etcd",
	.can_share = true,
	.can_have_slots = true,
	.leased = &leased,
	.take = helper_take,
	.claim = helper_claim,
	.serve = helper_serve,
	.release = helper_release,
	.is_ours = helper_is_ours,
	.identify = helper_identify,
	.find_holder = helper_find_holder,
};
