#include "list/fleet.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/deadline.h"
#include "base/memory.h"
#include "base/message.h"
#include "helper/engine.h"
#include "list/records.h"
#include "list/text.h"

struct answer {
	struct records *records;
	const char *prefix; /* of the lock's engine */
	size_t held, place;
	size_t lock;	   /* the first record of the lock that the last one was of */
	bool mixed;	   /* one of those that hold it does not hold one of several */
	unsigned slots;	   /* of the first that holds one of several */
	unsigned limit;	   /* the least number of slots that any of them wants */
	bool waits;	   /* somebody waits */
	char *name;	   /* of the lock that the last one was of */
	struct line first; /* its holders, in words that are escaped already, with a NUL */
};

static char *escaped(const char *text)
{
	return text ? text_escaped(text, strlen(text)) : NULL;
}

static char *lock_cell(const char *prefix, const char *name)
{
	char *safe = escaped(name ? name : ""), *cell = memory_format("%s:%s", prefix, safe);

	free(safe);
	return cell;
}

/* All records of a lock are there. */
static void end(struct answer *answer)
{
	records_set_waiters(answer->records, answer->lock, answer->place);
	answer->lock = records_count(answer->records);
}

/* A lock begins, unless it is the same one. */
static void begin(struct answer *answer, const char *name)
{
	if (answer->name && name && !strcmp(answer->name, name))
		return;
	end(answer);
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
	struct record record = record_of(waits		 ? "waiter"
					 : remote->other ? NULL
							 : "wrapper",
					 told->holder.pid);

	char *name = lock_cell(answer->prefix, told->name), *user = escaped(remote->user),
	     *host = escaped(remote->host), *command = escaped(remote->command);

	begin(answer, told->name);
	record.remote = true;
	record.lock = name;
	record.state = told->state;
	record.mode = told->mode;
	record.slot = waits ? -1 : slots ? (int)told->holder.slot : 0;
	record.slots = slots ? told->slots : 0;
	record.place = waits ? ++answer->place : 0;
	record.user = user;
	record.host = host;
	record.left = told->left;
	record.token = told->token;
	record.command = command;
	record.other = remote->other;
	if (told->since >= 0) {
		record.age = told->holder.held;
		record.at = told->since + record.age;
	}
	records_add(answer->records, &record);
	free(name);
	free(user);
	free(host);
	free(command);
	if (answer->held == 0 && !waits) {
		holder_describe(&told->holder, HOLDER_HELD, &answer->first);
		answer->first.text[answer->first.length] = 0;
	}
	if (answer->slots == 0 && slots && !waits)
		answer->slots = told->slots;
	answer->mixed = answer->mixed || (!slots && !waits);
	if (slots && (answer->limit == 0 || told->slots < answer->limit))
		answer->limit = told->slots;
	answer->waits = answer->waits || waits;
	answer->held += !waits;
}

/* The first line of --who. */
static void sentence(const struct lock *lock, const struct answer *answer, struct line *line)
{
	line_begin_about(line, lock->spec);
	if (answer->slots > 1 && !answer->mixed) {
		holder_describe_slots(answer->held, answer->slots, line);
	} else if (answer->held > 0) {
		if (answer->held > 1) {
			line_add(line, answer->slots ? "in use by " : "shared by ");
			line_number(line, answer->held);
			line_add(line, ", ");
		}
		line_add(line, answer->first.text);
	} else {
		line_add(line, "free");
	}
}

/* Whether the lock is held; with -j whether a try with the same -j would be refused. */
static bool is_refused(const struct lock *lock, const struct answer *answer)
{
	unsigned limit = lock->options->slots;

	if (limit == 0)
		return answer->held > 0;
	if (answer->limit > 0 && answer->limit < limit)
		limit = answer->limit;
	return answer->waits || answer->mixed || answer->held >= limit;
}

int fleet(struct lock *lock, bool who, const char *program, bool json, char **text, bool *held)
{
	struct answer answer = {
		.records = records_new(who ? FORM_FLEET_WHO : FORM_FLEET_LIST, NULL, json),
		.prefix = lock->engine->prefix,
	};
	int r = helper_ask(lock, who ? "who" : "list", program, add, &answer);
	struct line first;

	end(&answer);
	sentence(lock, &answer, &first);
	*held = who && is_refused(lock, &answer);
	*text = records_finish(answer.records, who ? "who" : "locks", who ? &first : NULL);
	free(answer.name);
	return r;
}
