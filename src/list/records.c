#include "list/records.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/process.h"
#include "host/socket-table.h"
#include "list/table.h"
#include "list/text.h"

enum {
	LOCK,
	ROLE,
	STATE,
	PROCESS,
	MODE,
	SLOT,
	SLOTS,
	PLACE,
	PID,
	USER,
	UID,
	HOST,
	SINCE,
	AGE,
	AT_MOST,
	LEFT,
	WAITERS,
	TOKEN,
	COMMAND,
	HIDDEN,
	COLUMNS
};

static const struct column columns[COLUMNS] = {
	[LOCK] = { "lock", "LOCK", COLUMN_TEXT, false, NULL },
	[ROLE] = { "role", "ROLE", COLUMN_TEXT, false, NULL },
	[STATE] = { "state", "STATE", COLUMN_TEXT, false, NULL },
	[PROCESS] = { "process", "STATE", COLUMN_TEXT, false, NULL },
	[MODE] = { "mode", "MODE", COLUMN_TEXT, false, "exclusive" },
	[SLOT] = { "slot", "SLOT", COLUMN_NUMBER, true, "0" },
	[SLOTS] = { "slots", "SLOTS", COLUMN_NUMBER, true, NULL },
	[PLACE] = { "place", "PLACE", COLUMN_NUMBER, true, "" },
	[PID] = { "pid", "PID", COLUMN_NUMBER, true, NULL },
	[USER] = { "user", "USER", COLUMN_TEXT, false, NULL },
	[UID] = { "uid", "UID", COLUMN_NUMBER, true, NULL },
	[HOST] = { "host", "HOST", COLUMN_TEXT, false, NULL },
	[SINCE] = { "since", "SINCE", COLUMN_NUMBER, false, NULL },
	[AGE] = { "age", "AGE", COLUMN_NUMBER, false, NULL },
	[AT_MOST] = { "at_most", "AT_MOST", COLUMN_TRUTH, false, NULL },
	[LEFT] = { "left", "LEFT", COLUMN_NUMBER, true, "" },
	[WAITERS] = { "waiters", "WAITERS", COLUMN_NUMBER, true, "0" },
	[TOKEN] = { "token", "TOKEN", COLUMN_NUMBER, true, NULL },
	[COMMAND] = { "command", "COMMAND", COLUMN_TEXT, false, NULL },
	[HIDDEN] = { "hidden", "HIDDEN", COLUMN_TEXT, false, NULL },
};

/* A form has at most so many columns. */
#define MOST_SHOWN 12

/*
 * Where there is no room: first what is known by its beginning. AGE tells what SINCE tells, and the
 * sentence of --who names the lock.
 */
#define GIVES \
	{ COMMAND, 24 }, { LOCK, 26 }, { USER, 12 }, { HOST, 16 }, { COMMAND, 16 }, { SINCE, 0 }, \
		{ LOCK, 16 }, { LEFT, 0 }, { HOST, 10 }, { USER, 8 }, { COMMAND, 10 }, \
		{ MODE, 0 }, { COMMAND, 7 }, { LOCK, 8 }, \
	{ \
		COMMAND, SIZE_MAX \
	}

static const struct give gives[] = { { LOCK, 0 }, GIVES }, list_gives[] = { GIVES };

#define FLEET { LOCK, STATE, MODE, SLOT, PLACE, PID, USER, HOST, SINCE, AGE, LEFT, COMMAND }, 12

static const struct {
	size_t shown[MOST_SHOWN], n;
	const struct give *give;
} forms[] = {
	[FORM_WHO] = { { ROLE, SLOT, PLACE, PID, USER, PROCESS, SINCE, AGE, COMMAND }, 9, gives },
	[FORM_LIST] = { { LOCK, STATE, PID, USER, SINCE, AGE, SLOT, WAITERS, COMMAND },
			9,
			list_gives },
	[FORM_FLEET_WHO] = { FLEET, gives },
	[FORM_FLEET_LIST] = { FLEET, list_gives },
};

struct records {
	struct table *table;
	enum form form;
	const char *lock;
	bool json;
	char *host; /* this one, escaped */
};

struct records *records_new(enum form form, const char *lock, bool json)
{
	struct records *records = memory_get(sizeof *records);
	struct utsname system;

	*records = (struct records){ table_new(columns, COLUMNS), form, lock, json, NULL };
	if (uname(&system) == 0)
		records->host = text_escaped(system.nodename, strlen(system.nodename));
	return records;
}

struct record record_of(const char *role, pid_t pid)
{
	return (struct record){ .role = role,
				.slot = -1,
				.pid = pid,
				.uid = SOCKET_UID_UNKNOWN,
				.age = -1,
				.left = -1,
				.waiters = -1 };
}

void record_holder(struct record *record, const struct holder *holder, int64_t at)
{
	record->age = holder->held;
	record->at = at;
	record->at_most = holder->at_most;
	record->uid = holder->uid_known ? holder->uid : SOCKET_UID_UNKNOWN;
	record->state = holder->descendant ? "inherited" : NULL;
	if (holder->pid == 0)
		record->hidden = holder->hidden;
}

