/*
 * Between the network's structures and what the helper's client speaks: gRPC. Below the calls of
 * src/grpc/channel.h there is no HTTP/2 here, but the network. This directory alone knows of gRPC;
 * a client that speaks something else gets another.
 */
#ifndef SIM_GATEWAY_H
#define SIM_GATEWAY_H

#include "grpc/wire.h"

#include "../network.h"

/* The request that the messages of a call of PATH are: each with gRPC's five bytes in front. */
struct request *gateway_request(const char *path, struct slice messages);

/* The message that REPLY is, which stays valid until the next call. */
struct slice gateway_message(const struct reply *reply);

/*
 * Reads "PATH MESSAGE" lines from standard input, the message in hexadecimal, and writes what the
 * store answers, or "error CODE": for conform.py.
 */
int gateway_answer_all(void);

#endif
