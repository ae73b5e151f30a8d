/* Processes and signals: kernel/fork.c, exit.c and signal.c. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hooks.h"
#include "schedule.h"
#include "world.h"

#define BIT(n) (UINT64_C(1) << ((n)-1))

void k_reset(void)
{
	k_files_reset();
	k_sockets_reset();
	k_texts_reset();
	/* Not all of K: most processes were never there. */
	memset(K.proc, 0, sizeof *K.proc * (size_t)(K.procs + 1));
	memset((char *)&K + offsetof(struct kernel, procs), 0,
	       sizeof K - offsetof(struct kernel, procs));
	K.proc[0].pid = 1;
	K.procs = 1;
	K.inode = 1000;
	K.peerpidfd = 2;
	K.pidfd_hangs_up = true;
	K.somaxconn = 4096;
	K.now = EPOCH;
}

/* --- processes --- */

/* alloc_pid(): the next one; after many processes those come again that nobody has any more. */
static int new_pid(void)
{
	if (K.has_init && K.procs == 2)
		return 1;
	for (int i = 0; K.reuses_pids && i < 8; i++) {
		int pid = FIRST_PID + (int)rnd((uint32_t)K.procs);

		if (K.by_pid[pid] && K.by_pid[pid]->state == PROC_GONE)
			return pid;
	}
	return FIRST_PID + K.procs - 1;
}

struct proc *k_proc_new(struct proc *parent, const char *name, const char *suffix, bool share_files)
{
	struct proc *p = &K.proc[K.procs];

	if (K.procs + 1 >= MOST_PROCS)
		abort();
	memset(p, 0, sizeof *p);
	p->index = K.procs++;
	p->pid = new_pid();
	K.by_pid[p->pid] = p;
	/* In a pid namespace of its own: process 1, and what comes from outside it, have no parent
	 * that is seen. */
	p->parent = parent ? parent->pid : K.has_init ? 0 : 1;
	snprintf(p->name, sizeof p->name, "%.8s%.3s", name, suffix);
	p->born = K.now;
	p->session = p->group = p->pid;
	p->program = PROGRAM_OTHER;
	strcpy(p->comm, "sh");
	if (!parent)
		return p;
	p->session = parent->session;
	p->group = parent->group;
	p->role = parent->role;
	p->program = parent->program;
	strcpy(p->comm, parent->comm);
	strcpy(p->variables, parent->variables);
	p->uid = parent->uid;
	p->blocked = parent->blocked;
	p->ignored = parent->ignored;
	p->run = parent->run;
	p->files = parent->files;
	if (share_files)
		p->files->refs++;
	else
		p->files = k_files_copy(parent->files);
	return p;
}

/* The process that has the number PID now, a zombie too. */
struct proc *k_proc(int pid)
{
	struct proc *p = pid > 0 && pid < MOST_PROCS + FIRST_PID ? K.by_pid[pid] : NULL;

	return p && p->state != PROC_GONE ? p : NULL;
}

/* --- signals --- */

static bool does_nothing(int number)
{
	return number == SIGCHLD || number == SIGCONT || number == SIGURG || number == SIGWINCH;
}

static bool stops(int number)
{
	return number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

/* What pending signals that are not blocked do by default: no program here handles one. */
static void deliver(struct proc *p)
{
	uint64_t now = p->pending & ~p->blocked;

	p->pending &= ~now;
	for (int number = 1; now; number++, now >>= 1) {
		if (!(now & 1) || (p->ignored & BIT(number)) || does_nothing(number))
			continue;
		/* SIGNAL_UNKILLABLE: from its own namespace process 1 gets only signals that it
		 * handles. */
		if (K.has_init && p->pid == 1)
			continue;
		if (stops(number)) {
			p->stopped = true;
			k_flock_interrupt(p);
		} else {
			p->killed = number;
		}
	}
}

void k_set_mask(uint64_t mask)
{
	me()->blocked = mask & ~(BIT(SIGKILL) | BIT(SIGSTOP));
	deliver(me());
}

/* mm_release(): the parent in vfork() goes on. It also does if it is killed meanwhile; its memory
 * stays as long as the child needs it. */
void k_leave_vfork(struct proc *child)
{
	if (child->vfork_parent)
		child->vfork_parent->in_vfork = false;
	child->vfork_parent = NULL;
}

/* NUMBER from SENDER, or from the kernel itself: NULL. */
void k_signal(struct proc *p, int number, int code, const struct proc *sender)
{
	if (p->state >= PROC_ZOMBIE)
		return;
	on_signal(p, number, sender);
	if (number == SIGKILL && K.has_init && p->pid == 1 && sender)
		return;
	if (number == SIGKILL && p->state == PROC_ALIVE) {
		p->killed = SIGKILL;
		for_each_proc(child)
			if (child->vfork_parent == p)
				k_leave_vfork(child);
		return;
	}
	if (number == SIGCONT) {
		p->stopped = false;
		p->pending &= ~(BIT(SIGSTOP) | BIT(SIGTSTP) | BIT(SIGTTIN) | BIT(SIGTTOU));
	}
	if (!(p->blocked & BIT(number)) &&
	    ((p->ignored & BIT(number)) || number == SIGCHLD || number == SIGCONT))
		return;
	if (!(p->pending & BIT(number))) {
		p->code[number] = code;
		p->sender[number] = sender ? sender->pid : 0;
	}
	p->pending |= BIT(number);
	deliver(p);
}

/* --- the end --- */

/* Orphans are the child of process 1, which reaps them at once, or in a world in which me-only is
 * that has to. */
static void give_children_away(const struct proc *p)
{
	struct proc *init = K.has_init ? k_proc(1) : NULL;

	for_each_proc(child) {
		if (child->parent != p->pid || child->state == PROC_GONE || child == p)
			continue;
		child->parent = 1;
		if (child->state == PROC_ZOMBIE && !init)
			child->state = PROC_GONE;
		else if (child->state == PROC_ZOMBIE)
			k_signal(init, SIGCHLD, 1, child);
	}
}

/* zap_pid_ns_processes(): with process 1 its namespace ends. */
static void end_namespace(const struct proc *init)
{
	for_each_proc(p)
		if (p != init && p->state == PROC_ALIVE) {
			if (p->run)
				p->run->faulted = true;
			W.kills++;
			W.at_rest = NULL;
			k_signal(p, SIGKILL, 0, NULL);
		}
}

/* do_exit(): STATUS as wait(2) gives it. The descriptors are closed before anybody can see that the
 * process has ended. */
void k_exit(int status)
{
	struct proc *p = me(), *parent;

	p->status = status;
	p->state = PROC_EXITING;
	k_leave_vfork(p);
	task_end_others(p);
	on_end(p);
	if (K.has_init && p->pid == 1)
		end_namespace(p);
	point(true);
	k_close_all(p->files);
	point(true);
	give_children_away(p);
	p->state = PROC_ZOMBIE;
	parent = k_proc(p->parent);
	if (!parent || parent->state >= PROC_EXITING || (parent->ignored & BIT(SIGCHLD)))
		p->state = PROC_GONE;
	if (parent && parent->state == PROC_ALIVE)
		k_signal(parent, SIGCHLD, 1, p);
	TRACE("ended, status %#x", (unsigned)p->status);
	task_end();
}
