/*
 * The front and its successors, the second and the third, have the queue's socket; all others are
 * in its backlog. The order of the first three shows in this:
 *
 *   - A successor has the client's end of a connection to the queue, and the front the accepted
 *     end: the front is ahead of it. When the front has gone these are closed, and the second is
 *     the front.
 *   - The second and the third have the ends of a socket pair, with successive inodes: the lower
 *     one is the second's.
 *
 * A successor that was stopped and dismissed keeps the queue's socket until it resumes. It no
 * longer has such a connection, and will join again as the last.
 */
#include "list/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/process.h"
#include "host/socket-table.h"

#define OVERFLOW_UID 65534

/* Only a foreign process could make it more. */
#define MOST_HEADS 16

struct queue {
	struct view *view;
	const struct unix_socket *socket;      /* the listener */
	const struct unix_socket *first, *end; /* all with the queue's name */
	const struct unix_socket *lock;	       /* the first of all with a name of the lock */
	pid_t heads[MOST_HEADS];
	size_t n_heads;
	size_t place; /* the last one assigned */
};

static void add(struct line_of_waiters *line, const struct queue *queue, pid_t pid, size_t place)
{
	line->all = memory_grow(line->all, line->n, &line->room, sizeof *line->all);
	line->all[line->n++] =
		(struct waiter){ pid, queue->socket->uid, queue->socket->queue_slots, place };
}

static pid_t owner_of(const struct queue *queue, uint32_t inode)
{
	size_t n;
	const struct socket_owner *owners = processes_find(&queue->view->processes, inode, &n);

	return n > 0 ? owners[0].pid : 0;
}

static bool is_head(const struct queue *queue, pid_t pid)
{
	for (size_t i = 0; i < queue->n_heads; i++)
		if (queue->heads[i] == pid)
			return true;
	return false;
}

/* --- the front and its successors ------------------------------------------------------------- */

/* Whether PID has the lock, in one of its slots. */
static bool holds(const struct queue *queue, pid_t pid)
{
	const struct view *view = queue->view;

	for (const struct unix_socket *s = queue->lock;
	     sockets_share_lock(&view->sockets, s, queue->lock); s++)
		if (socket_is_holder(s) && processes_has(&view->processes, s->inode, pid))
			return true;
	return false;
}

/* A process that also has the lock has just got it, and is about to leave the line. */
static void find_heads(struct queue *queue)
{
	size_t n;
	const struct socket_owner *owners =
		processes_find(&queue->view->processes, queue->socket->inode, &n);

	for (size_t i = 0; i < n && queue->n_heads < MOST_HEADS; i++)
		if (!holds(queue, owners[i].pid))
			queue->heads[queue->n_heads++] = owners[i].pid;
}

/* Whether SOCKET is a connection to the queue that was accepted and whose other end lives. */
static bool is_successors_connection(const struct unix_socket *socket)
{
	return socket->state == SOCKET_ESTABLISHED && socket->inode && socket->peer &&
	       !socket->shut;
}

static bool is_ahead(const struct queue *queue, pid_t a, pid_t b)
{
	const struct sockets *sockets = &queue->view->sockets;
	const struct processes *processes = &queue->view->processes;

	for (const struct unix_socket *s = queue->first; s < queue->end; s++)
		if (is_successors_connection(s) && processes_has(processes, s->inode, a) &&
		    processes_has(processes, s->peer, b))
			return true;
	for (size_t i = 0; i < sockets->n && sockets->all[i].kind == SOCKET_OTHER; i++) {
		const struct unix_socket *s = &sockets->all[i],
					 *end = s->peer ? sockets_find(sockets, s->peer) : NULL;

		/* Inode numbers only ever grow. */
		if (end && end->kind == SOCKET_OTHER && (int32_t)(s->inode - s->peer) < 0 &&
		    processes_has(processes, s->inode, a) && processes_has(processes, s->peer, b))
			return true;
	}
	return false;
}

static bool is_dismissed(const struct queue *queue, const bool ahead[MOST_HEADS][MOST_HEADS],
			 size_t i)
{
	for (size_t j = 0; j < queue->n_heads; j++)
		if (ahead[i][j] || ahead[j][i])
			return false;
	return queue->n_heads > 1 && process_is_stopped(queue->heads[i]);
}

static int64_t age_of(pid_t pid)
{
	struct process process;

	return process_read(pid, &process) ? -1 : process.age;
}

/*
 * The next one: nobody left is ahead of it. If that does not decide, the oldest. N_HEADS: nobody is
 * left.
 */
static size_t next_head(const struct queue *queue, const bool ahead[MOST_HEADS][MOST_HEADS],
			const bool done[MOST_HEADS])
{
	size_t best = queue->n_heads;
	bool best_is_free = false;
	int64_t best_age = -1;

	for (size_t i = 0; i < queue->n_heads; i++) {
		bool is_free = true;
		int64_t age;

		if (done[i])
			continue;
		for (size_t j = 0; j < queue->n_heads; j++)
			is_free &= done[j] || !ahead[j][i];
		age = age_of(queue->heads[i]);
		if (best == queue->n_heads || is_free > best_is_free ||
		    (is_free == best_is_free && age > best_age)) {
			best = i;
			best_is_free = is_free;
			best_age = age;
		}
	}
	return best;
}

