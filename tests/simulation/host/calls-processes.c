/* System calls on processes and signals, and all those that the sources make with syscall(2). */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"
#include "hooks.h"
#include "procfs.h"
#include "world.h"

int __wrap_getrlimit(int what, struct rlimit *limit);
uid_t __wrap_geteuid(void);
pid_t __wrap_getpid(void);
pid_t __wrap_getppid(void);
pid_t __wrap_getpgrp(void);
pid_t __wrap_getpgid(pid_t pid);
pid_t __wrap_getsid(pid_t pid);
pid_t __wrap_setsid(void);
int __wrap_prctl(int option, ...);
int __wrap_prlimit(void);
int __wrap_chdir(const char *path);
int __wrap_ioctl(int fd, unsigned long request, ...);
_Noreturn void __wrap__exit(int status);
int __wrap_sched_yield(void);
int __wrap_kill(pid_t pid, int number);
int __wrap_waitid(int type, id_t id, siginfo_t *info, int options);
pid_t __wrap_start_process(void (*function)(void *), void *argument);
int __wrap_execve(const char *path, char *const argv[], char *const envp[]);
int __wrap_clone(int (*function)(void *), void *stack, int flags, void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
			  void *(*function)(void *), void *argument);
int __wrap_pthread_join(pthread_t thread, void **result);
long __wrap_syscall(long number, ...);

/* --- what a process is --- */

int __wrap_getrlimit(int what, struct rlimit *limit)
{
	if (what != RLIMIT_NOFILE)
		not_simulated("getrlimit", what);
	limit->rlim_cur = limit->rlim_max = (rlim_t)me()->files->limit;
	return 0;
}

uid_t __wrap_geteuid(void)
{
	return me()->uid;
}

pid_t __wrap_getpid(void)
{
	return me()->pid;
}

pid_t __wrap_getppid(void)
{
	return me()->parent;
}

pid_t __wrap_getpgrp(void)
{
	return me()->group;
}

pid_t __wrap_getpgid(pid_t pid)
{
	const struct proc *p = pid ? k_proc(pid) : me();

	return (pid_t)result(p ? p->group : -ESRCH);
}

pid_t __wrap_getsid(pid_t pid)
{
	const struct proc *p = pid ? k_proc(pid) : me();

	return (pid_t)result(p ? p->session : -ESRCH);
}

pid_t __wrap_setsid(void)
{
	return me()->session = me()->group = me()->pid;
}

int __wrap_prctl(int option, ...)
{
	va_list list;

	va_start(list, option);
	if (option == PR_SET_NAME)
		snprintf(me()->comm, sizeof me()->comm, "%s", va_arg(list, const char *));
	va_end(list);
	return 0;
}

int __wrap_prlimit(void)
{
	return 0;
}

int __wrap_chdir(const char *path)
{
	(void)path;
	return 0;
}

/* Nobody has a terminal. */
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	(void)fd, (void)request;
	return (int)result(-ENOTTY);
}

/* --- signals and the end --- */

void __wrap__exit(int status)
{
	point(false);
	k_exit((status & 255) << 8);
}

int __wrap_sched_yield(void)
{
	enter();
	current->priority =
		-(int)(schedule.steps & 0xffffff) - 1000; /* by priorities: comes last */
	point(false);
	return 0;
}

int __wrap_kill(pid_t pid, int number)
{
	struct proc *p;

	enter();
	p = k_proc(pid);
	TRACE("kill(%s, %d)", p ? p->name : "nobody", number);
	if (!p)
		return (int)result(-ESRCH);
	k_signal(p, number, 0, me());
	if (me()->killed)
		k_exit(me()->killed);
	return 0;
}

/* A child that has ended, of those that PID means; ANY: whether there are such children at all. */
static struct proc *find_child(pid_t pid, bool *any)
{
	*any = false;
	for_each_proc(p) {
		if (p->parent != me()->pid || p->state == PROC_GONE || (pid >= 0 && p->pid != pid))
			continue;
		*any = true;
		if (p->state == PROC_ZOMBIE)
			return p;
	}
	return NULL;
}

