/*
 * Calls: how a request comes to a member and its answer comes back. What a client's library makes
 * of that is gateway/'s: here a request and an answer are structures, not bytes.
 */
#ifndef SIM_NETWORK_H
#define SIM_NETWORK_H

#include "store.h"
#include "task.h"

enum ask {
	ASK_GRANT,
	ASK_KEEPALIVE,
	ASK_TIME_TO_LIVE,
	ASK_REVOKE,
	ASK_RANGE,
	ASK_TXN,
	ASK_STATUS,
	ASK_AUTHENTICATE,
	ASK_WATCH,
};

#define MOST_WATCHES 4

struct watch {
	struct span span;
	bool no_put, before; /* only deletions; with what was before */
	uint64_t start;	     /* revision; 0: from now on */
};

struct request {
	enum ask ask;
	uint64_t lease;
	int64_t ttl;
	struct range range;
	struct txn txn;
	struct watch watches[MOST_WATCHES];
	unsigned n_watches;
	bool writes; /* it has a put */
};

/* The header of every answer. */
struct header {
	uint64_t member, revision, term;
};

/* An answer, or a part of a stream. */
struct reply {
	struct reply *next;
	struct call *call;
	enum ask ask;
	enum status status;
	const char *message; /* of an error */
	struct header header;
	/* By what was asked: */
	uint64_t lease; /* a grant, a keepalive, a time to live */
	int64_t ttl;	/* 0: none, as of a lease that is dead; -1 */
	int64_t granted_ttl;
	struct result range;
	struct results txn;
	const char *version, *token;

	/* Of a stream. */
	bool more; /* other parts follow */
	bool created, canceled;
	uint64_t watch_id, compacted;
	const char *cancel_reason;
	struct change **events;
	size_t n_events;
	bool with_before;
	unsigned tries;
};

/* What has become of a call. */
enum outcome {
	OUTCOME_ANSWERED,
	OUTCOME_REFUSED, /* nobody listens there */
	OUTCOME_NOTHING, /* closed without an answer */
	OUTCOME_RESET,	 /* the same on a connection that was used before */
	OUTCOME_CUT,	 /* closed in the middle of an answer */
	OUTCOME_UNREAD,	 /* refused on a connection that ends: it was not processed */
};

struct call {
	uint64_t id;
	struct call *next;  /* of its owner */
	struct task *owner; /* NULL: nobody waits for it any more */
	int host, member;
	struct request *request;
	const char *token;
	bool reused; /* on a connection that is there already */
	bool connected, sent, done;
	enum outcome outcome;
	struct reply *first, **last; /* that have come and were not taken yet */
};

struct call *call_new(struct task *owner, int member, struct request *request, const char *token,
		      bool reused);
void call_begin(struct call *call);

/* Its owner does not wait any more. What is on its way goes on. */
void call_drop(struct call *call);

/* Whether nobody waits for more of it. */
bool call_is_closed(const struct call *call);

/* Ends CALL, unless that was done. */
void call_finish(struct call *call, enum outcome outcome);

/* Something has come for CALL: it is added, and its owner is woken. */
void call_add(struct call *call, struct reply *reply);

/* Sends REPLY on its way back. */
void network_reply(struct reply *reply);

/* How long a packet takes between HOST and member M. */
ns network_time(int host, int m);

/* A call of an etcdctl, which waits for its answer until LIMIT. NULL: none, or an error. */
struct reply *network_ask(int member, struct request *request, ns limit);

void network_reset(void);

#endif
