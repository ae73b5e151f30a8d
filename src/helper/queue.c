#include "helper/queue.h"

#include "base/limits.h"

/* Foreign entries want to be alone. */
static bool wants(const struct entry *entry, enum entry_mode mode)
{
	return !entry->foreign && entry->mode == mode;
}

static bool has_it(const struct entry *entry)
{
	return entry->state == ENTRY_HELD || entry->state == ENTRY_KEPT;
}

/* The last of the N that does not want MODE, or NULL. */
static const struct entry *last_other(const struct entry *before, size_t n, enum entry_mode mode)
{
	while (n-- > 0)
		if (!wants(&before[n], mode))
			return &before[n];
	return NULL;
}

static unsigned lower(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static bool is_taken(const struct entry *before, size_t n, unsigned slot)
{
	for (size_t i = 0; i < n; i++)
		if (before[i].slot == slot)
			return true;
	return false;
}

static enum queue_verdict judge_slots(const struct entry *ours, const struct entry *before,
				      size_t n, const struct entry **blocker, unsigned *slot)
{
	unsigned limit = ours->slots;

	*blocker = last_other(before, n, ENTRY_SLOTS);
	for (size_t i = n; !*blocker && i-- > 0;)
		if (!has_it(&before[i]))
			*blocker = &before[i];
	if (*blocker)
		return QUEUE_WATCH_KEY;
	for (size_t i = 0; i < n; i++)
		limit = lower(limit, before[i].slots);
	if (n >= limit)
		return QUEUE_WATCH_ALL;
	*slot = 0;
	while (is_taken(before, n, *slot))
		++*slot;
	return QUEUE_OURS;
}

enum queue_verdict queue_judge(const struct entry *ours, const struct entry *before, size_t n,
			       const struct entry **blocker, unsigned *slot)
{
	*slot = 0;
	if (ours->mode == ENTRY_SLOTS)
		return judge_slots(ours, before, n, blocker, slot);
	*blocker = ours->mode == ENTRY_SHARED ? last_other(before, n, ENTRY_SHARED)
		   : n > 0		      ? &before[n - 1]
					      : NULL;
	return *blocker ? QUEUE_WATCH_KEY : QUEUE_OURS;
}

/* Whether both may hold the lock at the same time. */
static bool go_together(const struct entry *a, const struct entry *b)
{
	return (wants(a, ENTRY_SHARED) && wants(b, ENTRY_SHARED)) ||
	       (wants(a, ENTRY_SLOTS) && wants(b, ENTRY_SLOTS));
}

bool queue_can_be_lost(const struct entry *ours, const struct entry *gone,
		       const struct entry *before, size_t n)
{
	/* Its command had ended, or both share the lock: running beside it does no harm. */
	if (gone->state == ENTRY_KEPT || (wants(ours, ENTRY_SHARED) && wants(gone, ENTRY_SHARED)))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (go_together(&before[i], gone))
			continue;
		/* GONE cannot have held the lock while this one was ahead of it. */
		if (before[i].created < gone->created)
			return false;
		/* This one took the lock after GONE left: it stands back, and we wait for it. */
		if (has_it(&before[i]) && !go_together(&before[i], ours))
			return false;
	}
	return true;
}

unsigned queue_slots(const struct entry *entries, size_t index)
{
	unsigned limit = MOST_SLOTS;

	if (!wants(&entries[index], ENTRY_SLOTS))
		return 1;
	for (size_t i = 0; i <= index; i++)
		if (wants(&entries[i], ENTRY_SLOTS))
			limit = lower(limit, entries[i].slots);
	return limit;
}

bool queue_holds(const struct entry *entries, size_t index)
{
	const struct entry *entry = &entries[index];

	if (has_it(entry))
		return true;
	if (wants(entry, ENTRY_SHARED))
		return !last_other(entries, index, ENTRY_SHARED);
	if (wants(entry, ENTRY_SLOTS))
		return !last_other(entries, index, ENTRY_SLOTS) &&
		       index < queue_slots(entries, index);
	return index == 0;
}

size_t queue_count(const struct entry *entries, size_t n, const struct entry **first)
{
	size_t count = 0;

	*first = NULL;
	for (size_t i = 0; i < n; i++)
		if (entries[i].queue && !queue_holds(entries, i)) {
			if (count++ == 0)
				*first = &entries[i];
		}
	return count;
}
