#include "list/fleet.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/message.h"
#include "helper/engine.h"
#include "list/table.h"
#include "list/text.h"

enum {
	LOCK,
	STATE,
	MODE,
	SLOT,
	SLOTS,
	PLACE,
	PID,
	USER,
	HOST,
	SINCE,
	AGE,
	LEFT,
	TOKEN,
	COMMAND,
	COLUMNS
};

static const struct column columns[COLUMNS] = {
	[LOCK] = { .name = "LOCK", .part = 3 },
	[STATE] = { .name = "STATE" },
	[MODE] = { .name = "MODE" },
	[SLOT] = { .name = "SLOT", .kind = COLUMN_NUMBER, .right = true },
	[SLOTS] = { .name = "SLOTS", .kind = COLUMN_NUMBER, .json_only = true },
	[PLACE] = { .name = "PLACE", .kind = COLUMN_NUMBER, .right = true },
	[PID] = { .name = "PID", .kind = COLUMN_NUMBER, .right = true },
	[USER] = { .name = "USER" },
	[HOST] = { .name = "HOST" },
	[SINCE] = { .name = "SINCE", .kind = COLUMN_NUMBER },
	[AGE] = { .name = "AGE", .kind = COLUMN_NUMBER },
	[LEFT] = { .name = "LEFT", .kind = COLUMN_NUMBER, .right = true },
	[TOKEN] = { .name = "TOKEN", .kind = COLUMN_NUMBER, .json_only = true },
	[COMMAND] = { .name = "COMMAND", .cut = true },
};

struct answer {
	struct table *table;
	bool json;
	size_t n, held, place;
	bool mixed;	   /* one of the holders does not hold a slot */
	unsigned slots;	   /* of the first holder of a slot */
	char *name;	   /* of the lock that the last one was of */
	struct line first; /* its holders, in words that are escaped already, with a NUL */
};

static char *escaped(const char *text)
{
	return text ? text_escaped(text, strlen(text)) : NULL;
}

static char *lock_cell(const char *name)
{
	static const char prefix[] = "etcd:";
	char *safe = escaped(name ? name : ""), *cell = memory_get(sizeof prefix + strlen(safe));

	stpcpy(stpcpy(cell, prefix), safe);
	free(safe);
	return cell;
}

/* A new lock begins. */
static void begin(struct answer *answer, const char *name)
{
	if (answer->name && name && !strcmp(answer->name, name))
		return;
	free(answer->name);
	answer->name = memory_string(name);
	answer->place = 0;
}

static void add(void *argument, const struct lock_told *told)
{
	struct answer *answer = argument;
	const struct remote_holder *remote = told->holder.remote;
	const bool waits = told->state && !strcmp(told->state, "waiting"),
		   slots = told->mode && !strcmp(told->mode, "slots");
	const bool json = answer->json;
	char *cells[COLUMNS] = { NULL };

	begin(answer, told->name);
	cells[LOCK] = lock_cell(told->name);
	cells[STATE] = escaped(told->state);
	cells[MODE] = escaped(told->mode);
	cells[SLOT] = slots && !waits ? text_number(told->holder.slot) : NULL;
	cells[SLOTS] = slots ? text_number(told->slots) : NULL;
	cells[PLACE] = waits ? text_number(++answer->place) : NULL;
	cells[PID] = told->holder.pid ? text_number((uint64_t)told->holder.pid) : NULL;
	cells[USER] = escaped(remote->user);
	cells[HOST] = escaped(remote->host);
	cells[LEFT] = told->left < 0 ? NULL
		      : json	     ? text_seconds(told->left)
				     : text_age(told->left, false);
	cells[TOKEN] = told->token ? text_number(told->token) : NULL;
	cells[COMMAND] = remote->other && !json ? text_in_parentheses(remote->command)
						: escaped(remote->command);
	if (told->since >= 0) {
		cells[SINCE] = json ? text_seconds(told->since) : text_day_or_time(told->since);
		cells[AGE] =
			json ? text_seconds(told->holder.held) : text_age(told->holder.held, false);
	}
	if (answer->held == 0 && !waits) {
		holder_describe(&told->holder, false, &answer->first);
		answer->first.text[answer->first.length] = 0;
	}
	if (answer->slots == 0 && slots && !waits)
		answer->slots = told->slots;
	answer->mixed = answer->mixed || (!slots && !waits);
	answer->held += !waits;
	answer->n++;
	table_add(answer->table, cells);
}

/* The first line of --who. */
static char *sentence(const struct lock *lock, const struct answer *answer)
{
	static const char ours[] = "me-only: ";
	struct line line;

	line_begin_about(&line, lock->spec);
	if (answer->slots > 1 && !answer->mixed) {
		line_number(&line, answer->held);
		line_add(&line, " of ");
		line_number(&line, answer->slots);
		line_add(&line, " slots are in use");
	} else if (answer->held > 0) {
		if (answer->held > 1) {
			line_add(&line, answer->slots ? "in use by " : "shared by ");
			line_number(&line, answer->held);
			line_add(&line, ", ");
		}
		line_add(&line, answer->first.text);
	} else {
		line_add(&line, "free");
	}
	line.text[line.length++] = '\n';
	return memory_text(line.text + sizeof ours - 1, line.length - (sizeof ours - 1));
}

int fleet(struct lock *lock, bool who, const char *program, bool json, char **text, bool *held)
{
	struct answer answer = { .table = table_new(who ? "who" : "locks", columns, COLUMNS, json),
				 .json = json };
	int r = helper_ask(lock, who ? "who" : "list", program, add, &answer);
	char *table = table_finish(answer.table);

	*held = who && answer.held > 0;
	if (r == 0 && who && !json) {
		char *first = sentence(lock, &answer);

		*text = memory_get(strlen(first) + strlen(table) + 1);
		stpcpy(stpcpy(*text, first), answer.n > 0 ? table : "");
		free(first);
		free(table);
	} else {
		*text = table;
	}
	free(answer.name);
	return r;
}
