/* A cluster of three members: which of them leads, who can reach whom, and what is wrong with it.
 */
#ifndef SIM_CLUSTER_H
#define SIM_CLUSTER_H

#include "base.h"

struct member {
	bool up, frozen, stuck; /* stuck: its disk hangs, so it cannot write its log */
	bool old;		/* 3.4.23, with its bugs; otherwise 3.5.16 */
	bool debian;		/* errors as Debian's 3.5 writes them */
	int believed;		/* the member that it takes for the leader; -1: none */
	uint64_t term;		/* of Raft */
	uint64_t applied;	/* the revision that it has come to */
	ns contact;		/* with a leader */
	ns patience;		/* without one until it notices */
	ns stale_since;		/* since when it leads only in its own opinion */
	ns restarted;
	unsigned errors; /* so many of the next requests fail */
};

struct cluster {
	struct member members[MEMBERS];
	int leader;
	uint64_t term;
	bool users; /* are switched on */
	bool no_space;
	bool breaks_early;    /* ends leases by mistake */
	unsigned token_epoch; /* tokens of an earlier one are not valid any more */

	/* The network. Cuts are from the first to the second; up is to a member, down from it. */
	bool cut[MEMBERS][MEMBERS], cut_up[HOSTS][MEMBERS], cut_down[HOSTS][MEMBERS];
	double loss, slow, duplicate, late, reset, error; /* how often for a request */
	double event_loss, event_cancel;		  /* of a stream */
	double goaway; /* how often a connection is drained when an answer comes; 0: streams are
			  never reset alone */
	bool drains_silently; /* nothing more comes on such a connection */
	bool deaf[HOSTS];     /* its streams lose all events */
	ns latency[HOSTS][MEMBERS];

	uint64_t n_requests, n_executed, elections, mistakes;
};
extern struct cluster cluster;

void cluster_start(bool old);
void cluster_reset(void);

/* Whether M runs and can write. */
bool member_works(int m);

/* Whether A and B can speak to each other. */
bool member_linked(int a, int b);

/* Whether M, if it leads, finds a majority. */
bool member_can_commit(int m);

/* --- faults ----------------------------------------------------------------------------------- */

void cluster_power(int m, bool up);
void cluster_freeze(int m, bool frozen);
void cluster_stick(int m, bool stuck);
void cluster_move_leader(void);
void cluster_compact(uint64_t revision);
void cluster_expire_tokens(void);
void cluster_upgrade(int m); /* to be called while it is down */

/* The way between all hosts and members takes so long. */
void cluster_slow(ns latency);

#endif
