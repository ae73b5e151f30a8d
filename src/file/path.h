/* The path of a file lock: the same file for all who know it, wherever they stand. */
#ifndef FILE_PATH_H
#define FILE_PATH_H

#include "lock.h"

/* NAME without the "./" that it begins with. */
const char *file_path_short(const char *name);

/*
 * Sets lock->absolute if the path is relative; links are not followed. Returns 0, or a negative
 * errno with lock->failed: then nobody could find the same file from elsewhere.
 */
int file_path_absolute(struct lock *lock);

#endif
