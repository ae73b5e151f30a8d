#include "list/sockets.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "host/socket-table.h"

#ifndef UDIAG_SHOW_UID
#define UDIAG_SHOW_UID 0x40
#define UNIX_DIAG_UID 7
#endif

/*
 * The kernel fills messages up to the size of the buffers that we read with, at most 32 kB, and
 * ends a dump at a socket that does not fit. All waiters of a queue belong to one socket: some
 * 8,000 of them fit.
 */
#define BUFFER_SIZE 65536

#define ANY_STATE (~0U)

/* --- names ------------------------------------------------------------------------------------ */

#define PREFIX_LENGTH 8 /* "me-only:" or "me-only#" */
#define LONGEST_NAME 77 /* host/address.h */
#define LONG_NAME 77	/* a beginning of 44, "#", a digest of 32 */

/*
 * Reads the number of LIMIT at most that is written in *AT as we write numbers, up to a NUL or END,
 * and moves *AT behind that. Returns whether there is one.
 */
static bool read_number(const char **at, const char *end, uint64_t limit, uint64_t *number)
{
	const char *digits = *at;
	uint64_t value = 0;

	for (; *at < end && **at >= '0' && **at <= '9' && value <= limit; ++*at)
		value = value * 10 + (uint64_t)(**at - '0');
	*number = value;
	if (*at == digits || value > limit || (*digits == '0' && *at - digits > 1) ||
	    (*at < end && **at != 0))
		return false;
	*at += *at < end;
	return true;
}

/*
 * Notes in SOCKET the meaning of a name that has the N bytes SUFFIX after the lock's. Returns
 * whether it has one.
 */
static bool read_suffix(struct unix_socket *socket, const char *suffix, size_t n)
{
	static const char queue[] = "\0queue", slot[] = "\0slot"; /* with the NUL after it */
	const char *at, *end = suffix + n;
	uint64_t number, slots = 1;

	if (n > sizeof queue && !memcmp(suffix, queue, sizeof queue)) {
		at = suffix + sizeof queue;
		if (!read_number(&at, end, UINT32_MAX - 1, &number) ||
		    (at < end && !read_number(&at, end, MOST_SLOTS, &slots)))
			return false;
		socket->kind = SOCKET_QUEUE;
		socket->queue_uid = (uid_t)number;
		socket->queue_slots = (unsigned)slots;
		return at == end && end[-1] != 0;
	}
	if (n > sizeof slot && !memcmp(suffix, slot, sizeof slot)) {
		at = suffix + sizeof slot;
		if (!read_number(&at, end, MOST_SLOTS - 1, &number) || number == 0)
			return false;
		socket->slot = (unsigned)number;
		return at == end && end[-1] != 0;
	}
	return false;
}

/*
 * Notes in SOCKET the meaning of the N bytes PATH, the name of a socket. Returns whether it is one
 * of me-only's.
 */
static bool read_name(struct unix_socket *socket, const char *path, size_t n)
{
	const char *end;
	size_t length;

	if (n <= PREFIX_LENGTH + 1 || path[0] != 0 || memcmp(path + 1, "me-only", 7) != 0 ||
	    (path[8] != ':' && path[8] != '#'))
		return false;
	end = memchr(path + 1, 0, n - 1);
	length = end ? (size_t)(end - path) : n;
	/* A name that no lock's name produces is somebody else's. */
	if (length == PREFIX_LENGTH + 1 || length > PREFIX_LENGTH + 1 + LONGEST_NAME ||
	    (path[8] == '#' && length != PREFIX_LENGTH + 1 + LONG_NAME))
		return false;
	socket->kind = SOCKET_LOCK;
	if (end && !read_suffix(socket, end, n - length))
		return false;
	socket->lock.un.sun_family = AF_UNIX;
	memcpy(socket->lock.un.sun_path, path, length);
	socket->lock.length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
	return true;
}

/* --- the dumps -------------------------------------------------------------------------------- */

struct dump {
	struct sockets *sockets;
	size_t room;
	int failed;
};

static void read_attribute(struct unix_socket *socket, const struct nlattr *attribute)
{
	const char *payload = mnl_attr_get_payload(attribute);
	uint16_t size = mnl_attr_get_payload_len(attribute);
	struct unix_diag_rqlen pending;

	switch (mnl_attr_get_type(attribute)) {
	case UNIX_DIAG_NAME:
		if (!read_name(socket, payload, size))
			socket->kind = SOCKET_OTHER;
		break;
	case UNIX_DIAG_PEER:
		if (size >= sizeof socket->peer)
			memcpy(&socket->peer, payload, sizeof socket->peer);
		break;
	case UNIX_DIAG_RQLEN:
		if (size < sizeof pending)
			break;
		memcpy(&pending, payload, sizeof pending);
		socket->pending = pending.udiag_rqueue;
		socket->most_pending = pending.udiag_wqueue;
		break;
	case UNIX_DIAG_UID:
		if (size >= sizeof socket->uid)
			memcpy(&socket->uid, payload, sizeof socket->uid);
		break;
	case UNIX_DIAG_SHUTDOWN: socket->shut = size > 0 && *payload != 0; break;
	default: break;
	}
}

