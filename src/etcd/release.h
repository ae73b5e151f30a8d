/* Giving the lock back, to the successor if there is one. */
#ifndef ETCD_RELEASE_H
#define ETCD_RELEASE_H

#include <stdbool.h>

#include "etcd/session.h"

/* Whether there is a successor that is not known. */
bool release_needs_next(const struct session *session);

/* Begins to ask for it; takes in the answer, waiting for it until LIMIT, if a call is under way. */
void release_ask_next(struct session *session);
void release_hear_next(struct session *session, int64_t limit);

/* Gives the lock back, and tells me-only. */
void release(struct session *session);

#endif
