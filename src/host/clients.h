/* Rule 9: those that connect to a holder, to ask who it is or to wait for its hang-up. */
#ifndef HOST_CLIENTS_H
#define HOST_CLIENTS_H

#include <stdint.h>
#include <sys/types.h>

#include "lock.h"

/* As lock_engine.serve(). */
void host_serve(struct lock *lock, pid_t job, int64_t since);

#endif
