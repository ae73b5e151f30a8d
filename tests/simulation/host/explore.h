/* All schedules of a small world with few deviations. */
#ifndef EXPLORE_H
#define EXPLORE_H

/* ARGUMENTS: KIND SEED DEPTH [--jumps] [--seconds N], or KIND SEED "POINT:CHOICE ..." for one of
 * them. Returns the exit status. */
int explore(char **arguments);

#endif