void record_slots(struct record *record, const struct holder *holder, unsigned slot)
{
	record->slot = (int)slot;
	record->slots = holder->slots > 1 ? holder->slots : 0;
	/* A holder that does not greet does not tell how many slots it was given. */
	record->mode = holder->slots > 1 || slot > 0 ? "slots"
		       : holder->slots == 1	     ? "exclusive"
						     : NULL;
}

bool record_describe(struct record *record)
{
	struct process process;
	uid_t uid;

	if (process_read(record->pid, &process))
		return false;
	record->process = process.state;
	if (record->age < 0) {
		record->age = process.age;
		record->at = clock_now(CLOCK_REALTIME);
		record->at_most = true;
	}
	if (record->uid == SOCKET_UID_UNKNOWN && process_user(record->pid, &uid) == 0)
		record->uid = uid;
	return true;
}

static const char *state_of(const struct record *record)
{
	if (record->state)
		return record->state;
	if (record->process == 'T')
		return "stopped";
	if (record->role && !strcmp(record->role, "waiter"))
		return "waiting";
	return record->pid == 0 ? "hidden" : "held";
}

static char *user_of(const struct record *record, bool json)
{
	char *name = record->remote			 ? memory_string(record->user)
		     : record->uid == SOCKET_UID_UNKNOWN ? NULL
							 : text_user(record->uid);

	return name || json || record->uid == SOCKET_UID_UNKNOWN ? name : text_number(record->uid);
}

/* In a table the reason why a process is hidden stands where its command would. */
static char *command_of(const struct record *record, bool json)
{
	char *command = record->remote ? memory_string(record->command)
			: record->pid  ? text_command(record->pid, record->uid)
				       : NULL;
	const char *known = record->other ? command : command ? NULL : record->hidden;

	if (!json && known) {
		char *shown = text_in_parentheses(known);

		free(command);
		command = shown;
	}
	return command;
}

static char *number(uint64_t n, bool known)
{
	return known ? text_number(n) : NULL;
}

static char *time_left(const struct record *record, bool json)
{
	if (record->left < 0)
		return NULL;
	return json ? text_seconds(record->left) : text_age(record->left, false);
}

void records_add(struct records *records, const struct record *r)
{
	const bool json = records->json, aged = r->age >= 0;
	char *cells[COLUMNS] = {
		[LOCK] = memory_string(r->lock ? r->lock : records->lock),
		[ROLE] = memory_string(r->role),
		[STATE] = memory_string(state_of(r)),
		[PROCESS] = memory_string(text_state(r->process)),
		[MODE] = memory_string(r->mode),
		[SLOT] = number((uint64_t)r->slot, r->slot >= 0),
		[SLOTS] = number(r->slots, r->slots > 0),
		[PLACE] = number(r->place, r->place > 0),
		[PID] = number((uint64_t)r->pid, r->pid > 0),
		[USER] = user_of(r, json),
		[UID] = number(r->uid, r->uid != SOCKET_UID_UNKNOWN),
		[HOST] = memory_string(r->remote ? r->host : records->host),
		[AT_MOST] = aged ? memory_string(r->at_most ? "true" : "false") : NULL,
		[LEFT] = time_left(r, json),
		[WAITERS] = number((uint64_t)r->waiters, r->waiters >= 0),
		[TOKEN] = number(r->token, r->token > 0),
		[COMMAND] = command_of(r, json),
		[HIDDEN] = memory_string(r->hidden),
	};

	if (aged) {
		cells[SINCE] =
			json ? text_seconds(r->at - r->age) : text_day_or_time(r->at - r->age);
		cells[AGE] = json ? text_seconds(r->age) : text_age(r->age, r->at_most);
	}
	table_add(records->table, cells);
}

size_t records_count(const struct records *records)
{
	return table_rows(records->table);
}

void records_set_waiters(struct records *records, size_t first, size_t waiters)
{
	for (size_t i = first; i < table_rows(records->table); i++)
		table_set(records->table, i, WAITERS, text_number(waiters));
}

void records_sort(struct records *records)
{
	table_sort(records->table, LOCK);
}

/* The sentence without what it begins with on standard error, in lines that fit. */
static char *sentence_text(const struct line *sentence, size_t width)
{
	static const char ours[] = "me-only: ";
	char *text = text_printable(memory_text(sentence->text + sizeof ours - 1,
						sentence->length - (sizeof ours - 1)));

	return width ? text_wrapped(text, width) : text;
}

char *records_finish(struct records *records, const char *name, const struct line *sentence)
{
	char *text, *before, *table;
	size_t width = table_width();

	if (records->json) {
		text = table_json(records->table, name);
	} else {
		before = sentence ? sentence_text(sentence, width) : memory_string("");
		table = table_text(records->table, forms[records->form].shown,
				   forms[records->form].n, forms[records->form].give, width);
		text = memory_format("%s%s%s", before, sentence ? "\n" : "", table);
		free(before);
		free(table);
	}
	table_free(records->table);
	free(records->host);
	free(records);
	return text;
}