/* Adds one socket, unless it has nothing to do with locks. */
static int take_socket(const struct nlmsghdr *header, void *argument)
{
	struct dump *dump = argument;
	const struct unix_diag_msg *message = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute;
	struct unix_socket socket = { .uid = SOCKET_UID_UNKNOWN };

	if (mnl_nlmsg_get_payload_len(header) < sizeof *message ||
	    message->udiag_type != SOCK_SEQPACKET)
		return MNL_CB_OK;
	socket.state = message->udiag_state;
	socket.inode = message->udiag_ino;
	// cppcheck-suppress unknownMacro
	mnl_attr_for_each(attribute, header, sizeof *message) read_attribute(&socket, attribute);
	/* Waiters' ends of connections have no name, or one that the kernel has given them. */
	if (socket.kind == SOCKET_OTHER && socket.state != SOCKET_ESTABLISHED)
		return MNL_CB_OK;
	dump->sockets->all =
		memory_grow(dump->sockets->all, dump->sockets->n, &dump->room, sizeof socket);
	dump->sockets->all[dump->sockets->n++] = socket;
	return MNL_CB_OK;
}

/* Adds the order of a backlog to the socket that it belongs to. */
static int take_line(const struct nlmsghdr *header, void *argument)
{
	struct dump *dump = argument;
	const struct unix_diag_msg *message = mnl_nlmsg_get_payload(header);
	const struct nlattr *attribute;
	struct unix_socket *queue;

	if (mnl_nlmsg_get_payload_len(header) < sizeof *message)
		return MNL_CB_OK;
	queue = (struct unix_socket *)(uintptr_t)sockets_find(dump->sockets, message->udiag_ino);
	if (!queue || queue->kind != SOCKET_QUEUE || queue->state != SOCKET_LISTEN || queue->line)
		return MNL_CB_OK;
	mnl_attr_for_each(attribute, header, sizeof *message)
	{
		if (mnl_attr_get_type(attribute) != UNIX_DIAG_ICONS)
			continue;
		queue->line_length = mnl_attr_get_payload_len(attribute) / sizeof *queue->line;
		queue->line = memory_copy(mnl_attr_get_payload(attribute),
					  queue->line_length * sizeof *queue->line);
		break;
	}
	return MNL_CB_OK;
}

/*
 * Asks for the sockets in STATES, with the attributes SHOW of each. Returns 0 or a negative errno.
 */
static int read_dump(struct mnl_socket *netlink, uint32_t states, uint32_t show, mnl_cb_t take,
		     struct dump *dump)
{
	char *buffer = memory_get(BUFFER_SIZE);
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct unix_diag_req *request;
	ssize_t n;
	int r;

	header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	request = mnl_nlmsg_put_extra_header(header, sizeof *request);
	request->sdiag_family = AF_UNIX;
	request->udiag_states = states;
	request->udiag_show = show;
	n = mnl_socket_sendto(netlink, header, header->nlmsg_len);
	r = n < 0 ? -errno : 0;
	while (r == 0) {
		do
			n = mnl_socket_recvfrom(netlink, buffer, BUFFER_SIZE);
		while (n < 0 && errno == EINTR);
		n = n < 0 ? n : mnl_cb_run(buffer, (size_t)n, 0, 0, take, dump);
		if (n < 0)
			r = -errno;
		else if (n == MNL_CB_STOP)
			break;
	}
	free(buffer);
	return r;
}

/* --- order ------------------------------------------------------------------------------------ */