static void add_heads(struct line_of_waiters *line, struct queue *queue)
{
	bool ahead[MOST_HEADS][MOST_HEADS] = { 0 }, done[MOST_HEADS] = { 0 };
	size_t next;

	for (size_t i = 0; queue->n_heads > 1 && i < queue->n_heads; i++)
		for (size_t j = 0; j < queue->n_heads; j++)
			ahead[i][j] = i != j && is_ahead(queue, queue->heads[i], queue->heads[j]);
	for (size_t i = 0; i < queue->n_heads; i++)
		done[i] = is_dismissed(queue, ahead, i);
	while ((next = next_head(queue, ahead, done)) < queue->n_heads) {
		done[next] = true;
		add(line, queue, queue->heads[next], ++queue->place);
	}
}

/*
 * The invisible ones among the first three: somebody has the queue's socket, and the connections
 * show the others.
 */
static void add_hidden_heads(struct line_of_waiters *line, struct queue *queue)
{
	bool front_is_hidden = queue->n_heads == 0;

	for (const struct unix_socket *s = queue->first; s < queue->end; s++)
		front_is_hidden |= is_successors_connection(s) && !owner_of(queue, s->inode) &&
				   view_still_has(queue->view, s->inode);
	/* The holder itself may have it: then there is no front at this moment. */
	if (front_is_hidden && owner_of(queue, queue->socket->inode) == 0 &&
	    view_still_has(queue->view, queue->socket->inode))
		add(line, queue, 0, ++queue->place);
	for (const struct unix_socket *s = queue->first; s < queue->end; s++)
		if (is_successors_connection(s) && !owner_of(queue, s->peer) &&
		    view_still_has(queue->view, s->peer))
			add(line, queue, 0, ++queue->place);
}

/* --- the backlog ------------------------------------------------------------------------------ */

/*
 * Only connections of the queue's own user are ever let in. A waiter that is not in the table came
 * after it was read. Those that have the queue by now are already listed.
 */
static bool is_waiting(const struct queue *queue, uint32_t inode)
{
	const struct unix_socket *client =
		inode ? sockets_find(&queue->view->sockets, inode) : NULL;
	pid_t pid = client ? owner_of(queue, inode) : 0;

	if (!client || client->uid != queue->socket->uid)
		return false;
	return pid ? !is_head(queue, pid) : view_still_has(queue->view, inode);
}

static void add_backlog(struct line_of_waiters *line, struct queue *queue)
{
	const struct unix_socket *socket = queue->socket;

	for (size_t i = 0; i < socket->line_length; i++)
		if (is_waiting(queue, socket->line[i]))
			add(line, queue, owner_of(queue, socket->line[i]), ++queue->place);
	if (!socket->line)
		line->untold += socket->pending;
}

/* --- all of it -------------------------------------------------------------------------------- */

/*
 * Whether this user namespace has a number for everybody; otherwise the kernel shows OVERFLOW_UID
 * for the others.
 */
static bool names_all_users(void)
{
	FILE *map = fopen("/proc/self/uid_map", "re");
	char text[64] = "";
	bool all = map && fgets(text, sizeof text, map) && strstr(text, " 4294967295\n");

	if (map)
		(void)fclose(map);
	return all;
}

/* Nobody joins a queue that another user has created. */
static bool is_its_users(const struct unix_socket *queue)
{
	return queue->uid == queue->queue_uid || queue->uid == SOCKET_UID_UNKNOWN ||
	       (queue->uid == OVERFLOW_UID && !names_all_users());
}

static void read_queue(struct line_of_waiters *line, struct queue *queue)
{
	find_heads(queue);
	add_heads(line, queue);
	add_hidden_heads(line, queue);
	add_backlog(line, queue);
	/* The rest has no place in line. */
	for (size_t i = 0; i < queue->n_heads; i++) {
		bool told = false;

		for (size_t j = 0; j < line->n; j++)
			told |= line->all[j].pid == queue->heads[i];
		if (!told)
			add(line, queue, queue->heads[i], 0);
	}
}

static bool is_queue(const struct unix_socket *socket)
{
	return socket->kind == SOCKET_QUEUE && socket->state == SOCKET_LISTEN;
}

static bool is_same_queue(const struct unix_socket *a, const struct unix_socket *b)
{
	return a->kind == SOCKET_QUEUE && a->queue_uid == b->queue_uid &&
	       a->queue_slots == b->queue_slots;
}

bool line_is_there(const struct view *view, const struct unix_socket *first)
{
	for (const struct unix_socket *s = first; s && sockets_share_lock(&view->sockets, s, first);
	     s++)
		if (is_queue(s))
			return true;
	return false;
}

void line_read(struct line_of_waiters *line, struct view *view, const struct unix_socket *first)
{
	*line = (struct line_of_waiters){ 0 };
	if (!line_is_there(view, first))
		return;
	view_look(view);
	for (const struct unix_socket *s = first; sockets_share_lock(&view->sockets, s, first);
	     s++) {
		struct queue queue = {
			.view = view, .socket = s, .first = s, .end = s, .lock = first
		};

		if (!is_queue(s))
			continue;
		if (!is_its_users(s)) {
			line->left_out = true;
			continue;
		}
		while (queue.first > first && is_same_queue(&queue.first[-1], s))
			queue.first--;
		while (sockets_share_lock(&view->sockets, queue.end, first) &&
		       is_same_queue(queue.end, s))
			queue.end++;
		read_queue(line, &queue);
	}
}

void line_free(struct line_of_waiters *line)
{
	free(line->all);
	*line = (struct line_of_waiters){ 0 };
}
