/* A helper at work for me-only, and what it has sent. */
#ifndef HELPER_SESSION_H
#define HELPER_SESSION_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "helper/cgroup.h"
#include "helper/packets.h"
#include "lock.h"

#define MOST_VARIABLES 8

/* In pages of its own, so that a run with another kind of lock has none of it. */
struct helper_session {
	struct lock_lease lease;	/* first: lock->lease leads to all of it */
	int control;			/* our end of the socket */
	int timer;			/* which the helper sets to the deadline; 0: none */
	pid_t parent;			/* this process */
	pid_t helper;			/* 0: none, or reaped */
	char path[PATH_MAX];		/* of its file */
	char packet[PACKET_SIZE];	/* the last one, with a NUL */
	struct holder holder;		/* the last one that it has named */
	struct remote_holder remote[2]; /* what holder and a waiter point to */
	char texts[2][3][256];		/* what these point to */
	uint64_t times;			/* how often it has named one */
	int64_t told;			/* when the last time (deadline_now()) */
	char variables[PACKET_SIZE];	/* all for the command, each with a NUL */
	const char *entries[MOST_VARIABLES + 4];
	char said[PACKET_SIZE]; /* why something failed */
	char trouble[PACKET_SIZE], note[PACKET_SIZE];
	bool releasing;	      /* the command has ended */
	bool abandoned;	      /* it was ended by us */
	bool ended;	      /* the socket is closed, or nothing more will come */
	struct cgroup cgroup; /* where the command may have a control group of its own */
};

static inline struct helper_session *session_of(const struct lock *lock)
{
	return (struct helper_session *)lock->lease;
}

/* Returns R, with WHAT as the reason. */
static inline int helper_cannot(struct lock *lock, const char *what, int r)
{
	lock->failed = what;
	return r;
}

#endif
