/*
 * headless FILE: its first thread ends at once, and /proc calls the process a zombie; another
 * thread lives on. It ignores SIGTERM, and appends a line to FILE when it runs, as ticker.py does:
 * "headless PID 0".
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static void *live(void *file)
{
	char line[64], state = 0;
	int n = snprintf(line, sizeof line, "headless %d 0\n", (int)getpid());
	int out = open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);

	while (state != 'Z') {
		FILE *stat = fopen("/proc/self/stat", "re");

		if (!stat || fscanf(stat, "%*d (headless) %c", &state) != 1)
			_exit(1);
		fclose(stat);
	}
	if (write(out, line, (size_t)n) != n)
		_exit(1);
	sleep(600);
	_exit(0);
}

int main(int count, char **arguments)
{
	pthread_t thread;

	signal(SIGTERM, SIG_IGN);
	if (count != 2 || pthread_create(&thread, NULL, live, arguments[1]))
		return 1;
	/* Not exit(), which ends all. */
	syscall(SYS_exit, 0);
	return 1;
}
