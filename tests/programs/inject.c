/*
 * Run a command of which one system call fails, or list the system calls that it makes.
 *
 * usage: inject TRACE CALL:NUMBER:ERRNO COMMAND [ARGUMENT]...
 *        inject TRACE list COMMAND [ARGUMENT]...
 *
 * The NUMBER-th CALL of each process fails with ERRNO, a number, and is not made; TRACE has a line
 * "hit PID CALL" for each. Or it has "call PID CALL" for every call. Its first line is "beside
 * PID", the process that does this, which ends when none is left that could call. Processes that
 * COMMAND starts count for themselves, until they execute something.
 *
 * It is what strace's injection does, at a thousandth of the time: a filter (seccomp) hands the
 * calls that matter to a process beside COMMAND, which answers. COMMAND has the pid of inject, and
 * no child that it does not know.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define MOST_PROCESSES 512

/*
 * Those that the program makes; one that is missing here is listed as its number, and then belongs
 * here.
 */
static const struct {
	const char *name;
	int number;
} calls[] = {
#define CALL(name)                                                                                 \
	{                                                                                          \
#name, __NR_##name                                                                 \
	}
#ifdef __NR_access
	CALL(access),
	CALL(arch_prctl),
	CALL(dup2),
	CALL(epoll_wait),
	CALL(fork),
	CALL(getpgrp),
	CALL(mkdir),
	CALL(open),
	CALL(pipe),
	CALL(poll),
	CALL(readlink),
	CALL(rmdir),
	CALL(vfork),
#endif
	CALL(accept4),
	CALL(bind),
	CALL(brk),
	CALL(chdir),
	CALL(clock_gettime),
	CALL(clone),
	CALL(clone3),
	CALL(close),
	CALL(close_range),
	CALL(connect),
	CALL(dup3),
	CALL(epoll_create1),
	CALL(epoll_ctl),
	CALL(epoll_pwait),
	CALL(eventfd2),
	CALL(execve),
	CALL(execveat),
	CALL(exit),
	CALL(exit_group),
	CALL(faccessat),
	CALL(faccessat2),
	CALL(fcntl),
	CALL(flock),
	CALL(futex),
	CALL(getdents64),
	CALL(geteuid),
	CALL(getpgid),
	CALL(getpid),
	CALL(getppid),
	CALL(getrlimit),
	CALL(getsid),
	CALL(getsockname),
	CALL(getsockopt),
	CALL(getxattr),
	CALL(gettid),
	CALL(getuid),
	CALL(ioctl),
	CALL(kill),
	CALL(listen),
	CALL(madvise),
	CALL(mkdirat),
	CALL(mmap),
	CALL(mprotect),
	CALL(munmap),
	CALL(nanosleep),
	CALL(newfstatat),
	CALL(openat),
	CALL(pidfd_open),
	CALL(pidfd_send_signal),
	CALL(pipe2),
	CALL(ppoll),
	CALL(prctl),
	CALL(prlimit64),
	CALL(read),
	CALL(readlinkat),
	CALL(readv),
	CALL(recvfrom),
	CALL(recvmsg),
	CALL(rt_sigaction),
	CALL(rt_sigprocmask),
	CALL(rt_sigreturn),
	CALL(rt_sigtimedwait),
	CALL(sched_yield),
	CALL(sendmsg),
	CALL(sendto),
	CALL(set_robust_list),
	CALL(set_tid_address),
	CALL(setsid),
	CALL(setsockopt),
	CALL(shutdown),
	CALL(signalfd4),
	CALL(socket),
	CALL(socketpair),
	CALL(statx),
	CALL(timerfd_create),
	CALL(timerfd_gettime),
	CALL(timerfd_settime),
	CALL(unlinkat),
	CALL(wait4),
	CALL(waitid),
	CALL(write),
	CALL(writev),
};

struct process {
	pid_t pid; /* its threads are one with it */
	int count; /* of the call that is to fail */
	bool executed; /* it is ours no more */
};

static struct {
	int call, number, error; /* call -1: list */
	pid_t command;
	int trace;
	struct process processes[MOST_PROCESSES];
} plan;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
	_exit(125);
}

static int call_named(const char *name, size_t length)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (strlen(calls[i].name) == length && memcmp(calls[i].name, name, length) == 0)
			return calls[i].number;
	return -1;
}

static void read_plan(const char *text)
{
	const char *number = strchr(text, ':'), *error = strrchr(text, ':');

	plan.call = -1;
	if (strcmp(text, "list") == 0)
		return;
	if (number && error > number) {
		plan.call = call_named(text, (size_t)(number - text));
		plan.number = atoi(number + 1);
		plan.error = atoi(error + 1);
	}
	if (plan.call < 0 || plan.number < 1 || plan.error < 1) {
		errno = EINVAL;
		die(text);
	}
}

/* --- beside the command ----------------------------------------------------------------------- */

/* The process of the thread TID. */
static pid_t process_id(pid_t tid)
{
	char path[40], text[1024], *line;
	int pid = tid, fd;
	ssize_t n = 0;

	snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof text - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = 0;
	line = strstr(text, "\nTgid:");
	if (line)
		sscanf(line, "\nTgid: %d", &pid);
	return pid;
}

