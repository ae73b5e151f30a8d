/*
 * chaos-job [-t] [-e] LOG REGISTER RUN SECONDS: a job under a lock that says every 10 ms that it runs.
 *
 *   -t   ignores SIGTERM
 *   -e   a grandchild in a session of its own goes on for all of SECONDS; the job itself ends after half of them
 *
 * LOG gets lines, each written at once:
 *
 *   start NS TOKEN KEY     TOKEN is $ME_ONLY_TOKEN, KEY is $ETCD_LOCK_KEY
 *   tick NS WHO            WHO: "main" or "child"
 *   end NS WHO             nobody ended it before its time
 *
 * With each tick goes one write to REGISTER ("-": none), a store that refuses an older token: its file holds the highest token
 * seen, and a write is accepted if its token is not lower. REGISTER.log has a line for each, in the store's own order:
 *
 *   NS TOKEN RUN accepted|refused
 *
 * A write that finds the store busy is left out: who is frozen while he has it must not keep the others from ticking.
 * NS is CLOCK_BOOTTIME in nanoseconds. Exit status 0; 111 if something does not work.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TICK_MS = 10 };

struct job {
	int log;
	int store;
	int store_log;
	const char *run;
	const char *who;
	uint64_t token;
};

static void need(bool happened, const char *what)
{
	if (!happened) {
		perror(what);
		exit(111);
	}
}

static int64_t now(void)
{
	struct timespec t;

	need(clock_gettime(CLOCK_BOOTTIME, &t) == 0, "chaos-job: clock_gettime");
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* One line by one call: lines of several processes never mix. */
__attribute__((format(printf, 2, 3))) static void say(int fd, const char *format, ...)
{
	char line[512];
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	need(n > 0 && (size_t)n < sizeof line && write(fd, line, (size_t)n) == n, "chaos-job: write");
}

/* One attempt to write to the store. The file is a number of 8 bytes; an empty one has seen no token yet. */
static void write_fenced(const struct job *job)
{
	uint64_t highest = 0;
	ssize_t n;
	bool accepted;

	if (job->store < 0 || flock(job->store, LOCK_EX | LOCK_NB) < 0)
		return;
	n = pread(job->store, &highest, sizeof highest, 0);
	need(n == 0 || n == sizeof highest, "chaos-job: the register");
	accepted = job->token >= highest;
	if (accepted)
		need(pwrite(job->store, &job->token, sizeof job->token, 0) == sizeof job->token, "chaos-job: the register");
	say(job->store_log, "%" PRId64 " %" PRIu64 " %s %s\n", now(), job->token, job->run, accepted ? "accepted" : "refused");
	flock(job->store, LOCK_UN);
}

static void run(const struct job *job, double seconds)
{
	int64_t end = now() + (int64_t)(seconds * 1e9);

	for (int64_t t = now(); t < end; t = now()) {
		say(job->log, "tick %" PRId64 " %s\n", t, job->who);
		write_fenced(job);
		nanosleep(&(struct timespec){ .tv_nsec = TICK_MS * 1000000 }, NULL);
	}
	say(job->log, "end %" PRId64 " %s\n", now(), job->who);
}

/* An open file of its own for each process: locks of flock(2) are between open files. */
static void open_store(struct job *job, const char *path)
{
	char log[4096];

	job->store = job->store_log = -1;
	if (strcmp(path, "-") == 0)
		return;
	need((size_t)snprintf(log, sizeof log, "%s.log", path) < sizeof log, "chaos-job: the register's name");
	job->store = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	job->store_log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	need(job->store >= 0 && job->store_log >= 0, path);
}

/* Starts what no signal to the job, its group or its session reaches. */
static void escape(struct job job, const char *store, double seconds)
{
	pid_t child = fork();

	need(child >= 0, "chaos-job: fork");
	if (child > 0)
		return;
	need(setsid() >= 0, "chaos-job: setsid");
	child = fork();
	need(child >= 0, "chaos-job: fork");
	if (child > 0)
		_exit(0);
	job.who = "child";
	open_store(&job, store);
	run(&job, seconds);
	_exit(0);
}

int main(int count, char **arguments)
{
	struct job job = { .who = "main" };
	const char *token = getenv("ME_ONLY_TOKEN"), *key = getenv("ETCD_LOCK_KEY"), *store;
	bool escapes = false;
	double seconds;
	int option;

	umask(0);
	while ((option = getopt(count, arguments, "te")) != -1) {
		if (option == 't')
			signal(SIGTERM, SIG_IGN);
		else if (option == 'e')
			escapes = true;
		else
			return 2;
	}
	if (count - optind != 4)
		return 2;
	errno = 0;
	job.token = token ? strtoull(token, NULL, 10) : 0;
	job.log = open(arguments[optind], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	need(job.log >= 0, arguments[optind]);
	store = arguments[optind + 1];
	job.run = arguments[optind + 2];
	seconds = atof(arguments[optind + 3]);
	say(job.log, "start %" PRId64 " %" PRIu64 " %s\n", now(), job.token, key ? key : "-");
	if (escapes)
		escape(job, store, seconds);
	open_store(&job, store);
	run(&job, escapes ? seconds / 2 : seconds);
	return 0;
}
