/* storm RUNS SEED MILLISECONDS PROGRAM LOCK WITNESS FILE: many runs of PROGRAM on one LOCK, harmed at random.
 *
 * Each run is PROGRAM [OPTION]... LOCK WITNESS FILE MS, in one of several forms. All the while, at random moments, harm
 * is done: SIGKILL, SIGTERM or a short stop to any run, or a signal to the process, the job or the keeper of the one that
 * has the lock then.
 * Storm fails (status 1, with one line for each reason) when a run that nobody harmed ends with anything else than it
 * should, when anything is left at the end, when the lock is not free then, or when it does not come to an end.
 * Overlaps are the witness's to find: it writes them to FILE.
 *
 * One thing no program could survive: with -o the job has no part of the lock, so that killing both the waiting parent
 * and the keeper frees it while the job lives. Of these two only one is ever killed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH_MAX = 16, TIME_LIMIT = 240 };

/* The forms; a run of a form that waits for ever must end with 0 if nobody harms it. */
static const struct form {
	const char *options[3];
	int closes, waits;
} forms[] = {
	{ { NULL }, 0, 0 },
	{ { "-n", NULL }, 0, 0 },
	{ { "-w", "inf", NULL }, 0, 1 },
	{ { "-w", "inf", NULL }, 0, 1 },
	{ { "-w", "10ms", NULL }, 0, 0 },
	{ { "-F", NULL }, 0, 0 },
	{ { "-Fw", "inf", NULL }, 0, 1 },
	{ { "-o", NULL }, 1, 0 },
	{ { "-ow", "inf", NULL }, 1, 1 },
	{ { "-ow", "20ms", NULL }, 1, 0 },
};

enum target { ANYONE, HOLDER, JOB, KEEPER, TARGETS };

static struct run {
	pid_t pid; /* 0: this place is empty */
	const struct form *form;
	double stopped_until; /* 0: it is not stopped */
	int harmed;           /* anything was done to it: its end may be a signal */
	int half_killed;      /* its process or its keeper was killed */
} runs[WIDTH_MAX];

static const char *program, *lock_name, *witness, *file_name;
static int file, failures, ran, held, ended_by_signal, harms[TARGETS];
static long longest_ms;

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int chance(int one_in)
{
	return random() % one_in == 0;
}

__attribute__((format(printf, 1, 2))) static void fail(const char *format, ...)
{
	va_list arguments;

	failures++;
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
}

/* ---- starting ---- */

static void start_run(struct run *run)
{
	char ms[24];
	const char *arguments[10];
	int n = 0;

	*run = (struct run){ .form = &forms[random() % (sizeof forms / sizeof *forms)] };
	snprintf(ms, sizeof ms, "%ld", random() % (longest_ms + 1));
	arguments[n++] = program;
	for (const char *const *option = run->form->options; *option; option++)
		arguments[n++] = *option;
	arguments[n++] = lock_name;
	arguments[n++] = witness;
	arguments[n++] = file_name;
	arguments[n++] = ms;
	arguments[n] = NULL;
	run->pid = vfork();
	if (run->pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execv(program, (void *)arguments);
		_exit(97);
	}
	if (run->pid < 0) {
		perror("vfork");
		exit(2);
	}
}

/* ---- harming ---- */

static struct run *run_of(pid_t pid)
{
	for (int i = 0; i < WIDTH_MAX; i++)
		if (pid > 0 && runs[i].pid == pid)
			return &runs[i];
	return NULL;
}

static pid_t parent_of(pid_t pid)
{
	char path[40], stat[512], *after;
	ssize_t length;
	int fd, parent = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	length = read(fd, stat, sizeof stat - 1);
	close(fd);
	stat[length > 0 ? length : 0] = '\0';
	after = strrchr(stat, ')');
	if (!after || sscanf(after, ") %*c %d", &parent) != 1)
		return 0;
	return parent;
}

static pid_t job_now(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fcntl(file, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid;
}

/* The run to which a job belongs, as long as the run's process lives. */
static struct run *owner_of(pid_t job)
{
	return run_of(job) ? run_of(job) : run_of(parent_of(job));
}

/* A child of the run's process that is not the job. */
static int is_keeper(pid_t pid, const struct run *run)
{
	return pid > 0 && parent_of(pid) == run->pid && pid != job_now();
}

static pid_t keeper_of(const struct run *run)
{
	DIR *proc;
	struct dirent *entry;
	pid_t keeper = 0;

	/* With -o it is started right after the job, and both may live for a millisecond only. */
	for (pid_t pid = run->pid + 1; pid < run->pid + 20; pid++)
		if (is_keeper(pid, run))
			return pid;
	proc = opendir("/proc");
	while (proc && !keeper && (entry = readdir(proc)))
		if (is_keeper(atoi(entry->d_name), run))
			keeper = atoi(entry->d_name);
	if (proc)
		closedir(proc);
	return keeper;
}

/* Signals a process that is not our child. It may end, and its number go to a stranger, before we have a descriptor of
 * it: so `still` is asked once more in between. */
static int harm_other(pid_t pid, int signal, int still)
{
	int sent, pidfd;

	if (!still || (pidfd = syscall(SYS_pidfd_open, pid, 0)) < 0)
		return 0;
	sent = (job_now() == pid || run_of(parent_of(pid))) && syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) == 0;
	close(pidfd);
	return sent;
}

