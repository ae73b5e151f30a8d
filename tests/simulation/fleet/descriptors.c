#include "descriptors.h"

#include <errno.h>
#include <string.h>

/* net.unix.max_dgram_qlen and the buffer's size together let about so many short packets in. */
#define MOST_PACKETS 200

static uint64_t inodes;

struct file *file_new(enum file_type type)
{
	struct file *file = arena_get(sizeof *file);

	file->type = type;
	file->last = &file->first;
	file->expiry = NEVER;
	return file;
}

struct pipe *pipe_new(void)
{
	struct pipe *pipe = arena_get(sizeof *pipe);

	*pipe = (struct pipe){ 1, 1, ++inodes };
	return pipe;
}

void file_close(struct file *file)
{
	if (--file->references > 0)
		return;
	if (file->type == FILE_SOCKET && file->peer) {
		file->peer->reset = file->first != NULL;
		file->peer->peer = NULL;
	}
	/* Descriptors in packets that nobody will read are closed with the socket: unix(7). */
	for (struct packet *packet = file->first; packet; packet = packet->next)
		if (packet->passed)
			file_close(packet->passed);
	file->first = NULL;
	if (file->pipe)
		*(file->type == FILE_PIPE_READ ? &file->pipe->readers : &file->pipe->writers) -= 1;
	file->generation++;
	file->expiry = NEVER;
}

struct file *file_of(int fd)
{
	if (fd >= 0 && fd < DESCRIPTORS && current->descriptors[fd])
		return current->descriptors[fd];
	errno = EBADF;
	return NULL;
}

int descriptor_install(struct task *task, struct file *file, int least, bool close_on_exec)
{
	for (int fd = least; fd < DESCRIPTORS; fd++)
		if (!task->descriptors[fd]) {
			task->descriptors[fd] = file;
			task->close_on_exec[fd] = close_on_exec;
			file->references++;
			return fd;
		}
	errno = EMFILE;
	return -1;
}

void descriptor_close(struct task *task, int fd)
{
	struct file *file = task->descriptors[fd];

	task->descriptors[fd] = NULL;
	file_close(file);
}

void descriptors_close_all(struct task *task, bool only_on_exec)
{
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		if (task->descriptors[fd] && (!only_on_exec || task->close_on_exec[fd]))
			descriptor_close(task, fd);
}

void descriptors_inherit(struct task *child, const struct task *parent)
{
	memcpy(child->descriptors, parent->descriptors, sizeof child->descriptors);
	memcpy(child->close_on_exec, parent->close_on_exec, sizeof child->close_on_exec);
	for (int fd = 0; fd < DESCRIPTORS; fd++)
		if (child->descriptors[fd])
			child->descriptors[fd]->references++;
}

void descriptors_open_stdio(struct task *task)
{
	for (int fd = 0; fd < 3; fd++)
		descriptor_install(task, file_new(FILE_NULL), fd, false);
}

void descriptors_reset(void)
{
	inodes = 1000;
}

/* --- polling ---------------------------------------------------------------------------------- */

/*
 * poll(2): a socket whose peer is gone is readable and hung up; a pipe without writers is hung up;
 * a pidfd is readable when its process has ended, reaped or not (pidfd_open(2)).
 */
short file_readiness(const struct file *file)
{
	if (!file)
		return POLLNVAL;
	switch (file->type) {
	case FILE_SOCKET:
		return (short)((file->first || !file->peer ? POLLIN : 0) | POLLOUT |
			       (file->peer ? 0 : POLLHUP) | (file->reset ? POLLERR : 0));
	case FILE_PIPE_READ: return file->pipe->writers ? 0 : POLLHUP;
	case FILE_PIPE_WRITE: return (short)(POLLOUT | (file->pipe->readers ? 0 : POLLERR));
	case FILE_TIMER: return file->expiry <= clock_boottime(file->host) ? POLLIN : 0;
	case FILE_SIGNALS: return file->task->signals & file->task->mask ? POLLIN : 0;
	case FILE_PID: return file->task->alive ? 0 : POLLIN;
	default: return POLLIN | POLLOUT;
	}
}

