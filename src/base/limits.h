/* The largest numbers that options and addresses allow. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#define MOST_SLOTS 1024
#define MOST_PLACES 1024 /* --queue */

#endif
