/*
 * The successors of a front (rule 6): the second and the third in line, which hold copies of the
 * queue's socket. Each waiter has those that come behind it.
 */
#ifndef HOST_SUCCESSORS_H
#define HOST_SUCCESSORS_H

#include <stdbool.h>

#include "host/waiter.h"

/*
 * Whether we, the front, were the last to listen on the queue. A successor that passes over a front
 * that does not move listens on it as well, so the front sees that when it resumes.
 */
bool successors_lead(const struct waiter *w);

/* A successor has gone, or is not wanted any more: who comes behind it moves up. */
void successors_drop(struct waiter *w, int i);

/* A successor that is stopped would stop all others when its turn comes. */
void successors_dismiss_if_stopped(struct waiter *w, int i);

/*
 * The front sees to it that it has as many successors as there are waiters for, none of them
 * stopped.
 */
void successors_appoint(struct waiter *w);

/*
 * Hears what a successor says, or that it has gone. Returns whether it says that it has passed us
 * over.
 */
bool successors_hear(struct waiter *w, int i);

/* Whether a successor has passed us over: we were stopped. Then it is not told what we do. */
bool successors_have_passed_us(struct waiter *w);

/*
 * A waiter that is stopped just before it listens, and passed over, listens when it resumes. But it
 * has been told before, hears that then, and leaves. So we, who have passed it over, still are the
 * front.
 */
bool successors_lead_again(struct waiter *w);

/*
 * Tells our successor to wait for our hang-up alone, on a new link: a front that was stopped while
 * it made the old one still has copies of both its ends, so the old link would not hang up with us.
 */
void successors_close_up(struct waiter *w);

#endif
