/*
 * How often the kernel's table of sockets is read before a socket counts as gone: the kernel leaves
 * one out now and then. The table is ours: meson.build leads the calls on it to the functions here.
 */
#include "host/socket-table.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/limits.h"
#include "tap.h"

int __wrap_socket(int domain, int type, int protocol);
ssize_t __wrap_send(int fd, const void *data, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *data, size_t n, int flags);

static struct host_address name;
static unsigned looks, left_out; /* how often it was asked; in so many answers the socket is not */
static int error; /* what the table says instead; 0: an answer */
static bool done; /* the end of an answer is to come */

/* One that can be closed. */
int __wrap_socket(int domain, int type, int protocol)
{
	(void)domain, (void)type, (void)protocol;
	return dup(1);
}

ssize_t __wrap_send(int fd, const void *data, size_t n, int flags)
{
	(void)fd, (void)data, (void)flags;
	looks++;
	done = false;
	return (ssize_t)n;
}

static ssize_t say_end(void *data)
{
	struct nlmsghdr *header = data;

	*header = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(sizeof(int)), .nlmsg_type = NLMSG_DONE };
	return NLMSG_SPACE(sizeof(int));
}

static ssize_t say_error(void *data)
{
	struct nlmsghdr *header = data;

	*header = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(sizeof(struct nlmsgerr)),
				     .nlmsg_type = NLMSG_ERROR };
	*(struct nlmsgerr *)NLMSG_DATA(header) = (struct nlmsgerr){ .error = error };
	return NLMSG_SPACE(sizeof(struct nlmsgerr));
}

static ssize_t say_socket(void *data, const struct host_address *address, uid_t uid)
{
	const size_t length = address->length - offsetof(struct sockaddr_un, sun_path);
	struct nlmsghdr *header = data;
	struct unix_diag_msg *message = NLMSG_DATA(header);
	struct rtattr *attribute = (struct rtattr *)(message + 1);
	uint32_t size = (uint32_t)(NLMSG_LENGTH(sizeof *message) + RTA_SPACE(length));

	*message = (struct unix_diag_msg){ .udiag_family = AF_UNIX, .udiag_type = SOCK_SEQPACKET,
					   .udiag_ino = 42 };
	*attribute = (struct rtattr){ .rta_len = (unsigned short)RTA_LENGTH(length),
				      .rta_type = UNIX_DIAG_NAME };
	memcpy(RTA_DATA(attribute), address->un.sun_path, length);
	if (uid != SOCKET_UID_UNKNOWN) {
		attribute = (struct rtattr *)((char *)attribute + RTA_SPACE(length));
		*attribute = (struct rtattr){ .rta_len = RTA_LENGTH(sizeof uid), .rta_type = 7 };
		memcpy(RTA_DATA(attribute), &uid, sizeof uid);
		size += (uint32_t)RTA_SPACE(sizeof uid);
	}
	*header = (struct nlmsghdr){ .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_len = size };
	return (ssize_t)NLMSG_ALIGN(header->nlmsg_len);
}

/* The places that are in use, as the table shows them, one in each piece. */
struct shown {
	unsigned place;
	uid_t uid;
};
static const struct shown *shown;
static size_t to_show;

static ssize_t say_place(void *data)
{
	struct host_address address;

	to_show--;
	host_address_suffixed(&address, &name, "place", shown->place);
	return say_socket(data, &address, shown++->uid);
}

ssize_t __wrap_recv(int fd, void *data, size_t n, int flags)
{
	(void)fd, (void)n, (void)flags;
	if (error)
		return say_error(data);
	if (done || looks <= left_out)
		return say_end(data);
	if (to_show > 0)
		return say_place(data);
	done = true;
	return shown ? say_end(data) : say_socket(data, &name, SOCKET_UID_UNKNOWN);
}

/* Looks for the socket, which is not in the first N answers. */
static int find(unsigned n, struct socket_entry *entry)
{
	looks = 0;
	left_out = n;
	return socket_table_find(&name, 1, entry);
}

int main(void)
{
	static const struct shown places[] = { { 3, 0 },     { 3, 0 }, { 5, SOCKET_UID_UNKNOWN },
					       { 4, 12345 }, { 4, 0 }, { 1, 12345 } };
	unsigned char users[MOST_PLACES];
	struct socket_entry entry;

	host_address(&name, "x");
	is_number(find(0, &entry), 0, "found at once");
	is_number(looks, 1, "by one look");
	is_number((int64_t)entry.inode, 42, "it is that one");
	is_number(find(1, &entry), 0, "found, though left out once");
	is_number(looks, 2, "by two looks");
	is_number(find(2, &entry), 0, "found, though left out twice");
	is_number((int64_t)entry.inode, 42, "it is that one, not a sum of several looks");
	is_number(find(3, &entry), -ENOENT, "gone when three looks have not found it");
	is_number(looks, 3, "by three looks, not more");
	looks = left_out = 0;
	is_number(socket_table_places(&name, 2, &entry, users), 0, "of places there is none");
	is_number(looks, 1, "they are counted by one look");
	shown = places;
	to_show = sizeof places / sizeof *places;
	is_number(socket_table_places(&name, 9, &entry, users), 3,
		  "a place that is shown twice counts once, a stranger's does not");
	is_number(users[0], PLACE_FREE, "a free one");
	is_number(users[1], PLACE_STRANGERS, "a stranger's");
	is_number(users[3], PLACE_TRUSTED, "root's");
	is_number(users[4], PLACE_TRUSTED, "a stranger's that is root's meanwhile");
	is_number(users[5], PLACE_SOMEBODYS, "one whose user is not shown");
	is_number(looks, 2, "all that by one look");
	shown = NULL;
	error = -ENOENT;
	is_number(find(0, &entry), -EPROTONOSUPPORT, "a kernel without the table is no free lock");
	is_number(looks, 1, "an error is believed at once");
	return tap_done();
}
