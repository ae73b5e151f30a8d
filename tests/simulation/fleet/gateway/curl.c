/*
 * libcurl as far as the helper's client uses it: the real etcd/client.c runs above it, and below it is
 * the network. What is modelled of libcurl: connections are used again; a request on such a one
 * that is closed without an answer is sent once more, on a new one; limits of time are looked at
 * first and count CLOCK_MONOTONIC; answers come in pieces.
 */
#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway.h"
#include "../world.h"

#define EASIES 16

struct multi;

struct easy {
	struct multi *multi;
	char *url, *body;
	struct curl_slist *headers;
	long timeout, connect_timeout; /* ms; 0: none */
	bool fresh, finished, told;
	size_t (*write)(char *, size_t, size_t, void *);
	void *write_data;
	char *error;
	int (*prereq)(void *, char *, char *, int, int);
	void *prereq_data, *private;
	ns began; /* on the host's CLOCK_MONOTONIC */
	unsigned prereqs;
	long status;
	CURLcode result;
	CURLMsg message;
	struct call *call; /* NULL: not started */
};

struct multi {
	struct easy *easies[EASIES];
	unsigned n;
	unsigned idle[MEMBERS]; /* connections that can be used again */
	struct task *owner;
};

/* --- the easy interface ----------------------------------------------------------------------- */

CURL *curl_easy_init(void)
{
	return memset(sim_malloc(sizeof(struct easy)), 0, sizeof(struct easy));
}

void curl_easy_reset(CURL *handle)
{
	struct easy *easy = handle;

	if (easy->call)
		call_drop(easy->call);
	sim_free(easy->url);
	sim_free(easy->body);
	memset(easy, 0, sizeof *easy);
}

void curl_easy_cleanup(CURL *handle)
{
	if (!handle)
		return;
	curl_easy_reset(handle);
	sim_free(handle);
}

#undef curl_easy_setopt
CURLcode curl_easy_setopt(CURL *handle, CURLoption option, ...)
{
	struct easy *easy = handle;
	va_list list;

	va_start(list, option);
	switch (option) {
	case CURLOPT_URL: easy->url = sim_strdup(va_arg(list, char *)); break;
	case CURLOPT_COPYPOSTFIELDS: easy->body = sim_strdup(va_arg(list, char *)); break;
	case CURLOPT_HTTPHEADER: easy->headers = va_arg(list, struct curl_slist *); break;
	case CURLOPT_TIMEOUT_MS: easy->timeout = va_arg(list, long); break;
	case CURLOPT_CONNECTTIMEOUT_MS: easy->connect_timeout = va_arg(list, long); break;
	case CURLOPT_FRESH_CONNECT: easy->fresh = va_arg(list, long) != 0; break;
	case CURLOPT_WRITEFUNCTION: *(void **)&easy->write = va_arg(list, void *); break;
	case CURLOPT_WRITEDATA: easy->write_data = va_arg(list, void *); break;
	case CURLOPT_ERRORBUFFER: easy->error = va_arg(list, char *); break;
	case CURLOPT_PREREQFUNCTION: *(void **)&easy->prereq = va_arg(list, void *); break;
	case CURLOPT_PREREQDATA: easy->prereq_data = va_arg(list, void *); break;
	case CURLOPT_PRIVATE: easy->private = va_arg(list, void *); break;
	default: break;
	}
	va_end(list);
	return CURLE_OK;
}

#undef curl_easy_getinfo
CURLcode curl_easy_getinfo(CURL *handle, CURLINFO info, ...)
{
	const struct easy *easy = handle;
	va_list list;

	va_start(list, info);
	switch ((int)info) {
	case CURLINFO_PRIVATE: *va_arg(list, char **) = easy->private; break;
	case CURLINFO_RESPONSE_CODE: *va_arg(list, long *) = easy->status; break;
	case CURLINFO_REQUEST_SIZE: *va_arg(list, long *) = easy->prereqs ? 100 : 0; break;
	case CURLINFO_OS_ERRNO:
		*va_arg(list, long *) = easy->result == CURLE_COULDNT_CONNECT ? 111 : 0;
		break;
	case CURLINFO_NAMELOOKUP_TIME_T: *va_arg(list, curl_off_t *) = 10; break;
	default: abort();
	}
	va_end(list);
	return CURLE_OK;
}

