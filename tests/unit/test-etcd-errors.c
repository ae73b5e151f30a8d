/* The table of errors: etcd's own texts, from its rpctypes, and gRPC's codes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etcd/errors.h"
#include "tap.h"

#define URL "http://a:2379"
#define DENIED                                                                                     \
	"it needs readwrite permission on all keys that begin with the lock's name and \"/\" (" URL ")"

static struct asked asked;

static void is_judged(unsigned code, const char *text, enum outcome wanted, const char *sentence)
{
	char *got;
	const enum outcome outcome = errors_judge(&asked, code, text, &got);

	if (!ok(outcome == wanted, "%u %s", code, text))
		printf("# got %d, wanted %d\n", (int)outcome, (int)wanted);
	is(got, sentence, "in words");
	ok(errors_judge(&asked, code, text, NULL) == wanted, "without words");
	free(got);
}

/* One that is told as it is. */
static void is_plain(unsigned code, const char *text, enum outcome wanted)
{
	char sentence[300];

	(void)snprintf(sentence, sizeof sentence, URL ": %s", text);
	is_judged(code, text, wanted, sentence);
}

static void users(void)
{
	asked = (struct asked){ .url = URL, .user = "mo:secret", .known = true };
	is_judged(3, "etcdserver: revision of auth store is old", OUTCOME_REAUTH,
		  URL " rejects the login of user 'mo' (etcdserver: revision of auth store is old)");
	is_judged(3, "etcdserver: user name is empty", OUTCOME_REAUTH,
		  URL " rejects the login of user 'mo' (etcdserver: user name is empty)");
	is_judged(16, "etcdserver: invalid auth token", OUTCOME_REAUTH,
		  URL " rejects the login of user 'mo' (etcdserver: invalid auth token)");
	is_judged(3, "etcdserver: authentication failed, invalid user ID or password", OUTCOME_FINAL,
		  URL " refuses user 'mo': wrong name or password (ETCDCTL_USER, ETCDCTL_PASSWORD)");
	is_judged(7, "etcdserver: permission denied", OUTCOME_FINAL, "etcd denies user 'mo': " DENIED);
	is_plain(9, "etcdserver: authentication is not enabled", OUTCOME_OPEN);
	/* The reasons for which a stream ends have no code, but gRPC's word for it. */
	ok(errors_judge(&asked, 0,
			"rpc error: code = InvalidArgument desc = etcdserver: revision of auth store is old",
			NULL) == OUTCOME_REAUTH,
	   "the end of a stream: users were changed");
	ok(errors_judge(&asked, 0, "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
			NULL) == OUTCOME_REAUTH,
	   "the end of a stream: the token has expired");
	ok(errors_judge(&asked, 0, "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
			NULL) != OUTCOME_REAUTH,
	   "the end of a stream: no permission");

	/* Without a user there is nothing to log in with. */
	asked.user = NULL;
	is_plain(3, "etcdserver: revision of auth store is old", OUTCOME_RETRY);
	is_judged(3, "etcdserver: user name is empty", OUTCOME_FINAL,
		  URL " requires authentication: set ETCDCTL_USER and ETCDCTL_PASSWORD");
	is_judged(16, "etcdserver: invalid auth token", OUTCOME_FINAL,
		  URL " requires authentication: set ETCDCTL_USER and ETCDCTL_PASSWORD (etcdserver: invalid auth token)");
	is_judged(7, "etcdserver: permission denied", OUTCOME_FINAL, "etcd denies user '': " DENIED);
}

