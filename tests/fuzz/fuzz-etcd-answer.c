/* Any bytes as a body of each answer of etcd, as one of its events, as an entry's value, and as a queue of entries. */
#include <stdlib.h>
#include <string.h>

#include "etcd/answer.h"
#include "etcd/ahead.h"
#include "etcd/entry.h"
#include "etcd/json.h"
#include "etcd/requests.h"
#include "etcd/session.h"
#include "helper/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
		/* What was read can be written, and read again. */
		again = entry_value(entry);
		if (!json_is_text(again, strlen(again)))
			abort();
		free(again);
	}
}

/* What is told of our key lock/1a, and of others. */
static void as_events(const struct body *body)
{
	static const enum phase phases[] = { PHASE_TAKING, PHASE_HOLDING, PHASE_GIVING_BACK };
	const struct arguments arguments = { .mode = ENTRY_EXCLUSIVE };

	for (size_t i = 0; i < 3; i++) {
		struct session session = { .arguments = &arguments, .phase = phases[i], .own = { .created = 7, .keys = keys_one("lock/1a") } };

		session_event(&session, body);
		/* Again, with what is known now. */
		session_event(&session, body);
		keys_free(&session.own.keys);
		entry_free(&session.events.gone);
		entry_free(&session.line.next);
	}
}

static void as_pairs(const struct list *pairs)
{
	struct entries entries;

	entries_read(&entries, pairs->all, pairs->n);
	look_at(&entries);
	entries_free(&entries);
}

/* What is taken for an answer is either good, or says what is wrong on one line. */
static void as_answer(const char *path, const uint8_t *data, size_t size)
{
	const struct asked asked = { .url = "https://a:2379" };
	struct rpc rpc = { .path = path, .done = true, .http = 200 };
	struct answer answer = { .outcome = OUTCOME_STOPPED };
	struct entries entries;

	bytes_add(&rpc.answer, data, size);
	answer_read(&answer, &asked, &rpc);
	if ((answer.outcome == OUTCOME_DONE) == (answer.text != NULL))
		abort();
	as_pairs(&answer.body.pairs);
	as_events(&answer.body);
	entries = ahead_entries(&answer.body);
	look_at(&entries);
	entries_free(&entries);
	answer_free(&answer);
	bytes_free(&rpc.answer);
}

static void take_member(void *owner, const struct member *member)
{
	(void)owner;
	if (!member->name || (member->text && member->is_integer))
		abort();
}

static void as_value(const uint8_t *data, size_t size)
{
	struct pair one = { .key = { .at = (const unsigned char *)"lock/1a", .n = 7 }, .value = { .at = data, .n = size }, .created = 7 };
	const struct list pairs = { .all = &one, .n = 1 };
	struct bytes object = { .n = 0 };

	as_pairs(&pairs);
	if (!json_is_text((const char *)data, size) || (size > 0 && memchr(data, 0, size)))
		return;
	/* Any text can be written, and read again. */
	json_add_text(&object, "a", (const char *)data, size);
	json_add_number(&object, "b", size);
	json_end(&object);
	if (!json_read((char *)object.all, object.n - 1, take_member, NULL))
		abort();
	bytes_free(&object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const paths[] = { PATH_GRANT, PATH_RANGE, PATH_TXN, PATH_STATUS, PATH_WATCH };
	char *text = malloc(size + 1);

	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		as_answer(paths[i], data, size);
	as_value(data, size);
	if (size > 0)
		memcpy(text, data, size);
	text[size] = 0;
	(void)answer_is_of_old(text);
	free(text);
	return 0;
}
