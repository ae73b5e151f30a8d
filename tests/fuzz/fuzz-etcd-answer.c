/* Any bytes as an answer of etcd's gateway, as a line of its stream, as an entry's value, and as a queue of entries. */
#include <stdlib.h>
#include <string.h>

#include "etcd/answer.h"
#include "etcd/base64.h"
#include "etcd/entry.h"
#include "helper/queue.h"
#include "etcd/session.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is taken for one is either good, or says what is wrong on one line. */
static void as_answer(const char *text, size_t size)
{
	static const long statuses[] = { 200, 400, 404, 503 };

	for (size_t i = 0; i < 8; i++) {
		const struct asked asked = { .url = "https://a:2379", .user = i % 2 ? "mo" : NULL, .known = i / 2 % 2 };
		struct answer answer = { .outcome = OUTCOME_STOPPED };

		answer_read(&answer, &asked, statuses[i / 2], text, size);
		if ((answer.outcome == OUTCOME_DONE) != (answer.body != NULL) || (answer.outcome == OUTCOME_DONE) == (answer.text != NULL) ||
		    answer.outcome == OUTCOME_STOPPED || answer.outcome == OUTCOME_CLOSED)
			abort();
		(void)answer_header(answer.body, "cluster_id");
		answer_free(&answer);
	}
	(void)answer_is_of_old(text);
}

static void look_at(const struct entries *entries)
{
	const struct identity me = { .user = "root" };

	for (size_t i = 0; i < entries->n; i++) {
		const struct entry *entry = &entries->all[i], *blocker = NULL;
		struct line line = { .length = 0 };
		unsigned slot = 0;
		char *again;

		if (i > 0 && entry->created < entry[-1].created)
			abort();
		if (entry->foreign && (entry->state != ENTRY_UNKNOWN || entry->mode != ENTRY_EXCLUSIVE))
			abort();
		entry_describe(entry, &me, "holder-", &line);
		for (size_t j = 0; j + 1 < line.length; j++)
			if (line.text[j] == '\n' && strncmp(line.text + j + 1, "holder-", line.length - j - 1 < 7 ? line.length - j - 1 : 7) != 0)
				abort();
		(void)queue_holds(entries->all, i);
		if (queue_judge(entry, entries->all, i, &blocker, &slot) == QUEUE_WATCH_KEY && (blocker < entries->all || blocker >= entry))
			abort();
		if (entry->foreign)
			continue;
		/* What was read can be written. */
		again = entry_value(entry);
		if (!again)
			abort();
		free(again);
	}
}

/* What is told of our key lock/1a, and of others. */
static void as_events(json_t *result)
{
	static const enum phase phases[] = { PHASE_TAKING, PHASE_HOLDING, PHASE_GIVING_BACK };
	const struct arguments arguments = { .mode = ENTRY_EXCLUSIVE };

	for (size_t i = 0; i < 3; i++) {
		struct session session = { .arguments = &arguments, .phase = phases[i],
					   .own = { .created = 7, .keys = keys_one("lock/1a") } };

		session_event(&session, result);
		/* Again, with what is known now. */
		session_event(&session, result);
		session_close(&session);
	}
}

/* A line of the stream; the pairs in it, as etcd/stream.c and etcd/ahead.c find them. */
static void as_line(const char *text, size_t size)
{
	json_t *result = answer_result(text, size), *event;
	size_t i;

	json_array_foreach(json_object_get(result, "events"), i, event) {
		json_t *list = json_array();
		struct entries entries;

		json_array_append(list, json_object_get(event, "kv"));
		json_array_append(list, json_object_get(event, "prev_kv"));
		entries_read(&entries, list);
		look_at(&entries);
		entries_free(&entries);
		json_decref(list);
	}
	if (result)
		as_events(result);
	json_decref(result);
}

static void as_entries(const char *text, size_t size)
{
	json_t *body = json_loadb(text, size, JSON_DISABLE_EOF_CHECK, NULL);
	struct entries entries;

	entries_read(&entries, json_object_get(body, "kvs"));
	look_at(&entries);
	entries_free(&entries);
	json_decref(body);
}

static void as_value(const char *text, size_t size)
{
	char *value = base64_encode(text, size), *again;
	json_t *kvs = json_pack("[{s:s, s:s, s:s}]", "key", "bG9jay8xYQ==", "value", value, "create_revision", "7");
	struct entries entries;
	size_t n;

	again = base64_decode(value, &n);
	if (!again || n != size || (n > 0 && memcmp(again, text, n) != 0))
		abort();
	free(again);
	entries_read(&entries, kvs);
	if (entries.n != 1)
		abort();
	look_at(&entries);
	entries_free(&entries);
	json_decref(kvs);
	free(value);
	free(base64_decode(text, &n));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	if (size > 0)
		memcpy(text, data, size);
	text[size] = 0;
	as_answer(text, size);
	as_line(text, size);
	as_entries(text, size);
	as_value(text, size);
	free(text);
	return 0;
}
