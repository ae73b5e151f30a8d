/* me-only at the other end of the socket, and its command: what every helper does about them. */
#ifndef HELPER_CONTROL_H
#define HELPER_CONTROL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "helper/cgroup.h"
#include "helper/descendants.h"
#include "helper/packets.h"

/* Times are CLOCK_BOOTTIME, ns. */
struct control {
	bool orphaned;	  /* me-only is gone */
	bool done;	  /* it has reported the end of the command */
	bool unused;	  /* and that it could not be run */
	bool pipe_closed; /* no process has the lock pipe any more */
	bool started;	  /* the command is */
	int job;	  /* its pidfd; -1: not started, or there are no pidfds here */
	bool job_ended;
	bool alone; /* me-only has no end of the pipe: the command's end needs no word from it */
	bool news;  /* something of this has changed; the caller clears it */
	struct descendants descendants;
	struct cgroup cgroup;	    /* of the command, if it has one */
	int64_t ask_due, force_due; /* when SIGTERM and SIGKILL are; DEADLINE_NEVER */
	int64_t force_pause;	    /* until the next SIGKILL */
	bool ending;		    /* the command has to end even if the lock is renewed */
	bool orphans_ended; /* nothing is left of the command of a me-only that was killed */
};

/* ME_ONLY is its pid; PIPE the inode of the lock pipe. */
void control_open(struct control *control, pid_t me_only, uint64_t pipe);

/* Reads what me-only has sent. */
void control_hear(struct control *control);

/* Looks whether the command has ended and its pipe is closed; ends the command if due. */
void control_tend(struct control *control);

/* The lock is safe until DEADLINE, unless the command is ending already. */
void control_keep_until(struct control *control, int64_t deadline, int64_t kill_after);

/* The lock is lost: the command must be gone by END. */
void control_lose(struct control *control, int64_t end, int64_t kill_after);

/* Kills what is left of the command of a me-only that was killed. */
void control_end_orphans(struct control *control, int64_t deadline, int64_t kill_after);

/* Whether nothing runs under the lock any more. */
bool control_is_over(const struct control *control);

#endif
