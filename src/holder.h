/* The holder of a lock: what can be seen of it, and the words for it. */
#ifndef HOLDER_H
#define HOLDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/message.h"

/* A holder that a lock service on the network names, on this host or another. NULL: not known. */
struct remote_holder {
	const char *host;
	const char *user;
	const char *command; /* its first argument; or what is known of one that is no me-only */
	bool other;	     /* the latter */
	bool kept;	     /* the command has ended, the lock is kept for a while (--hold-for) */
};

struct holder {
	pid_t pid; /* 0: hidden */
	uid_t uid; /* valid if uid_known, also when the pid is hidden */
	bool uid_known;
	unsigned slot;			    /* of several */
	unsigned slots;			    /* how many there are, if it has said that; else 0 */
	bool descendant;		    /* inherited the lock from a command that has ended */
	int64_t held;			    /* for how long, ns; -1: unknown */
	bool at_most;			    /* held is only the age of the process */
	const char *command;		    /* NULL: that of pid, looked up when it is printed */
	const char *hidden;		    /* why the pid is hidden */
	const struct remote_holder *remote; /* NULL: it is on this host. Else uid is valid only if
					       it is this user, by name, or root */
};

/*
 * Which of two that share a lock to name. Whether A: a stranger, or else the one that has held it
 * longer.
 */
bool holder_is_more_interesting(const struct holder *a, const struct holder *b);

enum holder_form {
	/* "held by pid 4242 (root) for 2h13m: /usr/local/bin/backup.sh --full" */
	HOLDER_HELD,
	/* "waiting for pid 4242 (root), 2h13m: /usr/local/bin/backup.sh --full" */
	HOLDER_AWAITED,
	/* the same, with long names of users and hosts cut, for a terminal */
	HOLDER_AWAITED_BRIEFLY,
	/* "ended pid 4242 (root) after 2h13m: /usr/local/bin/backup.sh --full" */
	HOLDER_ENDED,
	/* "replaced by pid 4711 (root): me-only --replace /tmp/sync sync.sh" */
	HOLDER_REPLACER
};

void holder_describe(const struct holder *holder, enum holder_form form, struct line *line);

/* Keeps the command line of HOLDER, as far as it fits, in TEXT of SIZE bytes: it may end. */
void holder_keep_command(struct holder *holder, char *text, size_t size);

/* "2 of 3 slots are in use, 1 is free" */
void holder_describe_slots(size_t used, size_t slots, struct line *line);

/* "pid 4242 (root) waits", "pid 4242 (root) and 2 others wait": of N in all. */
void holder_describe_waiter(const struct holder *waiter, unsigned n, struct line *line);

#endif
