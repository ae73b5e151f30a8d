/* hears [FILE]: a job that says which signals it gets.
 *
 * It writes "pid N" and then the number of every signal, of one of sigqueue(3) also its value and its sender, each on a
 * line, to standard output or, since a terminal may go away, to FILE. It never ends by itself nor by a signal that can be blocked, except SIGRTMAX: that ends it with 0.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static void say(int fd, const char *format, int number, const siginfo_t *info)
{
	char line[96];
	int length = snprintf(line, sizeof line, format, number, info->si_value.sival_ptr, info->si_pid, info->si_uid);

	if (write(fd, line, length) != length)
		_exit(98);
}

int main(int argc, char **argv)
{
	int out = STDOUT_FILENO, number;
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
	say(out, "pid %d\n", getpid(), &info);
	for (;;) {
		number = sigwaitinfo(&all, &info);
		if (number == SIGRTMAX)
			return 0;
		if (number > 0)
			say(out, info.si_code == SI_QUEUE ? "%d %p from %d of %u\n" : "%d\n", number, &info);
	}
}
