/* What all calls and the stream of a client have in common: libcurl's transfers and its loop. */
#ifndef ETCD_TRANSFER_H
#define ETCD_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "etcd/answer.h"
#include "etcd/config.h"

#define LARGEST_ANSWER (256U << 20)
#define CLIENT_FDS 4

struct client {
	const struct config *config;
	CURLM *multi;
	CURL *easy, *second; /* for calls; the second for two at the same time */
	/* Of calls, stream and probes: a token may be renewed while libcurl still uses a list. */
	struct curl_slist *headers, *watch_headers, *probe_headers;
	char *token;		      /* of the user, or NULL */
	bool no_users;		      /* they were not switched on when we asked */
	size_t endpoint;	      /* the one that has answered last: it is tried first */
	int64_t attempt;	      /* ns: how long one endpoint may take */
	int64_t limit;		      /* no call lasts beyond this (CLOCK_BOOTTIME, ns) */
	int credentials[CREDENTIALS]; /* files of our own with their bytes; 0: not yet */
	uint64_t cluster;	      /* its id; 0: not known yet */
	bool wrong_cluster;	      /* an endpoint belongs to another */
	bool retried;		      /* the last call was sent twice: the first may count */
	size_t unanswered;	      /* this many attempts in a row were not answered */
	char *trouble;	     /* why the last was not, once that is true of all endpoints; NULL */
	int64_t *unresolved; /* per endpoint: not to be resolved before */
	struct transfer *probes; /* one for each endpoint: client_survey() */

	struct curl_waitfd fds[CLIENT_FDS]; /* also polled */
	unsigned n_fds;
	int timer;		     /* in fds; CLOCK_BOOTTIME: libcurl's waits ignore sleep */
	int64_t timer_set;	     /* when it expires; DEADLINE_NEVER: disarmed */
	int64_t due;		     /* when to call attend() at the latest */
	bool (*attend)(void *owner); /* something may have happened; true: stop the call */
	void *owner;

	/* The stream of events. */
	CURL *watch;
	bool watching;				    /* it is open */
	size_t watch_endpoint;			    /* at which one */
	size_t watch_skips;			    /* how many endpoints behind the one in use */
	void (*event)(void *owner, json_t *result); /* a result of the stream */
	char *line;				    /* what has come of the next result */
	size_t line_length, line_room;
};

/* The bytes of an answer. */
struct bytes {
	char *text;
	size_t length, room;
};

/* A call that is under way. */
struct transfer {
	CURL *easy;
	struct bytes bytes;
	char detail[CURL_ERROR_SIZE];
	bool done;
	CURLcode result;
	unsigned sent; /* how often: libcurl resends if a reused connection was closed */
};

/* Prepares EASY for a request to URL. HEADERS are used until it is done. */
void transfer_set_up(struct client *client, CURL *easy, const char *url,
		     struct curl_slist *headers);

/* The URL of PATH at ENDPOINT, to be freed. */
char *transfer_url(const struct client *client, size_t endpoint, const char *path);

/* Replaces HEADERS by those of every request. */
void transfer_set_headers(const struct client *client, struct curl_slist **headers);

/* Begins a call of PATH at ENDPOINT; ends it, done or not, and reads the ANSWER. */
void transfer_begin(struct client *client, struct transfer *transfer, CURL *easy,
		    struct curl_slist *headers, size_t endpoint, const char *path,
		    const char *body);
void transfer_end(struct client *client, struct transfer *transfer, struct answer *answer);

/* How ANSWER's endpoint was asked. */
struct asked transfer_asked(const struct client *client, const struct answer *answer);

/* The loop: moves all transfers on, lets the owner attend, and rests until LIMIT or an event. */
void transfer_move(struct client *client);
bool transfer_attend(struct client *client);
void transfer_rest(struct client *client, int64_t limit);

void client_unwatch(struct client *client);

/* Takes in one line of the stream, or what there is of the last one when it has ended. */
void client_hear(struct client *client);

#endif
