#include <stdlib.h>
#include <string.h>

#include "etcd/entry.h"
#include "etcd/json.h"
#include "holder.h"
#include "tap.h"

static struct entries entries;

static struct slice slice(const char *text)
{
	return (struct slice){ .at = (const unsigned char *)text, .n = strlen(text) };
}

static struct pair pair(const char *key, const char *value, uint64_t created)
{
	return (struct pair){ .key = slice(key), .value = slice(value), .created = created, .modified = 99, .lease = 7587895000000000001 };
}

static void read_pairs(const struct pair *pairs, size_t n)
{
	entries_free(&entries);
	entries_read(&entries, pairs, n);
}

/* The entry with the value VALUE. */
static const struct entry *with_value(const char *value)
{
	const struct pair one = pair("lock/694d7", value, 7);

	read_pairs(&one, 1);
	return &entries.all[0];
}

static void is_foreign(const char *value, const char *what)
{
	const struct entry *entry = with_value(value);

	ok(entries.n == 1 && entry->foreign && entry->state == ENTRY_UNKNOWN && entry->created == 7, "foreign: %s", what);
}

static void foreign_values(void)
{
	is_foreign("", "etcdctl's, which is empty");
	is_foreign("x", "no JSON");
	is_foreign("[1]", "no object");
	is_foreign("{}", "an empty object");
	is_foreign("{\"m\":\"x\",\"st\":\"held\"}", "no version");
	is_foreign("{\"v\":2,\"m\":\"x\",\"st\":\"held\"}", "another version");
	is_foreign("{\"v\":4294967297,\"m\":\"x\",\"st\":\"held\"}", "another version, a large one");
	is_foreign("{\"v\":1,\"st\":\"held\"}", "no mode");
	is_foreign("{\"v\":1,\"m\":\"y\",\"st\":\"held\"}", "another mode");
	is_foreign("{\"v\":1,\"m\":1,\"st\":\"held\"}", "a mode that is no text");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"holding\"}", "another state");
	is_foreign("{\"v\":1,\"m\":\"x\"}", "no state");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"held\"} and more", "something behind it");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"held\",\"host\":\"a\\u0000b\"}", "a NUL in a text");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"held\",\"host\":\"\xff\"}", "what is not UTF-8");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"held\",\"pid\":99999999999999999999}", "a number that is too large");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"held\",\"new\":{\"v\":[1,{\"st\":}]}}", "broken within");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"held\",}", "a comma too many");
	is_foreign("{\"v\":01,\"m\":\"x\",\"st\":\"held\"}", "a number that begins with 0");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"held\",\"host\":\"\\ud834\"}", "half a character");
	is_foreign("{\"v\":1,\"m\":\"x\",\"st\":\"held\",\"st\":\"off\"}", "a state that changes");
}

static void values(void)
{
	const struct entry *entry = with_value("{\"v\":1,\"m\":\"x\",\"st\":\"wait\"}");

	ok(!entry->foreign && entry->mode == ENTRY_EXCLUSIVE && entry->state == ENTRY_WAITS && !entry->queue, "the shortest value");
	ok(!entry->who.host[0] && !entry->who.user[0] && !entry->who.pid, "and nothing else is known");
	ok(entry->lease == 7587895000000000001 && entry->modified == 99 && entry->created == 7, "lease and revisions");
	is(entry->key, "lock/694d7", "its key");
	entry = with_value("{\"v\":1,\"m\":\"n\",\"k\":3,\"slot\":2,\"q\":1,\"st\":\"kept\",\"host\":\"web1\",\"boot\":\"b\",\"ns\":4026531836,\"pid\":4242,"
			   "\"start\":9223372036854775807,\"user\":\"root\",\"cmd\":\"backup.sh\",\"since\":1700000000000,\"pipe\":77,\"new\":{}}");
	ok(!entry->foreign && entry->mode == ENTRY_SLOTS && entry->slots == 3 && entry->slot == 2 && entry->queue && entry->state == ENTRY_KEPT, "what it wants");
	ok(entry->who.pid == 4242 && entry->who.start == INT64_MAX && entry->who.pid_namespace == 4026531836 && entry->who.pipe == 77, "who it is, in numbers");
	ok(!strcmp(entry->who.host, "web1") && !strcmp(entry->who.boot, "b") && !strcmp(entry->who.user, "root") && !strcmp(entry->who.command, "backup.sh"),
	   "and in words");
	is_number((int64_t)entry->since, 1700000000000, "since when");
	entry = with_value(" {\"new\" : [ true,{ \"v\":2, \"st\":[] },null,-1.5e+3 ] ,\"v\":1,\n\"m\":\"x\",\"st\":\"held\",\"cmd\":\"a\\/\\t\\u00e4\\ud834\\udd1e\"}\r\n");
	ok(!entry->foreign && !strcmp(entry->who.command, "a/\tä𝄞"), "space, other things, and characters that are escaped");
	entry = with_value("{\"v\":\"1\",\"m\":\"s\",\"st\":\"held\",\"pid\":\"18446744073709551615\",\"since\":-1,\"k\":1.5,\"host\":[]}");
	ok(!entry->foreign && entry->mode == ENTRY_SHARED && entry->who.pid == UINT64_MAX && entry->slots == 0 && !entry->who.host[0], "numbers as text, or none");
}

