/*
 * caller OPTION... COMMAND [ARGUMENT]...: becomes COMMAND, after handing down what a shell cannot.
 *
 *   -b N   with signal N blocked ("all": every signal)    -i N   with signal N ignored
 *   -p N   with signal N blocked and pending              -c N   with descriptor N closed
 *   -C N   with every descriptor from N on closed         -t     with standard input as the controlling terminal
 *
 * The system calls are made directly: the C library neither blocks nor ignores signals 32 and 33.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void need(int happened, const char *what)
{
	if (!happened) {
		perror(what);
		exit(111);
	}
}

static void block(uint64_t signals)
{
	need(syscall(SYS_rt_sigprocmask, SIG_BLOCK, &signals, NULL, sizeof signals) == 0, "caller: rt_sigprocmask");
}

/* Has the signal sent by another process: one that a process sends to itself is not meant for others. */
static void make_pending(int number)
{
	pid_t child = fork();

	if (child == 0)
		_exit(kill(getppid(), number) == 0 ? 0 : 1);
	need(child > 0 && waitpid(child, NULL, 0) == child, "caller: fork");
}

static void ignore(int number)
{
	/* The kernel's own structure: everywhere the handler comes first and zero is good for the rest. */
	struct {
		void (*handler)(int);
		char rest[64];
	} action = {.handler = SIG_IGN};
	need(syscall(SYS_rt_sigaction, number, &action, NULL, sizeof(uint64_t)) == 0, "caller: rt_sigaction");
}

int main(int count, char **arguments)
{
	int option;
	/* "+": options end at COMMAND. */
	while ((option = getopt(count, arguments, "+b:i:p:c:C:t")) != -1) {
		int number = optarg ? atoi(optarg) : 0;
		if (option == 'b')
			block(strcmp(optarg, "all") ? UINT64_C(1) << (number - 1) : ~UINT64_C(0));
		else if (option == 'i')
			ignore(number);
		else if (option == 'c')
			close(number);
		else if (option == 'C')
			closefrom(number);
		else if (option == 't')
			need(ioctl(STDIN_FILENO, TIOCSCTTY, 0) == 0, "caller: TIOCSCTTY");
		else if (option == 'p') {
			block(UINT64_C(1) << (number - 1));
			make_pending(number);
		} else
			return 111;
	}
	need(optind < count, "caller: no command");
	execvp(arguments[optind], arguments + optind);
	need(0, arguments[optind]);
}
