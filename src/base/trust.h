/* Whom to trust: this user or root, not one that merely looks like it. */
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

/*
 * Whether only root and this user can have written the file or directory FD; for root, not even its
 * group. In a namespace that cannot name all users, an owner that looks like this user is accepted.
 */
bool trust_file(int fd);

#endif
