/*
 * flock(2), as in fs/locks.c. Whoever waits hangs below the one that it waits for, which may be
 * another waiter: when that one is gone all that hang below it directly are woken, and try again in
 * the order in which they run.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "hooks.h"
#include "schedule.h"

#define MOST_INODES 64
#define MOST_WAITERS 64
#define FIRST_INODE 131

struct waiter {
	const struct task *task; /* NULL: free */
	struct file *file;
	int operation;
	const struct file *holder; /* that it hangs below; or */
	struct waiter *before;
	bool woken,
		interrupted; /* INTERRUPTED: stopped meanwhile: it calls again when it goes on */
	long number;	     /* in the order of coming */
};

static struct inode inodes[MOST_INODES];
static struct file *holders[MOST_WAITERS];
static struct waiter waiters[MOST_WAITERS];
static int inode_count, holder_count;
static long sequence;

#define for_each_waiter(w) for (struct waiter *w = waiters; w < waiters + MOST_WAITERS; w++)

void k_locks_reset(void)
{
	if (sequence)
		memset(waiters, 0, sizeof waiters);
	inode_count = holder_count = 0;
	sequence = 0;
}

/* --- files --- */

struct inode *k_inode(void)
{
	return inode_count && inodes[inode_count - 1].linked ? &inodes[inode_count - 1] : NULL;
}

struct inode *k_inode_make(uid_t uid)
{
	if (inode_count == MOST_INODES)
		return NULL;
	inodes[inode_count] = (struct inode){ .number = FIRST_INODE + (uint64_t)inode_count,
					      .uid = uid,
					      .linked = true };
	return &inodes[inode_count++];
}

void k_inode_unlink(void)
{
	if (!k_inode())
		return;
	k_inode()->unlinked_step = schedule.steps;
	inodes[inode_count - 1].linked = false;
}

/* --- who waits for whom --- */

static bool conflict(int a, int b)
{
	return a == LOCK_EX || b == LOCK_EX;
}

static const struct file *find_conflict(const struct file *file, int operation)
{
	for (int i = 0; i < holder_count; i++)
		if (holders[i] != file && holders[i]->inode == file->inode &&
		    conflict(holders[i]->flock, operation))
			return holders[i];
	return NULL;
}

/* __locks_wake_up_blocks() */
static void wake(const struct file *holder, const struct waiter *before)
{
	for_each_waiter(w)
		if (w->task && !w->woken && (holder ? w->holder == holder : w->before == before)) {
			w->holder = NULL;
			w->before = NULL;
			w->woken = true;
		}
}

/* The first waiter directly below HOLDER or BEFORE that W would have to wait for. */
static struct waiter *find_below(const struct waiter *w, const struct file *holder,
				 const struct waiter *before)
{
	struct waiter *first = NULL;

	for_each_waiter(other)
		if (other->task && other != w && !other->woken &&
		    (before ? other->before == before : other->holder == holder) &&
		    conflict(other->operation, w->operation) &&
		    (!first || other->number < first->number))
			first = other;
	return first;
}

/* __locks_insert_block() */
static void hang(struct waiter *w, const struct file *holder)
{
	struct waiter *below;

	w->woken = false;
	w->number = ++sequence;
	w->before = NULL;
	while ((below = find_below(w, holder, w->before)))
		w->before = below;
	w->holder = w->before ? NULL : holder;
}

/* locks_move_blocks(): who hung below W waits for the lock that it has got. */
static void move_below(const struct waiter *w, const struct file *holder)
{
	for_each_waiter(other)
		if (other->task && other->before == w) {
			other->before = NULL;
			other->holder = holder;
		}
}

/* locks_delete_block() */
static void leave(struct waiter *w)
{
	wake(NULL, w);
	w->task = NULL;
}

void k_flock_forget(const struct task *task)
{
	for_each_waiter(w)
		if (w->task == task)
			leave(w);
}