static void pairs(void)
{
	const struct pair three[] = { pair("l/3", "", 30), pair("l/1", "", 10), { .created = 5 }, pair("l/2", "???", 20) };

	read_pairs(NULL, 0);
	is_number((int64_t)entries.n, 0, "no pairs");
	read_pairs(three, 4);
	ok(entries.n == 3 && entries.all[0].created == 10 && entries.all[1].created == 20 && entries.all[2].created == 30, "in the order in which they were made");
	ok(entries.n == 3 && entries.all[1].foreign, "a value that cannot be read is foreign");
	ok(entries_find(&entries, 20) == &entries.all[1] && !entries_find(&entries, 21), "found by their revision");
}

/* An entry whose words are TEXT, each cut to its room, is written and read again. */
static bool comes_back(const char *text, enum entry_mode mode, enum entry_state state)
{
	struct entry entry = { .mode = mode, .state = state, .slots = 7, .slot = 6, .queue = mode == ENTRY_SHARED, .since = 1700000000000,
			       .who = { .pid = 4242, .start = 5, .pid_namespace = 6, .pipe = 7 } };
	const struct entry *again;
	char *value;
	bool same;

	(void)snprintf(entry.who.host, sizeof entry.who.host, "%s", text);
	(void)snprintf(entry.who.boot, sizeof entry.who.boot, "%s", text);
	(void)snprintf(entry.who.user, sizeof entry.who.user, "%s", text);
	(void)snprintf(entry.who.command, sizeof entry.who.command, "%s", text);
	value = entry_value(&entry);
	if (!value)
		return false;
	again = with_value(value);
	free(value);
	same = !again->foreign && again->mode == mode && again->state == state && again->queue == entry.queue && again->since == entry.since &&
	       again->who.pid == 4242 && again->who.start == 5 && again->who.pid_namespace == 6 && again->who.pipe == 7 &&
	       (mode != ENTRY_SLOTS || (again->slots == 7 && again->slot == 6));
	/* What is UTF-8 is as it was; else there is something to read. */
	same = same && again->who.command[0] &&
	       (!json_is_text(entry.who.command, strlen(entry.who.command)) || !strcmp(again->who.command, entry.who.command));
	return same;
}

static void any_words(void)
{
	static const char *const texts[] = { "backup.sh", "a\nb", "\"quotes\" and \\", "\xff", "\x01\x1f\x7f", "ä€𝄞", "\xed\xa0\x80", "{\"v\":1}", "/" };
	char large[600];
	bool good = true;

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		ok(comes_back(texts[i], (enum entry_mode)(i % 3), (enum entry_state)(i / 3 % 3)), "words, %zu", i);
	/* A character is cut in two, at every place. */
	for (size_t i = 0; i < 12; i++) {
		memset(large, 'a', i);
		for (size_t at = i; at + 4 < sizeof large; at += 4)
			memcpy(large + at, "𝄞", 5);
		good = good && comes_back(large, ENTRY_EXCLUSIVE, ENTRY_WAITS);
		for (size_t at = i; at + 3 < sizeof large; at += 3)
			memcpy(large + at, "\xffä", 4);
		good = good && comes_back(large, ENTRY_EXCLUSIVE, ENTRY_WAITS);
	}
	ok(good, "long words, cut in the middle of a character");
	memset(large, 0xff, sizeof large - 1);
	large[sizeof large - 1] = 0;
	ok(comes_back(large, ENTRY_EXCLUSIVE, ENTRY_WAITS), "long words of which nothing is UTF-8");
	memset(large, '\\', sizeof large - 1);
	ok(comes_back(large, ENTRY_EXCLUSIVE, ENTRY_WAITS), "nothing but backslashes");
}

