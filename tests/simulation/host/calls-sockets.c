/* System calls on sockets, and the kernel's table of them (sock_diag). */
#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "calls.h"
#include "hooks.h"
#include "world.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define DIAG_UID 7 /* UNIX_DIAG_UID, since Linux 5.3 */

int __wrap_socket(int domain, int type, int protocol);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_listen(int fd, int backlog);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __wrap_socketpair(int domain, int type, int protocol, int ends[2]);
int __wrap_shutdown(int fd, int how);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t n, int flags);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *size);
int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length);

/* --- making and connecting --- */

int __wrap_socket(int domain, int type, int protocol)
{
	int r;

	(void)protocol;
	if (domain == AF_NETLINK) {
		enter();
		return (int)result(K.no_diag ? -EPROTONOSUPPORT
					     : k_install_new(k_file_new(FILE_TABLE), true));
	}
	/* Nobody can tell when exactly a socket was made: no others run here. */
	me()->calls++;
	r = is_refused("socket") ? -EMFILE : k_socket(type & SOCK_CLOEXEC);
	TRACE("socket() = %s", show_result(r));
	return (int)result(r);
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	struct address name;
	int r;

	enter();
	k_address(&name, address, (int)length);
	r = k_bind(fd, &name);
	TRACE("bind(%d, %s) = %s", fd, k_show(&name), show_result(r));
	return (int)result(r);
}

int __wrap_listen(int fd, int backlog)
{
	int r;

	enter();
	r = k_listen(fd, backlog);
	TRACE("listen(%d) = %s", fd, show_result(r));
	return (int)result(r);
}

static bool may_connect(struct task *task)
{
	return k_may_connect(task->wanted);
}

/* Of those who wait for room, any may be the first: others can always come in between. */
static int connect_in_time(int fd, const struct address *name, int64_t until)
{
	int r;

	while ((r = k_connect(fd, name)) == -EAGAIN && K.now < until) {
		on_sleep(me());
		TRACE("connect(%d, %s) sleeps", fd, k_show(name));
		current->wanted = name;
		block(may_connect, until);
		if (me()->killed)
			k_exit(me()->killed);
	}
	return r;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
	const struct file *file = k_file(fd);
	struct address name;
	int r;

	enter();
	k_address(&name, address, (int)length);
	r = connect_in_time(fd, &name,
			    file && file->kind == FILE_SOCKET && file->sock->send_timeout
				    ? K.now + file->sock->send_timeout
				    : 0);
	TRACE("connect(%d, %s) = %s", fd, k_show(&name), show_result(r));
	return (int)result(r);
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
	int r;

	(void)address, (void)length, (void)flags;
	enter();
	r = is_refused("accept") ? rnd(2) ? -EMFILE : -ENOMEM : k_accept(fd);
	TRACE("accept(%d) = %s%s%s", fd, show_result(r), r >= 0 ? ", of " : "",
	      r >= 0 ? k_file(r)->sock->peer_proc->name : "");
	return (int)result(r);
}

int __wrap_socketpair(int domain, int type, int protocol, int ends[2])
{
	int r;

	(void)domain, (void)type, (void)protocol;
	me()->calls++;
	r = is_refused("socketpair") ? -EMFILE : k_socketpair(ends);
	TRACE("socketpair() = %s, [%d, %d]", show_result(r), ends[0], ends[1]);
	return (int)result(r);
}

int __wrap_shutdown(int fd, int how)
{
	int r;

	enter();
	r = k_shutdown(fd, how);
	TRACE("shutdown(%d, %d) = %s", fd, how, show_result(r));
	return (int)result(r);
}

/* --- messages --- */

/* What waiters say to each other begins with a letter (host/messages.h). */
static const char *show_word(const void *data)
{
	switch (*(const int *)data) {
	case '=': return "GIVE";
	case '+': return "FOLLOW";
	case '-': return "DISMISS";
	case '^': return "CLOSE_UP";
	default: return "a greeting";
	}
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	const struct cmsghdr *c = msg->msg_controllen ? CMSG_FIRSTHDR(msg) : NULL;
	ssize_t r;

	(void)flags;
	enter();
	r = is_refused("sendmsg") ? rnd(2) ? -ENOMEM : -ETOOMANYREFS : k_sendmsg(fd, msg);
	if (me()->run && !strcmp(show_word(msg->msg_iov[0].iov_base), "DISMISS"))
		me()->run->passes_over = true;
	TRACE("sendmsg(%d, %s, %d descriptors) = %s", fd, show_word(msg->msg_iov[0].iov_base),
	      c ? (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int)) : 0, show_result(r));
	return result(r);
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	ssize_t r;

	enter();
	r = k_recvmsg(fd, msg, flags & MSG_CMSG_CLOEXEC);
	TRACE("recvmsg(%d) = %s%s%s", fd, show_result(r), r >= (ssize_t)sizeof(int) ? ", " : "",
	      r >= (ssize_t)sizeof(int) ? show_word(msg->msg_iov[0].iov_base) : "");
	return result(r);
}

