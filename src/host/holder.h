/*
 * Who holds a host lock: what the kernel says about its socket, what the holder says in its
 * greeting, what /proc shows.
 *
 * An inquiry is made in two steps, so that a list of locks can ask all holders before it waits for
 * any of them.
 */
#ifndef HOST_HOLDER_H
#define HOST_HOLDER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "holder.h"
#include "host/address.h"
#include "host/socket-table.h"
#include "lock.h"

/* The process that listened last on the socket at the other end of a connection. */
struct host_peer {
	struct ucred cred; /* as it was when it listened; pid 0: of another pid namespace */
	enum {
		PEER_DEAD,
		PEER_ALIVE,
		PEER_UNKNOWN
	} life; /* whether that very process still lives */
};

/* Fills PEER in for the connection FD. Returns 0 or a negative errno. */
int host_peer_read(int fd, struct host_peer *peer);

/*
 * A pidfd of the process that listened last at the other end of FD, or a negative errno: before
 * Linux 6.5 there is none to have.
 */
int host_peer_pidfd(int fd);

/*
 * What a holder says to who connects; the whole name of the lock follows. All in the order of the
 * machine's bytes. docs/protocol.md promises it to other programs.
 */
struct host_greeting {
	char magic[8];	/* HOST_GREETING_MAGIC, without its NUL */
	int64_t held;	/* nanoseconds */
	uint32_t job;	/* pid of the command, in the holder's pid namespace */
	uint32_t slots; /* as the holder was told */
	uint32_t name_length;
	uint32_t unused;
};

#define HOST_GREETING_MAGIC "me-only2"

/* How long, in ms, a holder may take to greet before it is taken for one that does not. */
#define HOST_GREETING_MS 200

struct host_inquiry {
	int fd;		       /* the connection; negative errno: there is none */
	struct host_peer peer; /* valid if there is a connection */
};

/* Where to look for what the holder itself does not tell. */
struct host_sources {
	/* As socket_table_find(). */
	int (*find_socket)(const struct host_sources *sources, const struct host_address *address,
			   struct socket_entry *entry);
	/* As process_find_socket(). */
	pid_t (*find_process)(const struct host_sources *sources, uint32_t inode, bool *own_kind);
};

/* The kernel's own tables, read anew each time. */
extern const struct host_sources host_kernel;

/*
 * Whether PID, or the process that started it (a wrapper), is seen to have the socket of the lock
 * at ADDRESS.
 */
bool host_is_proved_holder(const struct host_address *address, const struct host_sources *sources,
			   pid_t pid);

/* Whether the socket that is bound to ADDRESS is this user's or root's. */
bool host_is_trusted(const struct host_address *address);

/* The same without the kernel's table: by the process that listened last, who must listen still. */
bool host_peer_is_trusted(const struct host_address *address);

/* As lock_engine.find_job(). */
int host_find_job(const struct lock *lock, struct lock_job *job);

/* Connects to the holder of the lock at ADDRESS. Fails only in what INQUIRY says. */
void host_inquire(struct host_inquiry *inquiry, const struct host_address *address);

/*
 * Whether a greeting that is to be believed may come on inquiry->fd: only this user's and root's
 * count.
 */
bool host_may_be_greeted(const struct host_inquiry *inquiry);

/* Says in HOLDER what is known, without waiting for anything, and ends the inquiry. */
void host_conclude(struct host_inquiry *inquiry, const struct host_address *address,
		   const struct host_sources *sources, struct holder *holder);

/*
 * All of it for one lock, with the kernel's own tables as sources, which are read only if THOROUGH:
 * where there are thousands of sockets and processes that takes milliseconds. Waits for a greeting
 * until DEADLINE, or until a descriptor in LOCK->heed is ready.
 */
void host_find_holder(const struct host_address *address, struct holder *holder, bool thorough,
		      int64_t deadline, const struct lock *lock);

#endif
