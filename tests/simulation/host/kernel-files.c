/* Open files, tables of descriptors, pipes, epoll instances, and what poll(2) says of each. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>

#include "pool.h"
#include "hooks.h"
#include "schedule.h"

struct kernel K;

POOL(file, 16384, sizeof(struct file))
static struct fdtable tables[MOST_PROCS];
static struct epoll epolls[MOST_PROCS];
static struct pipe pipes[64];
static int tables_used, epolls_used, pipes_used;

void k_files_reset(void)
{
	k_locks_reset();
	pool_reset_file();
	tables_used = epolls_used = pipes_used = 0;
}

/* --- open files --- */

struct file *k_file_new(enum file_kind kind)
{
	struct file *file = pool_take_file();

	file->refs = 1;
	file->kind = kind;
	K.files++;
	if (kind == FILE_EPOLL)
		memset(file->epoll = &epolls[epolls_used++ % MOST_PROCS], 0, sizeof *file->epoll);
	return file;
}

/* fs/eventpoll.c: only the last close of an open file takes it out of the instances that watch it.
 */
static void forget(const struct file *file)
{
	for (int e = 0; e < epolls_used && e < MOST_PROCS; e++)
		for (int i = 0; i < epolls[e].count; i++)
			if (epolls[e].item[i].file == file) {
				epolls[e].count--;
				memmove(epolls[e].item + i, epolls[e].item + i + 1,
					sizeof *epolls[e].item * (size_t)(epolls[e].count - i));
				i--;
			}
}

/* fs/file_table.c, __fput(): what the last close does. */
void k_file_put(struct file *file)
{
	if (--file->refs > 0) {
		if (file->refs == 1 && file->kind == FILE_SOCKET && file->sock->state == SOCK_LISTENS)
			on_left_alone(file);
		return;
	}
	K.files--;
	if (epolls_used)
		forget(file);
	if (file->kind == FILE_SOCKET)
		k_sock_release(file->sock, false);
	if (file->kind == FILE_PIPE && file->write_end)
		file->pipe->writers--;
	if (file->kind == FILE_PIPE && !file->write_end)
		file->pipe->readers--;
	if (file->kind == FILE_EPOLL)
		file->epoll->count = 0;
	if (file->kind == FILE_REGULAR && file->flock)
		k_flock(file, LOCK_UN, false);
	if (file->kind == FILE_TEXT)
		k_text_put(file->text);
	pool_give_file(file);
}

/* --- descriptors --- */

/* fs/file.c: the lowest free descriptor from LEAST on, below RLIMIT_NOFILE. */
int k_install(struct file *file, int least, bool cloexec)
{
	struct fdtable *table = me()->files;

	for (int fd = least; fd < table->limit; fd++) {
		if (fd >= MOST_FDS) {
			fail("LEAK: more than %d descriptors in %s", MOST_FDS, me()->name);
			return -EMFILE;
		}
		if (table->file[fd])
			continue;
		table->file[fd] = file;
		table->cloexec[fd] = cloexec;
		if (fd >= table->end)
			table->end = fd + 1;
		return fd;
	}
	return -EMFILE;
}

/* The same for a file that nobody else has: it is gone if there is no room. */
int k_install_new(struct file *file, bool cloexec)
{
	int fd = k_install(file, 0, cloexec);

	if (fd < 0)
		k_file_put(file);
	return fd;
}

bool k_has_room(void)
{
	const struct fdtable *table = me()->files;

	for (int fd = 0; fd < table->limit && fd < MOST_FDS; fd++)
		if (!table->file[fd])
			return true;
	return table->limit > MOST_FDS;
}

int k_close(int fd)
{
	struct file *file = k_file(fd);

	if (!file)
		return -EBADF;
	me()->files->file[fd] = NULL;
	k_file_put(file);
	return 0;
}

/*
 * Closing many at once: the table is empty first; what was the last descriptor of its file is
 * released afterwards, one after the other, while others run. In which order depends on the version
 * of Linux.
 */
static void close_many(struct fdtable *table, int low, int high, bool only_cloexec, bool high_first)
{
	struct file *last[MOST_FDS];
	int n = 0;

	for (int fd = low; fd <= high && fd < table->end; fd++) {
		struct file *file = table->file[fd];

		if (!file || (only_cloexec && !table->cloexec[fd]))
			continue;
		table->file[fd] = NULL;
		if (file->refs > 1)
			file->refs--;
		else
			last[n++] = file;
	}
	for (int i = 0; i < n; i++) {
		point(true);
		k_file_put(last[high_first ? n - 1 - i : i]);
	}
}

void k_close_range(unsigned low, unsigned high)
{
	close_many(me()->files, (int)low, high >= MOST_FDS ? MOST_FDS - 1 : (int)high, false,
		   K.close_range_high_first);
}

/* fs/exec.c: once exec cannot fail any more. */
void k_close_on_exec(void)
{
	close_many(me()->files, 0, MOST_FDS - 1, true, K.close_range_high_first);
}

