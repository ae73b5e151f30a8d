/* The steps of taking a lock: etcd/take.c has the rules, etcd/wait.c the steps of a waiter. */
#ifndef ETCD_TAKE_H
#define ETCD_TAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "etcd/place.h"

/* What to do next. */
enum step {
	STEP_ENTER,   /* get a place in line: the first one, or a new one */
	STEP_JUDGE,   /* we know more of the queue */
	STEP_WAIT,    /* nothing to do before something changes */
	STEP_STOPPED, /* me-only is stopped */
	STEP_CONFIRM, /* we hold the lock */
	STEP_READY,   /* and may use it */
	STEP_OVER,    /* we do not get it, and me-only knows */
};

/* Rule 7: when the attempt ends, and whether it has. */
int64_t take_end_of_time(const struct session *session);
bool take_is_time_up(const struct session *session);

/* The holder handed the lock over, so it has released it: its write takes the lock for us. */
enum step take_accept_grant(struct session *session, struct place *place);

/* We do not get the lock. */
enum step take_give_up(struct session *session, struct place *place);

/* A request was not answered, because of TEXT, which is taken. */
enum step take_not_answered(struct session *session, struct place *place, char *text);

/* STEP_JUDGE and STEP_WAIT. */
enum step wait_judge(struct session *session, struct place *place);
enum step wait_look(struct session *session, struct place *place);

/* Renews while we wait. Returns false if our key is gone. */
bool wait_renew(struct session *session);

#endif
