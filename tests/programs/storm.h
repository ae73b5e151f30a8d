/* A storm: what its parts share. storm.c begins with what it is. */
#ifndef STORM_H
#define STORM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "storm-memory.h"

enum { WIDTH_MAX = 64 };

/* One process that was started, me-only. */
struct run {
	pid_t pid;		/* 0: this place is empty */
	int pidfd;
	unsigned lock;
	bool closes;		/* -o */
	bool waits;		/* for ever: it must get the lock */
	bool replaced;		/* others may end it */
	bool limited;		/* what it needs may be refused to it */
	bool harmed;
	bool half_killed;	/* its me-only or its keeper was killed */
};

struct storm {
	struct storm_memory *memory;
	const char *me_only, *job;
	char name[64], directory[64];	/* of the locks, and for those that are files */
	uint64_t seed;
	unsigned worker;		/* which of the processes that start runs this is */
	unsigned width;			/* so many runs at a time at most */
	double patience;		/* seconds after which what does not end is a violation */
	bool broken;			/* some commands run without their lock */
	struct run runs[WIDTH_MAX];
};
extern struct storm storm;

double storm_now(void);

/* Writes a line about something that must not be, and counts it. */
void storm_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void storm_die(const char *what);

/* --- storm-plan.c: what a run is -------------------------------------------------------------- */

/* Begins a sequence of random numbers, which follow from the seed, WHAT they are for and NUMBER. */
void random_begin(unsigned what, uint64_t number);
unsigned random_below(unsigned n);

bool lock_is_file(unsigned lock);
unsigned lock_slots(unsigned lock);

/* Starts run NUMBER, and says in RUN what it is. */
void run_start(struct run *run, uint64_t number);

/* The run whose process is PID, or NULL. */
struct run *run_of(uint32_t pid);

/* --- storm-harm.c ----------------------------------------------------------------------------- */

void harm_prepare(void);
void harm(uint64_t number);

/* Lets those go on whose time is over, or ALL. Returns when the next one's is. */
double harm_end_stops(bool all);

/* The N-th child of PID; 0: there are not so many. */
pid_t child_of(pid_t pid, unsigned n);

/* --- storm-left.c: what is left at the end ---------------------------------------------------- */

struct count {
	int descriptors, sockets, named;
	long kernel_kb;
};

struct count left_count(void);

/* APART: all sockets that there are are ours. */
void left_check(const struct count *before, bool apart);

#endif
