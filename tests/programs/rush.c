/* rush ROUNDS WIDTH COMMAND [ARGUMENT]...: WIDTH processes become COMMAND in the same instant, ROUNDS times.
 *
 * COMMAND takes a lock and runs "witness FILE -", which ends when its standard input does. That is not before all the
 * others of the round have ended, so in every round exactly one must end with 0 and all others with 4.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(2);
}

static void be_runner(int start, int stay, char **command)
{
	char byte;

	if (read(start, &byte, 1) < 0 || dup2(stay, STDIN_FILENO) < 0)
		_exit(97);
	execv(command[0], command);
	_exit(97);
}

/* Counts the ends of `count` children by status; any other end than 0 and 4 is printed. */
static int reap(int count, int *won, int *lost)
{
	int bad = 0;

	while (count-- > 0) {
		int status;
		if (wait(&status) < 0)
			die("wait");
		if (status == 0)
			++*won;
		else if (WIFEXITED(status) && WEXITSTATUS(status) == 4)
			++*lost;
		else
			printf("one ended with wait status %#x\n", status), bad = 1;
	}
	return bad;
}

/* One round; returns 0 when exactly one of them ran. */
static int rush(int width, char **command)
{
	int start[2], stay[2], won = 0, lost = 0, bad;

	if (pipe2(start, O_CLOEXEC) < 0 || pipe2(stay, O_CLOEXEC) < 0)
		die("pipe2");
	for (int i = 0; i < width; i++) {
		pid_t pid = fork();
		if (pid < 0)
			die("fork");
		if (pid == 0) {
			/* Else nobody's end of the starting pipe would ever be the last one. */
			close(start[1]);
			be_runner(start[0], stay[0], command);
		}
	}
	close(start[0]);
	close(stay[0]);
	close(start[1]);
	bad = reap(width - 1, &won, &lost);
	close(stay[1]);
	bad |= reap(1, &won, &lost);
	if (won != 1)
		printf("%d of %d ran\n", won, width);
	return bad || won != 1 || lost != width - 1;
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	for (int round = 0; round < atoi(argv[1]); round++)
		if (rush(atoi(argv[2]), argv + 3) != 0) {
			printf("in round %d\n", round);
			return 1;
		}
	return 0;
}
