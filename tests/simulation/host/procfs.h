/* What the sources read of /proc, and the few other paths that they open. */
#ifndef PROCFS_H
#define PROCFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct file;

ssize_t procfs_read(struct file *file, void *data, size_t n);
long procfs_getdents(int fd, void *entries, size_t size);
long procfs_statx(int dir, const char *path, void *status);

#endif