const char *curl_easy_strerror(CURLcode code)
{
	return code == CURLE_OPERATION_TIMEDOUT ? "Timeout was reached"
	     : code == CURLE_COULDNT_CONNECT	? "Couldn't connect to server"
						: "no answer";
}

struct curl_slist *curl_slist_append(struct curl_slist *list, const char *text)
{
	struct curl_slist *one = sim_malloc(sizeof *one), **end = &list;

	*one = (struct curl_slist){ .data = sim_strdup(text) };
	while (*end)
		end = &(*end)->next;
	*end = one;
	return list;
}

void curl_slist_free_all(struct curl_slist *list)
{
	for (struct curl_slist *next; list; list = next) {
		next = list->next;
		sim_free(list->data);
		sim_free(list);
	}
}

CURLcode curl_global_init(long flags)
{
	(void)flags;
	return CURLE_OK;
}

/* --- the multi interface ---------------------------------------------------------------------- */

#undef curl_multi_setopt
CURLMcode curl_multi_setopt(CURLM *handle, CURLMoption option, ...)
{
	(void)handle, (void)option;
	return CURLM_OK;
}

CURLM *curl_multi_init(void)
{
	struct multi *multi = sim_malloc(sizeof *multi);

	memset(multi, 0, sizeof *multi);
	multi->owner = current;
	return (CURLM *)multi;
}

CURLMcode curl_multi_cleanup(CURLM *handle)
{
	sim_free(handle);
	return CURLM_OK;
}

CURLMcode curl_multi_add_handle(CURLM *handle, CURL *one)
{
	struct multi *multi = (struct multi *)handle;
	struct easy *easy = one;

	if (multi->n == EASIES || easy->multi)
		abort();
	easy->multi = multi;
	easy->finished = easy->told = false;
	easy->began = clock_monotonic(current->host);
	multi->easies[multi->n++] = easy;
	current->net_ready = true;
	return CURLM_OK;
}

CURLMcode curl_multi_remove_handle(CURLM *handle, CURL *one)
{
	struct multi *multi = (struct multi *)handle;
	struct easy *easy = one;

	for (unsigned i = 0; i < multi->n; i++)
		if (multi->easies[i] == easy) {
			memmove(&multi->easies[i], &multi->easies[i + 1],
				(--multi->n - i) * sizeof *multi->easies);
			break;
		}
	easy->multi = NULL;
	if (easy->call)
		call_drop(easy->call);
	easy->call = NULL;
	return CURLM_OK;
}

/* --- transfers -------------------------------------------------------------------------------- */

static const char *token_of(const struct easy *easy)
{
	for (const struct curl_slist *one = easy->headers; one; one = one->next)
		if (!strncmp(one->data, "Authorization: ", 15))
			return arena_text(one->data + 15);
	return NULL;
}

/* The URL is http://mN:2379/v3/... */
static void start(struct multi *multi, struct easy *easy)
{
	const int member = easy->url[8] - '0';
	const char *path = strchr(easy->url + 7, '/');
	const bool reused = !easy->fresh && multi->idle[member] > 0;

	multi->idle[member] -= reused;
	easy->call = call_new(multi->owner, member,
			      gateway_request(path, easy->body ? easy->body : ""), token_of(easy),
			      reused);
	check_request(multi->owner, easy->call->request->ask);
	call_begin(easy->call);
}

static CURLcode code_of(enum outcome outcome)
{
	static const CURLcode codes[] = { CURLE_OK, CURLE_COULDNT_CONNECT, CURLE_GOT_NOTHING,
					  CURLE_RECV_ERROR, CURLE_PARTIAL_FILE };

	return codes[outcome];
}

static void finish(struct multi *multi, struct easy *easy, CURLcode result)
{
	easy->finished = true;
	easy->result = result;
	if (result && easy->error)
		snprintf(easy->error, CURL_ERROR_SIZE, "%s", curl_easy_strerror(result));
	/* Who does not wait any more closes the connection. */
	if (result == CURLE_OK && !easy->fresh)
		multi->idle[easy->call->member]++;
	call_drop(easy->call);
}

