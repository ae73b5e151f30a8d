#include "etcd/entry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "etcd/answer.h"
#include "etcd/base64.h"
#include "helper/say.h"

#define VALUE_VERSION 1

static const char *const modes[] = { "x", "s", "n" }, *const states[] = { "wait", "held", "kept" };

/* The index of the text NAME of VALUE among the N in TEXTS, or OTHERWISE. */
static unsigned choice(const json_t *value, const char *name, const char *const *texts, unsigned n,
		       unsigned otherwise)
{
	const char *text = json_string_value(json_object_get(value, name));

	for (unsigned i = 0; text && i < n; i++)
		if (!strcmp(text, texts[i]))
			return i;
	return otherwise;
}

static void copy_text(const json_t *value, const char *name, char *text, size_t size)
{
	const char *given = json_string_value(json_object_get(value, name));

	(void)snprintf(text, size, "%s", given ? given : "");
}

/* What is not understood counts as foreign: it may want to be alone. */
static void read_value(struct entry *entry, const char *text, size_t n)
{
	json_t *value = n > 0 ? json_loadb(text, n, 0, NULL) : NULL;

	entry->foreign = !json_is_object(value) || answer_number(value, "v") != VALUE_VERSION ||
			 choice(value, "m", modes, 3, 3) == 3 ||
			 choice(value, "st", states, 3, 3) == 3;
	entry->state = ENTRY_UNKNOWN;
	if (!entry->foreign) {
		entry->mode = choice(value, "m", modes, 3, ENTRY_EXCLUSIVE);
		entry->state = choice(value, "st", states, 3, ENTRY_UNKNOWN);
		entry->slots = (unsigned)answer_number(value, "k");
		entry->slot = (unsigned)answer_number(value, "slot");
		entry->queue = answer_number(value, "q") != 0;
		entry->since = answer_number(value, "since");
		copy_text(value, "host", entry->who.host, sizeof entry->who.host);
		copy_text(value, "boot", entry->who.boot, sizeof entry->who.boot);
		copy_text(value, "user", entry->who.user, sizeof entry->who.user);
		copy_text(value, "cmd", entry->who.command, sizeof entry->who.command);
		entry->who.pid = answer_number(value, "pid");
		entry->who.start = answer_number(value, "start");
		entry->who.pid_namespace = answer_number(value, "ns");
		entry->who.pipe = answer_number(value, "pipe");
	}
	json_decref(value);
}

static int by_creation(const void *a, const void *b)
{
	const struct entry *first = a, *second = b;

	return first->created < second->created ? -1 : first->created > second->created;
}

void entries_read(struct entries *result, const json_t *kvs)
{
	size_t i, n;
	const json_t *kv;

	*result = (struct entries){ .all = memory_get((json_array_size(kvs) + 1) *
						      sizeof *result->all) };
	json_array_foreach(kvs, i, kv)
	{
		const char *key = json_string_value(json_object_get(kv, "key")),
			   *value = json_string_value(json_object_get(kv, "value"));
		struct entry *entry = &result->all[result->n];
		char *text;

		entry->key = key ? base64_decode(key, &n) : NULL;
		if (!entry->key)
			continue;
		entry->created = answer_number(kv, "create_revision");
		entry->modified = answer_number(kv, "mod_revision");
		entry->lease = answer_number(kv, "lease");
		text = value ? base64_decode(value, &n) : NULL;
		read_value(entry, text ? text : "", text ? n : 0);
		free(text);
		result->n++;
	}
	qsort(result->all, result->n, sizeof *result->all, by_creation);
}

/* TEXT as JSON can have it: what is not UTF-8 is escaped. */
static json_t *text_json(const char *text)
{
	struct line line = { .length = 0 };
	json_t *as_it_is = json_string(text);

	if (as_it_is)
		return as_it_is;
	line_escape(&line, text, strlen(text), sizeof((struct identity *)NULL)->command - 4);
	return json_stringn(line.text, line.length);
}

char *entry_value(const struct entry *entry)
{
	json_t *value =
		json_pack("{s:i, s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "v",
			  VALUE_VERSION, "m", modes[entry->mode], "st", states[entry->state],
			  "host", text_json(entry->who.host), "boot", text_json(entry->who.boot),
			  "user", text_json(entry->who.user), "cmd", text_json(entry->who.command),
			  "pid", (json_int_t)entry->who.pid, "start", (json_int_t)entry->who.start,
			  "ns", (json_int_t)entry->who.pid_namespace, "pipe",
			  (json_int_t)entry->who.pipe, "since", (json_int_t)entry->since);
	char *text;

	if (entry->mode == ENTRY_SLOTS) {
		json_object_set_new(value, "k", json_integer(entry->slots));
		json_object_set_new(value, "slot", json_integer(entry->slot));
	}
	if (entry->queue)
		json_object_set_new(value, "q", json_integer(1));
	text = json_dumps(value, JSON_COMPACT);
	json_decref(value);
	return text;
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
