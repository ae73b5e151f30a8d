/*
 * Answers of etcd's JSON gateway: what an HTTP status and the bytes that came with it mean, in
 * every shape that etcd's versions use. Nothing is sent here.
 */
#ifndef ETCD_ANSWER_H
#define ETCD_ANSWER_H

#include <curl/curl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "etcd/errors.h"

struct answer {
	enum outcome outcome;
	json_t *body;	 /* of OUTCOME_DONE; to be freed by answer_free() */
	char *text;	 /* otherwise the error, with the endpoint; see answer_free() */
	int64_t sent;	 /* CLOCK_BOOTTIME, ns: before it was handed to the socket */
	size_t endpoint; /* which one has answered */
};

void answer_free(struct answer *answer);

/* ANSWER is the failure OUTCOME; TEXT, which it keeps, says why. */
void answer_fail(struct answer *answer, enum outcome outcome, char *text);

/*
 * Reads into ANSWER the N bytes TEXT (NULL: none; else with a NUL behind them) that came with the
 * HTTP status STATUS.
 */
void answer_read(struct answer *answer, const struct asked *asked, long status, const char *text,
		 size_t n);

/* There was no answer: CURL says why, and DETAIL in words. */
void answer_explain(struct answer *answer, const struct asked *asked, CURLcode curl,
		    const char *detail);

/* The result in one line of a stream, of N bytes, for json_decref(); NULL: there is none. */
json_t *answer_result(const char *line, size_t n);

/* Whether the server's VERSION has bugs that end a lease too early or keep a dead one alive. */
bool answer_is_of_old(const char *version);

/* The cluster's id, term or revision in the header of BODY; 0: there is none. */
uint64_t answer_header(const json_t *body, const char *name);

/* A number, which may be a string, in OBJECT; 0 if it is not there. */
uint64_t answer_number(const json_t *object, const char *name);

#endif