static void is_described(const struct entry *entry, const struct identity *me, const char *prefix, const char *wanted)
{
	struct line line = { .length = 0 };

	entry_describe(entry, me, prefix, &line);
	line.text[line.length] = 0;
	is(line.text, wanted, "described");
}

static void descriptions(void)
{
	const struct identity root = { .user = "root" }, mo = { .user = "mo" };
	const struct entry *entry = with_value("");

	is_described(entry, &root, "", "\nother another program (etcdctl lock?) with the lease 694d9e4cd3f67001");
	entry = with_value("{\"v\":1,\"m\":\"x\",\"st\":\"held\",\"host\":\"web1\",\"pid\":4242,\"user\":\"mo\",\"cmd\":\"a\\nhost evil\",\"since\":5}");
	is_described(entry, &mo, "holder-", "\nholder-pid 4242\nholder-host web1\nholder-user mo\nholder-command a host evil\nholder-since 5\nholder-trusted 1");
	is_described(entry, &root, "", "\npid 4242\nhost web1\nuser mo\ncommand a host evil\nsince 5");
	entry = with_value("{\"v\":1,\"m\":\"n\",\"k\":2,\"slot\":1,\"st\":\"kept\",\"user\":\"root\"}");
	is_described(entry, &mo, "", "\npid 0\nuser root\nslot 1\ntrusted 1\nkept 1");
	entry = with_value("{\"v\":1,\"m\":\"x\",\"st\":\"held\"}");
	is_described(entry, &(struct identity){ .user = "" }, "", "\npid 0");
}

/* What others have written to a key, of any length: shown in at most 200 bytes, cut after a character. */
static void long_words(void)
{
	char value[700] = "{\"v\":1,\"m\":\"x\",\"st\":\"held\",\"cmd\":\"", wanted[300];
	const struct entry *entry;
	const struct remote_holder other = { .command = "\n\033[2J", .other = true };
	struct remote_holder remote = { .host = "web1", .user = "mo" };
	struct holder holder = { .pid = 7, .held = -1, .remote = &remote };
	struct line line = { .length = 0 };

	for (int i = 0; i < 150; i++)
		strcat(value, "€");
	entry = with_value(strcat(value, "\"}"));
	(void)snprintf(wanted, sizeof wanted, "%.*s...", 252, strstr(value, "€"));
	is(entry->who.command, wanted, "a long command of a key");
	remote.command = entry->who.command;
	holder_describe(&holder, HOLDER_AWAITED, &line);
	line.text[line.length] = 0;
	(void)snprintf(wanted, sizeof wanted, "waiting for pid 7 (mo) on web1, neither this user nor root: %.*s...", 198, remote.command);
	is(line.text, wanted, "is shown in 200 bytes");
	holder.remote = &other;
	line.length = 0;
	holder_describe(&holder, HOLDER_AWAITED, &line);
	line.text[line.length] = 0;
	is(line.text, "waiting for \\x0a\\x1b[2J", "control characters are escaped");
}

static void copies(void)
{
	struct entry copy = entry_copy(with_value("{\"v\":1,\"m\":\"s\",\"st\":\"held\",\"user\":\"mo\"}"));

	read_pairs(NULL, 0);
	ok(copy.mode == ENTRY_SHARED && !strcmp(copy.who.user, "mo") && !strcmp(copy.key, "lock/694d7"), "a copy outlives the entry");
	entry_free(&copy);
	ok(!copy.key, "and is freed");
}

int main(void)
{
	foreign_values();
	values();
	pairs();
	any_words();
	descriptions();
	long_words();
	copies();
	entries_free(&entries);
	return tap_done();
}
