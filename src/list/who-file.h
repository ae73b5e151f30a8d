/* --who file:PATH */
#ifndef LIST_WHO_FILE_H
#define LIST_WHO_FILE_H

#include <stdbool.h>

#include "lock.h"

/* As who(). */
int who_file(struct lock *lock, bool json, char **text, bool *held);

#endif
