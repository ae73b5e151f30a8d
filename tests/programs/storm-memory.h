/*
 * What a storm (storm.h) and its commands (storm-job.c) share: the witness that no two of them run
 * at once.
 */
#ifndef STORM_MEMORY_H
#define STORM_MEMORY_H

#include <stdint.h>

enum {
	STORM_FD = 100,		/* where commands find the memory */
	STORM_LOCKS = 50,
	STORM_SLOTS = 8,
	STORM_RECORDS = 64,
	STORM_OVERLAP = 99,	/* a command's statuses */
	STORM_ERROR = 98,
};

/*
 * A place in which one command runs at a time. WORD is the pid of who is in there, or 0. It is a
 * robust futex (set_robust_list(2)): when its owner is killed the kernel marks it, before it closes
 * the descriptors of the process. So whoever gets the lock after that finds the mark, and a pid
 * without it is one of a process that runs.
 */
struct storm_place {
	uint32_t word;
	uint32_t parent;	/* of the process in there */
	uint64_t entered;	/* how many have been in there */
};

enum storm_kind { STORM_BESIDE, STORM_NO_LOCK, STORM_NO_SLOT };

struct storm_record {
	enum storm_kind kind;
	uint32_t lock, slot, pid, other;
};

struct storm_memory {
	struct storm_place places[STORM_LOCKS][STORM_SLOTS];
	uint32_t slots[STORM_LOCKS];	/* how many there are */
	uint32_t violations;		/* that commands have found */
	struct storm_record records[STORM_RECORDS];
	/* Of those who start runs: */
	uint32_t failures, finished;
	uint64_t started, ran, held, killed, failed;
	uint64_t harmed[3];		/* me-onlys, commands, keepers and other children */
};

#endif
