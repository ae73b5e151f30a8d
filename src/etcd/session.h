/* One run of the helper: what it was asked for, what it has in etcd, and me-only. */
#ifndef ETCD_SESSION_H
#define ETCD_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "etcd/client.h"
#include "etcd/entry.h"
#include "etcd/requests.h"
#include "helper/control.h"

/* A key may be longer, a line to me-only not. */
#define LONGEST_NAME 2048

/* What me-only asks for (PROTOCOL.md). Times in ns. */
struct arguments {
	const char *task, *name, *command;
	pid_t pid;
	int64_t wait; /* 0: do not wait; DEADLINE_NEVER */
	enum entry_mode mode;
	unsigned slots;
	unsigned queue; /* 0: none */
	int64_t ttl, kill_after, hold_for;
	bool quiet;
	bool verbose;
	bool has_timer; /* me-only reads the deadline from a timer */
};

enum phase {
	PHASE_TAKING, /* until we have the lock: the end of me-only ends us */
	PHASE_HOLDING,
	PHASE_GIVING_BACK, /* nothing stops us but time */
};

/* Times are CLOCK_BOOTTIME, ns. "We" are this helper and its me-only. */
struct session { // NOLINT(clang-analyzer-optin.performance.Padding): there is one
	const struct arguments *arguments;
	struct config config;
	struct client client;
	struct identity me;
	enum phase phase;
	int64_t wait_until; /* 0: do not wait */
	int64_t try_until;  /* without waiting */
	int64_t taken;	    /* when the lock was */
	bool polls_pipe;    /* since then */
	bool lost;
	bool told; /* the message about that is in me-only's socket */

	struct {
		uint64_t id;
		int64_t asked;	  /* when it was first requested; 0: not yet */
		int64_t ttl;	  /* as granted */
		int64_t deadline; /* the key is safely ours until then; final once passed */
		int64_t seen;	  /* when we sent the last request that found our key */
		int64_t renew_due;
		unsigned failures; /* of renewals in a row */
		int64_t renewing;  /* since when we try to renew; 0: the last was answered */
	} lease;

	/* Our entry in line: a key that is bound to the lease. */
	struct {
		char *name; /* of the key, as it is */
		struct keys keys;
		struct entry entry; /* what the key's value says */
		uint64_t created;   /* revisions; 0: no key, */
		uint64_t token;	    /* not held yet */
		uint64_t modified;  /* when it was last read */
		bool doubtful;	    /* a request whose answer was lost may still write it */
	} own;

	/* The lock's line. */
	struct {
		struct keys keys;  /* of all entries */
		bool entered;	   /* at some time: so the cluster is there, and lets us in */
		bool others;	   /* while we hold the lock: somebody may wait for it */
		struct entry next; /* our successor, as far as is known; key NULL: not known */
		bool asks;	   /* a call is under way that asks for it */
		struct transfer call;
	} line;

	/* What the stream has reported, and what it watches. */
	struct {
		bool resting;	      /* we wait for an event, or for the end of the stream */
		bool canceled;	      /* the stream is no longer of use */
		bool own_gone;	      /* our key was deleted, */
		bool own_gone_before; /* and before the stream was opened */
		bool changed;	      /* something else was */
		struct entry gone;    /* the entry that was deleted; key NULL: none */
		uint64_t granted;     /* revision of the write that handed us the lock; 0: none */
		struct keys other;    /* also watched; no end: one key; key NULL: none */
		uint64_t other_modified; /* revision of that key */
		uint64_t revision;	 /* of etcd when we last looked: the stream starts here */
		uint64_t created;	 /* of etcd when it opened the stream; 0: not yet */
		uint64_t heard;		 /* of etcd, by the stream */
	} events;

	bool troubled;		/* me-only knows that etcd does not answer this waiter */
	struct control control; /* me-only and the command */
	int64_t spoke;		/* when we last sent me-only something */
};

/* Prepares everything. Returns NULL or what is wrong, to be freed. */
char *session_open(struct session *session, const struct arguments *arguments);

/* Tells me-only that etcd cannot be used: TEXT, and where it was looked for. */
void session_failed(const struct session *session, const char *text);

/* Frees everything and sends nothing. Call it after session_open() in any case. */
void session_close(struct session *session);

/* Ends the lease, and our key with it, as far as that goes at once. */
void session_revoke(struct session *session);

/* The same, for good. */
void session_withdraw(struct session *session);

/*
 * client->attend: takes in what me-only sends, and ends the command if due. Returns whether to stop
 * a call.
 */
bool session_attend(void *session);

/* Chooses a new lease, and a key's name from it. Nothing is asked for yet. */
void session_new_place(struct session *session);

/*
 * The request for that lease; and reads its ANSWER, which is freed. Returns NULL or an error, to be
 * freed.
 */
struct bytes *session_grant_request(struct session *session);
char *session_granted(struct session *session, struct answer *answer);

enum renewal {
	RENEWAL_DONE,
	RENEWAL_FAILED,
	RENEWAL_LOST
};

/*
 * One attempt to renew the lease: a keepalive, then a linearizable read of our key at the same
 * endpoint in the same term, for a replaced leader can still acknowledge a dead lease. It also
 * reads the other key; events.changed says if that has changed. TEXT, to be freed, is the error;
 * NULL: there is none, or we have stopped the attempt.
 */
enum renewal session_renew(struct session *session, char **text);

/*
 * Waits until LIMIT for what the survey finds, if there is one, and warns about an old version.
 * Returns NULL, or the error that they are of different clusters, to be freed.
 */
char *session_surveyed(struct session *session, int64_t limit);

/* How long after a renewal the next one is due. */
int64_t session_interval(const struct session *session);

/*
 * How much time before the deadline a command needs at its start, and a renewal: then it can be
 * retried before the command is asked to exit.
 */
int64_t session_reserve(const struct session *session);

/*
 * While me-only is stopped its socket can fill up and messages are dropped, so a timer carries the
 * deadline as well: UNTIL. 0: it is over.
 */
void session_set_timer(const struct session *session, int64_t until);

/* In about how many seconds the lease ends if nothing more is done. */
int64_t session_lapse(const struct session *session);

/* client->event: what the stream says. */
void session_event(void *session, const struct body *body);

/*
 * Watches our key and OTHER (NULL: none; taken) from events.revision on. Reports deletions, and of
 * OTHER changes if PUTS. Until we hold the lock, it reports every change of our key.
 */
void session_watch(struct session *session, struct keys *other, bool puts);

/*
 * Whether it must be opened again: it has ended, or its connection drains, on which nothing else is
 * sent that would show that it is broken.
 */
bool session_stream_ends(const struct session *session);

/* Now, on CLOCK_BOOTTIME; and in ms since 1970. */
int64_t session_now(void);
uint64_t session_clock(void);

/* Takes the lock. Returns whether it is held; if not, me-only has been told why. */
bool take(struct session *session);

/* Keeps the lock until it is given back or lost, and tells me-only. */
void hold(struct session *session);

#endif
