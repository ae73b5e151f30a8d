/*
 * A server and the connections to it: usually one, for all calls. It is dialled when there is a
 * call and no connection. One that the server is about to close serves its calls to the end, while
 * new calls get another.
 *
 * Nothing here waits: channels_rest() alone does. Times are CLOCK_BOOTTIME, ns.
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
 * To the server of URL, "http://HOST:PORT" or https. It has CONNECT ns to accept a connection.
 * SOURCE, for https, must stay there. NULL: *WHY, to be freed, says why not.
 */
struct channel *channel_open(const char *url, const struct tls_source *source, int64_t connect,
			     char **why);

/* Closes it. All calls must have ended. */
void channel_close(struct channel *channel);

/* Connects, for calls that will follow: the server gets ready while these are prepared. */
void channel_dial(struct channel *channel);

/*
 * Sends RPC, with the user's TOKEN (NULL: none). It must stay where it is until channel_end(). It
 * may be done at once.
 */
void channel_begin(struct channel *channel, struct rpc *rpc, const char *token);

/* Whether all of its request has been handed to the network. */
bool channel_has_sent(const struct rpc *rpc);

/* Whether the server is about to close its connection: nothing else is heard on that. */
bool channel_drains(const struct rpc *rpc);

/* RPC is not waited for any more, done or not. */
void channel_end(struct rpc *rpc);

/*
 * Its answer has not come in time: it fails. If nothing else has come either, the connection is
 * given up: a new one may do better.
 */
void channel_give_up(struct rpc *rpc);

/* Closes connections that no call uses. */
void channel_close_idle(struct channel *channel);

/* Sends and takes in what there is, for N channels. */
void channels_move(struct channel *const *channels, size_t n);

/* When to do so at the latest, though nothing has come. */
int64_t channels_due(struct channel *const *channels, size_t n);

/* Waits until one of them or of the M OTHERS, whose revents are set, is ready. */
void channels_rest(struct channel *const *channels, size_t n, struct pollfd *others, size_t m);

#endif
