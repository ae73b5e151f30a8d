/*
 * Questions: whether the caller runs under a lock, who holds it, which locks there are. Nothing is
 * written or queued.
 */
#ifndef ETCD_ASK_H
#define ETCD_ASK_H

#include "etcd/session.h"

/* --held, --who, --list. Each has sent its answer when it returns. */
void ask_held(struct session *session);
void ask_who(struct session *session);
void ask_list(struct session *session);

#endif
