/* What all calls and the stream of a client have in common: their time limits and the loop. */
#ifndef ETCD_TRANSFER_H
#define ETCD_TRANSFER_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "etcd/answer.h"
#include "etcd/config.h"
#include "grpc/channel.h"

#define CLIENT_FDS 4

/* A call that is under way. */
struct transfer {
	struct rpc rpc;
	struct transfer *next; /* of those that are under way */
	struct channel *channel;
	int64_t limit;	       /* when its answer must be there */
	unsigned sent, unread; /* how often; and how often it was not processed */
};

struct client {
	const struct config *config;
	struct channel **channels; /* of the endpoints */
	struct tls_source tls;
	struct tls_files pem;	    /* what the last connection used */
	struct transfer *transfers; /* under way */
	char *token;		    /* of the user, or NULL */
	bool no_users;		    /* they were not enabled when we asked */
	size_t endpoint;	    /* the one that has answered last: it is tried first */
	int64_t attempt;	    /* ns: how long one endpoint may take */
	int64_t limit;		    /* no call lasts beyond this (CLOCK_BOOTTIME, ns) */
	uint64_t cluster;	    /* its id; 0: not known yet */
	bool wrong_cluster;	    /* an endpoint belongs to another */
	bool retried;		    /* the last call was sent twice: the first may count */
	size_t unanswered;	    /* this many attempts in a row were not answered */
	char *trouble;		    /* why the last was not, once that is true of all; or NULL */
	struct transfer *probes;    /* one for each endpoint: client_survey() */

	struct pollfd fds[CLIENT_FDS]; /* also polled */
	unsigned n_fds;
	int timer;		     /* in fds; CLOCK_BOOTTIME: poll's own waits ignore sleep */
	int64_t timer_set;	     /* when it expires; DEADLINE_NEVER: disarmed */
	int64_t due;		     /* when to call attend() at the latest */
	bool (*attend)(void *owner); /* something may have happened; true: stop the call */
	void *owner;

	/* The stream of events. */
	struct rpc watch;
	bool watching;	       /* it is open */
	size_t watch_endpoint; /* at which one */
	size_t watch_skips;    /* how many endpoints behind the one in use */
	void (*event)(void *owner, const struct body *body); /* a part of the stream */
};

/* Opens a channel to each endpoint. Returns NULL or what is wrong, to be freed. */
char *transfer_open(struct client *client);
void transfer_close(struct client *client);

/* Begins a call of PATH at ENDPOINT; ends it, done or not, and reads the ANSWER. */
void transfer_begin(struct client *client, struct transfer *transfer, size_t endpoint,
		    const char *path, const struct bytes *body);
void transfer_end(struct client *client, struct transfer *transfer, struct answer *answer);

/* The loop: moves all transfers on, lets the owner attend, and rests until LIMIT or an event. */
void transfer_move(struct client *client);
bool transfer_attend(struct client *client);
void transfer_rest(struct client *client, int64_t limit);

void client_unwatch(struct client *client);

#endif