/* Hands TEXT on in pieces. Returns whether the transfer is still there: it may be removed
 * meanwhile. */
static bool hand_on(struct easy *easy, const char *text)
{
	const struct call *call = easy->call;
	const size_t n = strlen(text);
	/* What is called may ask for another text. */
	char *copy = arena_copy(text, n);

	for (size_t i = 0, piece; i < n; i += piece) {
		piece = random_chance(0.1) ? 1 + random_below(40) : n - i;
		if (piece > n - i)
			piece = n - i;
		easy->write(copy + i, 1, piece, easy->write_data);
		if (easy->call != call)
			return false;
	}
	return true;
}

static bool is_late(const struct easy *easy, ns passed)
{
	if (easy->timeout && passed >= easy->timeout * MS)
		return true;
	return !easy->call->connected && !easy->call->done && easy->connect_timeout &&
	       passed >= easy->connect_timeout * MS;
}

static void advance(struct multi *multi, struct easy *easy)
{
	const ns passed = clock_monotonic(multi->owner->host) - easy->began;
	struct call *call;

	if (!easy->call)
		start(multi, easy);
	call = easy->call;
	if (is_late(easy, passed)) {
		finish(multi, easy, CURLE_OPERATION_TIMEDOUT);
		return;
	}
	for (; easy->prereqs < call->times; easy->prereqs++)
		if (easy->prereq)
			easy->prereq(easy->prereq_data, NULL, NULL, 0, 0);
	while (call->first) {
		struct reply *reply = call->first;

		call->first = reply->next;
		if (!call->first)
			call->last = &call->first;
		if (!hand_on(easy, gateway_text(reply, &easy->status)))
			return;
	}
	if (call->done)
		finish(multi, easy, code_of(call->outcome));
}

CURLMcode curl_multi_perform(CURLM *handle, int *running)
{
	struct multi *multi = (struct multi *)handle;

	task_enter_call();
	current->net_ready = false;
	*running = 0;
	for (unsigned i = 0; i < multi->n; i++) {
		struct easy *easy = multi->easies[i];

		if (!easy->finished)
			advance(multi, easy);
		*running += !easy->finished;
	}
	return CURLM_OK;
}

CURLMsg *curl_multi_info_read(CURLM *handle, int *left)
{
	struct multi *multi = (struct multi *)handle;

	*left = 0;
	for (unsigned i = 0; i < multi->n; i++) {
		struct easy *easy = multi->easies[i];

		if (!easy->finished || easy->told)
			continue;
		easy->told = true;
		easy->message = (CURLMsg) { .msg = CURLMSG_DONE,
					    .easy_handle = easy,
					    .data.result = easy->result };
		return &easy->message;
	}
	return NULL;
}

static ns limit_of(const struct multi *multi, ns limit)
{
	for (unsigned i = 0; i < multi->n; i++) {
		const struct easy *easy = multi->easies[i];

		if (easy->finished)
			continue;
		if (easy->timeout && easy->began + easy->timeout * MS < limit)
			limit = easy->began + easy->timeout * MS;
		if (easy->call && !easy->call->connected && easy->connect_timeout &&
		    easy->began + easy->connect_timeout * MS < limit)
			limit = easy->began + easy->connect_timeout * MS;
	}
	return limit;
}

CURLMcode curl_multi_poll(CURLM *handle, struct curl_waitfd *extra, unsigned n, int timeout,
			  int *ready)
{
	struct multi *multi = (struct multi *)handle;
	struct pollfd polled[8];

	if (n > 8)
		abort();
	for (unsigned i = 0; i < n; i++)
		polled[i] = (struct pollfd){ .fd = extra[i].fd,
					      .events = extra[i].events & CURL_WAIT_POLLIN ? POLLIN
											   : 0 };
	task_enter_call();
	*ready = descriptors_poll(
		polled, n, limit_of(multi, clock_monotonic(multi->owner->host) + timeout * MS),
		true);
	return CURLM_OK;
}
