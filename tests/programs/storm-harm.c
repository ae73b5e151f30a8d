#include "storm.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Somebody who is stopped, for some milliseconds. */
static struct stop {
	int pidfd; /* -1: none */
	double until;
} stops[WIDTH_MAX];

void harm_prepare(void)
{
	for (struct stop *stop = stops; stop < stops + WIDTH_MAX; stop++)
		stop->pidfd = -1;
}

struct run *run_of(uint32_t pid)
{
	for (struct run *run = storm.runs; run < storm.runs + WIDTH_MAX; run++)
		if (pid != 0 && (uint32_t)run->pid == pid)
			return run;
	return NULL;
}

static bool send_signal(int pidfd, int number)
{
	return syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0) == 0;
}

/* Signals by PIDFD, which is ours to close; a stop has an end. */
static bool strike(int pidfd, int number)
{
	struct stop *stop = stops;

	while (number == SIGSTOP && stop < stops + WIDTH_MAX && stop->pidfd >= 0)
		stop++;
	if (stop == stops + WIDTH_MAX || !send_signal(pidfd, number)) {
		close(pidfd);
		return false;
	}
	if (number == SIGSTOP)
		*stop = (struct stop){ pidfd, storm_now() + random_below(20000) / 1e6 };
	else
		close(pidfd);
	return true;
}

static bool harm_run(struct run *run, int number)
{
	if (number == SIGKILL && run->closes && run->half_killed)
		return false;
	run->harmed = true;
	run->half_killed |= number == SIGKILL;
	return strike(fcntl(run->pidfd, F_DUPFD_CLOEXEC, 0), number);
}

/* Who is in the place was in there before there was a pidfd and after: so that is of it. */
static bool harm_command(const struct storm_place *place, int number)
{
	uint32_t pid = __atomic_load_n(&place->word, __ATOMIC_SEQ_CST), parent = place->parent;
	struct run *run = run_of(pid) ? run_of(pid) : run_of(parent);
	int pidfd;

	if (pid == 0 || pid & FUTEX_OWNER_DIED || (!run && parent != (uint32_t)getpid()))
		return false;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return false;
	if (__atomic_load_n(&place->word, __ATOMIC_SEQ_CST) != pid || place->parent != parent) {
		close(pidfd);
		return false;
	}
	if (run)
		run->harmed = true;
	return strike(pidfd, number);
}

/* The N-th child of PID; 0: there are not so many. */
pid_t child_of(pid_t pid, unsigned n)
{
	char path[60], text[256];
	const char *at = text;
	ssize_t length;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	length = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	text[length > 0 ? length : 0] = 0;
	for (; n > 0 && at; n--)
		at = strchr(at, ' ') ? strchr(at, ' ') + 1 : NULL;
	return at ? atoi(at) : 0;
}

/* A keeper, or the command, or what is about to become it. */
static bool harm_child(struct run *run, unsigned n, int number)
{
	pid_t pid = child_of(run->pid, n);
	int pidfd;

	if (pid <= 0 || (number == SIGKILL && run->closes && run->half_killed))
		return false;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return false;
	if (child_of(run->pid, n) != pid) {
		close(pidfd);
		return false;
	}
	run->harmed = true;
	run->half_killed |= number == SIGKILL;
	return strike(pidfd, number);
}

void harm(uint64_t number)
{
	static const int signals[] = { SIGKILL, SIGKILL, SIGKILL, SIGTERM,
				       SIGTERM, SIGHUP,  SIGSTOP, SIGSTOP };
	unsigned target, first, n;
	int signal;
	bool done = false;

	random_begin(2, number);
	target = random_below(3);
	signal = signals[random_below(sizeof signals / sizeof *signals)];
	first = random_below(storm.width);
	n = random_below(2);
	/* The first one from there that has what is to be harmed. */
	for (unsigned i = 0; !done && i < storm.width; i++) {
		struct run *run = &storm.runs[(first + i) % storm.width];

		if (!run->pid)
			continue;
		if (target == 0)
			done = harm_run(run, signal);
		else if (target == 1)
			done = harm_command(
			    &storm.memory->places[run->lock][n % storm.memory->slots[run->lock]],
			    signal);
		else
			done = harm_child(run, n, signal);
	}
	__atomic_fetch_add(&storm.memory->harmed[target], done, __ATOMIC_RELAXED);
}

/* Returns when the next stop ends. */
double harm_end_stops(bool all)
{
	double next = storm_now() + 1;

	for (struct stop *stop = stops; stop < stops + WIDTH_MAX; stop++) {
		if (stop->pidfd < 0)
			continue;
		if (all || stop->until <= storm_now()) {
			send_signal(stop->pidfd, SIGCONT);
			close(stop->pidfd);
			stop->pidfd = -1;
		} else if (stop->until < next) {
			next = stop->until;
		}
	}
	return next;
}
