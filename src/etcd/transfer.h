/* What all calls and the stream of a client have in common: libcurl's transfers and its loop. */
#ifndef ETCD_TRANSFER_H
#define ETCD_TRANSFER_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "etcd/client.h"

#define LARGEST_ANSWER (256U << 20)

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
	unsigned sent;		/* how often: libcurl resends if a reused connection was closed */
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

/* Takes in one line of the stream, or what there is of the last one when it has ended. */
void client_hear(struct client *client);

#endif
