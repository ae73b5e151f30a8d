/*
 * A control group (v2) of the command. Where one is delegated to us (systemd's Delegate=yes),
 * everything that descends from the command can be killed at once, even when me-only was killed and
 * is no longer the ancestor of processes that got away.
 */
#ifndef HELPER_CGROUP_H
#define HELPER_CGROUP_H

#include <limits.h>
#include <stdbool.h>

struct cgroup {
	char path[PATH_MAX]; /* its directory; "": there is none */
};

/* Checks whether ours is delegated to us, and where the command's own would be. */
void cgroup_find(struct cgroup *cgroup);

/* Creates it if possible; else there is none. */
void cgroup_make(struct cgroup *cgroup);

/* Moves the calling process into it, with all that it starts later. */
void cgroup_enter(const struct cgroup *cgroup);

/* Kills everything in it. */
void cgroup_kill(const struct cgroup *cgroup);

/* Removes it once it is empty. */
void cgroup_remove(struct cgroup *cgroup);

#endif
