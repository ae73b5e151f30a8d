/*
 * A server and the connections to it: usually one, which all calls share. It is dialled when a call
 * needs it. A connection that the server is about to close serves its calls to the end; new calls
 * get another.
 *
 * Only channels_rest() waits. Times are CLOCK_BOOTTIME, ns.
 */
#ifndef GRPC_CHANNEL_H
#define GRPC_CHANNEL_H

#include <poll.h>
#include <stddef.h>
#include <stdint.h>

#include "grpc/rpc.h"
#include "grpc/tls.h"

struct channel;

/*
 * Opens a channel to the server at URL, "http://HOST:PORT" or https. Connecting may take CONNECT
 * ns. SOURCE, for https, must outlive it. On failure returns NULL, and *WHY, to be freed.
 */
struct channel *channel_open(const char *url, const struct tls_source *source, int64_t connect,
			     char **why);

/* Closes it. All calls must have ended. */
void channel_close(struct channel *channel);

/* Connects ahead of calls that are still being prepared. */
void channel_dial(struct channel *channel);

/*
 * Sends RPC, with the user's TOKEN (NULL: none). RPC must not move until channel_end(). It may be
 * done when this returns.
 */
void channel_begin(struct channel *channel, struct rpc *rpc, const char *token);

/* Whether all of its request has been handed to the network. */
bool channel_has_sent(const struct rpc *rpc);

/* Whether the server is about to close its connection: new calls use another one. */
bool channel_drains(const struct rpc *rpc);

/* Stops waiting for RPC, done or not. */
void channel_end(struct rpc *rpc);

/*
 * Fails RPC, whose answer has not come in time. If its connection has been silent since RPC was
 * sent, gives that up as well: a new one may work.
 */
void channel_give_up(struct rpc *rpc);

/* Closes connections that no call uses. */
void channel_close_idle(struct channel *channel);

/* Sends and receives what is pending on N channels. */
void channels_move(struct channel *const *channels, size_t n);

/* When to do so at the latest, even if nothing has come. */
int64_t channels_due(struct channel *const *channels, size_t n);

/* Waits until one of them or of the M OTHERS, whose revents are set, is ready. */
void channels_rest(struct channel *const *channels, size_t n, struct pollfd *others, size_t m);

#endif
