/*
 * Preloaded into cron: its clock stands still until the test lets a minute pass. cron reads the
 * clock by time(), and waits for the next minute by sleep(). A byte on its standard output means
 * that it has started all jobs of this minute; a byte on its standard input begins the next one.
 */
#include <errno.h>
#include <time.h>
#include <unistd.h>

/* The start of a year, 00:00:30 UTC. */
static time_t now = 1767225630;

time_t time(time_t *result)
{
	if (result)
		*result = now;
	return now;
}

unsigned int sleep(unsigned int seconds)
{
	char byte = 0;
	ssize_t n;

	while ((n = write(STDOUT_FILENO, &byte, 1)) < 0 && errno == EINTR)
		;
	/* cron's handler for the end of its children interrupts it. */
	while (n == 1 && (n = read(STDIN_FILENO, &byte, 1)) < 0 && errno == EINTR)
		;
	if (n != 1)
		_exit(1);
	now += (time_t)seconds;
	return 0;
}