static int compare(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int compare_addresses(const struct host_address *a, const struct host_address *b)
{
	int r = memcmp(a->un.sun_path, b->un.sun_path, sizeof a->un.sun_path);

	return r ? r : compare(a->length, b->length);
}

static int by_lock(const void *a, const void *b)
{
	const struct unix_socket *x = a, *y = b;
	int r = compare_addresses(&x->lock, &y->lock);

	r = r ? r : compare(x->kind, y->kind);
	r = r ? r : compare(x->slot, y->slot);
	r = r ? r : compare(x->queue_uid, y->queue_uid);
	r = r ? r : compare(x->queue_slots, y->queue_slots);
	return r ? r : compare(x->inode, y->inode);
}

static int by_inode(const void *a, const void *b, void *argument)
{
	const struct unix_socket *all = argument;

	return compare(all[*(const size_t *)a].inode, all[*(const size_t *)b].inode);
}

/*
 * Sorts the sockets and drops duplicates: when sockets go away during a dump, others are shown
 * again.
 */
static void put_in_order(struct sockets *sockets)
{
	size_t kept = 0;

	if (sockets->n == 0)
		return;
	qsort(sockets->all, sockets->n, sizeof *sockets->all, by_lock);
	for (size_t i = 0; i < sockets->n; i++) {
		const struct unix_socket *last = kept > 0 ? &sockets->all[kept - 1] : NULL,
					 *socket = &sockets->all[i];

		if (!last || by_lock(last, socket) != 0)
			sockets->all[kept++] = *socket;
	}
	sockets->n = kept;
	sockets->by_inode = memory_get(sockets->n * sizeof *sockets->by_inode);
	for (size_t i = 0; i < sockets->n; i++)
		sockets->by_inode[i] = i;
	qsort_r(sockets->by_inode, sockets->n, sizeof *sockets->by_inode, by_inode, sockets->all);
}

int sockets_read(struct sockets *sockets)
{
	struct dump dump = { .sockets = sockets };
	struct mnl_socket *netlink = mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
	int r;

	*sockets = (struct sockets){ 0 };
	if (!netlink)
		return -errno;
	r = read_dump(netlink, ANY_STATE,
		      UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN | UDIAG_SHOW_UID,
		      take_socket, &dump);
	put_in_order(sockets);
	for (size_t i = 0; r == 0 && i < sockets->n; i++)
		if (sockets->all[i].kind == SOCKET_QUEUE &&
		    sockets->all[i].state == SOCKET_LISTEN && sockets->all[i].pending > 0) {
			/*
			 * Through the same socket: the kernel knows by now which messages we can
			 * take. Without the order, the rest is still of use.
			 */
			(void)read_dump(netlink, 1U << SOCKET_LISTEN, UDIAG_SHOW_ICONS, take_line,
					&dump);
			break;
		}
	mnl_socket_close(netlink);
	return r;
}

void sockets_free(struct sockets *sockets)
{
	for (size_t i = 0; i < sockets->n; i++)
		free(sockets->all[i].line);
	free(sockets->all);
	free(sockets->by_inode);
	*sockets = (struct sockets){ 0 };
}

const struct unix_socket *sockets_find(const struct sockets *sockets, uint32_t inode)
{
	size_t low = 0, high = sockets->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct unix_socket *socket = &sockets->all[sockets->by_inode[middle]];

		if (socket->inode == inode)
			return socket;
		if (socket->inode < inode)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

const struct unix_socket *sockets_of_lock(const struct sockets *sockets,
					  const struct host_address *address)
{
	/* All of sun_path is compared: its rest must be zero here, as in the table. */
	struct host_address wanted = { .length = address->length };
	size_t low = 0, high = sockets->n;

	memcpy(wanted.un.sun_path, address->un.sun_path,
	       address->length - offsetof(struct sockaddr_un, sun_path));
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_addresses(&sockets->all[middle].lock, &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < sockets->n && compare_addresses(&sockets->all[low].lock, &wanted) == 0
		       ? &sockets->all[low]
		       : NULL;
}

bool socket_is_holder(const struct unix_socket *socket)
{
	return socket->kind == SOCKET_LOCK &&
	       (socket->state == SOCKET_LISTEN || socket->state == SOCKET_CLOSE);
}

bool sockets_share_lock(const struct sockets *sockets, const struct unix_socket *socket,
			const struct unix_socket *other)
{
	return socket < sockets->all + sockets->n &&
	       compare_addresses(&socket->lock, &other->lock) == 0;
}

const struct unix_socket *sockets_of_slot(const struct sockets *sockets,
					  const struct host_address *address)
{
	const char *path = address->un.sun_path, *end;
	size_t length = address->length - offsetof(struct sockaddr_un, sun_path);
	struct unix_socket wanted = { .kind = SOCKET_LOCK, .lock = { .length = address->length } };
	struct host_address *lock = &wanted.lock;
	size_t low = 0, high = sockets->n;

	/* The lock's own name ends where a suffix starts. */
	end = memchr(path + 1, 0, length - 1);
	lock->un.sun_family = AF_UNIX;
	if (end)
		lock->length =
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)(end - path));
	memcpy(lock->un.sun_path, path, lock->length - offsetof(struct sockaddr_un, sun_path));
	wanted.slot = host_address_slot(lock, path, length);
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (by_lock(&sockets->all[middle], &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (const struct unix_socket *s = sockets->all + low;
	     sockets_share_lock(sockets, s, &wanted) && s->kind == SOCKET_LOCK &&
	     s->slot == wanted.slot;
	     s++)
		if (socket_is_holder(s))
			return s;
	return NULL;
}
