#include "list/rows.h"

#include <stdlib.h>
#include <string.h>
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
	SLOT,
	PLACE,
	PID,
	USER,
	UID,
	STATE,
	SINCE,
	AGE,
	AT_MOST,
	COMMAND,
	HIDDEN,
	COLUMNS
};

static const struct column all_columns[COLUMNS] = {
	[LOCK] = { .name = "LOCK", .json_only = true },
	[ROLE] = { .name = "ROLE" },
	[SLOT] = { .name = "SLOT", .kind = COLUMN_NUMBER, .right = true },
	[PLACE] = { .name = "PLACE", .kind = COLUMN_NUMBER, .right = true },
	[PID] = { .name = "PID", .kind = COLUMN_NUMBER, .right = true },
	[USER] = { .name = "USER" },
	[UID] = { .name = "UID", .kind = COLUMN_NUMBER, .json_only = true },
	[STATE] = { .name = "STATE" },
	[SINCE] = { .name = "SINCE", .kind = COLUMN_NUMBER },
	[AGE] = { .name = "AGE", .kind = COLUMN_NUMBER },
	[AT_MOST] = { .name = "AT_MOST", .kind = COLUMN_TRUTH, .json_only = true },
	[COMMAND] = { .name = "COMMAND", .cut = true },
	[HIDDEN] = { .name = "HIDDEN", .json_only = true },
};

struct rows {
	struct table *table;
	struct column columns[COLUMNS];
	const char *name;
	bool json;
	size_t n;
};

struct rows *rows_new(const char *name, bool slots, bool json)
{
	struct rows *rows = memory_get(sizeof *rows);

	memcpy(rows->columns, all_columns, sizeof all_columns);
	rows->columns[SLOT].json_only = !slots;
	rows->table = table_new("who", rows->columns, COLUMNS, json);
	rows->name = name;
	rows->json = json;
	return rows;
}

static char *user_cell(uid_t uid, bool json)
{
	char *name = uid == SOCKET_UID_UNKNOWN ? NULL : text_user(uid);

	return name || json || uid == SOCKET_UID_UNKNOWN ? name : text_number(uid);
}

void rows_add(struct rows *rows, const struct row *row)
{
	bool json = rows->json;
	char *cells[COLUMNS] = {
		[LOCK] = memory_string(rows->name),
		[ROLE] = memory_string(row->role),
		[SLOT] = row->slot >= 0 ? text_number((uint64_t)row->slot) : NULL,
		[PLACE] = row->place ? text_number(row->place) : NULL,
		[PID] = row->pid ? text_number((uint64_t)row->pid) : NULL,
		[USER] = user_cell(row->uid, json),
		[UID] = row->uid == SOCKET_UID_UNKNOWN ? NULL : text_number(row->uid),
		[STATE] = memory_string(text_state(row->state)),
		[AT_MOST] = memory_string(row->at_most ? "1" : "0"),
		[COMMAND] = row->pid ? text_command(row->pid, row->uid) : NULL,
		[HIDDEN] = memory_string(row->hidden),
	};

	if (row->age >= 0) {
		cells[SINCE] =
			json ? text_seconds(row->at - row->age) : text_time(row->at - row->age);
		cells[AGE] = json ? text_seconds(row->age) : text_age(row->age, row->at_most);
	}
	/* In a table, the reason why a process is hidden takes the place of its command. */
	if (!json && row->hidden && !cells[COMMAND])
		cells[COMMAND] = text_in_parentheses(row->hidden);
	table_add(rows->table, cells);
	rows->n++;
}

struct row row_of(const char *role, pid_t pid)
{
	return (struct row){
		.role = role, .slot = -1, .pid = pid, .uid = SOCKET_UID_UNKNOWN, .age = -1
	};
}

bool row_describe(struct row *row)
{
	struct process process;
	uid_t uid;

	if (process_read(row->pid, &process))
		return false;
	row->state = process.state;
	if (row->age < 0) {
		row->age = process.age;
		row->at = clock_now(CLOCK_REALTIME);
		row->at_most = true;
	}
	if (row->uid == SOCKET_UID_UNKNOWN && process_user(row->pid, &uid) == 0)
		row->uid = uid;
	return true;
}

char *rows_finish(struct rows *rows, const char *before)
{
	char *text = table_finish(rows->table), *all;

	if (!rows->json) {
		all = memory_get(strlen(before) + strlen(text) + 1);
		stpcpy(stpcpy(all, before), rows->n ? text : "");
		free(text);
		text = all;
	}
	free(rows);
	return text;
}