void k_flock_interrupt(const struct proc *p)
{
	for_each_waiter(w)
		if (w->task && w->task->proc == p && !w->woken) {
			wake(NULL, w);
			w->holder = NULL;
			w->before = NULL;
			w->woken = w->interrupted = true;
		}
}

/* --- the call --- */

static void release(struct file *file)
{
	int i = 0;

	while (holders[i] != file)
		i++;
	holders[i] = holders[--holder_count];
	file->flock = 0;
	wake(file, NULL);
	on_flock_released(file->inode);
}

static int grant(struct file *file, int operation)
{
	if (!file->flock)
		holders[holder_count++] = file;
	file->flock = operation;
	file->flock_pid = me()->pid;
	on_flock(me(), file);
	return 0;
}

static bool is_woken(struct task *task)
{
	for_each_waiter(w)
		if (w->task == task)
			return w->woken || task->proc->killed;
	return true;
}

/* Whoever is woken by a release tries again inside the kernel, even if it was stopped meanwhile. */
static void wait_below(struct waiter *w, const struct file *holder)
{
	hang(w, holder);
	TRACE("flock() sleeps");
	current->in_kernel = true;
	block(is_woken, NEVER);
	current->in_kernel = false;
	if (me()->killed) {
		leave(w);
		k_exit(me()->killed);
	}
	if (w->interrupted) {
		w->interrupted = false;
		point(false);
	}
}

static struct waiter *new_waiter(struct file *file, int operation)
{
	struct waiter *w = waiters;

	while (w->task)
		w++;
	*w = (struct waiter){ .task = current, .file = file, .operation = operation };
	return w;
}

/* flock_lock_inode_wait() */
int k_flock(struct file *file, int operation, bool wait)
{
	const struct file *holder;
	struct waiter *w;

	if (operation == LOCK_UN) {
		if (file->flock)
			release(file);
		return 0;
	}
	holder = find_conflict(file, operation);
	if (!holder)
		return grant(file, operation);
	if (!wait)
		return -EWOULDBLOCK;
	w = new_waiter(file, operation);
	while ((holder = find_conflict(file, operation)))
		wait_below(w, holder);
	grant(file, operation);
	move_below(w, file);
	w->task = NULL;
	return 0;
}

/* Whether it was PID that took one of the locks on INODE. */
bool k_flock_held(const struct inode *inode)
{
	for (int i = 0; i < holder_count; i++)
		if (holders[i]->inode == inode)
			return true;
	return false;
}

bool k_flock_held_by(const struct inode *inode, int pid)
{
	for (int i = 0; i < holder_count; i++)
		if (holders[i]->inode == inode && holders[i]->flock_pid == pid)
			return true;
	return false;
}

int k_flock_waiters(const struct inode *inode)
{
	int n = 0;

	for_each_waiter(w)
		n += w->task && w->file->inode == inode;
	return n;
}

/* --- /proc/locks --- */

static int show(char *out, size_t size, int number, bool waits, int operation, int pid,
		const struct inode *inode)
{
	return snprintf(out, size, "%d: %sFLOCK  ADVISORY  %s %d 00:05:%llu 0 EOF\n", number,
			waits ? "-> " : "", operation == LOCK_EX ? "WRITE" : "READ ", pid,
			(unsigned long long)inode->number);
}

/* Lines of all who hold a lock, each with those behind it who wait for it. */
int k_flock_show(char *out, size_t size)
{
	size_t used = 0;

	for (int i = 0; i < holder_count && used + 64 < size; i++) {
		used += (size_t)show(out + used, size - used, i + 1, false, holders[i]->flock,
				     holders[i]->flock_pid, holders[i]->inode);
		for_each_waiter(w)
			if (w->task && used + 64 < size &&
			    find_conflict(w->file, w->operation) == holders[i])
				used += (size_t)show(out + used, size - used, i + 1, true,
						     w->operation, w->task->proc->pid,
						     w->file->inode);
	}
	return (int)used;
}
