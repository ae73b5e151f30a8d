/* AF_UNIX sockets of the type SOCK_SEQPACKET with abstract names, as in net/unix/af_unix.c. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "hooks.h"
#include "pool.h"
#include "schedule.h"
#include "sockets.h"

POOL(sock, 16384, sizeof(struct sock))
POOL(message, 8192, offsetof(struct message, data))

void k_sockets_reset(void)
{
	pool_reset_sock();
	pool_reset_message();
}

/* --- names --- */

void k_address(struct address *address, const void *sockaddr, int length)
{
	address->length = length - (int)offsetof(struct sockaddr_un, sun_path);
	memcpy(address->path, (const char *)sockaddr + offsetof(struct sockaddr_un, sun_path),
	       (size_t)address->length);
}

bool k_same_address(const struct address *a, const struct address *b)
{
	return a->length == b->length && !memcmp(a->path, b->path, (size_t)a->length);
}

/* For people: "L/queue/1000". */
const char *k_show(const struct address *address)
{
	static const char prefix[] = "\0me-only:";
	static char texts[4][128];
	static int used;
	char *text = texts[used = (used + 1) & 3];
	int skip = address->length >= (int)sizeof prefix &&
				   !memcmp(address->path, prefix, sizeof prefix - 1)
			   ? (int)sizeof prefix - 1
			   : 1,
	    i;

	if (address->length == 0)
		return "-";
	for (i = skip; i < address->length; i++)
		text[i - skip] = address->path[i] ? address->path[i] : '/';
	text[i - skip] = 0;
	return text;
}

static struct sock *find_name(const struct address *address)
{
	for (int i = 0; i < K.bound_count; i++)
		if (k_same_address(&K.bound[i]->address, address))
			return K.bound[i];
	return NULL;
}

static void bind_name(struct sock *sock)
{
	if (K.bound_count == MOST_BOUND)
		abort();
	K.bound[K.bound_count++] = sock;
	sock->is_bound = true;
}

static void unbind_name(struct sock *sock)
{
	int i = 0;

	while (K.bound[i] != sock)
		i++;
	K.bound_count--;
	memmove(K.bound + i, K.bound + i + 1, sizeof *K.bound * (size_t)(K.bound_count - i));
	sock->is_bound = false;
	on_unbound(sock);
}

/* unix_autobind(): a socket that passes credentials gets a name of its own when it connects or
 * sends. */
void sock_autobind(struct sock *sock)
{
	if (!sock->passcred || sock->address.length)
		return;
	sock->address.length = 1 + snprintf(sock->address.path + 1, 8, "%05x", ++K.auto_names);
	bind_name(sock);
}

/* --- sockets and messages --- */

static struct sock *sock_new(void)
{
	struct sock *sock = pool_take_sock();

	sock->refs = 1;
	sock->inode = ++K.inode;
	sock->uid = me()->uid;
	sock->peer_uid = (uid_t)-1;
	K.socks++;
	return sock;
}

static void sock_put(struct sock *sock)
{
	if (--sock->refs > 0)
		return;
	K.socks--;
	pool_give_sock(sock);
}

struct message *sock_message(void)
{
	return pool_take_message();
}

struct message *sock_dequeue(struct sock *sock)
{
	struct message *message = sock->head;

	if (!message)
		return NULL;
	sock->head = message->next;
	sock->queued--;
	if (!sock->head)
		sock->tail = NULL;
	return message;
}

void sock_enqueue(struct sock *sock, struct message *message)
{
	message->next = NULL;
	if (sock->tail)
		sock->tail->next = message;
	else
		sock->head = message;
	sock->tail = message;
	sock->queued++;
}

/* The files in it that nobody has received are closed. */
void sock_message_free(struct message *message)
{
	if (message->from) {
		message->from->unread--;
		sock_put(message->from);
	}
	for (int i = 0; i < message->files_count; i++)
		k_file_put(message->files[i]);
	pool_give_message(message);
}

/* What the last close of a listener does with the connections that nobody has accepted, and of any
 * other with unread messages. */
static void drain(struct sock *sock, bool listened)
{
	struct message *message;

	while ((message = sock_dequeue(sock))) {
		if (listened) {
			k_sock_release(message->connection, true);
			pool_give_message(message);
		} else {
			sock_message_free(message);
		}
	}
}

/*
 * unix_release_sock(): the name is free first, then the peer hears the hang-up, then whoever is in
 * the backlog; others run between these steps, on other processors. Unread messages, and a backlog
 * that is dropped, reset the connection.
 */
void k_sock_release(struct sock *sock, bool in_backlog)
{
	bool listened = sock->state == SOCK_LISTENS;
	struct sock *peer = sock->peer;

	if (sock->is_bound) {
		unbind_name(sock);
		point(true);
	}
	sock->dead = true;
	sock->shut = SHUT_BOTH;
	sock->state = SOCK_FRESH;
	sock->peer = NULL;
	if (peer) {
		peer->shut = SHUT_BOTH;
		if (sock->head || in_backlog)
			peer->error = ECONNRESET;
		sock_put(peer);
		point(true);
	}
	drain(sock, listened);
	sock_put(sock);
}

static int sock_fd(struct sock *sock, bool cloexec)
{
	struct file *file = k_file_new(FILE_SOCKET);

	file->sock = sock;
	return k_install_new(file, cloexec);
}

int sock_of(int fd, struct sock **sock)
{
	struct file *file = k_file(fd);

	if (!file)
		return -EBADF;
	if (file->kind != FILE_SOCKET)
		return -ENOTSOCK;
	*sock = file->sock;
	return 0;
}