ssize_t __wrap_send(int fd, const void *data, size_t n, int flags)
{
	struct iovec part = { (void *)(uintptr_t)data, n };

	if (k_file(fd) && k_file(fd)->kind == FILE_TABLE) {
		k_file(fd)->cursor = 0;
		return (ssize_t)n;
	}
	return __wrap_sendmsg(fd, &(struct msghdr){ .msg_iov = &part, .msg_iovlen = 1 }, flags);
}

static char *put_attribute(char *at, unsigned short type, const void *data, size_t size)
{
	*(struct nlattr *)(void *)at = (struct nlattr){ (unsigned short)(NLA_HDRLEN + size), type };
	memcpy(at + NLA_HDRLEN, data, size);
	return at + NLA_HDRLEN + NLA_ALIGN(size);
}

/* net/unix/diag.c: a dump comes in pieces, here of one socket each; others change the table between
 * two of them. */
static ssize_t dump(struct file *file, char *out)
{
	const struct sock *sock = file->cursor < K.bound_count ? K.bound[file->cursor++] : NULL;
	struct nlmsghdr *header = (void *)out;
	struct unix_diag_msg *message = NLMSG_DATA(header);
	char *end;

	*header = (struct nlmsghdr){ .nlmsg_type = NLMSG_DONE, .nlmsg_len = NLMSG_LENGTH(4) };
	if (!sock)
		return (ssize_t)header->nlmsg_len;
	*message = (struct unix_diag_msg){ .udiag_type = SOCK_SEQPACKET, .udiag_ino = sock->inode };
	end = put_attribute((char *)(message + 1), UNIX_DIAG_NAME, sock->address.path,
			    (size_t)sock->address.length);
	end = put_attribute(end, DIAG_UID, &sock->uid, sizeof sock->uid);
	header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
	header->nlmsg_len = (unsigned)(end - out);
	return (ssize_t)header->nlmsg_len;
}

ssize_t __wrap_recv(int fd, void *data, size_t n, int flags)
{
	struct iovec part = { data, n };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };
	ssize_t r;

	if (!k_file(fd) || k_file(fd)->kind != FILE_TABLE)
		return __wrap_recvmsg(fd, &msg, flags);
	enter();
	r = dump(k_file(fd), data);
	TRACE("recv(%d): the table of sockets, %d of %d", fd, k_file(fd)->cursor, K.bound_count);
	return r;
}

/* --- options --- */

static long get_cred(int fd, const struct sock *sock, void *value)
{
	struct ucred cred = { sock->peer_proc ? sock->peer_proc->pid : 0, sock->peer_uid,
			      (gid_t)(sock->peer_proc ? 0 : -1) };

	memcpy(value, &cred, sizeof cred);
	TRACE("getsockopt(%d, SO_PEERCRED) = %s, uid %u", fd,
	      sock->peer_proc ? sock->peer_proc->name : "nobody", sock->peer_uid);
	return 0;
}

static long get_pidfd(int fd, const struct sock *sock, int *value)
{
	int r;

	enter();
	r = is_refused("SO_PEERPIDFD") ? -EMFILE : k_peerpidfd(sock);
	TRACE("getsockopt(%d, SO_PEERPIDFD) = %s", fd, show_result(r));
	if (r < 0)
		return r;
	*value = r;
	return 0;
}

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
	const struct file *file = k_file(fd);

	(void)level, (void)size;
	me()->calls++;
	if (!file || file->kind != FILE_SOCKET)
		return (int)result(file ? -ENOTSOCK : -EBADF);
	switch (option) {
	case SO_PEERCRED: return (int)result(get_cred(fd, file->sock, value));
	case SO_PEERPIDFD: return (int)result(get_pidfd(fd, file->sock, value));
	case SO_TYPE: *(int *)value = SOCK_SEQPACKET; return 0;
	case SO_ACCEPTCONN: *(int *)value = file->sock->state == SOCK_LISTENS; return 0;
	case SO_NETNS_COOKIE:
		if (!K.no_cookie)
			*(uint64_t *)value = 1;
		return (int)result(K.no_cookie ? -ENOPROTOOPT : 0);
	default: not_simulated("getsockopt", option);
	}
}

int __wrap_setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
	const struct file *file = k_file(fd);

	(void)level, (void)size;
	me()->calls++;
	if (option != SO_PASSCRED && option != SO_SNDTIMEO)
		not_simulated("setsockopt", option);
	if (!file || file->kind != FILE_SOCKET)
		return (int)result(-EBADF);
	if (option == SO_PASSCRED)
		file->sock->passcred = *(const int *)value;
	else
		file->sock->send_timeout = ((const struct timeval *)value)->tv_sec * 1000000000LL +
					   ((const struct timeval *)value)->tv_usec * 1000LL;
	return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *length)
{
	const struct file *file = k_file(fd);

	me()->calls++;
	if (!file || file->kind != FILE_SOCKET)
		return (int)result(file ? -ENOTSOCK : -EBADF);
	address->sa_family = AF_UNIX;
	memcpy((char *)address + offsetof(struct sockaddr_un, sun_path), file->sock->address.path,
	       (size_t)file->sock->address.length);
	*length = (socklen_t)offsetof(struct sockaddr_un, sun_path) +
		  (socklen_t)file->sock->address.length;
	return 0;
}
