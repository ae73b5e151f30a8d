/* Whether to trust a user: this one or root, not one that merely looks like it. */
#ifndef BASE_TRUST_H
#define BASE_TRUST_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Whether UID is this process's effective user: never the number that the kernel shows for users
 * that it cannot name here.
 */
bool trust_is_self(uid_t uid);

/* Whether UID is this user or root, with the same care. */
bool trust_user(uid_t uid);

#endif
