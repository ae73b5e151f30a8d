/* What can be seen of this host's locks at one moment, for --who and --list. */
#ifndef LIST_VIEW_H
#define LIST_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/statx.h"
#include "host/holder.h"
#include "list/processes.h"
#include "list/sockets.h"

struct view {
	struct host_sources sources; /* first: host_conclude() passes it back to us */
	const char *program;	     /* the file of the me-only that started us */
	struct statx program_file;
	int program_failed; /* 0, or why that is not known */
	struct sockets sockets;
	struct processes processes; /* filled in by view_look() */
	struct sockets later; /* the table once more, after that; filled in by view_still_has() */
	bool looked_again;
	bool concluded; /* LATER was read after that */
};

/* What is known of one lock and its holder. */
struct seen_lock {
	const struct host_address *address; /* of the lock, that is, of its first slot */
	struct host_address slot_address;
	const struct unix_socket *socket;
	struct host_inquiry inquiry;
	struct holder holder;
	bool may_greet;
	int64_t at;	/* CLOCK_REALTIME, ns: the time of holder.held */
	int connecting; /* 0, or the negative errno with which that failed */
	char *name;	/* as the greeting says, if that is proved; to be freed */
};

/*
 * Reads the table of sockets. PROGRAM stays the caller's. Returns 0 or a negative errno; VIEW is to
 * be freed in any case.
 */
int view_read(struct view *view, const char *program);

void view_free(struct view *view);

/* Finds the processes that have the sockets, if that is not known yet. */
const struct processes *view_look(struct view *view);

/*
 * Whether the socket INODE still exists: one without a visible process may have gone since, or its
 * process is hidden.
 */
bool view_still_has(struct view *view, uint32_t inode);

/*
 * Whether LOCK has the same holder still: as the table is from now on, which is read once for all
 * that are asked about. To be called after all of them are concluded.
 */
bool view_is_as_it_was(struct view *view, const struct seen_lock *lock);

/* Whether PID runs the program: 1, 0, or a negative errno (it may not be seen). */
int view_is_me_only(const struct view *view, pid_t pid);

/* Fills in what is known of the lock or slot that SOCKET is bound to. */
struct seen_lock view_lock(const struct unix_socket *socket);

/* Connects to the holder, if that disturbs nobody. */
void view_inquire(struct view *view, struct seen_lock *lock);

/* Waits for the greeting of one holder until DEADLINE, and takes the name of the lock from it. */
void view_hear(const struct view *view, struct seen_lock *lock, int64_t deadline);

/* Fills lock->holder in with what is known. */
void view_conclude(struct view *view, struct seen_lock *lock);

#endif
