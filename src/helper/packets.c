#include "helper/packets.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/lines.h"
#include "base/message.h"

const char *packet_field(const char *packet, const char *key, size_t *length, const char **at)
{
	const char *line = at && *at ? *at : packet;

	while ((line = strchr(line, '\n'))) {
		size_t n = strlen(key);

		line++;
		if (strncmp(line, key, n) != 0 || line[n] != ' ')
			continue;
		*length = strcspn(line + n + 1, "\n");
		if (at)
			*at = line + n + 1 + *length;
		return line + n + 1;
	}
	return NULL;
}

int64_t packet_number(const char *packet, const char *key, int64_t otherwise)
{
	size_t length;
	const char *value = packet_field(packet, key, &length, NULL);

	return value ? (int64_t)number_at(value, 10, NULL) : otherwise;
}

int64_t packet_time(const char *packet, const char *key, int64_t unit)
{
	int64_t n = packet_number(packet, key, -1), ns;

	return n < 0 || __builtin_mul_overflow(n, unit, &ns) ? -1 : ns;
}

char *packet_text(const char *packet, const char *key, char *text, size_t size)
{
	size_t length = 0;
	const char *value = packet_field(packet, key, &length, NULL);

	if (length >= size)
		length = size - 1;
	if (value)
		memcpy(text, value, length);
	text[length] = 0;
	return value ? text : NULL;
}

char *packet_sentence(const char *packet, const char *key, char *text, size_t size)
{
	size_t length = 0;
	const char *value = packet_field(packet, key, &length, NULL);
	struct line line = { .length = 0 };

	if (!value)
		return NULL;
	line_escape(&line, value, length, size - sizeof "...");
	memcpy(text, line.text, line.length);
	text[line.length] = 0;
	return text;
}

bool packet_is(const char *packet, const char *word)
{
	size_t n = strlen(word);

	return !strncmp(packet, word, n) && (packet[n] == '\n' || packet[n] == 0);
}

/* N is what a call has returned for PACKET. */
static int received(ssize_t n, char *packet)
{
	packet[n > 0 ? n : 0] = 0;
	return n < 0 && errno == EAGAIN ? -EAGAIN : n > 0;
}

/* ECONNRESET, once: the other end closed and had not read all. What it sent comes next. */
static bool has_to_be_repeated(void)
{
	return errno == EINTR || errno == ECONNRESET;
}

int packet_receive(int socket, char packet[PACKET_SIZE])
{
	ssize_t n;

	do
		n = recv(socket, packet, PACKET_SIZE - 1, MSG_DONTWAIT);
	while (n < 0 && has_to_be_repeated());
	return received(n, packet);
}

int packet_receive_with(int socket, char *packet, size_t size, int *fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { packet, size - 1 };
	struct msghdr message = { .msg_iov = &part,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof control };
	const struct cmsghdr *passed;
	ssize_t n;

	*fd = -1;
	do
		n = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && has_to_be_repeated());
	passed = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (passed && passed->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(passed), sizeof *fd);
	return received(n, packet);
}

void packet_send(int socket, const char *text, int fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd >= 0) {
		memset(&control, 0, sizeof control);
		message.msg_control = &control;
		message.msg_controllen = sizeof control.room;
		control.header.cmsg_len = CMSG_LEN(sizeof fd);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
	}
	/* Fails when the other end is gone: the next reading shows that. */
	(void)sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}
