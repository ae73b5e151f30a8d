/*
 * A client of etcd's JSON gateway: calls, one endpoint after the other, and a stream of events.
 * During a call, descriptors that the owner names are polled as well, and attend() is called
 * whenever something has happened.
 */
#ifndef ETCD_CLIENT_H
#define ETCD_CLIENT_H

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "etcd/answer.h"
#include "etcd/transfer.h"

/* Prepares a client. Returns NULL or what is wrong, to be freed. Nothing is sent yet. */
char *client_open(struct client *client, const struct config *config);

void client_close(struct client *client);

/*
 * Calls PATH with BODY (which is taken) at one endpoint, once; twice if the user has to log in
 * again.
 */
void client_call_at(struct client *client, size_t endpoint, const char *path, json_t *body,
		    struct answer *answer);

/* How long to pause, in ns, after ROUND + 1 rounds over all endpoints without an answer. */
int64_t client_pause(size_t round);

/*
 * Tries one endpoint after the other, the last good one first, until one answers or until LIMIT
 * (CLOCK_BOOTTIME).
 */
void client_call(struct client *client, const char *path, json_t *body, int64_t limit,
		 struct answer *answer);

/*
 * Makes two calls at the last good endpoint at the same time, once each: the second as soon as the
 * first has been sent, so that it usually arrives later. Does not renew a token.
 */
void client_call_both(struct client *client, const char *first_path, json_t *first_body,
		      struct answer *first, const char *second_path, json_t *second_body,
		      struct answer *second);

/* The same for PATH with each of the N BODIES (which are taken). ANSWERS has room for N. */
void client_call_each(struct client *client, const char *path, json_t *const *bodies,
		      struct answer *answers, size_t n);

/*
 * Gets the user's token now, if there is none and users are enabled; without this, calls do that.
 * client_log_out() forgets a token that is of no use any more.
 */
void client_log_in(struct client *client);
void client_log_out(struct client *client);

/*
 * Asks all endpoints for their version and cluster, while other calls run. client_surveyed() waits
 * for the answers until LIMIT and returns NULL, or the error that they are of different clusters;
 * and in *OLD NULL, or the version of a server with known bugs. Both are to be freed.
 */
void client_survey(struct client *client);
char *client_surveyed(struct client *client, int64_t limit, char **old);

/*
 * Opens the stream with REQUESTS, an array of bodies (taken), at the last good endpoint, and closes
 * an earlier one.
 */
void client_watch(struct client *client, json_t *requests);

/* Waits until attend() says so, or CLOCK_BOOTTIME is LIMIT. Returns whether attend() did. */
bool client_wait(struct client *client, int64_t limit);

#endif
