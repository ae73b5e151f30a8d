/* Connections to a server of which this test writes the bytes. In place of TLS they are sent as
 * they are. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "grpc/channel.h"
#include "tap.h"

#define SETTINGS "\0\0\0\4\0\0\0\0\0"

/* --- instead of TLS --------------------------------------------------------------------------- */

struct tls {
	int fd;
};

static struct tls tls;
static int hands;	/* what shaking them returns */
static char judged[20]; /* "+" worked, "-" did not */

static struct tls *tls_open(const struct tls_files *files, bool skip_verify, const char *host,
			    int fd, enum failure *failure, char **why)
{
	(void)files, (void)skip_verify, (void)host, (void)failure, (void)why;
	tls.fd = fd;
	return &tls;
}

static void tls_close(struct tls *one)
{
	one->fd = -1;
}

static int tls_shake_hands(struct tls *one, short *events, enum failure *failure, char **why)
{
	char byte;

	(void)failure, (void)why;
	(void)!recv(one->fd, &byte, 1, hands ? MSG_DONTWAIT : MSG_DONTWAIT | MSG_PEEK);
	*events |= POLLIN;
	return hands;
}

static ssize_t tls_read(struct tls *one, void *bytes, size_t n, short *events)
{
	const ssize_t r = recv(one->fd, bytes, n, MSG_DONTWAIT);

	(void)events;
	return r < 0 ? -errno : r;
}

static ssize_t tls_write(struct tls *one, const void *bytes, size_t n, short *events)
{
	const ssize_t r = send(one->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (r < 0 && errno == EAGAIN)
		*events |= POLLOUT;
	return r < 0 ? -errno : r;
}

const struct tls_engine *tls_load(char **why)
{
	static const struct tls_engine engine = { tls_open, tls_close, tls_shake_hands, tls_read,
						  tls_write };

	(void)why;
	return &engine;
}

static const struct tls_files *fresh(void *owner)
{
	static const struct tls_files files = { .number = 1 };

	(void)owner;
	return &files;
}

static void judge(void *owner, unsigned number, bool worked)
{
	(void)owner, (void)number;
	strcat(judged, worked ? "+" : "-");
}

/* --- client and server ------------------------------------------------------------------------ */

static int listener, server = -1;
static struct channel *channel;
static struct rpc rpc;

static void listen_somewhere(void)
{
	const struct sockaddr_in any = { .sin_family = AF_INET,
					 .sin_addr = { htonl(INADDR_LOOPBACK) } };

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (const struct sockaddr *)&any, sizeof any) ||
	    listen(listener, 10))
		abort();
}

/* A call to the listener by SCHEME. */
static void call(const char *scheme)
{
	static const struct tls_source source = { .fresh = fresh, .judge = judge };
	struct sockaddr_in address;
	socklen_t n = sizeof address;
	char url[50];

	getsockname(listener, (struct sockaddr *)&address, &n);
	(void)snprintf(url, sizeof url, "%s://127.0.0.1:%d", scheme, ntohs(address.sin_port));
	*judged = 0;
	hands = 0;
	channel = channel_open(url, &source, 60000000000, NULL);
	rpc = (struct rpc){ .path = "/a/b" };
	rpc_ask(&rpc, "x", 1);
	channel_begin(channel, &rpc, NULL);
}

static void end(void)
{
	channel_end(&rpc);
	channel_close(channel);
	rpc_free(&rpc);
	if (server >= 0)
		close(server);
	server = -1;
}

/* Lets the client work for so many ms, or until the call is done. Returns how often it woke up. */
static unsigned work(int ms)
{
	const struct itimerspec at = { .it_value = { .tv_nsec = ms * 1000000L } };
	struct pollfd timer = { .fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC),
				.events = POLLIN };
	unsigned n = 0;

	timerfd_settime(timer.fd, 0, &at, NULL);
	while (!timer.revents && !rpc.done) {
		channels_move(&channel, 1);
		if (!rpc.done)
			channels_rest(&channel, 1, &timer, 1);
		n++;
	}
	close(timer.fd);
	return n;
}

static void answer(const char *bytes, size_t n)
{
	if (server < 0)
		server = accept(listener, NULL, NULL);
	if (send(server, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
		abort();
}

/* --- tests ------------------------------------------------------------------------------------ */

static void rests(void)
{
	call("https");
	hands = -EAGAIN;
	answer("xx", 2);
	ok(work(30) < 6, "it rests until the server shakes hands");
	end();
}

/* A call that gets BYTES, and then LAST. */
static void is_judged(const char *bytes, size_t n, void (*last)(void), const char *wanted,
		      const char *what)
{
	call("https");
	(void)work(1);
	answer(bytes, n);
	(void)work(1);
	if (last)
		last();
	(void)work(last ? 1000 : 1);
	end();
	is(judged, wanted, what);
}

static void hang_up(void)
{
	close(server);
	server = -1;
}

static void give_up(void)
{
	channel_give_up(&rpc);
}

static void judges_files(void)
{
	is_judged("", 0, hang_up, "-", "the files, when the server hangs up");
	is_judged(SETTINGS, 9, NULL, "+", "when it speaks");
	is_judged(SETTINGS, 9, hang_up, "+", "and hangs up later");
	is_judged("", 0, NULL, "", "not when we hang up");
	is_judged("", 0, give_up, "", "or it is silent");
	is_judged("HTTP/1.1 400", 12, NULL, "", "or does not speak HTTP/2");
}

int main(void)
{
	listen_somewhere();
	rests();
	judges_files();
	return tap_done();
}
