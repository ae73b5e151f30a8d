/*
 * state FILE: writes to FILE ("-": standard output) what this process was started with, one "key: value" a line.
 *
 * Descriptors are looked at first, while no file of ours is open. The kernel's own view in /proc is read where the C
 * library would hide something, as it does with signals 32 and 33.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST_DESCRIPTORS = 1024 };

static char *descriptors[MOST_DESCRIPTORS];

/* Remembers the flags, the offset and the target of every open descriptor. */
static void look_at_descriptors(void)
{
	for (int fd = 0; fd < MOST_DESCRIPTORS; fd++) {
		char link[40], target[4096];
		int flags = fcntl(fd, F_GETFL);
		if (flags < 0)
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
		ssize_t length = readlink(link, target, sizeof target - 1);
		target[length < 0 ? 0 : length] = '\0';
		if (asprintf(&descriptors[fd], "%s flags %o offset %lld", target, (unsigned)flags,
			     (long long)lseek(fd, 0, SEEK_CUR)) < 0)
			abort();
	}
}

/* Copies the lines of a file in /proc whose key is listed in KEYS (each followed by a colon); all if KEYS is NULL. */
static void copy_lines(FILE *out, const char *path, const char *keys)
{
	char line[4096], key[64];
	FILE *in = fopen(path, "re");
	if (!in) {
		fprintf(out, "%s: %s\n", path, strerror(errno));
		return;
	}
	while (fgets(line, sizeof line, in)) {
		if (!keys)
			fprintf(out, "%s: %s", path, line);
		else if (sscanf(line, "%60[^:]", key) == 1 && strstr(keys, strcat(key, ":")))
			fputs(line, out);
	}
	fclose(in);
}

static void write_identity(FILE *out)
{
	char path[4096];
	FILE *stat = fopen("/proc/self/stat", "re");
	int pgrp, session, tty, foreground;
	if (!stat || fscanf(stat, "%*d (state) %*c %*d %d %d %d %d", &pgrp, &session, &tty, &foreground) != 4)
		abort();
	fclose(stat);
	fprintf(out, "process group: %d\nsession: %d\nterminal: %d\nforeground group: %d\n", pgrp, session, tty,
		foreground);
	fprintf(out, "working directory: %s\n", getcwd(path, sizeof path) ? path : strerror(errno));
}

static void write_limits(FILE *out)
{
	for (int which = 0; which < RLIMIT_NLIMITS; which++) {
		struct rlimit limit;
		if (getrlimit(which, &limit) == 0)
			fprintf(out, "limit %d: %llu %llu\n", which, (unsigned long long)limit.rlim_cur,
				(unsigned long long)limit.rlim_max);
	}
}

static void write_priority(FILE *out)
{
	struct sched_param parameter = {0};
	cpu_set_t processors;
	CPU_ZERO(&processors);
	sched_getparam(0, &parameter);
	sched_getaffinity(0, sizeof processors, &processors);
	fprintf(out, "nice: %d\n", getpriority(PRIO_PROCESS, 0));
	fprintf(out, "scheduler: %d %d\n", sched_getscheduler(0), parameter.sched_priority);
	fprintf(out, "processors: %d\n", CPU_COUNT(&processors));
	fprintf(out, "disk priority: %ld\n", syscall(SYS_ioprio_get, 1, 0));
}

static void write_process_settings(FILE *out)
{
	int death = -1, reaper = -1;
	prctl(PR_GET_PDEATHSIG, &death);
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	fprintf(out, "death signal: %d\nsubreaper: %d\n", death, reaper);
	fprintf(out, "dumpable: %d\n", prctl(PR_GET_DUMPABLE));
	fprintf(out, "timer slack: %d\n", prctl(PR_GET_TIMERSLACK));
	fprintf(out, "personality: %d\n", personality(0xffffffff));
	fprintf(out, "secure bits: %d\n", prctl(PR_GET_SECUREBITS));
}

int main(int count, char **arguments)
{
	if (count != 2)
		return 2;
	look_at_descriptors();
	FILE *out = strcmp(arguments[1], "-") ? fopen(arguments[1], "we") : stdout;
	if (!out)
		return 1;
	for (int fd = 0; fd < MOST_DESCRIPTORS; fd++)
		if (descriptors[fd])
			fprintf(out, "descriptor %d: %s\n", fd, descriptors[fd]);
	copy_lines(out, "/proc/self/status",
		   "SigPnd:ShdPnd:SigBlk:SigIgn:Umask:Uid:Gid:Groups:CapInh:CapPrm:CapEff:CapBnd:CapAmb:NoNewPrivs:"
		   "Seccomp:THP_enabled:");
	copy_lines(out, "/proc/self/oom_score_adj", NULL);
	copy_lines(out, "/proc/self/coredump_filter", NULL);
	copy_lines(out, "/proc/self/cgroup", NULL);
	write_identity(out);
	write_limits(out);
	write_priority(out);
	write_process_settings(out);
	return fclose(out) ? 1 : 0;
}
