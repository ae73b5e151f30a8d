/*
 * struct statx and its constants. musl before 1.2.5 lacks them, so they come from the kernel there;
 * with later versions, including both would define them twice.
 */
#ifndef BASE_STATX_H
#define BASE_STATX_H

#include <sys/stat.h>

#ifndef STATX_BASIC_STATS
#include <linux/stat.h>
#endif

/* Linux 5.8. Told in stx_mnt_id, which older headers lack: it is behind stx_dev_minor. */
#ifndef STATX_MNT_ID
#define STATX_MNT_ID 0x1000U
#endif

#endif
