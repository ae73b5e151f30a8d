#include <errno.h>

#include "lock.h"
#include "tap.h"

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
	shapes("x", (struct options){ 0 }, 1);
	shapes("x", (struct options){ .slots = 1 }, 1);
	shapes("host:x", (struct options){ .slots = 1024 }, 1024);
	shapes("file:x", (struct options){ 0 }, 1);
	shapes("file:x", (struct options){ .shared = true }, 1);
	refuses_shape("x", (struct options){ .shared = true }, "-s is for locks on files: write file:PATH instead of");
	refuses_shape("x", (struct options){ .shared = true, .slots = 2 }, "-s is for locks on files: write file:PATH instead of");
	refuses_shape("file:x", (struct options){ .slots = 2 }, "-j is for locks of this host: write NAME or host:NAME instead of");
	refuses_shape("file:x", (struct options){ .slots = 1 }, "-j is for locks of this host: write NAME or host:NAME instead of");
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
	opens("\xff", "\xff");
	ok(lock.fd == -1 && lock.watched == -1 && lock.place == -1, "nothing is held");
	ok(lock.line[0] == -1 && lock.line[1] == -1 && lock.line[2] == -1 && lock.slots == 1 && lock.slot == 0, "of the plain shape");
	refuses("");
	refuses("file:");
	refuses("files:x");
	refuses("host:");
	refuses("etdc:backup");
	refuses("db:prod");
	refuses("a:");
	refuses("h2+x-1:y");
	refuses("https://example.org/");
	ok(error.subject && !strcmp(error.subject, "https://example.org/"), "the lock is named");
	all_shapes();
	return tap_done();
}