static void set_peer(struct sock *sock, struct proc *p, uid_t uid)
{
	sock->peer_proc = p;
	sock->peer_uid = uid;
}

/* sk->sk_err: what happened is told once, to the next who asks. */
int sock_take_error(struct sock *sock)
{
	int error = sock->error;

	sock->error = 0;
	return -error;
}

/* --- the calls --- */

int k_socket(bool cloexec)
{
	return k_has_room() ? sock_fd(sock_new(), cloexec) : -EMFILE;
}

/* unix_bind_abstract() */
int k_bind(int fd, const struct address *address)
{
	struct sock *sock;
	int r = sock_of(fd, &sock);

	if (r)
		return r;
	if (sock->address.length)
		return -EINVAL;
	if (find_name(address))
		return -EADDRINUSE;
	sock->address = *address;
	bind_name(sock);
	on_bound(me(), sock);
	return 0;
}

/* unix_listen(): whoever listens last is named by SO_PEERCRED of those who connect. */
int k_listen(int fd, int backlog)
{
	struct sock *sock;
	int r = sock_of(fd, &sock);

	if (r)
		return r;
	if (!sock->address.length || sock->state == SOCK_CONNECTED)
		return -EINVAL;
	on_listens(sock);
	sock->state = SOCK_LISTENS;
	sock->backlog = backlog < 0 || backlog > K.somaxconn ? K.somaxconn : backlog;
	set_peer(sock, me(), me()->uid);
	return 0;
}

/* unix_stream_connect() without O_BLOCK: the connection is complete at once, accepted or not; the
 * backlog holds one more than it says. */
int k_connect(int fd, const struct address *address)
{
	struct sock *sock, *other, *new;
	struct message *message;
	int r = sock_of(fd, &sock);

	if (r)
		return r;
	sock_autobind(sock);
	other = find_name(address);
	if (!other || other->state != SOCK_LISTENS || (other->shut & SHUT_RECEIVE)) {
		if (other)
			on_silent(other);
		return -ECONNREFUSED;
	}
	if (other->queued > other->backlog)
		return -EAGAIN;
	if (sock->state != SOCK_FRESH)
		return sock->state == SOCK_CONNECTED ? -EISCONN : -EINVAL;
	new = sock_new();
	new->state = sock->state = SOCK_CONNECTED;
	new->peer = sock, sock->refs++;
	sock->peer = new, new->refs++;
	new->passcred = other->passcred && !K.passcred_at_accept;
	new->accepted = true;
	new->address = other->address;
	set_peer(new, me(), me()->uid);
	set_peer(sock, other->peer_proc, other->peer_uid);
	message = pool_take_message();
	message->connection = new;
	sock_enqueue(other, message);
	on_connected(me(), address);
	return 0;
}

/* unix_wait_for_peer() */
bool k_may_connect(const struct address *address)
{
	const struct sock *other = find_name(address);

	return !other || other->state != SOCK_LISTENS || (other->shut & SHUT_RECEIVE) ||
	       other->queued <= other->backlog;
}

int k_accept(int fd)
{
	struct message *message;
	struct sock *sock, *new;
	int r = sock_of(fd, &sock);

	if (r)
		return r;
	if (!k_has_room())
		return -EMFILE;
	if (sock->state != SOCK_LISTENS)
		return -EINVAL;
	message = sock_dequeue(sock);
	sock->looked_by = message ? NULL : me();
	sock->looked_at = me()->calls;
	if (!message)
		return -EAGAIN;
	new = message->connection;
	pool_give_message(message);
	new->passcred |= sock->passcred &&K.passcred_at_accept;
	new->has_socket = true;
	on_accepted(sock);
	return sock_fd(new, true);
}

int k_socketpair(int ends[2])
{
	struct sock *a = sock_new(), *b = sock_new();

	a->state = b->state = SOCK_CONNECTED;
	a->peer = b, b->peer = a, a->refs++, b->refs++;
	set_peer(a, me(), me()->uid);
	set_peer(b, me(), me()->uid);
	ends[0] = sock_fd(a, true);
	if (ends[0] < 0) {
		k_sock_release(b, false);
		return -EMFILE;
	}
	ends[1] = sock_fd(b, true);
	if (ends[1] >= 0)
		return 0;
	k_close(ends[0]);
	return -EMFILE;
}

/* unix_shutdown(): the other end learns the opposite. */
int k_shutdown(int fd, int how)
{
	const int mode = how + 1; /* SHUT_RD is 0, SHUT_WR 1, SHUT_RDWR 2 */
	struct sock *sock;
	int r = sock_of(fd, &sock);

	if (r)
		return r;
	sock->shut |= mode;
	if (sock->peer)
		sock->peer->shut |= (mode & SHUT_RECEIVE ? SHUT_SEND : 0) |
				    (mode & SHUT_SEND ? SHUT_RECEIVE : 0);
	return 0;
}

/* SO_PEERPIDFD: before 6.16 not of a process that was reaped. */
int k_peerpidfd(const struct sock *sock)
{
	struct file *file;

	if (K.peerpidfd == 0)
		return -ENOPROTOOPT;
	if (!sock->peer_proc)
		return -ENODATA;
	if (K.peerpidfd == 1 && sock->peer_proc->state == PROC_GONE)
		return -EINVAL;
	file = k_file_new(FILE_PIDFD);
	file->proc = sock->peer_proc;
	return k_install_new(file, true);
}
