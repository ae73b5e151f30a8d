#include "helper/entry.h"

#include <stdlib.h>

#include "base/memory.h"

void entry_free(struct entry *entry)
{
	free(entry->key);
	entry->key = NULL;
}

void entries_free(struct entries *entries)
{
	for (size_t i = 0; i < entries->n; i++)
		entry_free(&entries->all[i]);
	free(entries->all);
	*entries = (struct entries){ .n = 0 };
}

const struct entry *entries_find(const struct entries *entries, uint64_t created)
{
	for (size_t i = 0; i < entries->n; i++)
		if (entries->all[i].created == created)
			return &entries->all[i];
	return NULL;
}

struct entry entry_copy(const struct entry *entry)
{
	struct entry copy = *entry;

	copy.key = memory_string(entry->key);
	return copy;
}
