/* What must be true at the end of a run, and who is lost before it. */
#include <signal.h>

#include "hooks.h"
#include "world.h"

/* --- the end --- */

/* Whether a command waits for P, which it has called. */
static bool has_caller(const struct proc *p)
{
	const struct proc *parent = k_proc(p->parent);

	return parent && parent->state == PROC_ALIVE && parent->role == ROLE_COMMAND;
}

/* A process that is stopped has a lock, or the command of one that has waits for it: then everybody
 * may wait. */
static bool stopped_holder(void)
{
	for_each_proc(p)
		if (p->stopped && p->state == PROC_ALIVE && (has_name_of_lock(p) || has_caller(p)))
			return true;
	return false;
}

const struct proc *world_lost(void)
{
	if (K.now <= W.end || stopped_holder())
		return NULL;
	for_each_run(r)
		if (r->proc && !r->ended && !r->proc->stopped)
			return r->proc;
	return NULL;
}

static bool fds_may_be_missing(void)
{
	return W.kind->few_fds || W.kind->inject;
}

/* Status 4: refused, or the time was over. */
static void check_refusal(const struct run *r)
{
	int64_t waited = r->ended_at - r->started_at;
	bool later = false;

	if (r->exec_step)
		fail("STATUS: W%d was refused, and its command has run", r->index);
	if (r->waits && !r->places && waited < r->limit)
		fail("STATUS: W%d gave up too early", r->index);
	if (r->waits && !r->places && !W.kind->wild && !W.stops && waited > r->limit + S)
		fail("STATUS: W%d gave up %.3f s too late", r->index,
		     (double)(waited - r->limit) / 1e9);
	/* --queue: whoever is refused has seen one whose command starts afterwards. */
	for_each_run(other)
		later |= other != r && other->exec_step > r->start_step;
	if (r->places && !W.kills && !W.stops && !later)
		fail("QUEUE: W%d was refused, and no command has started since it began", r->index);
}

static void check_run(const struct run *r)
{
	int code = r->status & 0x7f ? -(r->status & 0x7f) : r->status >> 8;

	/* The command that was to make this call has ended before. */
	if (!r->proc && r->outer)
		return;
	if (!r->ended)
		fail("LOST: W%d has not ended", r->index);
	/* -o, and its keeper has not started: status 1. */
	if (r->faulted || (r->keeper_killed && code == 1 && !r->exec_step))
		return;
	if (r->expected >= 0) {
		/* If its command was hit meanwhile, it need not be under the lock any more. */
		if (code != r->expected && !(r->outer && (r->outer->faulted || may_be_struck(r))))
			fail("STATUS: W%d has ended with %d instead of %d", r->index, code,
			     r->expected);
		return;
	}
	if (code == -SIGTERM || code == -SIGKILL || code == 128 + SIGTERM) {
		if (!may_be_struck(r))
			fail("STATUS: W%d was ended by signal %d", r->index, code);
		return;
	}
	/* --replace: where the kernel does not tell who the holder is. */
	if (r->replaces && code == 4 && K.no_diag)
		return;
	if (!fds_may_be_missing() && ((code != 0 && code != 4) || (r->forever && code != 0)))
		fail("STATUS: W%d has ended with %d", r->index, code);
	if (code == 0 && !r->exec_step)
		fail("STATUS: W%d ended well, and its command was not started", r->index);
	if (code == 4)
		check_refusal(r);
}

void world_check_end(void)
{
	for_each_run(r)
		check_run(r);
	if (K.bound_count || K.files || K.socks)
		fail("LEFT: at the end %d names are bound (%s), %d files and %d sockets are left",
		     K.bound_count, K.bound_count ? k_show(&K.bound[0]->address) : "", K.files,
		     K.socks);
	if (!W.kind->wild && !fds_may_be_missing() && !W.strangers && !W.kind->small_backlog)
		check_order();
}
