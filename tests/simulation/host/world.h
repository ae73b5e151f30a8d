/* A world: calls of me-only, the commands that they run, strangers and faults, and what is checked.
 */
#ifndef WORLD_H
#define WORLD_H

#include "schedule.h"

#define MOST_RUNS 16
#define MOST_ARGUMENTS 20

/* What a command does with the lock that it has inherited. */
enum behaviour {
	BEHAVES,
	CLOSES,
	LEAVES,
	IGNORES
}; /* CLOSES: closes it, as ssh does; LEAVES: leaves a process running that has it; IGNORES: SIGTERM
    */

enum mix {
	NO_FAULTS,
	KILLS,
	STOPS,
	KILLS_AND_STOPS,
	ALL_KINDS,
	KILLS_OF_KEEPERS,
	KILLS_OF_FIRST,
	KEEPER_OR_FIRST
};

/* A kind of world. */
struct kind {
	const char *name;
	int steps;  /* such a run takes about so many */
	int runs;   /* calls of me-only; 0: 2 to 6 */
	bool small; /* for all schedules with few deviations: nothing else is drawn */
	enum mix mix;
	int faults; /* so many; negative: 0 to that many */
	bool mixed; /* -F, -o, limits, tries */
	bool nested, replaces, as_init, reuses_pids, file, unlinks, asks;
	bool slots, places, strangers, closers, users, few_fds, small_backlog, wild, inject, burst,
		gate, long_first;
	void (*scene)(void);  /* makes the calls and the faults; NULL: these are drawn */
	int64_t longest_free; /* so long a lock may be free while somebody waits; 0: LONGEST_FREE */
};

extern const struct kind kinds[];

/* One call of me-only. */
struct run {
	int index, argc;
	char *argv[MOST_ARGUMENTS + 1];
	char text[MOST_ARGUMENTS][24];
	struct proc *proc;
	uid_t uid;
	/* What it is asked to do. */
	bool waits, forever, becomes, gives_away, gate, places,
		quiet; /* -w, -w inf, -F, the command gives its lock away, -o, --queue, -q */
	bool asks_held, replaces, shared; /* --held, --replace, -s */
	char lock;			  /* its name; 'F': that of a file */
	int slots;
	int64_t limit, duration, start;
	enum behaviour behaviour;
	struct run *inner,
		*outer; /* a call that its command makes; the call whose command makes this one */
	int expected;	/* its status, if that is known before; -1 */
	/* What has become of it. */
	bool ended, faulted, forked, keeper_killed,
		past;		  /* PAST: it took the lock past a front that did not move */
	bool passes_over; /* it has told somebody to join again */
	int silence; /* so often it came to a queue whose founder was stopped before it listened */
	int status, inherited;	  /* INHERITED: descriptors that it was started with */
	const struct run *struck; /* --replace: whom it has signalled */
	int64_t started_at, ended_at, joined_at, exec_time;
	long join, join_last,
		joins; /* when it joined the queue for the first and the last time, and how often */
	long got, got_step, exec_step, start_step, calls_at_join;
};

struct world {
	const struct kind *kind;
	struct run run[MOST_RUNS];
	int runs, kills, stops;
	bool strangers, mixed_slots, lost_at_rest;
	const struct run *at_rest; /* one of the line that was at rest when the first kill came */
	int inject; /* in 1000 calls that can fail, so many do */
	int64_t last_fault, end, free_since, slowest;
	long sequence;
	int strikes; /* of --replace at a me-only: as kills are */
	int commands, commands_at_kill, lost_by_kill, lost_by_leaving, overtaken;
};

extern struct world W;

#define for_each_run(r) for (struct run *r = W.run; r < W.run + W.runs; r++)

const struct kind *kind_find(const char *name);

/* For scenes: a call that waits for ever, from START on for DURATION, to be changed and then made.
 */
struct run *world_add(int64_t start, int64_t duration);
void world_call(struct run *run, int limit);
void world_nest(struct run *outer, char lock, bool asks_held);
void world_make(const struct kind *kind);
void world_show(void);

/* What was found is in schedule.failure. */
void world_check_end(void);

/* Whoever does not get on, though it should; NULL: nobody. */
const struct proc *world_lost(void);

/* --- actors.c --- */
int me_only_main(int argc, char **argv);
void call_start(struct run *run, int limit);
void command_is_executed(struct proc *p, char *const environment[]);
void inner_call(struct run *run);
_Noreturn void command_main(struct proc *p);
void churner_start(void);
void unlinker_start(void);
void strangers_start(void);
void blinker_start(int64_t duration);
void closer_start(int64_t duration);
struct proc *actor_new(const char *name, uid_t uid, int limit, void (*body)(void *),
		       void *argument);

/* --- askers.c --- */
void askers_start(void);

/* --- faults.c --- */
void faults_reset(void);
void faults_draw(void);
void fault_happens(void); /* the next one */
bool fault_is_left(void);
void fault_at(int64_t when, struct run *run, bool stop,
	      int64_t pause); /* PAUSE: until what was stopped goes on */

/* --- scenes.c --- */
void scene_stopfront(void);
void scene_joinexec(void);
void scene_firstpause(void);
void scene_deaf(void);
void scene_fullqueue(void);
void scene_lastsuccessor(void);
void scene_stopthree(void);
void scene_replaceend(void);
void scene_deafproof(void);
void scene_leftout(void);
void scene_closing(void);
void scene_stoplisten(void);
void scene_stoptaker(void);
void scene_stopsecond(void);

/* --- checks.c --- */
bool name_is(const struct address *address, const char *suffix);
bool name_is_lock(const struct address *address);
char name_of_lock(const struct address *address);
bool may_be_struck(const struct run *run);
bool has_name_of_lock(const struct proc *p);
bool has_left_line(const struct proc *p);
void look_at_line(const struct proc *p, bool *has_queue, bool *in_line);
void check_order(void);
bool is_alone(const struct run *run); /* could not join a queue: its founder is stopped */

#endif
