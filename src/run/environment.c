#include "run/environment.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

/* Inherited lock variables belong to another lock. */
static bool is_lock_variable(const char *entry)
{
	static const char prefix[] = "ME_ONLY_";
	static const char *const names[] = { "LOCK=", "SLOT=", "TOKEN=" };

	if (strncmp(entry, prefix, sizeof prefix - 1) != 0)
		return false;
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!strncmp(entry + sizeof prefix - 1, names[i], strlen(names[i])))
			return true;
	return false;
}

size_t environment_size(const struct lock *lock)
{
	size_t n = 0;

	while (environ[n])
		n++;
	for (const char *const *entry = lock->variables; entry && *entry; entry++)
		n++;
	return n + 3;
}

/* Whether one of VARIABLES has the name of ENTRY. */
static bool is_replaced(const char *const *variables, const char *entry)
{
	size_t length = strcspn(entry, "=");

	for (; *variables; variables++)
		if (!strncmp(*variables, entry, length) &&
		    ((*variables)[length] == '=' || (*variables)[length] == 0))
			return true;
	return false;
}

void environment_make(char **environment, const struct lock *lock, char *locked, char *slot)
{
	const char *const *variables = lock->variables;

	for (char **entry = environ; *entry; entry++)
		if (!is_lock_variable(*entry) && (!variables || !is_replaced(variables, *entry)))
			*environment++ = *entry;
	*environment++ = locked;
	if (slot)
		*environment++ = slot;
	for (; variables && *variables; variables++)
		if (strchr(*variables, '='))
			*environment++ = (char *)(uintptr_t)*variables;
	*environment = NULL;
}
