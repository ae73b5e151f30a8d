#include "lock.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/deadline.h"

/* The kinds that helpers keep, in the table and in messages. */
#define ENGINE(kind) , &lock_##kind
#define AND(kind) " and " #kind
#define OR_NAME(kind) " or " #kind ":NAME"
#define AS_NAME(kind) ", such as " #kind ":NAME"
#define AND_SHARED KINDS_SHARED(AND)
#define OR_SHARED KINDS_SHARED(OR_NAME)
#define AND_SLOTS KINDS_SLOTS(AND)
#define OR_SLOTS KINDS_SLOTS(OR_NAME)
#define AS_TTL KINDS_TTL(AS_NAME)
#define AS_HOLD_FOR KINDS_HOLD_FOR(AS_NAME)
#define AS_ANY KINDS_ALL(AS_NAME)

static const struct lock_engine *const engines[] = { &lock_host, &lock_file KINDS_ALL(ENGINE) };

/*
 * How many bytes of SPEC look like an engine's prefix, [a-z][a-z0-9+-]* before a colon; 0 if it has
 * none.
 */
static size_t prefix_length(const char *spec)
{
	size_t length = strspn(spec, "abcdefghijklmnopqrstuvwxyz0123456789+-");

	return spec[0] >= 'a' && spec[0] <= 'z' && spec[length] == ':' ? length : 0;
}

static const struct lock_engine *find_engine(const char *prefix, size_t length)
{
	for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
		if (strlen(engines[i]->prefix) == length &&
		    !memcmp(engines[i]->prefix, prefix, length))
			return engines[i];
	return NULL;
}

static int wrong(struct usage_error *error, const char *text, const char *subject, const char *hint)
{
	*error = (struct usage_error){ .text = text, .subject = subject, .hint = hint };
	return -EINVAL;
}

int lock_open(struct lock *lock, const char *spec, struct usage_error *error)
{
	size_t length = prefix_length(spec);

	*lock = (struct lock){ .engine = &lock_host,
			       .spec = spec,
			       .name = spec,
			       .slots = 1,
			       .fd = -1,
			       .watched = -1,
			       .serve_due = DEADLINE_NEVER,
			       .line.fds = { -1, -1, -1 } };
	if (length > 0) {
		lock->engine = find_engine(spec, length);
		lock->name = spec + length + 1;
	}
	/* A typing error must not become a lock that nobody else takes. */
	if (!lock->engine) {
		wrong(error, "no such kind of lock:", spec,
		      "; for a lock of this host with that name write host:");
		error->hint_subject = true;
		return -EINVAL;
	}
	return *lock->name ? 0 : wrong(error, "the name of the lock is empty", NULL, "");
}

/*
 * What OPTIONS ask for and a lease, or a lock without one, cannot have. Returns 0, or -EINVAL and
 * ERROR.
 */
static int check_lease(const struct lock *lock, const struct options *options,
		       struct usage_error *error)
{
	const char *text, *hint = "";

	if (options->ttl && !lock->engine->ttl) {
		text = "--ttl is for fleet locks" AS_TTL ", not for";
	} else if (options->hold_for && !lock->engine->hold_for) {
		text = "--hold-for is for fleet locks" AS_HOLD_FOR ", not for";
	} else if (!lock->engine->leased) {
		if (options->kill_after < 0 || options->replace)
			return 0;
		text = "-k is for --replace, and for locks that can be lost" AS_ANY ", not for";
	} else if (options->no_fork) {
		text = "-F is not for";
		hint = ": such a lock has to be renewed, and the command ended if that fails, so me-only has to stay";
	} else if (options->replace) {
		text = "--replace is not for";
		hint = ": the holder may be on another host; end it there (--who names host and pid)";
	} else if (options_kill_after(options) > options_ttl(options) / 2) {
		text = "--kill-after is more than half of --ttl for";
		hint = ": too little time to run would be left";
	} else {
		return 0;
	}
	return wrong(error, text, lock->spec, hint);
}

int lock_shape(struct lock *lock, const struct options *options, struct usage_error *error)
{
	lock->options = options;
	lock->shared = options->shared;
	if (options->slots)
		lock->slots = options->slots;
	if (lock->shared && !lock->engine->shared)
		return wrong(error,
			     "-s is for file" AND_SHARED " locks: write file:PATH" OR_SHARED
			     " instead of",
			     lock->spec, "");
	if (options->slots && !lock->engine->slots)
		return wrong(error,
			     "-j is for host" AND_SLOTS " locks: write NAME, host:NAME" OR_SLOTS
			     " instead of",
			     lock->spec, "");
	if (options->queue && !lock->engine->queue)
		return wrong(error, "--queue is not for", lock->spec, "");
	if (lock->shared && options->slots > 1)
		return wrong(error, "-s and -j", NULL, " contradict each other: leave one out");
	return check_lease(lock, options, error);
}

int lock_refuse(const char **refused, const char *reason)
{
	*refused = reason;
	return -EPERM;
}

int lock_refuse_unproved(const char **refused)
{
	return lock_refuse(refused, "the holder cannot be verified");
}

int lock_refuse_stranger(const char **refused)
{
	return lock_refuse(refused, "the holder is neither this user nor root");
}
