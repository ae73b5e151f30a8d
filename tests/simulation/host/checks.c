/* What must be true, while a world runs and at its end. tests/simulation/README.md lists the rules.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "hooks.h"
#include "world.h"

/* A look once a second would hide that somebody was not woken up. */
#define LONGEST_FREE (100 * MS)

/* So many system calls a waiter may make: for each second, for each thing that happened meanwhile,
 * and at all. */
#define CALLS_A_SECOND 150
#define CALLS_AN_EVENT 1600
#define CALLS_AT_ALL 400

/* So many after the last look into the queue whoever leaves it has closed it. */
#define CALLS_TO_LEAVE 3

/* So many after it has given the queue to its successors whoever leaves it has closed it. */
#define CALLS_TO_LEAVE_IT_TO_OTHERS 20

/* So often a waiter tries a queue that is silent before it waits alone (host/queue.c). */
#define JOIN_TRIES 10

/* --- names --- */

/* Whether ADDRESS is that of a queue, a place, ...: "\0SUFFIX\0" is in it. */
bool name_is(const struct address *address, const char *suffix)
{
	int n = (int)strlen(suffix);

	for (int i = 1; i + n + 1 < address->length; i++)
		if (address->path[i] == 0 && !memcmp(address->path + i + 1, suffix, (size_t)n) &&
		    address->path[i + 1 + n] == 0)
			return true;
	return false;
}

/* The letter of the lock to which ADDRESS belongs, its queues and places too; 0: to none. */
static char first_letter(const struct address *address)
{
	static const char prefix[] = "\0me-only:";
	const int n = (int)sizeof prefix - 1;

	return address->length > n && !memcmp(address->path, prefix, (size_t)n) ? address->path[n] : 0;
}

/* The letter of the lock that ADDRESS is a name of, of one of its slots too; 0: of none. */
char name_of_lock(const struct address *address)
{
	return name_is(address, "queue") || name_is(address, "place") ? 0 : first_letter(address);
}

bool name_is_lock(const struct address *address)
{
	return name_of_lock(address) != 0;
}

static const struct sock *sock_of(const struct proc *p, int fd)
{
	return p->files->file[fd] && p->files->file[fd]->kind == FILE_SOCKET
		       ? p->files->file[fd]->sock
		       : NULL;
}

bool has_name_of_lock(const struct proc *p)
{
	for (int fd = 0; fd < p->files->end; fd++) {
		const struct sock *sock = sock_of(p, fd);

		const struct file *file = p->files->file[fd];

		if (sock && sock->is_bound && name_is_lock(&sock->address))
			return true;
		if (file && file->kind == FILE_REGULAR && file->flock)
			return true;
	}
	return false;
}

/* Whether P has the socket of a queue, and a live connection into one. */
void look_at_line(const struct proc *p, bool *has_queue, bool *in_line)
{
	*has_queue = *in_line = false;
	for (int fd = 3; fd < p->files->end; fd++) {
		const struct sock *sock = sock_of(p, fd);

		*has_queue |=
			sock && sock->state == SOCK_LISTENS && name_is(&sock->address, "queue");
		*in_line |= sock && sock->state == SOCK_CONNECTED && !sock->shut && sock->peer &&
			    name_is(&sock->peer->address, "queue");
	}
}

/* Whether P, which has the lock, has anything of the line behind it. */
bool has_left_line(const struct proc *p)
{
	for (int fd = 3; fd < p->files->end; fd++) {
		const struct sock *sock = sock_of(p, fd);

		if (sock && sock->state != SOCK_FRESH && name_is(&sock->address, "queue"))
			return false;
	}
	return true;
}

/* --- the queue and the lock --- */

bool is_alone(const struct run *run)
{
	/* The first try may have come before the founder was stopped. */
	return run->silence >= JOIN_TRIES - 1;
}

