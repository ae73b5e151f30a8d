#include "run/signals.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A signal's disposition as the kernel has it, as far as SIG_DFL and SIG_IGN need it. */
struct kernel_sigaction {
#ifdef __mips__
	unsigned flags;
#endif
	void (*handler)(int);
	unsigned long rest[sizeof(struct kernel_sigset) / sizeof(long) + 4];
};

static int set_mask(const struct kernel_sigset *set, struct kernel_sigset *before)
{
	return syscall(SYS_rt_sigprocmask, SIG_SETMASK, set, before, sizeof *set) ? -errno : 0;
}

/* The raw call: musl's refuses the signals that it uses itself. Returns 0 or a negative errno. */
static int set_handler(int number, void (*handler)(int), struct kernel_sigaction *before)
{
	const struct kernel_sigaction action = { .handler = handler };

	if (syscall(SYS_rt_sigaction, number, &action, before, sizeof(struct kernel_sigset)))
		return -errno;
	return 0;
}

/* Lets one signal through. All others stay blocked until they are read from the descriptor. */
static void unblock_for_a_moment(int number)
{
	const size_t bits = 8 * sizeof(long), at = (size_t)(number - 1);
	struct kernel_sigset others, all;

	memset(&others, 0xff, sizeof others);
	others.bits[at / bits] &= ~(1UL << (at % bits));
	set_mask(&others, &all);
	set_mask(&all, NULL);
}

int signals_block(struct signals *signals)
{
	struct kernel_sigset all;
	struct kernel_sigaction old;
	int r;

	memset(&all, 0xff, sizeof all);
	signals->fd = (int)syscall(SYS_signalfd4, -1, &all, sizeof all, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals->fd < 0)
		return -errno;
	r = set_handler(SIGCHLD, SIG_DFL, &old);
	if (r)
		return r;
	signals->child_ignored = old.handler == SIG_IGN;
	return set_mask(&all, &signals->mask);
}

void signals_restore(const struct signals *signals)
{
	if (signals->child_ignored)
		set_handler(SIGCHLD, SIG_IGN, NULL);
	set_mask(&signals->mask, NULL);
}

bool signals_read(const struct signals *signals, struct signalfd_siginfo *info)
{
	return read(signals->fd, info, sizeof *info) == (ssize_t)sizeof *info;
}

/*
 * Whether COMMAND has also received this signal: a terminal sends to its whole foreground group.
 * The command is in it, unless it has created its own, as timeout(1) does.
 */
static bool has_reached(pid_t command, const struct signalfd_siginfo *info)
{
	if (info->ssi_code != SI_KERNEL || getpgid(command) != getpgrp())
		return false;
	switch (info->ssi_signo) {
	case SIGINT:
	case SIGQUIT:
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
	case SIGWINCH: return true;
	case SIGHUP:
	case SIGCONT:
		/*
		 * A hang-up goes only to the session's leader: then only we can tell the command.
		 */
		return getsid(0) != getpid();
	default: return false;
	}
}

/* Stops us as the blocked signal NUMBER would, unless the caller ignores it. */
static void stop_by(int number)
{
	kill(getpid(), number);
	unblock_for_a_moment(number); /* stops here, until SIGCONT */
}

/* Sends COMMAND the signal INFO; one of sigqueue(3) with its value, and as from its sender. */
static void forward(const struct signalfd_siginfo *info, pid_t command)
{
	const int number = (int)info->ssi_signo;
	siginfo_t queued = { .si_signo = number, .si_code = SI_QUEUE };

	queued.si_pid = (pid_t)info->ssi_pid;
	queued.si_uid = info->ssi_uid;
	queued.si_value.sival_ptr = (void *)(uintptr_t)info->ssi_ptr;
	/* At the limit of pending signals it comes without the value, as with kill(2). */
	if (info->ssi_code != SI_QUEUE ||
	    syscall(SYS_rt_sigqueueinfo, command, number, &queued) != 0)
		kill(command, number);
}

void signals_pass_on(const struct signalfd_siginfo *info, pid_t command)
{
	int number = (int)info->ssi_signo;

	/* Signals of our own, such as SIGPIPE, are not passed on. */
	if (info->ssi_code <= 0 && info->ssi_pid == (uint32_t)getpid())
		return;
	if (!has_reached(command, info))
		forward(info, command);
	if (number == SIGTSTP || number == SIGTTIN || number == SIGTTOU)
		stop_by(number);
}

void signals_die_by(int number)
{
	/*
	 * The command has left its own core file. A core handler behind a pipe ignores the limit,
	 * but not this.
	 */
	/* Not setrlimit(): musl's brings in what only threads need. */
	prlimit(0, RLIMIT_CORE, &(struct rlimit){ 0 }, NULL);
	prctl(PR_SET_DUMPABLE, 0);
	set_handler(number, SIG_DFL, NULL);
	kill(getpid(), number);
	/* No other pending signal may end us first. */
	unblock_for_a_moment(number);
}
