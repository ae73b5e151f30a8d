/* What the helper replies before the lock is held, and to questions. */
#ifndef HELPER_REPLIES_H
#define HELPER_REPLIES_H

#include "helper/session.h"

/*
 * Waits for the final reply, which is in session_of(lock)->packet then. Returns as take() does; 0
 * also for the reply to a question.
 */
int replies_hear(struct lock *lock, struct lock_wait *wait);

/* Reads the holder that the packet names, with PREFIX before each key, into session->holder. */
void replies_read_holder(struct helper_session *session, const char *prefix);

/* The packet is a note: prints it. */
void replies_show_note(const struct lock *lock);

#endif
