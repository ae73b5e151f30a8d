/* Messages on AF_UNIX sockets, with descriptors and credentials, as in net/unix/af_unix.c and
 * net/core/scm.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "schedule.h"
#include "sockets.h"

/* So many small messages can wait unread: each charges 768 bytes to a buffer of 212992
 * (net.core.wmem_default). */
#define MOST_UNREAD 278

/* --- sending --- */

/* scm_fp_copy() */
static int attach_files(struct message *message, const struct msghdr *msg)
{
	struct msghdr *header = (struct msghdr *)(uintptr_t)msg;

	for (struct cmsghdr *c = msg->msg_controllen ? CMSG_FIRSTHDR(msg) : NULL; c;
	     c = CMSG_NXTHDR(header, c))
		for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
			struct file *file = k_file(((int *)(void *)CMSG_DATA(c))[i]);

			if (!file)
				return -EBADF;
			file->refs++;
			message->files[message->files_count++] = file;
		}
	return 0;
}

static void attach_data(struct message *message, const struct msghdr *msg)
{
	for (size_t i = 0; i < msg->msg_iovlen; i++) {
		size_t length = msg->msg_iov[i].iov_len;

		if ((size_t)message->length + length > sizeof message->data)
			abort();
		memcpy(message->data + message->length, msg->msg_iov[i].iov_base, length);
		message->length += (int)length;
	}
}

/* unix_dgram_sendmsg(), by way of unix_seqpacket_sendmsg(). */
ssize_t k_sendmsg(int fd, const struct msghdr *msg)
{
	struct sock *sock, *other;
	struct message *message;
	int r = sock_of(fd, &sock);

	if (r || (r = sock_take_error(sock)))
		return r;
	if (sock->state != SOCK_CONNECTED)
		return -ENOTCONN;
	other = sock->peer;
	message = sock_message();
	r = attach_files(message, msg);
	if (r == 0) {
		sock_autobind(sock);
		r = (sock->shut & SHUT_SEND) || other->dead || (other->shut & SHUT_RECEIVE) ? -EPIPE
		    : sock->unread >= MOST_UNREAD ? -EAGAIN
						  : 0;
	}
	if (r) {
		sock_message_free(message);
		return r;
	}
	attach_data(message, msg);
	/* maybe_add_creds(): before 6.16 also if nobody has accepted the other end yet. */
	message->has_cred = sock->passcred || other->passcred ||
			    (K.passcred_at_accept && other->accepted && !other->has_socket);
	message->cred_proc = me();
	message->cred_uid = me()->uid;
	message->from = sock;
	sock->refs++;
	sock->unread++;
	sock_enqueue(other, message);
	return message->length;
}

/* --- receiving --- */

/* put_cmsg(): what does not fit is cut. Returns how much of the space is used. */
static size_t put_control(struct msghdr *msg, size_t used, int type, const void *data, size_t size)
{
	struct cmsghdr header = { .cmsg_level = SOL_SOCKET,
				  .cmsg_type = type,
				  .cmsg_len = CMSG_LEN(size) };
	size_t space = msg->msg_controllen - used;

	if (space < header.cmsg_len)
		msg->msg_flags |= MSG_CTRUNC;
	if (space < sizeof header)
		return used;
	if (space < header.cmsg_len)
		header.cmsg_len = space;
	memcpy((char *)msg->msg_control + used, &header, sizeof header);
	memcpy((char *)msg->msg_control + used + CMSG_LEN(0), data,
	       header.cmsg_len - sizeof header);
	return used + (space < CMSG_SPACE(size) ? space : CMSG_SPACE(size));
}

/* scm_detach_fds(): as many as there is room for, in the buffer and in the table. */
static size_t put_files(struct msghdr *msg, size_t used, struct message *message, bool cloexec)
{
	int fds[MOST_PASSED], n = 0, most = 0;

	if (msg->msg_controllen - used >= CMSG_LEN(0))
		most = (int)((msg->msg_controllen - used - CMSG_LEN(0)) / sizeof(int));
	while (n < message->files_count && n < most) {
		fds[n] = k_install(message->files[n], 0, cloexec);
		if (fds[n] < 0)
			break;
		message->files[n++]->refs++;
	}
	if (n > 0)
		used = put_control(msg, used, SCM_RIGHTS, fds, (size_t)n * sizeof(int));
	if (n < message->files_count)
		msg->msg_flags |= MSG_CTRUNC;
	return used;
}

static void receive_control(const struct sock *sock, struct msghdr *msg, struct message *message,
			    bool cloexec)
{
	size_t used = 0;

	if (!msg->msg_control) {
		if (sock->passcred || message->files_count)
			msg->msg_flags |= MSG_CTRUNC;
	} else {
		if (sock->passcred) {
			struct ucred cred = { message->has_cred ? message->cred_proc->pid : 0,
					      message->has_cred ? message->cred_uid : 65534, 0 };

			used = put_control(msg, used, SCM_CREDENTIALS, &cred, sizeof cred);
		}
		if (message->files_count)
			used = put_files(msg, used, message, cloexec);
	}
	msg->msg_controllen = used;
}

/* Returns how many bytes there was room for. */
static ssize_t receive_data(struct msghdr *msg, const struct message *message)
{
	size_t done = 0, length = (size_t)message->length;

	for (size_t i = 0; i < msg->msg_iovlen && done < length; i++) {
		size_t part = length - done < msg->msg_iov[i].iov_len ? length - done
								      : msg->msg_iov[i].iov_len;

		memcpy(msg->msg_iov[i].iov_base, message->data + done, part);
		done += part;
	}
	if (done < length)
		msg->msg_flags |= MSG_TRUNC;
	return (ssize_t)done;
}

/* __unix_dgram_recvmsg(): an error comes before what was sent, and the end after it. */
ssize_t k_recvmsg(int fd, struct msghdr *msg, bool cloexec)
{
	struct message *message;
	struct sock *sock;
	ssize_t n;
	int r = sock_of(fd, &sock);

	if (r)
		return r;
	if (sock->state != SOCK_CONNECTED)
		return -ENOTCONN;
	if ((r = sock_take_error(sock)))
		return r;
	message = sock_dequeue(sock);
	if (!message) {
		msg->msg_controllen = 0;
		return sock->shut & SHUT_RECEIVE ? 0 : -EAGAIN;
	}
	msg->msg_flags = 0;
	n = receive_data(msg, message);
	receive_control(sock, msg, message, cloexec);
	sock_message_free(message);
	return n;
}
