/*
 * The actors of a script as processes of the real kernel. usage: conform-real FIRST LAST STEPS, or
 * conform-real --features: what differs between kernels, as the model wants to be told.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conform.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

struct question {
	struct call call;
	struct actor_state state;
};

static int to[ACTORS], from[ACTORS];
static pid_t pids[ACTORS];

_Noreturn static void act(int reads, int writes)
{
	struct question question;
	struct answer answer;

	signal(SIGPIPE, SIG_IGN);
	while (read(reads, &question, sizeof question) == sizeof question) {
		conform_execute(&question.state, &question.call, &answer);
		if (write(writes, &answer, sizeof answer) < 0)
			break;
	}
	_exit(0);
}

void conform_begin(struct actor_state states[ACTORS])
{
	for (int i = 0; i < ACTORS; i++) {
		int questions[2], answers[2];

		if (pipe2(questions, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
			abort();
		to[i] = questions[1];
		from[i] = answers[0];
		pids[i] = fork();
		if (pids[i] < 0)
			abort();
		if (pids[i] == 0) {
			close(questions[1]);
			close(answers[0]);
			act(questions[0], answers[1]);
		}
		close(questions[0]);
		close(answers[1]);
		for (int a = 0; a < ACTORS; a++)
			states[a].pids[i] = pids[i];
	}
}

void conform_end(void)
{
	/* The last first: it has copies of the others' pipes. */
	for (int i = ACTORS - 1; i >= 0; i--) {
		close(to[i]);
		close(from[i]);
		if (pids[i] > 0)
			waitpid(pids[i], NULL, 0);
	}
}

void conform_ask(int actor, const struct actor_state *state, const struct call *call,
		 struct answer *answer)
{
	struct question question = { *call, *state };
	siginfo_t info;

	if (call->op == OP_DIE) {
		kill(pids[actor], SIGKILL);
		waitid(P_PID, (id_t)pids[actor], &info, WEXITED | WNOWAIT);
	} else if (call->op == OP_REAP) {
		waitpid(pids[actor], NULL, 0);
		pids[actor] = 0;
	} else if (write(to[actor], &question, sizeof question) != sizeof question ||
		   read(from[actor], answer, sizeof *answer) != sizeof *answer) {
		abort();
	}
}

void conform_receive_limited(void (*receive)(int fd, struct answer *answer), int fd,
			     struct answer *answer)
{
	struct rlimit limit, none;

	getrlimit(RLIMIT_NOFILE, &limit);
	none = limit;
	none.rlim_cur = 0;
	setrlimit(RLIMIT_NOFILE, &none);
	receive(fd, answer);
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* --- what differs between kernels --- */

static int listen_somewhere(struct sockaddr_un *un, socklen_t *length)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	*un = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			      (size_t)sprintf(un->sun_path + 1, "conform-features-%d", getpid()));
	if (fd < 0 || bind(fd, (struct sockaddr *)un, *length) || listen(fd, 5))
		abort();
	return fd;
}

/* SO_PEERPIDFD of a process that was reaped. */
static void find_peerpidfd(struct features *features)
{
	struct sockaddr_un un;
	socklen_t length, size = sizeof(int);
	int listener = listen_somewhere(&un, &length), fd, pidfd = -1;
	struct pollfd p = { .events = POLLIN };
	pid_t child = fork();

	if (child == 0) {
		fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		_exit(connect(fd, (struct sockaddr *)&un, length) != 0);
	}
	waitpid(child, NULL, 0);
	fd = accept(listener, NULL, NULL);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
		features->peerpidfd = 2;
	else
		features->peerpidfd = errno == ENOPROTOOPT ? 0 : 1;
	p.fd = pidfd;
	features->pidfd_hangs_up = pidfd < 0 || (poll(&p, 1, 0) && (p.revents & POLLHUP));
	close(listener);
	close(fd);
}

/* Whether SO_PASSCRED that the listener gets between connect and accept is inherited. */
static void find_passcred(struct features *features)
{
	struct sockaddr_un un;
	socklen_t length, size = sizeof(int);
	int listener = listen_somewhere(&un, &length), client = socket(AF_UNIX, SOCK_SEQPACKET, 0),
	    on = 1, fd;

	if (connect(client, (struct sockaddr *)&un, length) ||
	    setsockopt(listener, SOL_SOCKET, SO_PASSCRED, &on, sizeof on))
		abort();
	fd = accept(listener, NULL, NULL);
	on = 0;
	getsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, &size);
	features->passcred_at_accept = on;
	close(listener);
	close(client);
	close(fd);
}

int main(int argc, char **argv)
{
	struct features features = { 0 };

	if (argc == 2 && !strcmp(argv[1], "--features")) {
		find_peerpidfd(&features);
		find_passcred(&features);
		printf("%d %d %d\n", features.peerpidfd, features.pidfd_hangs_up,
		       features.passcred_at_accept);
		return 0;
	}
	if (argc != 4)
		return 2;
	conform_run(atoi(argv[1]), atoi(argv[2]), atoi(argv[3]), getpid());
	return 0;
}
