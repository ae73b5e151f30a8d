/*
 * hears [FILE]: a job that reports which signals it gets.
 *
 * It writes "pid N" and then the number of each signal, for one of sigqueue(3) also its value and
 * its sender, each on a line, to standard output or, since a terminal may go away, to FILE. It never
 * exits by itself nor by a signal that can be blocked, except SIGRTMAX, which ends it with 0.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void say(int fd, const char *line, int length)
{
	if (write(fd, line, (size_t)length) != length)
		_exit(98);
}

int main(int argc, char **argv)
{
	int out = STDOUT_FILENO, number;
	char line[96];
	siginfo_t info = { 0 };
	sigset_t all;

	if (argc > 1 && (out = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0)
		return 98;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	/* An ignored signal would be reported too while it is blocked; what is ignored must stay unheard. */
	for (int s = 1; s <= SIGRTMAX; s++) {
		struct sigaction now;
		if (sigaction(s, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
			sigdelset(&all, s);
	}
	say(out, line, snprintf(line, sizeof line, "pid %d\n", getpid()));
	for (;;) {
		number = sigwaitinfo(&all, &info);
		if (number == SIGRTMAX)
			return 0;
		if (number > 0 && info.si_code == SI_QUEUE)
			say(out, line, snprintf(line, sizeof line, "%d %p from %d of %u\n", number,
						info.si_value.sival_ptr, info.si_pid, info.si_uid));
		else if (number > 0)
			say(out, line, snprintf(line, sizeof line, "%d\n", number));
	}
}
