#include "host/socket-table.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/trust.h"

#ifndef UDIAG_SHOW_UID
#define UDIAG_SHOW_UID 0x40
#define UNIX_DIAG_UID 7
#endif

/*
 * States of Unix sockets, by TCP's names (net/tcp_states.h). A bound socket is in one of these.
 * Accepted connections carry the listener's name too, but they are in the state "established".
 */
#define STATES (1u << 7 /* TCP_CLOSE */ | 1u << 10 /* TCP_LISTEN */)

/*
 * So often the table is read before a socket is taken not to be there. It comes in pieces, and the
 * kernel counts how far in a bucket of its hash a piece has come: if one before that is closed
 * meanwhile, the next one is left out.
 */
#define LOOKS 3

static int ask(int fd)
{
	const struct {
		struct nlmsghdr header;
		struct unix_diag_req request;
	} question = {
		.header = { .nlmsg_len = sizeof question,
			    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			    .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP },
		.request = { .sdiag_family = AF_UNIX,
			     .udiag_states = STATES,
			     .udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_UID },
	};

	return send(fd, &question, sizeof question, 0) < 0 ? -errno : 0;
}

struct search {
	const struct host_address *name;
	unsigned (*number)(const struct host_address *name, const char *path, size_t length);
	unsigned limit;		/* numbers from here on are not looked for */
	unsigned found, wanted; /* how many of them, and when to stop */
	struct socket_entry *entry;
	unsigned char *users; /* of each place: strangers are not counted; or NULL */
};

/* Says in USER whose a place is. Returns whether it counts: a dump can show a socket twice. */
static bool note_user(unsigned char *user, bool stranger, uid_t uid)
{
	if (*user == PLACE_TRUSTED || *user == PLACE_SOMEBODYS)
		return false;
	*user = stranger		    ? PLACE_STRANGERS
		: uid == SOCKET_UID_UNKNOWN ? PLACE_SOMEBODYS
					    : PLACE_TRUSTED;
	return !stranger;
}

/* Looks at one socket of the answer. Returns whether all have been found. */
static bool look_at(const struct nlmsghdr *header, struct search *search)
{
	const struct unix_diag_msg *socket = NLMSG_DATA(header);
	int left = (int)(header->nlmsg_len - NLMSG_LENGTH(sizeof *socket));
	unsigned number = search->limit;
	uid_t uid = SOCKET_UID_UNKNOWN;
	bool stranger;

	for (const struct rtattr *a = (const struct rtattr *)(socket + 1); RTA_OK(a, left);
	     a = RTA_NEXT(a, left)) {
		if (a->rta_type == UNIX_DIAG_NAME)
			number = search->number(search->name, RTA_DATA(a), RTA_PAYLOAD(a));
		else if (a->rta_type == UNIX_DIAG_UID && RTA_PAYLOAD(a) >= sizeof uid)
			memcpy(&uid, RTA_DATA(a), sizeof uid);
	}
	if (socket->udiag_type != SOCK_SEQPACKET || number >= search->limit)
		return false;
	stranger = uid != SOCKET_UID_UNKNOWN && !trust_user(uid);
	if (search->users && !note_user(&search->users[number], stranger, uid))
		return false;
	search->entry->inode += socket->udiag_ino;
	if (search->found == 0 || stranger) {
		search->entry->uid = uid;
		search->entry->number = number;
	}
	return ++search->found == search->wanted;
}

/* A kernel without CONFIG_UNIX_DIAG says ENOENT, which is not to be taken for "no such socket". */
static int failure(int error)
{
	return error == -ENOENT ? -EPROTONOSUPPORT : error;
}

/*
 * Reads the answer to its end or until all is found. Returns 0, -ENOENT, or another negative errno.
 */
static int search_answer(int fd, struct search *search)
{
	_Alignas(struct nlmsghdr) char answer[16384];

	*search->entry = (struct socket_entry){ .uid = SOCKET_UID_UNKNOWN };
	search->found = 0;
	for (;;) {
		ssize_t n = recv(fd, answer, sizeof answer, 0);
		unsigned left;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOENT;
		left = (unsigned)n;
		for (const struct nlmsghdr *h = (const struct nlmsghdr *)answer; NLMSG_OK(h, left);
		     h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return -ENOENT;
			if (h->nlmsg_type == NLMSG_ERROR)
				return failure(((const struct nlmsgerr *)NLMSG_DATA(h))->error);
			if (h->nlmsg_type == SOCK_DIAG_BY_FAMILY && look_at(h, search))
				return 0;
		}
	}
}

/*
 * Reads the table, up to LOOKS times. Returns 0 if all was found, -ENOENT if not, or another
 * negative errno.
 */
static int read_table(struct search *search, int looks)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), r;

	if (fd < 0)
		return -errno;
	do {
		r = ask(fd);
		if (r == 0)
			r = search_answer(fd, search);
	} while (r == -ENOENT && --looks > 0);
	close(fd);
	return r;
}

int socket_table_find(const struct host_address *name, unsigned slots, struct socket_entry *entry)
{
	struct search search = { .name = name,
				 .number = host_address_slot,
				 .limit = slots,
				 .wanted = slots,
				 .entry = entry };

	return read_table(&search, LOOKS);
}

int socket_table_places(const struct host_address *name, unsigned most, struct socket_entry *entry,
			unsigned char users[])
{
	struct search search = { .name = name,
				 .number = host_address_place,
				 .limit = MOST_PLACES,
				 .wanted = most,
				 .entry = entry,
				 .users = users };
	int r;

	memset(users, PLACE_FREE, MOST_PLACES);
	r = read_table(&search, 1);
	return r == 0 || r == -ENOENT ? (int)search.found : r;
}
