#include "helper/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/descriptor.h"
#include "base/number.h"
#include "base/process.h"
#include "base/start.h"
#include "helper/session.h"
#include "helper/start.h"

static void add_argument(struct child_start *start, const char *key, const char *value)
{
	size_t need = strlen(key) + strlen(value) + 1;

	if (start->n + 1 >= MOST_ARGUMENTS ||
	    need > (size_t)(start->text + sizeof start->text - start->end))
		return;
	start->argv[start->n++] = start->end;
	start->argv[start->n] = NULL;
	start->end = stpcpy(stpcpy(start->end, key), value) + 1;
}

static void add_number(struct child_start *start, const char *key, int64_t n)
{
	char text[NUMBER_TEXT_SIZE];

	number_format((uint64_t)n, text);
	add_argument(start, key, n == DEADLINE_NEVER ? "inf" : text);
}

/* The new process, which shares our memory until it becomes the helper. */
static void become_helper(void *argument)
{
	struct child_start *start = argument;
	const bool take = start->pipe >= 0;
	int socket = fcntl(start->socket, F_DUPFD_CLOEXEC, 10),
	    pipe = take ? fcntl(start->pipe, F_DUPFD_CLOEXEC, 10) : -1,
	    timer = take ? fcntl(start->timer, F_DUPFD_CLOEXEC, 10) : -1;

	setsid();
	/* If it is stopped when me-only ends, it resumes, and leaves the line. */
	prctl(PR_SET_PDEATHSIG, SIGCONT);
	/* Also with a limit below 10, for which fcntl(2) fails with EINVAL. */
	if (socket < 0 || (take && (pipe < 0 || timer < 0)))
		start->failed = -EMFILE;
	else if (dup2(socket, STDIN_FILENO) < 0 || dup2(socket, STDOUT_FILENO) < 0 ||
		 (take && (dup2(pipe, PIPE_FD) < 0 || dup2(timer, TIMER_FD) < 0)))
		start->failed = -errno;
	else {
		descriptor_close_others(take ? TIMER_FD + 1 : PIPE_FD, -1, -1);
		start->failed = helper_become(start->name, start->program, start->argv,
					      start->session->path);
	}
	_exit(EXIT_FAILURE);
}

void child_end(struct helper_session *session)
{
	if (session->helper > 0) {
		kill(session->helper, SIGKILL);
		while (waitpid(session->helper, NULL, 0) < 0 && errno == EINTR)
			;
	}
	session->helper = 0;
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

/* Starts the helper, and closes START's descriptors. Returns 0 or an error with lock->failed. */
static int start_helper(struct lock *lock, struct child_start *start, int ours)
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
		return helper_cannot(lock, "cannot start the helper", pid);
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
		return helper_cannot(lock, lock->engine->missing, LOCK_FAILED);
	if (start->failed == HELPER_REFUSED)
		return helper_cannot(
			lock,
			"refusing to run the helper: it or its directory is writable by others",
			LOCK_FAILED);
	return helper_cannot(lock, "cannot run the helper", start->failed);
}

/* Returns a descriptor that is not 0, 1 or 2, or a negative errno. */
static int make_timer(void)
{
	int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);

	return fd < 0 ? -errno : descriptor_off_stdio(fd);
}

/* Opens the socket, and the pipe if LOCK is to be taken, and starts the helper. */
int child_begin(struct lock *lock, struct child_start *start, bool take)
{
	int sockets[2], pipes[2] = { -1, -1 }, r;
	void *pages = mmap(NULL, sizeof *session_of(lock), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return helper_cannot(lock, "out of memory for the helper", -errno);
	lock->lease = pages;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		return helper_cannot(lock, "cannot create a socket", -errno);
	r = off_stdio(sockets);
	if (r == 0 && take)
		r = pipe2(pipes, O_CLOEXEC) ? -errno : off_stdio(pipes);
	if (r)
		return helper_cannot(lock, "cannot create a pipe", r);
	if (take) {
		session_of(lock)->timer = make_timer();
		if (session_of(lock)->timer < 0)
			return helper_cannot(lock, "cannot create a timer",
					     session_of(lock)->timer);
	}
	start->socket = sockets[1];
	start->pipe = pipes[0];
	start->timer = session_of(lock)->timer;
	lock->fd = pipes[1];
	return start_helper(lock, start, sockets[0]);
}

void child_prepare(struct child_start *start, const struct lock *lock, const char *what)
{
	*start = (struct child_start){ .argv = { (char *)"", (char *)PROTOCOL_VERSION,
						 (char *)(uintptr_t)what,
						 (char *)(uintptr_t)lock->name },
				       .n = 4,
				       .pipe = -1 };
	start->end = start->text;
	add_number(start, "pid=", getpid());
}

void child_prepare_take(struct child_start *start, const struct lock *lock,
			const struct lock_wait *wait)
{
	const struct options *options = lock->options;

	child_prepare(start, lock, "take");
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
	if (options->verbose)
		add_argument(start, "verbose=", "1");
	strncpy(stpcpy(start->command, "command="), options->command[0],
		sizeof start->command - sizeof "command=");
	start->argv[start->n++] = start->command;
	start->argv[start->n] = NULL;
}

bool child_is_there(const struct helper_session *session)
{
	siginfo_t info;

	return session->helper > 0 &&
	       waitid(P_PID, (id_t)session->helper, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* How the helper has ended, in words. */
const char *child_last_words(struct helper_session *session)
{
	char *end;
	int status;

	strcpy(session->said, "the helper has exited");

	/* A helper that has closed the socket is useless. */
	if (child_is_there(session))
		kill(session->helper, SIGKILL);
	if (child_is_there(session) && waitpid(session->helper, &status, 0) == session->helper) {
		session->helper = 0;
		end = stpcpy(session->said, WIFSIGNALED(status) ? "the helper was killed by signal "
								: "the helper exited with status ");
		number_format(
			(uint64_t)(WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)),
			end);
	}
	return session->said;
}
