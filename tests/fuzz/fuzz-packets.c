/* Any bytes as the packets of a helper that keeps locks (helper/PROTOCOL.md): they may say anything, but break nothing. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/deadline.h"

/* What is looked at is static there; its other names are those of the file that is linked. */
#define lock_etcd lock_fuzzed
#define helper_ask lock_fuzzed_ask
#include "helper/engine.c"

#define DIVIDES 0xff

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Sends what is between the bytes that divide, and the end behind it. */
static void send_all(int socket, const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		const uint8_t *end = memchr(data + at, DIVIDES, size - at);
		size_t n = end ? (size_t)(end - data) - at : size - at;

		if (n > 0 && send(socket, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		at += n + 1;
	}
	close(socket);
}

static void check_text(const char *text)
{
	if (text && (strlen(text) >= PACKET_SIZE || strchr(text, '\n')))
		abort();
}

static void check_holder(const struct holder *holder)
{
	struct line line = { .length = 0 };

	holder_describe(holder, HOLDER_HELD, &line);
	holder_describe(holder, HOLDER_AWAITED_BRIEFLY, &line);
	holder_describe_waiter(holder, 2, &line);
	for (size_t i = 0; i < line.length; i++)
		if (line.text[i] == '\n')
			abort();
}

static void check_held(const struct lock *lock)
{
	size_t n = 0;

	while (lock->variables[n])
		check_text(lock->variables[n++]);
	if (n >= sizeof session_of(lock)->entries / sizeof *session_of(lock)->entries)
		abort();
}

static void check_told(const struct lock_told *told)
{
	check_text(told->name);
	check_text(told->state);
	check_text(told->mode);
	if (told->since < -1 || told->left < -1)
		abort();
	check_holder(&told->holder);
}

/* As helper_take() and what follows it, or helper_ask(): both call replies_hear(). */
static void listen_to(struct lock *lock)
{
	static char texts[3][PACKET_SIZE];
	struct lock_wait wait = { .due = DEADLINE_NEVER };
	struct lock_told told;
	int r;

	while ((r = replies_hear(lock, &wait)) == 0 && packet_is(session_of(lock)->packet, "entry")) {
		read_told(session_of(lock), &told, texts);
		check_told(&told);
	}
	if (session_of(lock)->times > 0)
		check_holder(&session_of(lock)->holder);
	if (r == LOCK_QUEUE_FULL)
		check_holder(&wait.waiter);
	if (r == LOCK_FAILED)
		check_text(lock->failed);
	if (r || !lock->variables)
		return;
	check_held(lock);
	helper_serve(lock, 0, 0);
	helper_release(lock);
	check_text(lock->lease->lost);
	check_text(lock->lease->trouble);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct helper_session session;
	const struct options options = { .quiet = true };
	struct lock lock = { .engine = &lock_fuzzed, .spec = "etcd:x", .name = "x", .fd = -1, .watched = -1, .options = &options,
			     .lease = &session.lease };
	int sockets[2];

	memset(&session, 0, sizeof session);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets))
		abort();
	session.control = sockets[0];
	send_all(sockets[1], data, size);
	listen_to(&lock);
	close(sockets[0]);
	return 0;
}