/* kernel/exit.c, exit_files(): by the last process that has TABLE. */
void k_close_all(struct fdtable *table)
{
	if (--table->refs == 0)
		close_many(table, 0, MOST_FDS - 1, false, K.exit_closes_high_first);
}

int k_dup(int fd, int least, bool cloexec)
{
	struct file *file = k_file(fd);
	int r;

	if (!file)
		return -EBADF;
	r = k_install(file, least, cloexec);
	if (r >= 0)
		file->refs++;
	return r;
}

struct fdtable *k_files_new(int limit)
{
	struct fdtable *table = &tables[tables_used++ % MOST_PROCS];

	memset(table, 0, sizeof *table);
	table->refs = 1;
	table->limit = limit;
	return table;
}

struct fdtable *k_files_copy(const struct fdtable *from)
{
	struct fdtable *table = &tables[tables_used++ % MOST_PROCS];

	memcpy(table, from, sizeof *table);
	table->refs = 1;
	for (int i = 0; i < table->end; i++)
		if (table->file[i])
			table->file[i]->refs++;
	return table;
}

/* --- pipes and epoll --- */

int k_pipe(int ends[2])
{
	struct file *reads = k_file_new(FILE_PIPE), *writes = k_file_new(FILE_PIPE);

	reads->pipe = writes->pipe = &pipes[pipes_used++ % 64];
	*reads->pipe = (struct pipe){ .readers = 1, .writers = 1 };
	writes->write_end = true;
	ends[0] = k_install_new(reads, true);
	if (ends[0] < 0) {
		k_file_put(writes);
		return ends[0];
	}
	ends[1] = k_install_new(writes, true);
	if (ends[1] >= 0)
		return 0;
	k_close(ends[0]);
	return ends[1];
}

/* fs/eventpoll.c: an entry is a pair of open file and descriptor. */
int k_epoll_change(int epoll_fd, bool add, int fd, unsigned events, uint64_t data)
{
	struct file *instance = k_file(epoll_fd), *file = k_file(fd);
	struct epoll *epoll;
	int i = 0;

	if (!instance || !file)
		return -EBADF;
	if (instance->kind != FILE_EPOLL)
		return -EINVAL;
	epoll = instance->epoll;
	while (i < epoll->count && (epoll->item[i].file != file || epoll->item[i].fd != fd))
		i++;
	if (!add && i == epoll->count)
		return -ENOENT;
	if (add && i < epoll->count)
		return -EEXIST;
	if (!add) {
		epoll->item[i] = epoll->item[--epoll->count];
		return 0;
	}
	if (epoll->count == MOST_WATCHED)
		return -ENOSPC;
	epoll->count++;
	epoll->item[i].file = file;
	epoll->item[i].fd = fd;
	epoll->item[i].events = events;
	epoll->item[i].data = data;
	return 0;
}

/* --- poll --- */

/* net/unix/af_unix.c, unix_dgram_poll(), which SOCK_SEQPACKET has, too: a socket can be written to
 * while a quarter of its buffer is full. */
static unsigned poll_socket(const struct sock *sock)
{
	unsigned mask = 0;

	if (sock->error)
		mask |= POLLERR;
	if (sock->shut & SHUT_RECEIVE)
		mask |= POLLIN | POLLRDHUP;
	if (sock->shut == SHUT_BOTH || sock->state == SOCK_FRESH)
		mask |= POLLHUP;
	if (sock->head)
		mask |= POLLIN;
	if (sock->state != SOCK_LISTENS && sock->unread < 70)
		mask |= POLLOUT;
	return mask;
}

static unsigned poll_epoll(const struct epoll *epoll)
{
	for (int i = 0; i < epoll->count; i++)
		if (k_poll(epoll->item[i].file) & (epoll->item[i].events | POLLERR | POLLHUP))
			return POLLIN;
	return 0;
}

/* All events that FILE has now, for me(). */
unsigned k_poll(const struct file *file)
{
	switch (file->kind) {
	case FILE_SOCKET: return poll_socket(file->sock);
	case FILE_PIDFD:
		if (file->proc->state == PROC_GONE && K.pidfd_hangs_up)
			return POLLIN | POLLHUP;
		return file->proc->state >= PROC_ZOMBIE ? POLLIN : 0;
	case FILE_PIPE:
		if (file->write_end)
			return POLLOUT | (file->pipe->readers ? 0 : POLLERR);
		return (file->pipe->bytes ? POLLIN : 0) | (file->pipe->writers ? 0 : POLLHUP);
	case FILE_SIGNALS: /* of whoever asks, not of whoever has opened it */
		return (me()->pending & me()->blocked) ? POLLIN : 0;
	case FILE_EVENT: return file->events ? POLLIN | POLLOUT : POLLOUT;
	case FILE_EPOLL: return poll_epoll(file->epoll);
	default: return POLLIN | POLLOUT;
	}
}