static void note_join(const struct proc *p)
{
	struct run *run = p->run;

	if (!run || p->role != ROLE_ME_ONLY)
		return;
	run->join_last = ++W.sequence;
	run->silence = 0;
	if (run->joins++ > 0)
		return;
	run->joined_at = K.now;
	run->join = run->join_last;
	run->calls_at_join = p->calls;
}

void on_bound(struct proc *p, const struct sock *sock)
{
	bool has_queue, in_line;

	if (name_is(&sock->address, "queue"))
		note_join(p);
	if (!name_is_lock(&sock->address) || !p->run || p->role != ROLE_ME_ONLY)
		return;
	p->run->got = ++W.sequence;
	look_at_line(p, &has_queue, &in_line);
	p->run->past = in_line && !has_queue;
}

void on_connected(struct proc *p, const struct address *to)
{
	if (name_is(to, "queue"))
		note_join(p);
}

/*
 * Leads a queue whose front moves, since it was stopped just before this call, and passed over. If
 * the front is not the one that has done that, it cannot know, and joins again.
 */
void on_listens(const struct sock *sock)
{
	const struct proc *front = sock->peer_proc;
	bool has_queue, in_line;

	if (!name_is(&sock->address, "queue") || !front || front == me() || !front->run)
		return;
	if (!me()->run || !me()->run->faulted)
		return;
	if (front->run->exec_step || front->state != PROC_ALIVE || front->stopped)
		return;
	look_at_line(front, &has_queue, &in_line);
	if (has_queue && !in_line && !front->run->passes_over)
		W.lost_by_leaving++;
}

void on_silent(const struct sock *sock)
{
	if (!me()->run || !name_is(&sock->address, "queue"))
		return;
	for_each_proc(p)
		for (int fd = 3; p->stopped && p->state == PROC_ALIVE && fd < p->files->end; fd++)
			me()->run->silence += sock_of(p, fd) == sock;
}

static bool has_just_looked(const struct sock *sock)
{
	return sock->looked_by == me() && me()->calls - sock->looked_at <= CALLS_TO_LEAVE;
}

/* The queue was given to others, and the last of them has left the line just now. */
static bool has_just_been_left(const struct sock *sock)
{
	return sock->alone == me() && me()->calls - sock->alone_at <= CALLS_TO_LEAVE_IT_TO_OTHERS;
}

/* Whether P has FILE as its descriptor FD, or can receive it there. */
static bool has_or_is_sent(const struct proc *p, int fd, const struct file *file)
{
	const struct sock *sock = sock_of(p, fd);

	if (p->files->file[fd] == file)
		return true;
	if (!sock || sock->state != SOCK_CONNECTED)
		return false;
	for (const struct message *m = sock->head; m; m = m->next)
		for (int i = 0; i < m->files_count; i++)
			if (m->files[i] == file)
				return true;
	return false;
}

/* P alone has the queue of FILE still, since another call of me-only has let go of it. */
void on_left_alone(const struct file *file)
{
	struct sock *sock = file->sock;

	if (me()->role != ROLE_ME_ONLY || !name_is(&sock->address, "queue"))
		return;
	for_each_proc(p)
		for (int fd = 3; p->state == PROC_ALIVE && fd < p->files->end; fd++)
			if (p->run != me()->run && has_or_is_sent(p, fd, file)) {
				sock->alone = p;
				sock->alone_at = p->calls;
			}
}

static bool is_faulted(const struct proc *p)
{
	return p && p->run && p->run->faulted;
}

/*
 * Takes somebody out of a queue that others lead since: stopped between its look and this call, or
 * the one that listened on the queue meanwhile had been stopped. It can only send that one back.
 */
void on_accepted(const struct sock *sock)
{
	if (name_is(&sock->address, "queue") && sock->peer_proc != me() &&
	    (is_faulted(me()) || is_faulted(sock->peer_proc)))
		W.lost_by_leaving++;
}

/*
 * Whether the one that leaves has not seen that somebody before it is killed, so that it has a connection
 * still: it has looked, but cannot close what it has in the same instant.
 */
