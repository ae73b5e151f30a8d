#include "run/environment.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/process.h"

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

/*
 * In these a service manager names the process that it has started: sd_listen_fds(3),
 * sd_watchdog_enabled(3), systemd.exec(5).
 */
static const char *const addressees[ENVIRONMENT_ADDRESSEES] = { "LISTEN_PID=", "WATCHDOG_PID=",
								"SYSTEMD_EXEC_PID=" };
static const char listen_id[] = "LISTEN_PIDFDID=";

/* Writes NAME and NUMBER into TEXT, and returns that, if ENTRY is NAME and the number OURS. */
static char *readdress(const char *entry, const char *name, uint64_t ours, uint64_t number,
		       char *text)
{
	number_format(ours, stpcpy(text, name));
	if (strcmp(entry, text) != 0)
		return NULL;
	number_format(number, stpcpy(text, name));
	return text;
}

/*
 * ENTRY as the command is to see it: what names me-only, its parent, names the command, which would
 * otherwise take it for another's.
 */
static char *addressed(char *entry, struct environment_texts *texts)
{
	char *text = NULL;

	/* Each once: a text that is used must stay. */
	for (size_t i = 0; !text && i < ENVIRONMENT_ADDRESSEES; i++)
		if (!*texts->pids[i] && !strncmp(entry, addressees[i], strlen(addressees[i])))
			text = readdress(entry, addressees[i], (uint64_t)getppid(),
					 (uint64_t)getpid(), texts->pids[i]);
	if (!*texts->id && !strncmp(entry, listen_id, sizeof listen_id - 1))
		text = readdress(entry, listen_id, process_pidfd_number(getppid()),
				 process_pidfd_number(getpid()), texts->id);
	return text ? text : entry;
}

void environment_make(char **environment, const struct lock *lock, char *locked, char *slot,
		      struct environment_texts *texts)
{
	const char *const *variables = lock->variables;

	for (char **entry = environ; *entry; entry++)
		if (!is_lock_variable(*entry) && (!variables || !is_replaced(variables, *entry)))
			*environment++ = texts ? addressed(*entry, texts) : *entry;
	*environment++ = locked;
	if (slot)
		*environment++ = slot;
	for (; variables && *variables; variables++)
		if (strchr(*variables, '='))
			*environment++ = (char *)(uintptr_t)*variables;
	*environment = NULL;
}
