/* How long a command may run on once its lock is known to be lost. Others wait longer before they start (etcd/place.h). */
#ifndef HELPER_GRACE_H
#define HELPER_GRACE_H

#include "base/deadline.h"

#define LOST_GRACE (2 * NS_PER_S)

#endif