static bool leaves_beside_a_kill(void)
{
	for (int fd = 3; W.kills > 0 && fd < me()->files->end; fd++) {
		const struct sock *sock = sock_of(me(), fd);

		if (sock && sock->state == SOCK_CONNECTED)
			return true;
	}
	return false;
}

/*
 * Whoever is in the backlog has to join again: by a kill; or since it came in the instant in which
 * the last of the line left, or its last successor gave up, or while the only one that had the queue
 * was stopped. If whoever
 * closes it is the command that was started, or has not looked just before, the queue was there for
 * too long.
 */
static void note_lost_queue(const struct sock *sock)
{
	if (sock->queued == 0)
		return;
	TRACE("the queue is lost, with %d in it", sock->queued);
	if (me()->killed ||
	    (me()->run && me()->run->faulted && me()->run->proc->state != PROC_ALIVE)) {
		W.lost_by_kill += sock->queued;
		W.lost_at_rest |= W.at_rest && W.at_rest->uid == sock->uid &&
				  W.at_rest->lock == first_letter(&sock->address) && W.kills <= 2 &&
				  W.commands == W.commands_at_kill;
	} else if (me()->role == ROLE_ME_ONLY && leaves_beside_a_kill()) {
		W.lost_by_kill += sock->queued;
	} else if (me()->role == ROLE_ME_ONLY && (me()->run->faulted || has_just_looked(sock) ||
						      has_just_been_left(sock))) {
		W.lost_by_leaving += sock->queued;
	}
}

static bool waits_now(const struct run *r)
{
	return r->joins && !r->exec_step && r->waits && r->proc && r->proc->state == PROC_ALIVE &&
	       !r->proc->stopped && !r->proc->killed;
}

void on_unbound(const struct sock *sock)
{
	if (name_is(&sock->address, "queue"))
		note_lost_queue(sock);
	if (!name_is_lock(&sock->address))
		return;
	/* From now on somebody who waits has to get it, soon. A probe of somebody in line does not
	 * free it. */
	if (me()->role != ROLE_ME_ONLY || me()->run->exec_step)
		for_each_run(r)
			if (waits_now(r) && r->lock == 'L' && name_of_lock(&sock->address) == 'L')
				W.free_since = K.now;
	for_each_proc(p)
		if (p->in_critical && p->state == PROC_ALIVE &&
		    k_same_address(&p->lock, &sock->address))
			fail("UNLOCKED: %s runs, and its lock %s is free", p->name,
			     k_show(&sock->address));
}

/* --- locks on files --- */

void on_flock(struct proc *p, const struct file *file)
{
	(void)file;
	if (!p->run || p->role != ROLE_ME_ONLY)
		return;
	p->run->got = ++W.sequence;
	p->run->got_step = schedule.steps;
}

void on_flock_released(const struct inode *inode)
{
	/* Of a shared lock another can be left. */
	if (k_flock_waiters(inode) > 0 && !k_flock_held(inode))
		W.free_since = K.now;
	for_each_proc(p)
		if (p->in_critical && p->state == PROC_ALIVE && p->inode == inode &&
		    !k_flock_held_by(inode, p->run->proc->pid))
			fail("UNLOCKED: %s runs, and its lock on the file is free", p->name);
}

/* The lock that the command P has, or its me-only. */
static const struct file *find_flock(const struct proc *p)
{
	const struct proc *owners[] = { p, p->run->proc };

	for (int i = 0; i < 2; i++)
		for (int fd = 3; fd < owners[i]->files->end; fd++) {
			const struct file *file = owners[i]->files->file[fd];

			if (file && file->kind == FILE_REGULAR && file->flock &&
			    file->flock_pid == p->run->proc->pid)
				return file;
		}
	return NULL;
}