int __wrap_waitid(int type, id_t id, siginfo_t *info, int options)
{
	const struct proc *p;
	bool any;

	(void)type, (void)options;
	enter();
	p = find_child((pid_t)id, &any);
	info->si_pid = p ? p->pid : 0;
	TRACE("waitid() = %s", p ? p->name : any ? "none" : "ECHILD");
	return (int)result(any ? 0 : -ECHILD);
}

static bool child_has_ended(struct task *task)
{
	return task->child->state == PROC_ZOMBIE || task->child->state == PROC_GONE;
}

pid_t __wrap_waitpid(pid_t pid, int *status, int options)
{
	struct proc *p;
	bool any;

	enter();
	while (!(p = find_child(pid, &any)) && any && !(options & WNOHANG)) {
		if (pid <= 0)
			not_simulated("waitpid", pid);
		current->child = k_proc(pid);
		block(child_has_ended, NEVER);
		if (me()->killed)
			k_exit(me()->killed);
	}
	TRACE("waitpid() = %s", p ? p->name : any ? "none" : "ECHILD");
	if (!p)
		return (pid_t)result(any ? 0 : -ECHILD);
	if (status)
		*status = p->status;
	p->state = PROC_GONE;
	return p->pid;
}

/* --- starting processes --- */

struct start {
	void (*function)(void *);
	int (*cloned)(void *);
	void *argument;
};

static struct start starts[MOST_PROCS];

static void run_shared(void *argument)
{
	const struct start *start = argument;

	start->function(start->argument);
	fail("RETURNED: %s came back in a process that shares memory", me()->name);
	k_exit(0);
}

static bool vfork_is_over(struct task *task)
{
	return !task->proc->in_vfork;
}

/* The program's own start_process() calls vfork(): the parent waits until the child has executed a
 * program or ended. */
pid_t __wrap_start_process(void (*function)(void *), void *argument)
{
	struct proc *parent = me(), *child;
	struct start *start;

	enter();
	child = k_proc_new(parent, parent->name, "c", false);
	child->vfork_parent = parent;
	child->role = ROLE_CHILD;
	start = &starts[child->index];
	start->function = function;
	start->argument = argument;
	child->task = task_new(child, run_shared, start);
	parent->in_vfork = true;
	parent->run->forked = true;
	TRACE("vfork() = %s", child->name);
	block(vfork_is_over, NEVER);
	if (me()->killed)
		k_exit(me()->killed);
	point(false);
	return child->pid;
}

static void run_cloned(void *argument)
{
	struct start *start = argument;
	int r = start->cloned(start->argument);

	k_exit((r & 255) << 8);
}

/* As fork: the new process has a copy of the stack. All other memory is not changed by whoever
 * shares it here. */
int __wrap_clone(int (*function)(void *), void *stack, int flags, void *argument)
{
	bool shares_files = flags & CLONE_FILES;
	struct start *start;
	struct proc *p;

	(void)stack;
	enter();
	if (is_refused("clone"))
		return (int)result(-EAGAIN);
	p = k_proc_new(me(), me()->name, shares_files ? "k" : "g", shares_files);
	p->role = shares_files ? ROLE_KEEPER : ROLE_CHILD;
	me()->run->forked = true;
	start = &starts[p->index];
	start->cloned = function;
	p->task = task_new(p, run_cloned, start);
	start->argument = task_copy_stack(p->task, argument);
	TRACE("clone() = %s", p->name);
	return p->pid;
}

/* --- threads --- */

struct thread {
	void *(*function)(void *);
	void *argument;
	bool done;
};

static struct thread threads[MOST_TASKS];

static void run_thread(void *argument)
{
	struct thread *thread = argument;

	thread->function(thread->argument);
	thread->done = true;
	task_end();
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
			  void *(*function)(void *), void *argument)
{
	struct task *task;

	(void)attributes;
	enter();
	if (is_refused("pthread_create"))
		return EAGAIN;
	task = task_new(me(), run_thread, NULL);
	threads[task->index] = (struct thread){ function, argument, false };
	task->argument = &threads[task->index];
	*thread = (pthread_t)task->index;
	TRACE("starts a thread");
	return 0;
}

static bool thread_has_ended(struct task *task)
{
	return threads[task->joined].done;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
	(void)result;
	current->joined = (int)thread;
	while (!thread_has_ended(current)) {
		block(thread_has_ended, NEVER);
		if (me()->killed)
			k_exit(me()->killed);
	}
	return 0;
}

