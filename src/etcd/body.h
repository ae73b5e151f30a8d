/*
 * Bodies of etcd's answers, read from protobuf. One structure has the fields that we use of all
 * answers; those that an answer lacks are 0.
 */
#ifndef ETCD_BODY_H
#define ETCD_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "grpc/wire.h"

/* A key, its value and its revisions. */
struct pair {
	struct slice key, value;
	uint64_t created, modified, lease;
};

struct event {
	uint64_t type; /* EVENT_DELETE */
	struct pair pair, before;
};
#define EVENT_DELETE 1

/* Items that grow in number. */
struct list {
	void *all;
	size_t n, room;
};

struct body {
	uint64_t cluster, revision, term; /* the header's; 0: there is none */
	uint64_t lease;			  /* of a grant, a keepalive, a time to live */
	uint64_t ttl;			  /* likewise; as int64_t */
	uint64_t succeeded;		  /* of a transaction */
	uint64_t created, canceled;	  /* of a stream */
	uint64_t compacted;		  /* the revision before which it cannot begin */
	uint64_t more;			  /* there are further pairs */
	struct slice text;		  /* a version, a token, or why it was canceled */
	struct list pairs;		  /* of struct pair */
	struct list events;		  /* of struct event */
	struct list responses;		  /* struct body: of the operations of a transaction */
	unsigned char *bytes;		  /* that all slices are in; NULL: they belong to others */
};

/*
 * Reads the answer to a call of PATH, N BYTES, into BODY, which points into them. Returns false if
 * they are not such an answer. Free BODY with body_free() in any case.
 */
bool body_read(struct body *body, const char *path, const unsigned char *bytes, size_t n);

void body_free(struct body *body);

#endif