/* A server's text of any length: all of it is judged, but only a part is shown. */
static void long_texts(void)
{
	char text[4000], wanted[300];

	asked = (struct asked){ .url = URL };
	/* The limit falls on each byte of a character in turn. */
	for (int i = 0; i < 4; i++) {
		char *got;

		memset(text, 'a', (size_t)i);
		for (size_t at = (size_t)i; at + 20 < sizeof text; at += 4)
			memcpy(text + at, "𝄞", 5);
		(void)snprintf(wanted, sizeof wanted, URL ": %.*s...", i + (197 - i) / 4 * 4, text);
		strcat(text, "compacted");
		ok(errors_judge(&asked, 11, text, &got) == OUTCOME_LOST, "the end of it counts");
		is(got, wanted, "cut behind a character");
		free(got);
	}
	memset(text, '\x80', sizeof text - 1);
	text[sizeof text - 1] = 0;
	(void)snprintf(wanted, sizeof wanted, URL ": %.194s...", text);
	is_judged(99, text, OUTCOME_RETRY, wanted);
	memset(text, 'a', 200);
	text[200] = 0;
	is_plain(99, text, OUTCOME_RETRY);
}

static void leases(void)
{
	is_plain(5, "etcdserver: requested lease not found", OUTCOME_LOST);
	is_plain(3, "etcdserver: key not found", OUTCOME_LOST);
	is_plain(9, "etcdserver: lease already exists", OUTCOME_EXISTS);
	is_plain(11, "etcdserver: mvcc: required revision has been compacted", OUTCOME_LOST);
	is_plain(11, "etcdserver: mvcc: required revision is a future revision", OUTCOME_RETRY);
	is_plain(11, "etcdserver: too large lease TTL", OUTCOME_FINAL);
}

static void servers(void)
{
	is_judged(8, "etcdserver: too many requests", OUTCOME_RETRY,
		  URL " is overloaded (etcdserver: too many requests)");
	is_judged(8, "etcdserver: mvcc: database space exceeded", OUTCOME_FINAL,
		  URL " refuses writes: its database is full (etcdserver: mvcc: database space exceeded)");
	is_plain(8, "grpc: received message larger than max (5000000 vs. 2097152)", OUTCOME_FINAL);
	is_plain(14, "etcdserver: no leader", OUTCOME_RETRY);
	is_plain(14, "etcdserver: leader changed", OUTCOME_RETRY);
	is_plain(14, "etcdserver: request timed out, possibly due to previous leader failure",
		 OUTCOME_RETRY);
	is_plain(14, "etcdserver: server stopped", OUTCOME_RETRY);
	is_plain(14, "connection closed", OUTCOME_RETRY);
	is_plain(9, "etcdserver: not leader", OUTCOME_RETRY);
	is_plain(9, "etcdserver: rpc not supported for learner", OUTCOME_RETRY);
	is_plain(1, "context canceled", OUTCOME_RETRY);
	is_plain(2, "context deadline exceeded", OUTCOME_RETRY);
	is_plain(4, "context deadline exceeded", OUTCOME_RETRY);
	is_plain(13, "", OUTCOME_RETRY);
	is_plain(4000000000U, "no reason given", OUTCOME_RETRY);
	is_plain(15, "etcdserver: corrupt cluster", OUTCOME_FINAL);
	is_plain(3, "etcdserver: request is too large", OUTCOME_FINAL);
	is_plain(12, "unknown service etcdserverpb.KV", OUTCOME_USELESS);
	is_plain(5, "Not Found", OUTCOME_USELESS);
	/* A percent sign of the server's is its own. */
	is_plain(2, "100 %U %s %", OUTCOME_RETRY);
}

static void attempts(void)
{
	ok(errors_may_pass(OUTCOME_RETRY) && errors_may_pass(OUTCOME_REAUTH) &&
		   errors_may_pass(OUTCOME_CLOSED),
	   "what may pass");
	ok(!errors_may_pass(OUTCOME_DONE) && !errors_may_pass(OUTCOME_LOST) &&
		   !errors_may_pass(OUTCOME_FINAL) && !errors_may_pass(OUTCOME_USELESS) &&
		   !errors_may_pass(OUTCOME_STOPPED),
	   "what does not");
}

int main(void)
{
	users();
	long_texts();
	leases();
	servers();
	attempts();
	return tap_done();
}
