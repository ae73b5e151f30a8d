/* Connections to a server whose bytes this test writes. A stub replaces TLS and encrypts nothing. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
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
static int hands;	/* what shake_hands() returns */
static ssize_t written; /* what writing returns; -1: what send(2) does */
static bool floods;	/* reading finds frames of an unknown kind without end */
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
	ssize_t r;

	(void)events;
	if (floods) {
		memset(bytes, 0, n);
		for (size_t i = 0; i + 9 <= n; i += 9)
			((char *)bytes)[i + 3] = 'x';
		return (ssize_t)(n / 9 * 9);
	}
	r = recv(one->fd, bytes, n, MSG_DONTWAIT);
	return r < 0 ? -errno : r;
}

static ssize_t tls_write(struct tls *one, const void *bytes, size_t n, short *events)
{
	const ssize_t r =
		written < 0 ? send(one->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) : written;

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

/* A call to the listener by SCHEME, at HOST. */
static void call_host(const char *scheme, const char *host)
{
	static const struct tls_source source = { .fresh = fresh, .judge = judge };
	struct sockaddr_in address;
	socklen_t n = sizeof address;
	char url[50];

	getsockname(listener, (struct sockaddr *)&address, &n);
	(void)snprintf(url, sizeof url, "%s://%s:%d", scheme, host, ntohs(address.sin_port));
	*judged = 0;
	hands = 0;
	written = -1;
	channel = channel_open(url, &source, 60000000000, NULL);
	rpc = (struct rpc){ .path = "/a/b" };
	rpc_ask(&rpc, "x", 1);
	channel_begin(channel, &rpc, NULL);
}

static void call(const char *scheme)
{
	call_host(scheme, "127.0.0.1");
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

/* Lets the client work for this many ms, or until the call is done. Returns how often it woke up. */
static unsigned work(int ms)
{
	const struct itimerspec at = { .it_value = { ms / 1000, ms % 1000 * 1000000L } };
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

/* A call that receives BYTES, and then LAST. */
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

/* What the calls of a connection with these first bytes fail with. */
static void fails_as(enum failure failure, const char *bytes, const char *what)
{
	call("http");
	(void)work(1);
	answer(bytes, strlen(bytes));
	(void)work(500);
	ok(rpc.done && rpc.failure == failure, "%s", what);
	end();
}

static void no_http2(void)
{
	fails_as(FAILURE_PROTOCOL, "SSH-2.0-", "a server that greets first");
	fails_as(FAILURE_PROTOCOL, "<!DOCTYPE", "a server whose error is a page");
	fails_as(FAILURE_CLOSED, "\x15\x03\x01", "a server that wants TLS");
}

/* A bare system does not know even this name. */
int __real_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **found);
int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **found);

int __wrap_getaddrinfo(const char *host, const char *port, const struct addrinfo *hints,
		       struct addrinfo **found)
{
	return __real_getaddrinfo(strcmp(host, "localhost") ? host : "0x7f000001", port, hints,
				  found);
}

/* The second time, no thread can be started for the resolver. */
static bool no_threads;
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *argument);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *argument)
{
	return no_threads ? EAGAIN : __real_pthread_create(thread, attributes, run, argument);
}

static void keeps_addresses(void)
{
	call_host("http", "localhost");
	while (!channel_has_sent(&rpc) && !rpc.done)
		(void)work(10);
	answer(SETTINGS, 9);
	hang_up();
	(void)work(1000);
	ok(rpc.done && rpc.failure == FAILURE_CLOSED, "a name is resolved");
	no_threads = true;
	channel_begin(channel, &rpc, NULL);
	while (!channel_has_sent(&rpc) && !rpc.done)
		(void)work(10);
	no_threads = false;
	if (ok(!rpc.done, "where no thread can be started, its last address is used"))
		close(accept(listener, NULL, NULL));
	end();
}

static void ends_of_writing(void)
{
	call("https");
	written = 0;
	(void)work(10);
	ok(rpc.done && rpc.failure == FAILURE_CLOSED,
	   "TLS that has been ended is not written to for ever");
	end();
	close(accept(listener, NULL, NULL));
}

static void floods_us(void)
{
	call("https");
	(void)work(1);
	answer(SETTINGS, 9);
	(void)work(1);
	answer(SETTINGS, 9);
	floods = true;
	(void)work(1);
	(void)work(1);
	floods = false;
	ok(true, "a server that sends without end does not keep us from all else");
	end();
}

static bool has_caller(void)
{
	struct pollfd waits = { .fd = listener, .events = POLLIN };

	return poll(&waits, 1, 0) == 1;
}

/* A server that limits the number of concurrent calls. */
static void limits(char calls, bool wanted, const char *what)
{
	char bytes[] = "\0\0\6\4\0\0\0\0\0\0\3\0\0\0";
	struct rpc more = { .path = "/a/c" };

	call("http");
	(void)work(1);
	bytes[14] = calls;
	answer(bytes, 15);
	(void)work(1);
	(void)work(1);
	rpc_ask(&more, "x", 1);
	channel_begin(channel, &more, NULL);
	if (ok(has_caller() == wanted, "%s", what) && wanted)
		close(accept(listener, NULL, NULL));
	channel_end(&more);
	rpc_free(&more);
	end();
}

static void resets(void)
{
	call("http");
	(void)work(1);
	answer(SETTINGS "\0\0\4\3\0\0\0\0\1\0\0\0\0", 22);
	(void)work(1000);
	ok(rpc.done && rpc.failure == FAILURE_RESET, "a call that is cut off without an error");
	end();
}

int main(void)
{
	listen_somewhere();
	rests();
	judges_files();
	no_http2();
	keeps_addresses();
	ends_of_writing();
	floods_us();
	limits(2, false, "calls share a connection");
	limits(1, true, "if the server takes no more on one, there is another");
	resets();
	return tap_done();
}