int __wrap_execve(const char *path, char *const argv[], char *const envp[])
{
	struct proc *p;

	(void)argv;
	enter();
	p = me();
	if (strcmp(path, "/cmd") != 0)
		return (int)result(-ENOENT);
	command_is_executed(p, envp);
	TRACE("execve(\"%s\") under %s", path, k_show(&p->lock));
	on_exec(p);
	schedule.woken = p->vfork_parent ? p->vfork_parent->task : NULL;
	k_leave_vfork(p);
	task_end_others(p);
	point(true);
	k_close_on_exec();
	on_exec_done(p);
	command_main(p);
}

/* --- syscall(2) --- */

static long call_fcntl(int fd, int command, int argument)
{
	if (command != F_SETFD)
		return k_dup(fd, argument, command == F_DUPFD_CLOEXEC);
	if (!k_file(fd))
		return -EBADF;
	me()->files->cloexec[fd] = argument & FD_CLOEXEC;
	return 0;
}

static long call_sigprocmask(const uint64_t *set, uint64_t *before)
{
	if (before)
		*before = me()->blocked;
	k_set_mask(*set);
	point(false);
	return 0;
}

static long call_sigaction(int number, void *const *action, void **before)
{
	uint64_t bit = UINT64_C(1) << (number - 1);

	if (before)
		*before = (me()->ignored & bit) ? (void *)SIG_IGN : NULL;
	if (action && *action == (void *)SIG_IGN)
		me()->ignored |= bit;
	else if (action)
		me()->ignored &= ~bit;
	return 0;
}

static long call_pidfd_open(pid_t pid)
{
	struct file *file;
	struct proc *p;
	long r;

	enter();
	p = k_proc(pid);
	if (!p || is_refused("pidfd_open"))
		return p ? -EMFILE : -ESRCH;
	file = k_file_new(FILE_PIDFD);
	file->proc = p;
	r = k_install_new(file, true);
	TRACE("pidfd_open(%s) = %s", p->name, show_result(r));
	return r;
}

static long call_pidfd_send_signal(int fd, int number)
{
	const struct file *file;

	enter();
	file = k_file(fd);
	if (!file || file->kind != FILE_PIDFD)
		return -EBADF;
	TRACE("pidfd_send_signal(%s, %d)", file->proc->name, number);
	if (file->proc->state == PROC_GONE)
		return -ESRCH;
	if (me()->uid != 0 && me()->uid != file->proc->uid)
		return -EPERM;
	k_signal(file->proc, number, 0, me());
	return 0;
}

static long call_clock_gettime(int64_t now[2])
{
	now[0] = K.now / S;
	now[1] = K.now % S;
	return 0;
}

static long call_close_range(unsigned low, unsigned high)
{
	enter();
	TRACE("close_range(%u, %u)", low, high);
	k_close_range(low, high);
	return 0;
}

long __wrap_syscall(long number, ...)
{
	long a, b, c, d, e;
	va_list list;

	va_start(list, number);
	a = va_arg(list, long), b = va_arg(list, long), c = va_arg(list, long),
	d = va_arg(list, long), e = va_arg(list, long);
	va_end(list);
	(void)d;
	switch (number) {
	case SYS_clock_gettime: return call_clock_gettime((int64_t *)b);
	case SYS_fcntl: return result(call_fcntl((int)a, (int)b, (int)c));
	case SYS_rt_sigprocmask: return call_sigprocmask((const uint64_t *)b, (uint64_t *)c);
	case SYS_rt_sigaction: return call_sigaction((int)a, (void *const *)b, (void **)c);
	case SYS_signalfd4: return result(k_install_new(k_file_new(FILE_SIGNALS), true));
	case SYS_pidfd_open: return result(call_pidfd_open((pid_t)a));
	case SYS_pidfd_send_signal: return result(call_pidfd_send_signal((int)a, (int)b));
	case SYS_close_range: return call_close_range((unsigned)a, (unsigned)b);
	case SYS_statx: return result(procfs_statx((int)a, (const char *)b, (void *)e));
	case SYS_getdents64: return result(procfs_getdents((int)a, (void *)b, (size_t)c));
	default: not_simulated("syscall", number);
	}
}
