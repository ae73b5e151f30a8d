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
	opens("\xff", "\xff");
	ok(lock.fd == -1 && lock.watched == -1, "nothing is held");
	refuses("");
	refuses("host:");
	refuses("etdc:backup");
	refuses("db:prod");
	refuses("a:");
	refuses("h2+x-1:y");
	refuses("https://example.org/");
	ok(error.subject && !strcmp(error.subject, "https://example.org/"), "the lock is named");
	return tap_done();
}
