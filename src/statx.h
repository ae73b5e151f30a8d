/* struct statx and its constants: musl before 1.2.5 has none, so there they are the kernel's; later the two would be defined twice. */
#ifndef STATX_H
#define STATX_H

#include <sys/stat.h>

#ifndef STATX_BASIC_STATS
#include <linux/stat.h>
#endif

#endif
