#include "lock.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const struct lock_engine *const engines[] = { &lock_host, &lock_file };

/* How many bytes of SPEC look like an engine's prefix, [a-z][a-z0-9+-]* before a colon; 0 if it has none. */
static size_t prefix_length(const char *spec)
{
	size_t length = strspn(spec, "abcdefghijklmnopqrstuvwxyz0123456789+-");

	return spec[0] >= 'a' && spec[0] <= 'z' && spec[length] == ':' ? length : 0;
}

static const struct lock_engine *find_engine(const char *prefix, size_t length)
{
	for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
		if (strlen(engines[i]->prefix) == length && !memcmp(engines[i]->prefix, prefix, length))
			return engines[i];
	return NULL;
}

int lock_open(struct lock *lock, const char *spec, struct usage_error *error)
{
	size_t length = prefix_length(spec);

	*lock = (struct lock){ .engine = &lock_host, .spec = spec, .name = spec, .slots = 1, .fd = -1, .watched = -1, .place = -1,
			       .line = { -1, -1, -1 } };
	if (length > 0) {
		lock->engine = find_engine(spec, length);
		lock->name = spec + length + 1;
	}
	/* A typing error must not become a lock that nobody else takes. */
	if (!lock->engine)
		*error = (struct usage_error){ "no such kind of lock:", spec, "; for a lock of this host with that name write host:", true };
	else if (!*lock->name)
		*error = (struct usage_error){ "the name of the lock is empty", NULL, "", false };
	else
		return 0;
	return -EINVAL;
}

int lock_shape(struct lock *lock, const struct options *options, struct usage_error *error)
{
	lock->shared = options->shared;
	if (options->slots)
		lock->slots = options->slots;
	if (lock->shared && !lock->engine->can_share)
		*error = (struct usage_error){ "-s is for locks on files: write file:PATH instead of", lock->spec, "", false };
	else if (options->slots && !lock->engine->can_have_slots)
		*error = (struct usage_error){ "-j is for locks of this host: write NAME or host:NAME instead of", lock->spec, "", false };
	else
		return 0;
	return -EINVAL;
}
