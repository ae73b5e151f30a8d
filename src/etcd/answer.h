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

/* gRPC's status codes, as far as they make a difference. */
enum code {
	CODE_OK = 0,
	CODE_UNKNOWN = 2,
	CODE_INVALID = 3,
	CODE_DEADLINE = 4,
	CODE_NOT_FOUND = 5,
	CODE_DENIED = 7,
	CODE_EXHAUSTED = 8,
	CODE_PRECONDITION = 9,
	CODE_OUT_OF_RANGE = 11,
	CODE_UNAVAILABLE = 14,
	CODE_UNAUTHENTICATED = 16,
	CODE_LAST = 16,
	CODE_NO_ANSWER = 100, /* of our own: the outcome is not known */
	CODE_REFUSED = 101,   /* our own: not an etcd, or it refuses us; no use trying again */
	CODE_CLOSED = 103,    /* our own: connection closed; if that repeats, like CODE_REFUSED */
	CODE_STOPPED = 102,   /* of our own: attend() has stopped the call */
};

struct answer {
	enum code code;
	json_t *body;	 /* of CODE_OK; to be freed by answer_free() */
	char *text;	 /* otherwise the error, with the endpoint; see answer_free() */
	int64_t sent;	 /* CLOCK_BOOTTIME, ns: before it was handed to the socket */
	size_t endpoint; /* which one has answered */
};

/* Which endpoint was asked, and as which user: for messages. */
struct asked {
	const char *url;
	const char *user; /* NULL: without one */
	bool known;	  /* an endpoint has answered as etcd before: the failure may pass */
};

void answer_free(struct answer *answer);

/* ANSWER is the failure CODE; TEXT, which it keeps, says why. */
void answer_fail(struct answer *answer, enum code code, char *text);

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
