/*
 * Translates between the network's structures and gRPC, which the helper's client speaks. Below
 * src/grpc/channel.h there is no HTTP/2 here, only the network. Nothing outside this directory knows
 * gRPC; a client with another protocol gets another directory.
 */
#ifndef SIM_GATEWAY_H
#define SIM_GATEWAY_H

#include "grpc/wire.h"

#include "../network.h"

/* The request in the messages of a call of PATH, each with gRPC's five-byte prefix. */
struct request *gateway_request(const char *path, struct slice messages);

/* REPLY as a message, which stays valid until the next call. */
struct slice gateway_message(const struct reply *reply);

/*
 * Reads "PATH MESSAGE" lines from standard input, the message in hexadecimal, and writes what the
 * store answers, or "error CODE": for conform.py.
 */
int gateway_answer_all(void);

#endif
