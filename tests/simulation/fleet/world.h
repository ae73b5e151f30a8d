/* The world of a run: jobs on hosts, faults, and what is checked. */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "network.h"

#define JOBS 40

enum job_mode { JOB_EXCLUSIVE, JOB_SHARED, JOB_SLOTS };

struct job {
	/* What it is told. Times in ns; WAIT NEVER: for ever. */
	int host;
	enum job_mode mode;
	unsigned slots, queue;
	ns start, wait, ttl, kill_after, hold_for, duration;
	ns cleanup;   /* its command needs this long to end when it is asked to */
	ns child;     /* its command leaves a child that runs for this long; 0: none */
	bool ignores; /* its command ignores SIGTERM */
	bool rival;   /* it is an etcdctl lock */
	bool close;   /* -o */

	/* What has become of it. Times are global. */
	bool hit;	/* a fault was meant for it or its host */
	int me, helper; /* pids */
	bool done;
	int status;
	ns ended;
	int alive;	      /* processes of its command */
	ns run, run_ended;    /* its command; 0: not yet */
	bool asked, finished; /* its command was asked to end; has ended by itself */
	uint64_t token;
	int slot;
	char message[200]; /* the last one of its me-only */

	/* Its place in line: the last one, and the one that its command runs by. */
	char entry[160], key[160];
	ns entered;
	uint64_t created, lease;
	unsigned places; /* how often it has stood in line */
	ns saw;		 /* when it has told for whom it waits; NEVER: not yet */
	bool waits;
	bool key_gone, gone_held;
	enum why why_gone;
	ns gone_at;
	int stream;   /* the member that its last stream is at */
	ns asked_store; /* when its helper has sent the last request that tells of its key */
	ns looked;	/* when its new process has looked at the clock, before it ran */
	bool unaware; /* it had gone when its command began, and nothing had told that */
	bool unheard; /* that its key has gone cannot reach it by that */
	bool listens; /* its stream was open when its key went */
	ns told_at;   /* when the stream has told of it; 0: not yet */

	/* What its helper has promised. */
	ns until, lost_at;
	bool kept; /* its command has ended; something that it has left has the lock */
	bool late; /* that it was not kept was reported */
};

/* What a profile can react to. */
enum world_event {
	EVENT_REQUEST,	/* its helper sends one; detail: enum ask, and the member << 8 */
	EVENT_ENTERED,	/* its key is in the store */
	EVENT_WAITING,	/* its helper tells for whom it waits */
	EVENT_HELD,	/* the store has made it the holder */
	EVENT_DELETED,	/* its key was deleted; detail: enum why */
	EVENT_TAKEN,	/* its me-only knows that it has the lock */
	EVENT_STARTING, /* its me-only has started the command's process */
	EVENT_RUNS,	/* its command runs */
	EVENT_ENDED,	/* its command has ended */
};

/* Limits that the manual lists: what goes wrong because of them is counted, and is no violation. */
enum limit {
	LIMIT_NONE = -1,
	LIMIT_FROZEN,	/* the whole host was frozen */
	LIMIT_BOTH,	/* both halves were stopped or killed */
	LIMIT_NEWCOMER, /* a server's mistake, and one that has not seen the holder */
	LIMIT_CLOCK,	/* clocks whose rates differ by more than the margin allows */
	LIMIT_ETCDCTL,	/* etcdctl runs on when its lease has lapsed */
	LIMIT_PAUSE,	/* a pause that no clock shows */
	LIMIT_UNHEARD, /* a server's mistake, of which the holder cannot hear: it is cut off, or its
			  member hangs */
	LIMIT_KEPT,    /* the helper alone was left, with what the command has left, and was
			  stopped or killed */
	LIMIT_BY_HAND, /* somebody has deleted the key, so the next one has started at once */
	LIMITS,
};

struct profile {
	const char *name;
	const char *what;	/* in one line */
	void (*faults)(ns end); /* plans them, until END; NULL: none */
	void (*jobs)(ns *last); /* makes other jobs than most have; NULL. LAST is when the last one
				   starts */
	void (*react)(enum world_event event, struct job *job, int detail);
	enum { NEW_ETCD, OLD_ETCD, ANY_ETCD } etcd; /* 3.5, 3.4.23, or drawn */
	bool named;				    /* it runs only when it is asked for */
	bool small;	      /* a small world, whose seeds are single faults: explore.c */
	bool calm;	      /* without faults: order, idle time and requests are checked */
	bool gentle;	      /* its faults are so small that no job may be lost */
	bool no_mistakes;     /* the cluster ends no lease early: nothing may be written too late */
	bool lost_if_hit;     /* a job is lost only if a fault has hit it */
	bool lost_by_mistake; /* a job is lost only if its lease was ended early */
	bool long_jobs, rivals, deaf;
	bool at_once; /* what hears of a loss late must end at once: no renewal is answered */
	bool users;	  /* are mostly switched on */
	bool has_user;	  /* clients have a user's name and password, whatever the cluster wants */
	double drift;	  /* of the clocks; 0: as much as the margin allows; -1: none */
	bool quick_start; /* a start without success takes 5 seconds, as the manual says */
	enum limit limit; /* what is expected to go wrong, and why: LIMIT_NONE is 0 here, so it is
			     one more */
};
extern const struct profile profiles[], scenarios[];
extern const size_t n_profiles, n_scenarios;

