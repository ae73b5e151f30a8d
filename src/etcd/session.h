/* One run of the helper: what it was asked for, the lease and the key that it has in etcd, and me-only at the other end of the socket. */
#ifndef ETCD_SESSION_H
#define ETCD_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "etcd/client.h"
#include "etcd/entry.h"
#include "etcd/requests.h"
#include "helper/cgroup.h"
#include "helper/descendants.h"

#define PIPE_FD 3
#define TIMER_FD 4

/* A key may be longer, a line to me-only not. */
#define LONGEST_NAME 2048

/* What me-only asks for (PROTOCOL.md). Times in ns. */
struct arguments {
	const char *task, *name, *command;
	pid_t pid;
	int64_t wait;		/* 0: do not wait; DEADLINE_NEVER */
	enum entry_mode mode;
	unsigned slots;
	unsigned queue;		/* 0: none */
	int64_t ttl, kill_after, hold_for;
	bool quiet;
	bool has_timer;		/* me-only reads the deadline from a timer */
};

enum phase {
	PHASE_TAKING,		/* until we have the lock: the end of me-only ends us */
	PHASE_HOLDING,
	PHASE_GIVING_BACK,	/* nothing stops us but time */
};

struct session {	// NOLINT(clang-analyzer-optin.performance.Padding): there is one, in the order of its parts
	const struct arguments *arguments;
	struct config config;
	struct client client;
	struct identity me;
	enum phase phase;
	int64_t asked;			/* when something was last said to me-only (CLOCK_BOOTTIME, ns, as all times here) */
	int64_t wait_until;		/* 0: do not wait */
	int64_t try_until;		/* without waiting */
	bool was_in_line;		/* at some time: so the cluster is there, and lets us in */
	bool resting;			/* an event is waited for, or the end of the stream */

	/* The lease, and the key that is bound to it. */
	struct keys prefix, own;	/* all keys of the lock; ours */
	char *key;			/* ours, as it is */
	uint64_t lease;
	int64_t lease_asked;		/* when it was first asked for; 0: not yet */
	int64_t ttl;			/* as granted */
	int64_t deadline;		/* until when the key is safely ours; never moved once it has passed */
	int64_t seen;			/* when we sent the last request that found our key */
	int64_t renew_due;
	unsigned failures;		/* of renewals in a row */
	int64_t renewing;		/* since when a renewal has been tried; 0: the last one was answered */
	uint64_t created, token;	/* revisions; 0: no key, not held yet */
	bool doubtful;			/* our key may be written once more, by a request whose answer was lost */
	uint64_t modified;		/* of our key, when it was read the last time */
	struct entry entry;		/* what the key's value says */
	int64_t taken;			/* when */

	/* The stream of events. */
	bool own_gone;			/* our key was deleted */
	bool changed;			/* something else was */
	bool canceled;			/* the stream is of no use any more */
	struct entry gone;		/* who was deleted, as it was then; key NULL: nobody */
	uint64_t granted;		/* the revision of the write by which the one before us has handed the lock over; 0: it has not */

	bool others;			/* while we hold it: somebody may wait for it */
	struct entry next;		/* the first of them, as far as is known; key NULL: not known */
	struct keys other;		/* the key that is watched beside ours; without an end, and key NULL: none */
	uint64_t other_modified;	/* its revision */
	uint64_t revision;		/* of etcd, when we have looked the last time: from there on it is watched */
	uint64_t heard;			/* of etcd, by the stream */

	/* me-only and the command. */
	bool orphaned;			/* me-only has gone */
	bool done;			/* it has said that the command has ended */
	bool unused;			/* the command could not be run */
	bool pipe_closed;		/* nobody has the lock pipe any more */
	bool started;			/* the command is */
	int job;			/* its pidfd; -1: not started, or there are no pidfds here */
	bool job_ended;
	bool news;			/* something of this has changed */
	struct family family;
	struct cgroup cgroup;		/* of the command, if it has one */
	int64_t ask_due, force_due;	/* when the family is to be asked to end, and ended (again); DEADLINE_NEVER */
	int64_t force_pause;		/* until it is ended again */
	bool orphans_ended;		/* nobody is left of the command of a me-only that was killed */
	bool ending;			/* it is to end, whether the lock is renewed or not */
	bool lost;
	bool told;			/* me-only was told so: the message is in its socket */
};

/* Prepares everything. Returns NULL or what is wrong, to be freed. */
char *session_open(struct session *session, const struct arguments *arguments);

/* Frees all that it has. Nothing is said or sent. To be called after session_open() in any case. */
void session_close(struct session *session);

/* Ends the lease, and our key with it, as far as that goes at once. */
void session_revoke(struct session *session);

/* The same, for good. */
void session_withdraw(struct session *session);

/* client->attend: takes in what me-only says, and ends the command if that is due. Returns whether a call is to be stopped. */
bool session_attend(void *session);

/* Chooses a new lease, and a key's name from it. Nothing is asked for yet. */
void session_new_place(struct session *session);

/* The request for that lease, and what follows from ANSWER, which is freed. Returns NULL, or what is wrong, to be freed. */
json_t *session_grant_request(struct session *session);
char *session_granted(struct session *session, struct answer *answer);

enum renewal { RENEWAL_DONE, RENEWAL_FAILED, RENEWAL_LOST };

/*
 * One attempt to renew the lease: a keepalive, and a linearizable read of our key at the same endpoint in the same term, for a leader
 * that has been replaced can go on to acknowledge a lease that is dead. The other key is read as well: if it has changed, so is said in
 * session->changed. TEXT, to be freed, says what was wrong.
 */
enum renewal session_renew(struct session *session, char **text);

/*
 * What the endpoints have said until LIMIT of their versions and clusters, if they were asked. An old version is warned about. Returns NULL,
 * or that they are of different clusters, to be freed.
 */
char *session_surveyed(struct session *session, int64_t limit);

/* How long after a renewal the next one is due. */
int64_t session_interval(const struct session *session);

/* So much time there has to be until the deadline when a command starts, and when its lease is renewed: then it can be tried again before it is asked to end. */
int64_t session_reserve(const struct session *session);

/* client->event: what the stream says. */
void session_event(void *session, json_t *result);

/*
 * Watches our key, and OTHER (NULL: none; taken), of which deletions are wanted and PUTS, from session->revision on. Of ours deletions are
 * wanted, and until we have the lock everything.
 */
void session_watch(struct session *session, struct keys *other, bool puts);

/* Now, on CLOCK_BOOTTIME; and in ms since 1970. */
int64_t session_now(void);
uint64_t session_clock(void);

/* Takes the lock. Returns whether it is held; if not, me-only has been told why. */
bool take(struct session *session);

/* Keeps the lock until it is given back or lost, and tells me-only. */
void hold(struct session *session);

#endif