static struct process *process_of(pid_t tid)
{
	static pid_t last, last_pid;
	pid_t pid;

	if (tid != last) {
		last_pid = process_id(tid);
		last = tid;
	}
	pid = last_pid;
	for (struct process *p = plan.processes; p < plan.processes + MOST_PROCESSES; p++)
		if (p->pid == pid || p->pid == 0) {
			/* The first execve() of the command's process is ours. */
			if (p->pid == 0)
				*p = (struct process){ .pid = pid, .executed = false };
			return p;
		}
	errno = ENOSPC;
	die("processes");
}

static void note(const char *word, pid_t pid, int call)
{
	char line[80];
	const char *name = NULL;
	int n;

	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
		if (calls[i].number == call)
			name = calls[i].name;
	if (call < 0)
		n = snprintf(line, sizeof line, "%s %d\n", word, (int)pid);
	else if (name)
		n = snprintf(line, sizeof line, "%s %d %s\n", word, (int)pid, name);
	else
		n = snprintf(line, sizeof line, "%s %d call-%d\n", word, (int)pid, call);
	if (write(plan.trace, line, (size_t)n) != n)
		die("trace");
}

/* A FUTEX_WAKE never fails: if it were not made, the sleeper would sleep on. */
static bool can_fail(const struct seccomp_data *call)
{
	return call->nr != __NR_futex || (call->args[1] & FUTEX_CMD_MASK) != FUTEX_WAKE;
}

/* Returns the errno with which the call is to fail, or 0. */
static int judge(pid_t pid, const struct seccomp_data *data, bool *began)
{
	struct process *process = process_of(pid);
	const int call = data->nr;

	if (!*began && pid == plan.command) {
		*began = true; /* inject's own execve() */
		return 0;
	}
	if (process->executed || !can_fail(data))
		return 0;
	if (plan.call < 0)
		note("call", process->pid, call);
	if (call == plan.call && ++process->count == plan.number) {
		note("hit", pid, call);
		return plan.error;
	}
	process->executed = call == __NR_execve || call == __NR_execveat;
	return 0;
}

static void answer_all(int listener)
{
	bool began = false;

	for (;;) {
		struct pollfd asked = { .fd = listener, .events = POLLIN };
		struct seccomp_notif notif = { 0 };
		struct seccomp_notif_resp answer = { 0 };
		int error;

		if (poll(&asked, 1, -1) < 0 && errno != EINTR)
			die("poll");
		if (!(asked.revents & POLLIN)) {
			/* Nobody is left who could ask. */
			if (asked.revents & POLLHUP)
				_exit(0);
			continue;
		}
		/* Fails where who has asked was killed. */
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notif))
			continue;
		error = judge((pid_t)notif.pid, &notif.data, &began);
		answer.id = notif.id;
		answer.error = -error;
		answer.flags = error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
}

/*
 * Takes the listener over, which shows up in the table of descriptors that it shares with the
 * command-to-be.
 */
static _Noreturn void supervise(atomic_int *shared)
{
	int listener, trace = plan.trace;

	setsid();
	signal(SIGPIPE, SIG_IGN);
	/* From the filter on, a call of the other side, such as one to wake us, waits for us. */
	while ((listener = atomic_load(shared)) < 0) {
		if (kill(plan.command, 0))
			_exit(125);
		usleep(20);
	}
	if (unshare(CLONE_FILES))
		die("unshare");
	/* Nobody is to wait for us to close what the command has inherited. */
	listener = fcntl(listener, F_DUPFD, 1000);
	plan.trace = fcntl(trace, F_DUPFD, 1001);
	if (listener < 0 || plan.trace < 0)
		die("fcntl");
	note("beside", getpid(), -1);
	syscall(SYS_close_range, 0U, 999U, 0);
	answer_all(listener);
	_exit(0);
}

/* --- the command ------------------------------------------------------------------------------ */

static int install_filter(void)
{
	struct sock_filter some[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)plan.call, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_execve, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_execveat, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
	};
	struct sock_filter all[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF) };
	struct sock_fprog program = { .len = sizeof some / sizeof *some, .filter = some };
	int fd;

	if (plan.call < 0)
		program = (struct sock_fprog){ .len = 1, .filter = all };
	/* Linux 5.19: a signal does not make the same call ask twice. */
	fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			  SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
			  &program);
	if (fd < 0 && errno == EINVAL)
		fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				  SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
	return fd;
}

int main(int argc, char **argv)
{
	atomic_int *shared =
	    mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;
	int listener;

	if (argc < 4)
		return 125;
	read_plan(argv[2]);
	plan.trace = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (plan.trace < 0)
		die(argv[1]);
	if (shared == MAP_FAILED || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		die("prepare");
	atomic_store(shared, -1);
	plan.command = getpid();
	/* Twice, so that it is no child of the command's. */
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		if (syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0) == 0)
			supervise(shared);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid)
		die("clone");
	listener = install_filter();
	if (listener < 0)
		die("seccomp");
	/* Asked for by the process beside us, which has the listener by then. */
	atomic_store(shared, listener);
	execv(argv[3], argv + 3);
	die(argv[3]);
}
