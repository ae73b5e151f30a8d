/* What a helper makes of me-only and its command, in orders that a process's scheduling seldom has.
 */
#include "helper/control.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/deadline.h"
#include "tap.h"

static struct control control;
static int me_only;  /* the other end of the socket */
static int pipe_end; /* what the command has of the lock pipe */
static pid_t command;

static void move(int from, int to)
{
	if (dup2(from, to) < 0)
		abort();
	close(from);
}

/* me-only has started a command, and closed its end of the pipe. Its job packet says EXTRA. */
static void begin(const char *extra)
{
	int sockets[2], pipes[2], pidfd;
	char text[64];

	/* First, so that it has no copy of the socket. */
	command = fork();
	if (command < 0)
		abort();
	if (command == 0)
		for (;;)
			pause();
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) ||
	    pipe2(pipes, O_CLOEXEC))
		abort();
	/* Not where the others belong. */
	me_only = fcntl(sockets[1], F_DUPFD_CLOEXEC, 20);
	pipe_end = fcntl(pipes[1], F_DUPFD_CLOEXEC, 20);
	close(sockets[1]);
	close(pipes[1]);
	pipes[0] = fcntl(pipes[0], F_DUPFD_CLOEXEC, 20);
	move(sockets[0], CONTROL_FD);
	move(pipes[0], PIPE_FD);
	control_open(&control, 0, 0);
	pidfd = (int)syscall(SYS_pidfd_open, command, 0);
	(void)snprintf(text, sizeof text, "job\npid %d%s", (int)command, extra);
	packet_send(me_only, text, pidfd);
	close(pidfd);
}

static void end_command(void)
{
	siginfo_t info;

	kill(command, SIGKILL);
	waitid(P_PID, (id_t)command, &info, WEXITED | WNOWAIT);
	close(pipe_end);
	pipe_end = -1;
}

static void finish(void)
{
	waitpid(command, NULL, 0);
	if (me_only >= 0)
		close(me_only);
	if (control.job >= 0)
		close(control.job);
}

static void close_me_only(void)
{
	close(me_only);
	me_only = -1;
}

static void attend(void)
{
	control_hear(&control);
	control_tend(&control);
}

static void test_good_order(void)
{
	begin("\nalone 1");
	attend();
	ok(!control_is_over(&control), "a command that runs keeps the lock");
	end_command();
	attend();
	ok(control_is_over(&control), "its end releases the lock");
	finish();

	begin("");
	attend();
	end_command();
	attend();
	ok(!control_is_over(&control), "its end does not, if me-only has the pipe as well");
	packet_send(me_only, "done", -1);
	attend();
	ok(control_is_over(&control), "what me-only says does");
	finish();
}

static void test_killed(void)
{
	begin("\nalone 1");
	attend();
	close_me_only();
	end_command();
	attend();
	ok(!control_is_over(&control), "what a killed me-only leaves is looked for first");
	control_end_orphans(&control, DEADLINE_NEVER, 0);
	ok(control_is_over(&control), "and nothing is left");
	finish();

	begin("\nalone 1");
	attend();
	control_hear(&control);
	close_me_only();
	end_command();
	control_tend(&control);
	ok(!control_is_over(&control), "also if it is killed after it was listened to");
	finish();
}

/* The kernel reports first that me-only has not read all. */
static void test_unread(void)
{
	begin("\nalone 1");
	packet_send(CONTROL_FD, "until\nuntil 1\nat 1", -1);
	close_me_only();
	control_hear(&control);
	ok(control.started && control.job >= 0,
	   "what me-only has sent before it was killed counts");
	ok(control.orphaned, "and that it was killed");
	end_command();
	finish();
}

static void test_ending(void)
{
	begin("\nalone 1");
	attend();
	packet_send(me_only, "ending", -1);
	end_command();
	control_tend(&control);
	ok(!control_is_over(&control),
	   "me-only ends what a command has left that it has asked to end");
	packet_send(me_only, "done", -1);
	attend();
	ok(control_is_over(&control), "and reports that");
	finish();

	begin("\nalone 1");
	attend();
	control_keep_until(&control, 0, 0);
	control_tend(&control);
	end_command();
	control_keep_until(&control, DEADLINE_NEVER, 0);
	control_tend(&control);
	ok(!control_is_over(&control), "so it does if the helper has killed the command");
	finish();
}

int main(void)
{
	test_good_order();
	test_killed();
	test_unread();
	test_ending();
	return tap_done();
}