static short poll_one(const struct task *task, const struct pollfd *polled)
{
	const struct file *file;

	if (polled->fd < 0)
		return 0;
	file = polled->fd < DESCRIPTORS ? task->descriptors[polled->fd] : NULL;
	return (short)(file_readiness(file) & (polled->events | POLLHUP | POLLERR | POLLNVAL));
}

bool descriptors_ready(struct task *task)
{
	if (task->wants_net && task->net_ready)
		return true;
	for (unsigned i = 0; i < task->n_polled; i++)
		if (poll_one(task, &task->polled[i]))
			return true;
	return false;
}

int descriptors_poll(struct pollfd *polled, unsigned n, ns limit, bool net)
{
	struct task *task = current;

	for (;;) {
		int count = 0;

		for (unsigned i = 0; i < n; i++) {
			polled[i].revents = poll_one(task, &polled[i]);
			count += polled[i].revents != 0;
		}
		if (count || (net && task->net_ready) || clock_monotonic(task->host) >= limit)
			return count;
		task->polled = polled;
		task->n_polled = n;
		task->wants_net = net;
		task_block(limit);
		task->n_polled = 0;
		task->wants_net = false;
	}
}

/* --- sockets ---------------------------------------------------------------------------------- */

/* unix(7): the first call after the peer has thrown packets away fails, whatever is there to be
 * read. */
static bool fails_by_reset(struct file *socket)
{
	const bool reset = socket->reset;

	socket->reset = false;
	if (reset)
		errno = ECONNRESET;
	return reset;
}

int socket_send(struct file *socket, const void *text, size_t n, struct file *passed)
{
	struct packet *packet;

	if (fails_by_reset(socket))
		return -1;
	if (!socket->peer || socket->peer->n_packets >= MOST_PACKETS) {
		errno = socket->peer ? EAGAIN : EPIPE;
		return -1;
	}
	packet = arena_get(sizeof *packet + n + 1);
	packet->n = n;
	packet->passed = passed;
	memcpy(packet->text, text, n);
	trace("says: %.*s", (int)strcspn(packet->text, "\n"), packet->text);
	if (passed)
		passed->references++;
	*socket->peer->last = packet;
	socket->peer->last = &packet->next;
	socket->peer->n_packets++;
	task_notify();
	return 0;
}

/* SOCK_SEQPACKET keeps the bounds of packets; what does not fit is cut off. */
long socket_receive(struct file *socket, char *text, size_t size, struct file **passed)
{
	struct packet *packet = socket->first;
	size_t n;

	*passed = NULL;
	if (fails_by_reset(socket))
		return -1;
	if (!packet) {
		errno = EAGAIN;
		return socket->peer ? -1 : 0;
	}
	socket->first = packet->next;
	if (!socket->first)
		socket->last = &socket->first;
	socket->n_packets--;
	n = packet->n < size ? packet->n : size;
	memcpy(text, packet->text, n);
	*passed = packet->passed;
	return (long)n;
}

/* --- timers ----------------------------------------------------------------------------------- */

static void timer_due(void *argument, int64_t generation)
{
	struct file *timer = argument;

	if (timer->generation != (uint64_t)generation)
		return;
	if (clock_boottime(timer->host) < timer->expiry) {
		const ns when = clock_when(timer->host, timer->expiry);

		/* Its clock has stood still. */
		event_at(when > now ? when : now + 10 * MS, timer_due, timer, generation);
	} else {
		task_notify();
	}
}

void timer_set(struct file *timer, ns expiry)
{
	timer->expiry = expiry;
	timer->generation++;
	if (expiry != NEVER)
		event_at(clock_when(timer->host, expiry), timer_due, timer,
			 (int64_t)timer->generation);
}