static void check_alone_on_file(struct proc *p)
{
	const struct file *file = find_flock(p);

	if (!file) {
		fail("UNLOCKED: %s starts, and has no lock on the file", p->name);
		return;
	}
	p->inode = file->inode;
	p->flock = file->flock;
	for_each_proc(other)
		if (other != p && other->in_critical && other->state == PROC_ALIVE &&
		    other->inode == p->inode && (p->flock == LOCK_EX || other->flock == LOCK_EX))
			fail("OVERLAP: %s starts while %s runs, both under the lock on inode %d",
			     p->name, other->name, (int)p->inode->number);
	/* What happens to the file later nobody can notice. */
	if (!p->inode->linked && p->inode->unlinked_step < p->run->got_step)
		fail("STALE: %s starts under a lock on a file that had been removed before",
		     p->name);
}

/* --- commands --- */

static void check_calls(const struct proc *p)
{
	const struct run *run = p->run;
	long calls = p->calls - run->calls_at_join,
	     events = W.commands + W.kills + W.stops + W.runs + (W.strangers ? 20 : 0);
	int64_t waited = K.now - run->started_at;

	if (run->joins > 0 &&
	    calls > CALLS_AT_ALL + events * CALLS_AN_EVENT + waited / S * CALLS_A_SECOND)
		fail("SPIN: %s made %ld calls in %.3f s of waiting", p->name, calls,
		     (double)waited / 1e9);
}

static void check_alone(const struct proc *p)
{
	bool is_bound = false;

	for_each_proc(other)
		if (other != p && other->in_critical && other->state == PROC_ALIVE &&
		    k_same_address(&other->lock, &p->lock))
			fail("OVERLAP: %s starts while %s runs, both under %s", p->name,
			     other->name, k_show(&p->lock));
	for (int i = 0; i < K.bound_count; i++)
		is_bound |= k_same_address(&K.bound[i]->address, &p->lock);
	if (!is_bound)
		fail("UNLOCKED: %s starts, and its lock %s is free", p->name, k_show(&p->lock));
}

/* Whoever waits without the queue must not come before those who were in line when it came; but
 * where it has no other way. It has none either while a queue is bound and its founder stopped
 * before it listens: rule 7. */
static void check_overtaking(const struct run *run)
{
	const struct kind *kind = W.kind;

	if (run->joins || !run->waits || W.strangers || kind->wild || kind->few_fds ||
	    kind->inject || kind->small_backlog)
		return;
	for_each_run(r) {
		if (!waits_now(r) || r->faulted || r->joined_at >= run->started_at ||
		    r->uid != run->uid || r->slots != run->slots || r->lock != run->lock)
			continue;
		if (is_alone(run))
			W.overtaken++;
		else
			fail("OVERTOOK: W%d never joined the queue, and comes before W%d",
			     run->index, r->index);
	}
}

/* Not where something may rightly take that long. */
static bool may_be_slow(void)
{
	const struct kind *kind = W.kind;

	return (W.stops && !kind->longest_free) || W.strangers || kind->replaces || kind->as_init || kind->wild ||
	       kind->few_fds || kind->inject || kind->small_backlog || schedule.jump;
}

void on_exec(struct proc *p)
{
	struct run *run = p->run;

	if (run->lock == 'F')
		check_alone_on_file(p);
	else
		check_alone(p);
	check_overtaking(run);
	if (W.free_since && W.kind->file && !W.kind->unlinks && run->waits &&
	    run->started_at < W.free_since && K.now - W.free_since > W.slowest)
		W.slowest = K.now - W.free_since;
	if (W.free_since && run->lock == 'L' && run->joins && run->joined_at < W.free_since &&
	    K.now - W.free_since > W.slowest)
		W.slowest = K.now - W.free_since;
	if (W.slowest > (W.kind->longest_free ? W.kind->longest_free : LONGEST_FREE) &&
	    !may_be_slow())
		fail("SLOW: the lock was free for %.3f s before %s started",
		     (double)W.slowest / 1e9, p->name);
	if (run->lock == 'L' || run->lock == 'F')
		W.free_since = 0;
	p->in_critical = true;
	run->exec_step = schedule.steps;
	run->exec_time = K.now;
	W.commands++;
	if (run->proc->state == PROC_ALIVE)
		check_calls(run->proc);
}