static int harm_process(struct run *run, int signal)
{
	if (run->form->closes && signal == SIGKILL && run->half_killed)
		return 0;
	if (kill(run->pid, signal) < 0)
		return 0;
	run->harmed = 1;
	if (signal == SIGKILL)
		run->half_killed = 1;
	if (signal == SIGSTOP)
		run->stopped_until = now() + random() % 30000 / 1e6;
	return 1;
}

static int harm_job(pid_t job, int signal)
{
	struct run *owner = owner_of(job);

	if (owner)
		owner->harmed = 1;
	return harm_other(job, signal, 1);
}

static int harm_keeper(struct run *run)
{
	pid_t keeper;

	if (run->half_killed && run->form->closes)
		return 0;
	keeper = keeper_of(run);
	if (!keeper)
		return 0;
	/* It may have been the job after all, a moment before its record lock. */
	run->harmed = run->half_killed = 1;
	return harm_other(keeper, SIGKILL, parent_of(keeper) == run->pid);
}

static void harm(void)
{
	static const int signals[] = { SIGKILL, SIGKILL, SIGTERM, SIGTERM, SIGSTOP };
	enum target target = random() % TARGETS;
	int signal = signals[random() % 5], done = 0;
	struct run *any = &runs[random() % WIDTH_MAX], *owner;
	pid_t job = job_now();

	owner = owner_of(job);
	if (target == ANYONE && any->pid)
		done = harm_process(any, signal);
	else if (target == HOLDER && owner)
		done = harm_process(owner, signal);
	else if (target == JOB && job > 0 && signal != SIGSTOP)
		done = harm_job(job, signal);
	else if (target == KEEPER && owner)
		done = harm_keeper(owner);
	harms[target] += done;
}

static void end_stops(void)
{
	for (struct run *run = runs; run < runs + WIDTH_MAX; run++)
		if (run->pid && run->stopped_until > 0 && run->stopped_until <= now()) {
			kill(run->pid, SIGCONT);
			run->stopped_until = 0;
		}
}

/* ---- ending ---- */

static void end_of(struct run *run, int status)
{
	int killed = WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGTERM);

	if (status == 0)
		ran++;
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 4 && !run->form->waits)
		held++;
	else if (killed && run->harmed)
		ended_by_signal++;
	else
		fail("%s %s: %s run ended with wait status %#x", run->form->options[0] ? run->form->options[0] : "plain",
		     run->form->options[0] && run->form->options[1] ? run->form->options[1] : "",
		     run->harmed ? "a harmed" : "an unharmed", status);
	run->pid = 0;
}

/* Reaps whatever has ended: runs, and jobs and keepers that lost their parent. Returns 0 when no child is left. */
static int reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct run *run = run_of(pid);
		if (run)
			end_of(run, status);
	}
	return pid == 0;
}

/* Waits for a child's end, a stop's end or the time of the next harm, whatever is first. */
static void wait_until(double when)
{
	sigset_t child;
	double seconds;

	for (const struct run *run = runs; run < runs + WIDTH_MAX; run++)
		if (run->pid && run->stopped_until > 0 && run->stopped_until < when)
			when = run->stopped_until;
	seconds = when - now();

	if (seconds <= 0)
		return;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigtimedwait(&child, NULL, &(struct timespec){ seconds, (seconds - (long)seconds) * 1e9 });
}

static void check_free(const char *suffix, size_t length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t used = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "me-only:%s", lock_name) + 1;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path + used, suffix, length);
	if (bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path) + used + length) < 0)
		fail("%s is not free at the end: %s", length ? "the queue" : "the lock", strerror(errno));
	close(fd);
}

static void check_all_free(void)
{
	char queue[40] = "\0queue\0";

	check_free("", 0);
	check_free(queue, 7 + sprintf(queue + 7, "%d", (int)geteuid()));
}

int main(int argc, char **argv)
{
	double limit = now() + TIME_LIMIT, next_harm = now();
	int to_start, width = WIDTH_MAX, children = 1;
	sigset_t child;

	if (argc != 8)
		return 2;
	to_start = atoi(argv[1]);
	srandom(atoi(argv[2]));
	longest_ms = atol(argv[3]);
	program = argv[4];
	lock_name = argv[5];
	witness = argv[6];
	file_name = argv[7];
	file = open(file_name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (file < 0 || sigprocmask(SIG_BLOCK, &child, NULL) < 0 || prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
		perror("storm");
		return 2;
	}
	while ((to_start > 0 || children) && failures < 10) {
		for (struct run *run = runs; run < runs + width; run++)
			if (!run->pid && to_start > 0) {
				start_run(run);
				to_start--;
			}
		/* Few at once meet a free lock, many a queue: both are wanted. */
		if (chance(100))
			width = 1 << random() % 5;
		if (now() >= next_harm) {
			harm();
			next_harm = now() + random() % (longest_ms * 1000 + 3000) / 1e6;
		}
		end_stops();
		children = reap();
		if (children)
			wait_until(next_harm);
		if (now() > limit) {
			fail("not at an end after %d s", TIME_LIMIT);
			break;
		}
	}
	for (int i = 0; i < WIDTH_MAX; i++)
		if (runs[i].pid)
			kill(runs[i].pid, SIGKILL);
	if (!failures)
		check_all_free();
	printf("%d ran, %d found it held, %d ended by a signal; harmed: %d of any, %d holders, %d jobs, %d keepers\n",
	       ran, held, ended_by_signal, harms[ANYONE], harms[HOLDER], harms[JOB], harms[KEEPER]);
	return failures > 0;
}
