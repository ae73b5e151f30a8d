/* Giving the lock back, to the successor if there is one. */
#ifndef ETCD_RELEASE_H
#define ETCD_RELEASE_H

#include <stdbool.h>

#include "etcd/session.h"

/* Whether there is a successor that is not known. */
bool release_needs_next(const struct session *session);

/* Asks for the first entry after ours; takes in and frees the ANSWER. */
struct bytes *release_next_request(const struct session *session);
void release_read_next(struct session *session, struct answer *answer);

/* Gives the lock back, and tells me-only. */
void release(struct session *session);

#endif
