#include "host/messages.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/trust.h"

struct words {
	int32_t word;
	int32_t number;
};

union descriptors {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(2 * sizeof(int))];
};

int host_send_word(int fd, enum word word, pid_t number, const int fds[], size_t n)
{
	struct words words = { .word = (int32_t)word, .number = number };
	struct iovec part = { &words, sizeof words };
	union descriptors control = { .align = { .cmsg_len = CMSG_LEN(n * sizeof *fds),
						 .cmsg_level = SOL_SOCKET,
						 .cmsg_type = SCM_RIGHTS } };
	struct msghdr msg = { .msg_iov = &part, .msg_iovlen = 1 };

	if (n > 0) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof *fds);
		memcpy(CMSG_DATA(&control.align), fds, n * sizeof *fds);
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

/* Keeps the first two descriptors in PART and closes all others. */
static void take_descriptors(const struct cmsghdr *part, int fds[2])
{
	const unsigned char *at = CMSG_DATA(part),
			    *end = (const unsigned char *)part + part->cmsg_len;

	for (; at + sizeof(int) <= end; at += sizeof(int)) {
		int fd;

		memcpy(&fd, at, sizeof fd);
		if (fds[0] < 0)
			fds[0] = fd;
		else if (fds[1] < 0)
			fds[1] = fd;
		else
			close(fd);
	}
}

int host_receive_word(int fd, struct heard *heard)
{
	struct words words = { 0 };
	struct iovec part = { &words, sizeof words };
	union descriptors control;
	struct msghdr msg = { .msg_iov = &part,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof control };
	bool own = false;
	ssize_t n;

	/*
	 * If the other end closed without having read what we sent, that is told first, once, and
	 * then what it had sent before.
	 */
	do
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == ECONNRESET);
	*heard = (struct heard){ .fds = { -1, -1 } };
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? -EAGAIN : -EPIPE;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		struct ucred sender;

		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS)
			take_descriptors(c, heard->fds);
		if (c->cmsg_type == SCM_CREDENTIALS && c->cmsg_len >= CMSG_LEN(sizeof sender)) {
			memcpy(&sender, CMSG_DATA(c), sizeof sender);
			own = trust_is_self(sender.uid);
			heard->sender = sender.pid;
		}
	}
	if (own && n == sizeof words && !(msg.msg_flags & (MSG_CTRUNC | MSG_TRUNC))) {
		heard->word = (enum word)words.word;
		heard->number = words.number;
	}
	if (n > 0)
		return 0;
	/* The end of the connection and an empty message look alike; neither is of use. */
	for (int i = 0; i < 2; i++) {
		if (heard->fds[i] >= 0)
			close(heard->fds[i]);
		heard->fds[i] = -1;
	}
	return -EPIPE;
}
