/*
 * A client of etcd's JSON gateway: calls to one endpoint after the other, a stream of events, and who else is to be heard meanwhile.
 *
 * While a call is under way nothing else is left undone: descriptors that the owner names are polled with the connections, and attend()
 * is called whenever something has happened.
 */
#ifndef ETCD_CLIENT_H
#define ETCD_CLIENT_H

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "etcd/answer.h"
#include "etcd/config.h"

#define CLIENT_FDS 4

struct client {
	const struct config *config;
	CURLM *multi;
	CURL *easy, *second;		/* for calls; the second for the other one of two at the same time */
	/* Those of calls, the stream and the probes: libcurl uses a list until its transfer is done, and a token may be renewed before. */
	struct curl_slist *headers, *watch_headers, *probe_headers;
	char *token;			/* of the user, or NULL */
	bool no_users;			/* they were not switched on when we asked */
	size_t endpoint;		/* the one that has answered last: it is tried first */
	int64_t attempt;		/* ns: so long one endpoint may take */
	int64_t limit;			/* no call lasts beyond this (CLOCK_BOOTTIME, ns) */
	uint64_t cluster;		/* its id; 0: not known yet */
	bool wrong_cluster;		/* an endpoint belongs to another */
	bool retried;			/* the last call was sent more than once: an earlier try of it may have done what it asks for */
	int64_t *unresolved;		/* of each endpoint: until when its name is not to be resolved (CLOCK_BOOTTIME, ns) */
	struct transfer *probes;		/* one for each endpoint: client_survey() */

	struct curl_waitfd fds[CLIENT_FDS];	/* to be polled, too */
	unsigned n_fds;
	int timer;			/* in fds, of CLOCK_BOOTTIME: libcurl's wait ignores sleep */
	int64_t timer_set;		/* when it expires; DEADLINE_NEVER: disarmed */
	int64_t due;			/* when attend() is to be called at the latest (CLOCK_BOOTTIME, ns) */
	bool (*attend)(void *owner);	/* called whenever something may have happened; true: stop what is under way */
	void *owner;

	/* The stream of events. */
	CURL *watch;
	bool watching;			/* it is open */
	size_t watch_endpoint;		/* at which one */
	size_t watch_skips;		/* so many endpoints after the one in use: where its stream has ended */
	void (*event)(void *owner, json_t *result);	/* a result of the stream; it stays the client's */
	char *line;			/* what has come of the next result */
	size_t line_length, line_room;
};

/* Prepares a client. Returns NULL or what is wrong, to be freed. Nothing is sent yet. */
char *client_open(struct client *client, const struct config *config);

void client_close(struct client *client);

/* Calls PATH with BODY (which is taken) at one endpoint only, once; but with a user's token that has expired, again with a new one. */
void client_call_at(struct client *client, size_t endpoint, const char *path, json_t *body, struct answer *answer);

/* How long to pause after so many rounds over all endpoints, counted from 0, in which none has answered. ns */
int64_t client_pause(size_t round);

/* The same at one endpoint after the other, the last good one first, until one has answered or CLOCK_BOOTTIME is LIMIT. */
void client_call(struct client *client, const char *path, json_t *body, int64_t limit, struct answer *answer);

/*
 * Calls both at the last good endpoint, once each, at the same time: the second as soon as the first was sent, mostly to arrive after it.
 * Nothing is done about a user's token that is missing or has expired.
 */
void client_call_both(struct client *client, const char *first_path, json_t *first_body, struct answer *first,
		      const char *second_path, json_t *second_body, struct answer *second);

/* The same for PATH with each of the N BODIES (which are taken). ANSWERS has room for N. */
void client_call_each(struct client *client, const char *path, json_t *const *bodies, struct answer *answers, size_t n);

/*
 * Asks all endpoints at once for their versions and clusters, while other calls go on. The answers are taken in by client_surveyed(),
 * which waits for them until LIMIT. It returns NULL, or that they are of different clusters, to be freed; and in *OLD the version of an
 * old server with known bugs, or NULL: to be freed.
 */
void client_survey(struct client *client);
char *client_surveyed(struct client *client, int64_t limit, char **old);

/* Opens the stream with REQUESTS, an array of bodies (which is taken), at the last good endpoint; a stream that was open is closed. */
void client_watch(struct client *client, json_t *requests);

void client_unwatch(struct client *client);

/* Waits until attend() says so, or CLOCK_BOOTTIME is LIMIT. Returns whether attend() did. */
bool client_wait(struct client *client, int64_t limit);

#endif
