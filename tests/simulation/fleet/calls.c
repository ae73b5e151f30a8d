/* The system calls on processes, and raw ones: see calls-files.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "descriptors.h"
#include "world.h"

/* Seconds since 1970 when a run begins. */
#define EPOCH (1800000000 * S)

/* --- processes -------------------------------------------------------------------------------- */

int sim_getpid(void)
{
	return current->pid;
}

int sim_getppid(void)
{
	task_enter_call();
	return current->parent;
}

int sim_prctl(int option, unsigned long argument, ...)
{
	task_enter_call();
	if (option == PR_SET_PDEATHSIG)
		current->death_signal = (int)argument;
	else if (option == PR_SET_CHILD_SUBREAPER)
		current->subreaper = true;
	return 0;
}

int sim_kill(int pid, int signal)
{
	struct task *task;

	task_enter_call();
	task = task_find(pid);
	if (!task || task->host != current->host) {
		errno = ESRCH;
		return -1;
	}
	if (signal)
		trace("kill %d with signal %d", pid, signal);
	task_signal(task, signal);
	return 0;
}

/* A child of the current process that has ended; NULL: none yet. ANY: there are children. */
static struct task *ended_child(int pid, bool *any)
{
	*any = false;
	for (int i = 0; i < n_tasks; i++) {
		struct task *child = tasks[i];

		if (child->parent != current->pid || (pid > 0 && child->pid != pid) ||
		    (!child->alive && !child->zombie))
			continue;
		*any = true;
		if (child->zombie)
			return child;
	}
	return NULL;
}

/* wait(2) without or with WNOHANG; LEAVE is WNOWAIT. */
static int wait_for(int pid, int *status, bool hang, bool leave)
{
	for (;;) {
		bool any;
		struct task *child = ended_child(pid, &any);

		if (child) {
			if (status)
				*status = child->status;
			child->zombie = leave;
			return child->pid;
		}
		if (!any) {
			errno = ECHILD;
			return -1;
		}
		if (!hang)
			return 0;
		current->wants_child = true;
		task_block(clock_monotonic(current->host) + 50 * MS);
		current->wants_child = false;
	}
}

int sim_waitpid(int pid, int *status, int options)
{
	task_enter_call();
	return wait_for(pid, status, !(options & WNOHANG), false);
}

int sim_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
	int pid;

	(void)type;
	task_enter_call();
	pid = wait_for((int)id, NULL, !(options & WNOHANG), options & WNOWAIT);
	if (pid > 0)
		info->si_pid = pid;
	return pid < 0 ? -1 : 0;
}

_Noreturn void sim__exit(int status)
{
	task_enter_call();
	current->exited = true;
	task_end(current, (status & 0xff) << 8);
	abort();
}

/* --- raw calls -------------------------------------------------------------------------------- */

/*
 * Reading a clock, and a random number, take no time, and are no place where a process is
 * preempted: C does not say in which order two of them in one expression are called, and a seed has
 * to give the same run with every compiler.
 */
static long get_time(int clock, int64_t time[2])
{
	ns t;

	task_count_call();
	if (current->kind == TASK_COMMAND)
		world.jobs[current->job].looked = now;
	t = clock == CLOCK_BOOTTIME  ? clock_boottime(current->host)
	  : clock == CLOCK_MONOTONIC ? clock_monotonic(current->host)
				     : EPOCH + now;

	time[0] = t / S;
	time[1] = t % S;
	return 0;
}

static long close_from(int first)
{
	for (int fd = first; fd < DESCRIPTORS; fd++)
		if (current->descriptors[fd])
			descriptor_close(current, fd);
	task_notify();
	return 0;
}

static long open_for(enum file_type type, struct task *task)
{
	struct file *file = file_new(type);

	if (!task) {
		errno = ESRCH;
		return -1;
	}
	file->task = task;
	return descriptor_install(current, file, 0, true);
}

static long send_by_pidfd(int fd, int signal)
{
	const struct file *file = file_of(fd);

	if (!file)
		return -1;
	if (!file->task->alive) {
		errno = ESRCH;
		return -1;
	}
	trace("kill %d with signal %d", file->task->pid, signal);
	task_signal(file->task, signal);
	return 0;
}

/* The kernel's sets have 64 signals: rt_sigprocmask(2), SIG_SETMASK. */
static long set_mask(const void *new, void *old)
{
	if (old)
		memcpy(old, &current->mask, sizeof current->mask);
	if (new) {
		memcpy(&current->mask, new, sizeof current->mask);
		task_look_at_signals(current);
		task_notify();
	}
	return 0;
}

long sim_syscall(long number, ...)
{
	va_list list;
	long a, b, c;

	va_start(list, number);
	a = va_arg(list, long);
	b = va_arg(list, long);
	c = va_arg(list, long);
	va_end(list);
	if (number == SYS_clock_gettime)
		return get_time((int)a, (int64_t *)b);
	task_enter_call();
	switch (number) {
	case SYS_close_range: return close_from((int)a);
	case SYS_pidfd_open: return open_for(FILE_PID, task_find((int)a));
	case SYS_pidfd_send_signal: return send_by_pidfd((int)a, (int)b);
	case SYS_signalfd4: return open_for(FILE_SIGNALS, current);
	case SYS_rt_sigprocmask: return set_mask((const void *)b, (void *)c);
	case SYS_rt_sigaction:
		if (c)
			memset((void *)c, 0, 16);
		return 0;
	case SYS_fcntl: return descriptor_control((int)a, (int)b, (int)c);
	/* Of standard error, which is written to as it is then. */
	case SYS_statx: errno = ENOSYS; return -1;
	default: abort();
	}
}

/* Only asked for where SYS_statx shows a terminal. */
int sim_ioctl(int fd, unsigned long request, ...)
{
	(void)fd, (void)request;
	abort();
}

/* Only asked for where close_range(2) fails, which it does not here. */
int sim_getrlimit(int what, void *limit)
{
	(void)what, (void)limit;
	abort();
}

ssize_t sim_getrandom(void *buffer, size_t n, unsigned flags)
{
	const uint64_t value = random_of(&current->random);

	(void)flags;
	memcpy(buffer, &value, n < sizeof value ? n : sizeof value);
	return (ssize_t)n;
}

int sim_geteuid(void)
{
	return 1000;
}

/* What is the same for all, or of no interest. */
int sim_zero(void)
{
	return 0;
}

#define ZERO(name) int name(void) __attribute__((alias("sim_zero")))
ZERO(sim_getpgid);
ZERO(sim_getpgrp);
ZERO(sim_getsid);
ZERO(sim_setsid);
ZERO(sim_setenv);
ZERO(sim_signal);
ZERO(sim_prlimit);
ZERO(sim_sigprocmask);
ZERO(sim_sigtimedwait);