struct world {
	uint64_t seed;
	const struct profile *profile;
	bool one_endpoint, has_user;
	bool faults_over, bad;
	bool only_exclusive;
	struct job jobs[JOBS];
	int n_jobs;
};
extern struct world world;

/* Runs SEED with PROFILE (NULL: the seed chooses). */
void world_run(uint64_t seed, const struct profile *profile);

/* What happens to the job with this index; -1: to none. */
void world_event(enum world_event event, int job, int detail);

/* --- jobs (jobs.c) ---------------------------------------------------------------------------- */

/* Adds JOB, which starts at its time. */
struct job *world_add_job(struct job job);

/* Adds one of a small world: ttl 10 s, kill after 2 s, and its command ignores SIGTERM. */
struct job *world_add_small_job(int host, ns start, ns duration, ns wait);

/* Draws the usual jobs. */
void world_draw_jobs(ns *last);

/* A command begins, with this environment; and what its process does. */
void world_exec(struct task *task, char *const environment[]);
void world_command(struct task *task);
void world_message(struct task *task, const char *text);
void world_rival(struct task *task); /* rival.c */
bool world_is_over(void);

/* --- faults (faults.c) ------------------------------------------------------------------------ */

enum fault {
	FAULT_CRASH,
	FAULT_FREEZE,
	FAULT_DISK,
	FAULT_ISOLATE,
	FAULT_CUT_PEER,
	FAULT_LEADER,
	FAULT_ERRORS,
	FAULT_CUT_UP,
	FAULT_CUT_DOWN,
	FAULT_CUT_CLIENT,
	FAULT_OUTAGE,
	FAULT_COMPACT,
	FAULT_SPACE,
	FAULT_TOKENS,
	FAULT_UPGRADE,
	FAULT_USERS,
	FAULT_DELETE_KEY,
	FAULT_REVOKE_LEASE,
	/* From here on it is jobs that are hit. */
	FAULT_KILL_ME_ONLY,
	FAULT_KILL_HELPER,
	FAULT_KILL_BOTH,
	FAULT_STOP_ME_ONLY,
	FAULT_STOP_HELPER,
	FAULT_STOP_BOTH,
	FAULT_STOP_GROUP,
	FAULT_HOST,
	FAULT_SUSPEND,
	FAULT_CALL_OF_ME_ONLY,
	FAULT_CALL_OF_HELPER,
	FAULT_TERM,
	FAULT_UNSEEN,
};

void fault_at(ns when, enum fault fault, ns lasts);
ns fault_duration(void);

/* The same at once, for one that is chosen. */
void fault_member(enum fault fault, int m, ns lasts);
void fault_host(enum fault fault, int host, ns lasts);
void fault_job(enum fault fault, struct job *job, ns lasts);
void faults_end(void *unused, int64_t n);

/* --- checks (checks.c, promises.c) ------------------------------------------------------------ */

/* Only violations that begin so count; NULL: all. */
extern const char *check_only;
void violation(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *job_name(const struct job *job);

/* Counts a documented limit. */
void excused(enum limit limit);

/* Why JOB may do what it does though NEWCOMER (or NULL) has the lock: a documented limit. */
enum limit excuse_of(const struct job *job, const struct job *newcomer);

void check_begin(void);
void check_put(const struct kv *kv, bool held);
/* A stream has told JOB that KEY has gone. */
void check_told(int job, const char *key);
void check_delete(const struct kv *kv, bool held, enum why why);
void check_lapse(const char *key);
void check_word(struct task *helper, const char *text);
void check_request(struct task *task, enum ask ask);
void check_requests(struct task *helper);
void check_runs(struct job *job);  /* its command begins */
void check_alone(struct job *job); /* its command does something */
void check_deadline(struct job *job);
void check_register(struct job *job); /* its command writes where late ones are refused */
void check_jobs(void);		      /* at the end */
void check_left(void);		      /* when all leases have lapsed */

/* --- totals (main.c) -------------------------------------------------------------------------- */

#define KINDS 40

struct totals {
	uint64_t runs, bad_runs, commands, lost, failed, busy, requests, executed, elections,
		mistakes, accepted, refused;
	uint64_t hash, seed, excuses[LIMITS];
	struct {
		uint64_t seed;
		char profile[24];
	} shown_by[LIMITS]; /* the first run that shows each limit */
	double seconds;	    /* virtual */
	struct {
		char what[56], profile[24];
		uint64_t n, seed;
	} kinds[KINDS];
};
extern struct totals *totals;

#endif
