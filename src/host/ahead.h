/*
 * Those ahead of a waiter in line: what they say, that they have gone, and how they are passed over
 * if they do not move (host/queue.c, rules 6 and 7).
 */
#ifndef HOST_AHEAD_H
#define HOST_AHEAD_H

#include "host/waiter.h"

/* Closes all that we have of the line. */
void ahead_leave(struct waiter *w);

/*
 * We are out of the line and join it again, at the end. At once the first time, for we may have
 * come just as the last one left, and others must not get ahead of us. If it happens again and
 * again, something is wrong with the queue.
 */
void ahead_lose_place(struct waiter *w);

/* Hears what ahead[I] has said. Returns -EPIPE if it has gone, else 0 or -EAGAIN. */
int ahead_hear_messages(struct waiter *w, int i);

/* Somebody before us said something, or has gone. */
void ahead_hear(struct waiter *w, int i);

/*
 * Those ahead of us do not move, and we hold the lock or are needed: from now on we are the front.
 * What they said earlier still counts: who our successor is, or that we are out of the line. Then
 * we tell them to join again, and our successor to follow us alone.
 */
void ahead_pass_over(struct waiter *w);

/*
 * Somebody in line looks whether the front takes the name when it is free. Binding tells that at no
 * cost as long as it is in use; once it was seen free, connecting tells without being in the
 * front's way. Returns 0 when the name is ours, LOCK_RETRY, or what failed.
 */
int ahead_look_past(struct waiter *w);

#endif
