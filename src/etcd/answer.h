/*
 * Answers of etcd: the outcome of a call, the error in words, and the body of a good answer.
 * Nothing is sent here.
 */
#ifndef ETCD_ANSWER_H
#define ETCD_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "etcd/body.h"
#include "etcd/errors.h"
#include "grpc/rpc.h"

struct answer {
	enum outcome outcome;
	struct body body; /* of OUTCOME_DONE, else nothing; to be freed by answer_free() */
	char *text;	  /* otherwise the error, with the endpoint; see answer_free() */
	int64_t sent;	  /* CLOCK_BOOTTIME, ns: before it was handed to the socket */
	size_t endpoint;  /* which one has answered */
};

void answer_free(struct answer *answer);

/* ANSWER is the failure OUTCOME; TEXT, which it keeps, says why. */
void answer_fail(struct answer *answer, enum outcome outcome, char *text);

/* Reads into ANSWER how the server has ended RPC, whose bytes are taken. */
void answer_read(struct answer *answer, const struct asked *asked, struct rpc *rpc);

/* There was no answer: why, in words. */
void answer_explain(struct answer *answer, const struct asked *asked, const struct rpc *rpc);

/* Whether the server's VERSION has bugs that end a lease too early or keep a dead one alive. */
bool answer_is_of_old(const char *version);

#endif
