#include <errno.h>

#include "base/deadline.h"
#include "lock.h"
#include "tap.h"

/* What options_parse() makes of a command line that gives only these. */
#define GIVEN(...) (struct options){ .kill_after = -1, __VA_ARGS__ }

static struct lock lock;
static struct usage_error error;

static void opens(const char *spec, const char *name)
{
	if (ok(lock_open(&lock, spec, &error) == 0, "'%s' is a lock", spec))
		is(lock.name, name, "its name");
}

static void refuses(const char *spec)
{
	ok(lock_open(&lock, spec, &error) == -EINVAL, "'%s' is refused", spec);
}

/* What OPTIONS ask of SPEC: refused, or WANTED slots, of that shape. */
static void shapes(const char *spec, struct options options, unsigned wanted)
{
	if (ok(lock_open(&lock, spec, &error) == 0 && lock_shape(&lock, &options, &error) == 0, "'%s' can be so", spec))
		ok(lock.slots == wanted && lock.shared == options.shared, "and is so");
}

static void refuses_shape(const char *spec, struct options options, const char *text)
{
	ok(lock_open(&lock, spec, &error) == 0 && lock_shape(&lock, &options, &error) == -EINVAL, "'%s' cannot be so", spec);
	is(error.text, text, "and says what to write instead of");
	is(error.subject, spec, "the lock");
}

static void all_shapes(void)
{
	static const char to_share[] = "-s is for file and etcd locks: write file:PATH or etcd:NAME instead of";
	static const char to_have_slots[] = "-j is for host and etcd locks: write NAME, host:NAME or etcd:NAME instead of";

	shapes("x", GIVEN(), 1);
	shapes("x", GIVEN(.slots = 1), 1);
	shapes("host:x", GIVEN(.slots = 1024), 1024);
	shapes("file:x", GIVEN(), 1);
	shapes("file:x", GIVEN(.shared = true), 1);
	shapes("etcd:x", GIVEN(), 1);
	shapes("etcd:x", GIVEN(.shared = true), 1);
	shapes("etcd:x", GIVEN(.shared = true, .slots = 1), 1);
	shapes("etcd:x", GIVEN(.slots = 1024), 1024);
	refuses_shape("x", GIVEN(.shared = true), to_share);
	refuses_shape("x", GIVEN(.shared = true, .slots = 2), to_share);
	refuses_shape("file:x", GIVEN(.slots = 2), to_have_slots);
	refuses_shape("file:x", GIVEN(.slots = 1), to_have_slots);
	ok(lock_open(&lock, "etcd:x", &error) == 0 && lock_shape(&lock, &GIVEN(.shared = true, .slots = 2), &error) == -EINVAL,
	   "shared and with slots at once cannot be");
	is(error.text, "-s and -j", "and says which options");
}

/* Locks of etcd end by themselves, those of one host do not. */
static void all_leases(void)
{
	static const char *const lasting[] = { "x", "host:x", "file:x" };
	static const char too_long[] = "--kill-after is more than half of --ttl for";

	for (size_t i = 0; i < sizeof lasting / sizeof lasting[0]; i++) {
		refuses_shape(lasting[i], GIVEN(.ttl = 30 * NS_PER_S), "--ttl is for fleet locks, such as etcd:NAME, not for");
		refuses_shape(lasting[i], GIVEN(.hold_for = NS_PER_S), "--hold-for is for fleet locks, such as etcd:NAME, not for");
		refuses_shape(lasting[i], (struct options){ .kill_after = 0 }, "-k is for --replace, and for locks that can be lost, such as etcd:NAME, not for");
		shapes(lasting[i], (struct options){ .kill_after = DEADLINE_NEVER, .replace = true }, 1);
		shapes(lasting[i], GIVEN(.no_fork = true), 1);
	}
	shapes("etcd:x", GIVEN(.ttl = 10 * NS_PER_S, .hold_for = 300 * NS_PER_S), 1);
	shapes("etcd:x", (struct options){ .kill_after = 0 }, 1);
	shapes("etcd:x", (struct options){ .kill_after = 15 * NS_PER_S }, 1);
	shapes("etcd:x", (struct options){ .kill_after = 150 * NS_PER_S, .ttl = 300 * NS_PER_S }, 1);
	refuses_shape("etcd:x", (struct options){ .kill_after = 15 * NS_PER_S + 1 }, too_long);
	refuses_shape("etcd:x", (struct options){ .kill_after = 15 * NS_PER_S, .ttl = 30 * NS_PER_S - 1 }, too_long);
	refuses_shape("etcd:x", (struct options){ .kill_after = DEADLINE_NEVER, .ttl = 300 * NS_PER_S }, too_long);
	refuses_shape("etcd:x", GIVEN(.no_fork = true), "-F is not for");
	refuses_shape("etcd:x", GIVEN(.replace = true), "--replace is not for");
}

int main(void)
{
	opens("backup", "backup");
	opens("/tmp/my-pid", "/tmp/my-pid");
	opens("/a:b", "/a:b");
	opens("./a:b", "./a:b");
	opens("host:backup", "backup");
	opens("host:host:backup", "host:backup");
	opens("host:etdc:backup", "etdc:backup");
	opens("host::", ":");
	opens("host", "host");
	opens("Host:x", "Host:x");
	opens("C:\\x", "C:\\x");
	opens("9p:x", "9p:x");
	opens("a b:x", "a b:x");
	opens("a_b:x", "a_b:x");
	opens(":x", ":x");
	opens("file:/tmp/x", "/tmp/x");
	ok(lock.engine == &lock_file, "on a file");
	opens("file:x:y", "x:y");
	opens("file", "file");
	ok(lock.engine == &lock_host, "a lock of this host");
	opens("/file:x", "/file:x");
	opens("host:file:x", "file:x");
	ok(lock.engine == &lock_host, "a lock of this host");
	opens("etcd:backup", "backup");
	ok(lock.engine == &lock_etcd, "of a helper");
	opens("etcd:etcd:/a/b", "etcd:/a/b");
	opens("host:etcd:x", "etcd:x");
	ok(lock.engine == &lock_host, "a lock of this host");
	opens("\xff", "\xff");
	ok(lock.fd == -1 && lock.watched == -1, "nothing is held");
	ok(lock.line.fds[0] == -1 && lock.line.fds[1] == -1 && lock.line.fds[2] == -1 && lock.slots == 1 && lock.slot == 0, "of the plain shape");
	refuses("");
	refuses("file:");
	refuses("etcd:");
	refuses("files:x");
	refuses("host:");
	refuses("etdc:backup");
	refuses("db:prod");
	refuses("a:");
	refuses("h2+x-1:y");
	refuses("https://example.org/");
	ok(error.subject && !strcmp(error.subject, "https://example.org/"), "the lock is named");
	all_shapes();
	all_leases();
	return tap_done();
}
