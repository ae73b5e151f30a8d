#include "socket-table.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#ifndef UDIAG_SHOW_UID
#define UDIAG_SHOW_UID 0x40
#define UNIX_DIAG_UID 7
#endif

/*
 * States of Unix sockets, by TCP's names (net/tcp_states.h). A bound socket is in one of these. Accepted connections carry the
 * listener's name too, but they are in the state "established".
 */
#define STATES (1u << 7 /* TCP_CLOSE */ | 1u << 10 /* TCP_LISTEN */)

static int ask(int fd)
{
	const struct {
		struct nlmsghdr header;
		struct unix_diag_req request;
	} question = {
		.header = { .nlmsg_len = sizeof question, .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.request = { .sdiag_family = AF_UNIX, .udiag_states = STATES, .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID },
	};

	return send(fd, &question, sizeof question, 0) < 0 ? -errno : 0;
}

/* Looks at one socket of the answer. Returns whether it is the one bound to ADDRESS, then with ENTRY filled in. */
static bool is_it(const struct nlmsghdr *header, const struct host_address *address, struct socket_entry *entry)
{
	const struct unix_diag_msg *socket = NLMSG_DATA(header);
	size_t length = address->length - offsetof(struct sockaddr_un, sun_path);
	int left = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof *socket));
	bool named = false;

	*entry = (struct socket_entry){ .inode = socket->udiag_ino, .uid = SOCKET_UID_UNKNOWN };
	if (socket->udiag_type != SOCK_SEQPACKET)
		return false;
	for (const struct rtattr *a = (const struct rtattr *)(socket + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == UNIX_DIAG_NAME)
			named = RTA_PAYLOAD(a) == length && !memcmp(RTA_DATA(a), address->un.sun_path, length);
		else if (a->rta_type == UNIX_DIAG_UID && RTA_PAYLOAD(a) >= sizeof entry->uid)
			memcpy(&entry->uid, RTA_DATA(a), sizeof entry->uid);
	}
	return named;
}

/* A kernel without CONFIG_UNIX_DIAG says ENOENT, which is not to be taken for "no such socket". */
static int failure(int error)
{
	return error == -ENOENT ? -EPROTONOSUPPORT : error;
}

/* Reads the answer to its end or to the socket. Returns 0, -ENOENT, or another negative errno. */
static int search(int fd, const struct host_address *address, struct socket_entry *entry)
{
	_Alignas(struct nlmsghdr) char answer[16384];

	for (;;) {
		ssize_t n = recv(fd, answer, sizeof answer, 0);
		unsigned left;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOENT;
		left = (unsigned)n;
		for (const struct nlmsghdr *h = (const struct nlmsghdr *)answer; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return -ENOENT;
			if (h->nlmsg_type == NLMSG_ERROR)
				return failure(((const struct nlmsgerr *)NLMSG_DATA(h))->error);
			if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY && is_it(h, address, entry))
				return 0;
		}
	}
}

int socket_table_find(const struct host_address *address, struct socket_entry *entry)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), r;

	if (fd < 0)
		return -errno;
	r = ask(fd);
	if (r == 0)
		r = search(fd, address, entry);
	close(fd);
	return r;
}
