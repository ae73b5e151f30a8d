/* What a process shares with its thread that waits in flock(2) (file/engine.c). */
#ifndef FILE_WAITER_H
#define FILE_WAITER_H

#include <stdatomic.h>

struct file_waiter {
	int fd, operation;
	int error; /* once it has ended */
	int done;  /* an eventfd, readable once it has ended or is about to */
	/* By whoever comes first: the thread, with the lock, or we, when we give up. */
	atomic_int settled;
};

/* That of this process. It exists as long as the thread, which stays when we give up. */
struct file_waiter *file_waiter(void);

#endif