/* The command has its lock (unless -o), and nothing else of ours. */
void on_exec_done(struct proc *p)
{
	const char *what = "?";
	int n = 0, wanted = !p->run->gate + p->run->inherited;

	for (int fd = 3; fd < p->files->end; fd++) {
		n += p->files->file[fd] != NULL;
		if (sock_of(p, fd))
			what = k_show(&sock_of(p, fd)->address);
	}
	if (n != wanted)
		fail("LEAK: %s has %d descriptors instead of %d, one of %s", p->name, n, wanted,
		     what);
}

void on_end(struct proc *p)
{
	struct run *run = p->run;

	p->in_critical = false;
	if (!run || run->proc != p)
		return;
	run->ended = true;
	run->ended_at = K.now;
	run->status = p->status;
	if (p->role == ROLE_ME_ONLY && !run->exec_step)
		check_calls(p);
}

/* A me-only that runs its command has of the line only its lock, and the connections of those who
 * ask. */
static bool is_of_holder(const struct sock *sock)
{
	return (sock->accepted || sock->is_bound) && name_is_lock(&sock->address);
}

/* A me-only goes to sleep: what has it open? */
void on_sleep(struct proc *p)
{
	const struct run *run = p->run;
	int sockets = 0, others = 0;

	if (!run || p->role != ROLE_ME_ONLY)
		return;
	for (int fd = 3; fd < p->files->end; fd++) {
		const struct sock *sock = sock_of(p, fd);

		sockets += sock != NULL;
		others += p->files->file[fd] && !sock;
		if (sock && run->forked && !is_of_holder(sock))
			fail("LEAK: %s runs its command and has a socket of %s", p->name,
			     k_show(&sock->address));
	}
	/* The candidate, for each slot a connection and a pidfd, the queue, two links before it and
	 * two behind, a place. */
	if (!run->forked &&
	    sockets + others > 7 + 2 * run->slots + run->inherited + (run->replaces ? 4 : 0))
		fail("LEAK: %s waits with %d sockets and %d other descriptors", p->name, sockets,
		     others);
	if (run->forked && others > 6)
		fail("LEAK: %s runs its command with %d descriptors that are not sockets", p->name,
		     others);
}

/* --- signals --- */

/* Whether somebody has meant to end it. */
bool may_be_struck(const struct run *run)
{
	for_each_run(r)
		if (r->struck == run || (r->struck && run->outer && r->struck == run->outer))
			return true;
	return false;
}

/* --replace: only the holder that was there at the start is signalled, what belongs to it, and no
 * me-only by force. */
static void check_strike(struct run *striker, const struct proc *p, int number)
{
	const struct run *struck = p->run && p->run->outer
					   ? p->run->outer
					   : p->run; /* what a command has started belongs to it */

	if (!struck || !struck->got || struck->lock != striker->lock)
		fail("STRUCK: W%d has signalled %s, which never held the lock", striker->index,
		     p->name);
	else if (striker->struck && striker->struck != struck)
		fail("STRUCK: W%d has signalled %s, of W%d, and before somebody of W%d",
		     striker->index, p->name, struck->index, striker->struck->index);
	else if (number == SIGKILL && (p->role == ROLE_ME_ONLY || p->role == ROLE_KEEPER))
		fail("STRUCK: W%d has killed the me-only %s", striker->index, p->name);
	striker->struck = struck;
}

void on_signal(const struct proc *p, int number, const struct proc *sender)
{
	if ((number != SIGTERM && number != SIGKILL) || !sender || !sender->run ||
	    sender->role != ROLE_ME_ONLY || sender->run == p->run)
		return;
	/* With -F it can hit a me-only that has not left the line yet. */
	W.strikes += p->role == ROLE_ME_ONLY;
	check_strike(sender->run, p, number);
}
