/*
 * Signals while a command runs: all are blocked and read from a descriptor, so that none ends us.
 * The command gets exactly the mask and the dispositions that we were started with.
 *
 * All by raw system calls: musl's functions leave signals 32 to 34 out, and these would be lost to
 * the command.
 */
#ifndef RUN_SIGNALS_H
#define RUN_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#define SIGNALS 64 /* the kernel's _NSIG on all machines but MIPS, where it is 128 */

/* A signal set as the kernel has it. */
struct kernel_sigset {
	unsigned long bits[_NSIG > 65 ? 128 / (8 * sizeof(long)) : SIGNALS / (8 * sizeof(long))];
};

struct signals {
	int fd;			   /* to be polled */
	struct kernel_sigset mask; /* as we were started */
	bool child_ignored;	   /* SIGCHLD, as we were started */
};

/*
 * Blocks all signals, as late as possible: a signal that the terminal sends before there is a
 * command ends or stops us. SIGCHLD gets its default action, because a parent that ignores it gets
 * no status. Returns 0 or a negative errno.
 */
int signals_block(struct signals *signals);

/* In the command's process: restores what we were started with. */
void signals_restore(const struct signals *signals);

/* Reads one signal. Returns false if there is none. */
bool signals_read(const struct signals *signals, struct signalfd_siginfo *info);

/* Passes the signal INFO, not SIGCHLD, on to COMMAND, and stops us with it. */
void signals_pass_on(const struct signalfd_siginfo *info, pid_t command);

/*
 * Ends this process by the signal NUMBER, which ended the command. Returns if that is impossible:
 * as process 1.
 */
void signals_die_by(int number);

#endif
