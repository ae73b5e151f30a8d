#include "etcd/errors.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "helper/say.h"

/* The codes of gRPC that make a difference. */
enum {
	INVALID_ARGUMENT = 3,
	NOT_FOUND = 5,
	PERMISSION_DENIED = 7,
	RESOURCE_EXHAUSTED = 8,
	FAILED_PRECONDITION = 9,
	OUT_OF_RANGE = 11,
	UNIMPLEMENTED = 12,
	DATA_LOSS = 15,
	UNAUTHENTICATED = 16,
	ANY = 1000, /* a text that says enough: the end of a stream has no code of its own */
};

/* When a row applies. */
enum when {
	ALWAYS,
	WITH_USER, /* we have a name and a password */
};

#define LOG_IN "%U requires authentication: set ETCDCTL_USER and ETCDCTL_PASSWORD"

/*
 * The first row that fits counts. TEXT is a part of the server's message. In sentences, %U is the
 * endpoint, %N the user, %T the server's text.
 */
static const struct error {
	unsigned code;
	const char *text; /* NULL: any */
	enum when when;
	enum outcome outcome;
	const char *sentence;
} errors[] = {
	/*
	 * Users and roles. With JWT, each change of one makes all tokens old; without, a change
	 * while a request is under way does.
	 */
	{ ANY, "revision of auth store is old", WITH_USER, OUTCOME_REAUTH,
	  "%U rejects the login of user '%N' (%T)" },
	{ ANY, "revision of auth store is old", ALWAYS, OUTCOME_RETRY, "%U: %T" },
	{ ANY, "user name is empty", WITH_USER, OUTCOME_REAUTH,
	  "%U rejects the login of user '%N' (%T)" },
	{ ANY, "user name is empty", ALWAYS, OUTCOME_FINAL, LOG_IN },
	{ ANY, "invalid auth token", WITH_USER, OUTCOME_REAUTH,
	  "%U rejects the login of user '%N' (%T)" },
	{ UNAUTHENTICATED, NULL, WITH_USER, OUTCOME_REAUTH,
	  "%U rejects the login of user '%N' (%T)" },
	{ UNAUTHENTICATED, NULL, ALWAYS, OUTCOME_FINAL, LOG_IN " (%T)" },
	{ INVALID_ARGUMENT, "authentication failed", ALWAYS, OUTCOME_FINAL,
	  "%U refuses user '%N': wrong name or password (ETCDCTL_USER, ETCDCTL_PASSWORD)" },
	{ FAILED_PRECONDITION, "authentication is not enabled", ALWAYS, OUTCOME_OPEN, "%U: %T" },
	{ PERMISSION_DENIED, NULL, ALWAYS, OUTCOME_FINAL,
	  "etcd denies user '%N': it needs readwrite permission on all keys that begin with the lock's name and \"/\" (%U)" },

	/* Leases, keys and revisions. */
	{ NOT_FOUND, "lease not found", ALWAYS, OUTCOME_LOST, "%U: %T" },
	{ INVALID_ARGUMENT, "key not found", ALWAYS, OUTCOME_LOST, "%U: %T" },
	{ FAILED_PRECONDITION, "lease already exists", ALWAYS, OUTCOME_EXISTS, "%U: %T" },
	{ OUT_OF_RANGE, "compacted", ALWAYS, OUTCOME_LOST, "%U: %T" },
	/* A member that lags behind. */
	{ OUT_OF_RANGE, "future revision", ALWAYS, OUTCOME_RETRY, "%U: %T" },

	/* The state of the server. */
	{ RESOURCE_EXHAUSTED, "space exceeded", ALWAYS, OUTCOME_FINAL,
	  "%U refuses writes: its database is full (%T)" },
	{ RESOURCE_EXHAUSTED, "larger than max", ALWAYS, OUTCOME_FINAL, "%U: %T" },
	{ RESOURCE_EXHAUSTED, NULL, ALWAYS, OUTCOME_RETRY, "%U is overloaded (%T)" },
	{ DATA_LOSS, NULL, ALWAYS, OUTCOME_FINAL, "%U: %T" },

	/* The request itself is at fault, or the endpoint. */
	{ INVALID_ARGUMENT, NULL, ALWAYS, OUTCOME_FINAL, "%U: %T" },
	{ OUT_OF_RANGE, NULL, ALWAYS, OUTCOME_FINAL, "%U: %T" },
	{ NOT_FOUND, NULL, ALWAYS, OUTCOME_USELESS, "%U: %T" },
	{ UNIMPLEMENTED, NULL, ALWAYS, OUTCOME_USELESS, "%U: %T" },

	/* All others: no leader, too late, being stopped, being upgraded. */
	{ ANY, NULL, ALWAYS, OUTCOME_RETRY, "%U: %T" },
};

static bool fits(const struct error *error, const struct asked *asked, unsigned code,
		 const char *text)
{
	if (error->when == WITH_USER && !asked->user)
		return false;
	return (error->code == ANY || error->code == code) &&
	       (!error->text || strstr(text, error->text));
}

/* The sentence with the words of this error, to be freed. A server's text can be of any length. */
static char *fill_in(const char *sentence, const struct asked *asked, const char *text)
{
	const char *user = asked->user ? asked->user : "";
	char *line = memory_string(""), shown[LINE_FOREIGN + 1];

	say_cut(shown, sizeof shown, text);
	for (;;) {
		const size_t n = strcspn(sentence, "%");
		const int kind = sentence[n] ? sentence[n + 1] : 0;
		const char *word = kind == 'U'	 ? asked->url
				   : kind == 'T' ? shown
				   : kind	 ? user
						 : "";
		/* Behind a colon there may be a password that was meant. */
		const size_t length = kind == 'N' ? strcspn(word, ":") : strlen(word);
		char *longer =
			memory_format("%s%.*s%.*s", line, (int)n, sentence, (int)length, word);

		free(line);
		line = longer;
		if (!kind)
			return line;
		sentence += n + 2;
	}
}

enum outcome errors_judge(const struct asked *asked, unsigned code, const char *text,
			  char **sentence)
{
	const struct error *error = errors;

	/* The last one fits. */
	while (!fits(error, asked, code, text))
		error++;
	if (sentence)
		*sentence = fill_in(error->sentence, asked, text);
	return error->outcome;
}

bool errors_may_pass(enum outcome outcome)
{
	return outcome == OUTCOME_RETRY || outcome == OUTCOME_REAUTH || outcome == OUTCOME_CLOSED;
}
