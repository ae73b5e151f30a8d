/*
 * The errors of etcd: one table of gRPC's status codes and the server's words, each with what to do
 * and a sentence for people. Nothing else judges a code or a text.
 */
#ifndef ETCD_ERRORS_H
#define ETCD_ERRORS_H

#include <stdbool.h>

enum outcome {
	OUTCOME_DONE,	 /* not an error */
	OUTCOME_RETRY,	 /* may pass, elsewhere or later; perhaps it was carried out all the same */
	OUTCOME_REAUTH,	 /* the same with a new token: log in again */
	OUTCOME_LOST,	 /* the lease, key or revision that was named is gone */
	OUTCOME_FINAL,	 /* every member would say the same */
	OUTCOME_EXISTS,	 /* the lease is there: an earlier attempt has created it */
	OUTCOME_OPEN,	 /* users are not enabled: nobody has to log in */
	OUTCOME_USELESS, /* nothing to be had from this endpoint; others may be better */
	OUTCOME_CLOSED,	 /* the connection was closed: may pass; if it repeats, useless */
	OUTCOME_STOPPED, /* we have stopped the call: says nothing about etcd */
};

/* Which endpoint was asked, and as which user. */
struct asked {
	const char *url;
	const char *user; /* NULL: without one */
	bool known;	  /* an endpoint has answered as etcd before: a failure may pass */
};

/*
 * Judges an error by its CODE (of gRPC) and the server's TEXT. *SENTENCE, to be freed, is for
 * people; NULL: not wanted.
 */
enum outcome errors_judge(const struct asked *asked, unsigned code, const char *text,
			  char **sentence);

/* Whether another attempt may succeed. */
bool errors_may_pass(enum outcome outcome);

#endif
