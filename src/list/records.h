/*
 * What --who and --list know, as records of one form for all kinds of locks: a process that holds
 * or waits, or (--list) a lock with its holder. The JSON has all fields, a table some of them.
 */
#ifndef LIST_RECORDS_H
#define LIST_RECORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "holder.h"

struct record {
	const char *lock; /* as it has to be written, escaped; NULL: that of records_new() */
	const char *role;
	const char *state; /* of the lock, for this process; NULL: it holds it or waits */
	char process;	   /* its state, as /proc has it; 0: not known */
	const char *mode;
	int slot;	/* -1: none, or not known */
	unsigned slots; /* 0: none, or not known */
	size_t place;	/* 0: none, or not known */
	pid_t pid;	/* 0: hidden */
	uid_t uid;	/* SOCKET_UID_UNKNOWN: not known */
	bool remote; /* user, host and command are what others have said; else they are looked up */
	const char *user; /* escaped, as the next two; NULL: not known */
	const char *host;
	int64_t age; /* ns; -1: not known */
	int64_t at;  /* when that was its age: CLOCK_REALTIME, ns */
	bool at_most;
	int64_t left;	 /* ns; -1: it has no end */
	int64_t waiters; /* -1: not known */
	uint64_t token;	 /* 0: none */
	const char *command;
	bool other; /* the command tells what is known of another program */
	const char *hidden;
};

/* What is printed as text. */
enum form {
	FORM_WHO,
	FORM_LIST,
	FORM_FLEET_WHO,
	FORM_FLEET_LIST
};

struct records;

/* No records yet; of the one LOCK, escaped, which stays the caller's, or NULL. */
struct records *records_new(enum form form, const char *lock, bool json);

/* A record of ROLE for PID, of which nothing else is known. */
struct record record_of(const char *role, pid_t pid);

/* Says in RECORD what is known of the HOLDER of a lock on this host at the time AT. */
void record_holder(struct record *record, const struct holder *holder, int64_t at);

/* The same for the SLOT of a host lock that HOLDER has. */
void record_slots(struct record *record, const struct holder *holder, unsigned slot);

/* Adds to RECORD what /proc says of record->pid. Returns whether it is there. */
bool record_describe(struct record *record);

/* Adds RECORD, whose strings are copied. */
void records_add(struct records *records, const struct record *record);

/* How many there are. */
size_t records_count(const struct records *records);

/* WAITERS wait for the locks of all records from FIRST on. */
void records_set_waiters(struct records *records, size_t first, size_t waiters);

/* Sorts them by their locks. */
void records_sort(struct records *records);

/*
 * The whole answer, to be freed: JSON with the array NAME, or the SENTENCE, unless that is NULL,
 * and a table. Frees RECORDS.
 */
char *records_finish(struct records *records, const char *name, const struct line *sentence);

#endif
