#include "etcd/entry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "etcd/json.h"
#include "helper/say.h"

#define VALUE_VERSION 1

static const char *const modes[] = { "x", "s", "n" }, *const states[] = { "wait", "held", "kept" };

/* The index of TEXT among the N in TEXTS, or N. */
static unsigned choice(const char *text, const char *const *texts, unsigned n)
{
	unsigned i = 0;

	while (i < n && (!text || strcmp(text, texts[i]) != 0))
		i++;
	return i;
}

/* A number, which may be written as a text; 0 if it is not one. */
static uint64_t number(const struct member *member)
{
	if (member->text)
		return member->text[0] == '-' ? (uint64_t)strtoll(member->text, NULL, 10)
					      : strtoull(member->text, NULL, 10);
	return member->integer;
}

/* What must be there, and is understood. */
#define HAS_VERSION 1u
#define HAS_MODE 2u
#define HAS_STATE 4u
#define HAS_ALL 7u

struct value {
	struct entry *entry;
	unsigned has;
};

static void note(struct value *value, unsigned what, bool understood)
{
	value->has = understood ? value->has | what : value->has & ~what;
}

/* Who it is. Returns false: it says something else. */
static bool take_identity(struct identity *who, const struct member *member)
{
	const struct {
		const char *name;
		char *text;
		size_t size;
		uint64_t *number;
	} all[] = {
		{ "host", who->host, sizeof who->host, NULL },
		{ "boot", who->boot, sizeof who->boot, NULL },
		{ "user", who->user, sizeof who->user, NULL },
		{ "cmd", who->command, sizeof who->command, NULL },
		{ "pid", NULL, 0, &who->pid },
		{ "start", NULL, 0, &who->start },
		{ "ns", NULL, 0, &who->pid_namespace },
		{ "pipe", NULL, 0, &who->pipe },
	};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		if (strcmp(member->name, all[i].name) != 0)
			continue;
		if (all[i].text)
			say_cut(all[i].text, all[i].size, member->text ? member->text : "");
		else if (all[i].number)
			*all[i].number = number(member);
		return true;
	}
	return false;
}

static void take_member(void *owner, const struct member *member)
{
	struct value *value = owner;
	struct entry *entry = value->entry;

	if (take_identity(&entry->who, member))
		return;
	if (!strcmp(member->name, "v")) {
		note(value, HAS_VERSION, number(member) == VALUE_VERSION);
	} else if (!strcmp(member->name, "m")) {
		entry->mode = choice(member->text, modes, 3);
		note(value, HAS_MODE, entry->mode < 3);
	} else if (!strcmp(member->name, "st")) {
		entry->state = choice(member->text, states, 3);
		note(value, HAS_STATE, entry->state < 3);
	} else if (!strcmp(member->name, "k")) {
		entry->slots = (unsigned)number(member);
	} else if (!strcmp(member->name, "slot")) {
		entry->slot = (unsigned)number(member);
	} else if (!strcmp(member->name, "q")) {
		entry->queue = number(member) != 0;
	} else if (!strcmp(member->name, "since")) {
		entry->since = number(member);
	}
}

struct entry entry_read(const struct pair *pair)
{
	struct entry entry = { .key = memory_text((const char *)pair->key.at, pair->key.n),
			       .created = pair->created,
			       .modified = pair->modified,
			       .lease = pair->lease };
	const struct entry foreign = { .key = entry.key,
				       .created = entry.created,
				       .modified = entry.modified,
				       .lease = entry.lease,
				       .foreign = true,
				       .state = ENTRY_UNKNOWN };
	struct value value = { .entry = &entry };

	/* What is not understood counts as foreign: it may want to be alone. */
	return json_read((const char *)pair->value.at, pair->value.n, take_member, &value) &&
			       value.has == HAS_ALL
		       ? entry
		       : foreign;
}

static int by_creation(const void *a, const void *b)
{
	const struct entry *first = a, *second = b;

	return first->created < second->created ? -1 : first->created > second->created;
}

void entries_read(struct entries *result, const struct pair *pairs, size_t n)
{
	*result = (struct entries){ .all = memory_get((n + 1) * sizeof *result->all) };
	for (size_t i = 0; i < n; i++)
		if (pairs[i].key.at)
			result->all[result->n++] = entry_read(&pairs[i]);
	qsort(result->all, result->n, sizeof *result->all, by_creation);
}

/* Adds TEXT in a form that JSON allows: what is not UTF-8 is escaped. */
static void add_text(struct bytes *value, const char *name, const char *text)
{
	struct line line = { .length = 0 };

	if (json_is_text(text, strlen(text))) {
		json_add_text(value, name, text, strlen(text));
		return;
	}
	line_escape(&line, text, strlen(text), sizeof((struct identity *)NULL)->command - 4);
	json_add_text(value, name, line.text, line.length);
}

char *entry_value(const struct entry *entry)
{
	const struct identity *who = &entry->who;
	struct bytes value = { .n = 0 };

	json_add_number(&value, "v", VALUE_VERSION);
	add_text(&value, "m", modes[entry->mode]);
	add_text(&value, "st", states[entry->state]);
	add_text(&value, "host", who->host);
	add_text(&value, "boot", who->boot);
	add_text(&value, "user", who->user);
	add_text(&value, "cmd", who->command);
	json_add_number(&value, "pid", who->pid);
	json_add_number(&value, "start", who->start);
	json_add_number(&value, "ns", who->pid_namespace);
	json_add_number(&value, "pipe", who->pipe);
	json_add_number(&value, "since", entry->since);
	if (entry->mode == ENTRY_SLOTS) {
		json_add_number(&value, "k", entry->slots);
		json_add_number(&value, "slot", entry->slot);
	}
	if (entry->queue)
		json_add_number(&value, "q", 1);
	json_end(&value);
	return (char *)value.all;
}

static void add_pair(struct line *line, const char *prefix, const char *key, const char *value)
{
	char name[32];

	(void)snprintf(name, sizeof name, "%s%s", prefix, key);
	if (*value)
		say_pair(line, name, value);
}

static void add_count(struct line *line, const char *prefix, const char *key, uint64_t n)
{
	char text[24];

	(void)snprintf(text, sizeof text, "%" PRIu64, n);
	add_pair(line, prefix, key, text);
}

void entry_describe(const struct entry *entry, const struct identity *me, const char *prefix,
		    struct line *line)
{
	char text[128];

	if (entry->foreign) {
		(void)snprintf(text, sizeof text,
			       "another program (etcdctl lock?) with the lease %" PRIx64,
			       entry->lease);
		add_pair(line, prefix, "other", text);
		return;
	}
	add_count(line, prefix, "pid", entry->who.pid);
	add_pair(line, prefix, "host", entry->who.host);
	add_pair(line, prefix, "user", entry->who.user);
	add_pair(line, prefix, "command", entry->who.command);
	if (entry->since)
		add_count(line, prefix, "since", entry->since);
	if (entry->mode == ENTRY_SLOTS)
		add_count(line, prefix, "slot", entry->slot);
	if (identity_is_trusted(&entry->who, me))
		add_pair(line, prefix, "trusted", "1");
	if (entry->state == ENTRY_KEPT)
		add_pair(line, prefix, "kept", "1");
}
