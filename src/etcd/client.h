/*
 * A client of etcd: calls, one endpoint after the other, and a stream of events.
 * During a call, descriptors that the owner names are polled as well, and attend() is called
 * whenever something has happened.
 */
#ifndef ETCD_CLIENT_H
#define ETCD_CLIENT_H

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
void client_call_at(struct client *client, size_t endpoint, const char *path, struct bytes *body,
		    struct answer *answer);

/* How long to pause, in ns, after ROUND + 1 rounds over all endpoints without an answer. */
int64_t client_pause(size_t round);

/*
 * Tries one endpoint after the other, the last good one first, until one answers or until LIMIT
 * (CLOCK_BOOTTIME).
 */
void client_call(struct client *client, const char *path, struct bytes *body, int64_t limit,
		 struct answer *answer);

struct two_calls {
	const char *first_path, *second_path;
	struct bytes *first_body, *second_body;
	bool in_order; /* the second is of use only if the server does it after the first */
};

/*
 * Makes two calls at the last good endpoint at the same time, once each. In order, the server
 * usually begins with the first. Does not renew a token.
 */
void client_call_both(struct client *client, const struct two_calls *calls, struct answer *first,
		      struct answer *second);

/* The same for PATH with each of the N BODIES (which are taken). ANSWERS has room for N. */
void client_call_each(struct client *client, const char *path, struct bytes *const *bodies,
		      struct answer *answers, size_t n);

/* Waits until LIMIT for all N TRANSFERS (transfer_begin()), or until attend() says to stop. */
void client_await(struct client *client, const struct transfer *transfers, size_t n, int64_t limit);

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
 * Opens the stream with REQUESTS, a list of bodies (taken), at the last good endpoint, and closes
 * an earlier one.
 */
void client_watch(struct client *client, struct bytes *requests);

/* Waits until attend() says so, or CLOCK_BOOTTIME is LIMIT. Returns whether attend() did. */
bool client_wait(struct client *client, int64_t limit);

#endif
