/*
 * What a member does with a request.
 *
 * What is modelled of etcd: a write and a linearizable read wait for the leader and a majority; a
 * keepalive and a time to live are answered by the leader alone, at 3.4 without asking whether it
 * still leads (so one that was replaced goes on to call dead leases alive); 3.5 asks a majority
 * first; a request that is not answered for 7 seconds fails, and may be done nevertheless; what was
 * asked for can be done though the answer is an error.
 */
#include "server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cluster.h"
#include "world.h"

#define SERVER_LIMIT (7 * S)

/* A request that a member is busy with. */
struct work {
	struct call *call;
	struct request *request;
	struct header header; /* when it came: what a keepalive answers with */
	ns until, born;
	int member;
	bool ghost; /* its answer was an error already: but it is done */
};

const char *server_words(enum ask ask)
{
	static const char *const words[] = {
		"grant a lease", "keep a lease alive",	  "tell a lease's time", "revoke a lease",
		"read",		 "execute a transaction", "tell its status",	 "authenticate",
		"watch"
	};

	return words[ask];
}

struct header server_header(int m)
{
	const struct member *member = &cluster.members[m];

	return (struct header){ .member = 100 + (uint64_t)m,
				 .term = member->term,
				 .revision = member->applied > store.revision ? store.revision
									      : member->applied };
}

struct reply *server_reply(struct call *call)
{
	struct reply *reply = arena_get(sizeof *reply);

	reply->call = call;
	reply->ask = call->request->ask;
	reply->header = server_header(call->member);
	return reply;
}

static void fail(struct call *call, enum status status, const char *message)
{
	struct reply *reply = server_reply(call);

	reply->status = status;
	reply->message = message;
	network_reply(reply);
}

static void finish(struct work *work, struct reply *reply)
{
	if (!work->ghost)
		network_reply(reply);
}

static void finish_badly(struct work *work, enum status status, const char *message)
{
	if (!work->ghost)
		fail(work->call, status, message);
}

/* --- what goes through the log ---------------------------------------------------------------- */

static enum status grant(const struct request *request, struct reply *reply, const char **why)
{
	const struct lease *lease;

	if (cluster.no_space) {
		*why = "etcdserver: mvcc: database space exceeded";
		return STATUS_EXHAUSTED;
	}
	lease = lease_grant(request->lease, request->ttl);
	if (!lease) {
		*why = "etcdserver: lease already exists";
		return STATUS_PRECONDITION;
	}
	reply->lease = lease->id;
	reply->ttl = lease->ttl;
	return STATUS_OK;
}

static enum status revoke(const struct request *request, const char **why)
{
	struct lease *lease = lease_find(request->lease);

	if (!lease || lease->revoked) {
		*why = "etcdserver: requested lease not found";
		return STATUS_NOT_FOUND;
	}
	lease_revoke(lease, BY_REVOKE);
	return STATUS_OK;
}

static enum status execute(struct request *request, struct reply *reply, const char **why)
{
	switch (request->ask) {
	case ASK_GRANT: return grant(request, reply, why);
	case ASK_REVOKE: return revoke(request, why);
	case ASK_RANGE: reply->range = store_range(&request->range); return STATUS_OK;
	default:
		if (cluster.no_space && request->writes) {
			*why = "etcdserver: mvcc: database space exceeded";
			return STATUS_EXHAUSTED;
		}
		return store_txn(&request->txn, &reply->txn, why);
	}
}

static void execute_work(struct work *work)
{
	struct member *member = &cluster.members[work->member];
	struct reply *reply = server_reply(work->call);

	cluster.n_executed++;
	reply->status = execute(work->request, reply, &reply->message);
	member->applied = store.revision;
	reply->header = server_header(work->member);
	finish(work, reply);
}

/* What a leader that nothing is wrong with answers. */
static void tell_lease(const struct request *request, struct reply *reply)
{
	const struct lease *lease = lease_find(request->lease);
	const bool alive = lease && !lease->revoked;

	reply->lease = request->lease;
	reply->ttl = alive ? lease->ttl : request->ask == ASK_KEEPALIVE ? 0 : -1;
	reply->granted_ttl = alive && request->ask == ASK_TIME_TO_LIVE ? lease->ttl : 0;
}

struct reply *server_do(struct request *request)
{
	struct reply *reply = arena_get(sizeof *reply);

	reply->ask = request->ask;
	if (request->ask == ASK_WATCH)
		stream_tell(&request->watches[0], reply);
	else if (request->ask == ASK_KEEPALIVE || request->ask == ASK_TIME_TO_LIVE)
		tell_lease(request, reply);
	else
		reply->status = execute(request, reply, &reply->message);
	return reply;
}

/* --- what the leader answers alone ------------------------------------------------------------ */

static void try_work(void *argument, int64_t agreed);

static void later(struct work *work, ns t)
{
	event_at(now + t, try_work, work, 0);
}

/* A lease as member X sees it, which leads, or only believes to (STALE). */
static bool is_alive(const struct lease *lease, int x, bool stale)
{
	const struct member *member = &cluster.members[x];

	if (!lease)
		return false;
	if (!stale)
		return !lease->revoked;
	return (!lease->revoked || lease->revoked > member->stale_since) &&
	       lease->granted <= member->stale_since;
}

static void tell_time(struct work *work, const struct lease *lease, int x, bool stale)
{
	struct reply *reply = server_reply(work->call);

	reply->lease = work->request->lease;
	reply->ttl = -1;
	if (is_alive(lease, x, stale)) {
		const int64_t left = ((stale ? lease->view[x] : lease->expiry) - member_clock(x)) /
				     S;

		reply->ttl = left > 0 ? left : 0;
		reply->granted_ttl = lease->ttl;
	}
	finish(work, reply);
}

static void keep_alive(struct work *work, struct lease *lease, int x, bool stale)
{
	struct reply *reply;

	/* One that is over has to be ended first. */
	if (is_alive(lease, x, stale) && !stale && member_clock(x) >= lease->expiry) {
		if (now > work->until)
			finish_badly(work, STATUS_UNAVAILABLE, "etcdserver: request timed out");
		else
			later(work, 100 * MS);
		return;
	}
	reply = server_reply(work->call);
	reply->header = work->header;
	reply->lease = work->request->lease;
	if (is_alive(lease, x, stale)) {
		lease->view[x] = member_clock(x) + lease->ttl * S;
		if (!stale)
			lease->expiry = lease->view[x];
		reply->ttl = lease->ttl;
	}
	finish(work, reply);
}

/* X is taken for the leader. */
static void ask_leader(struct work *work, int x)
{
	const struct member *member = &cluster.members[x];
	const bool leads = cluster.leader == x && member->believed == x,
		   stale = !leads && member->believed == x;
	struct lease *lease = lease_find(work->request->lease);

	if ((!leads && !stale) || (!member->old && !(leads && member_can_commit(x)))) {
		if (now > work->until || random_chance(0.3))
			finish_badly(work, STATUS_UNAVAILABLE, "etcdserver: not primary lessor");
		else
			later(work, random_between(50 * MS, 150 * MS));
	} else if (work->request->ask == ASK_KEEPALIVE) {
		keep_alive(work, lease, x, stale);
	} else {
		tell_time(work, lease, x, stale);
	}
}

/* --- a request on its way through a member ---------------------------------------------------- */

static bool can_pass_to(int m, int x)
{
	return m == x ||
	       (member_linked(m, x) && cluster.members[x].up && !cluster.members[x].frozen);
}

/* Whether WORK has to end, or to wait, before it can be done. */
static bool is_held_up(struct work *work)
{
	const struct member *member = &cluster.members[work->member];

	/* Who was restarted knows nothing of it. */
	if (!member->up || member->restarted > work->born)
		return true;
	if (member->frozen) {
		later(work, 100 * MS);
		return true;
	}
	if (now > work->until) {
		finish_badly(work, member->debian ? STATUS_DEADLINE : STATUS_UNKNOWN,
			     "context deadline exceeded");
		return true;
	}
	if (member->believed >= 0 || work->ghost)
		return false;
	/* The client has asked to be told if there is no leader (hasleader). */
	if (now - work->born < 100 * MS || random_chance(0.1))
		finish_badly(work, STATUS_UNAVAILABLE, "etcdserver: no leader");
	else
		later(work, 100 * MS);
	return true;
}

static bool has_majority(const struct work *work)
{
	const int m = work->member, leader = cluster.leader;

	return cluster.members[m].believed == leader && member_can_commit(leader) &&
	       member_linked(m, leader) && (m != leader || member_works(m));
}

static void try_work(void *argument, int64_t agreed)
{
	struct work *work = argument;
	const int m = work->member, x = cluster.members[m].believed;
	ns t;

	if (is_held_up(work))
		return;
	if (work->request->ask == ASK_KEEPALIVE || work->request->ask == ASK_TIME_TO_LIVE) {
		if (x >= 0 && can_pass_to(m, x))
			ask_leader(work, x);
		else
			later(work, random_between(50 * MS, 200 * MS));
		return;
	}
	if (!has_majority(work)) {
		later(work, random_between(50 * MS, 200 * MS));
		return;
	}
	if (agreed) {
		execute_work(work);
		return;
	}
	t = random_between(200 * US, 2 * MS);
	if (random_chance(cluster.slow))
		t += random_between(10 * MS, 1 * S);
	event_at(now + t, try_work, work, 1);
}

/* --- users ------------------------------------------------------------------------------------ */

static void make_token(char token[32])
{
	snprintf(token, 32, "token-%u", cluster.token_epoch);
}

/*
 * Tokens end because nobody has used them for long, or, with JWT, because a user or a role has
 * changed; here by turns. At 3.4 nobody has to be let in for leases: of 3.4.23's lease calls only
 * Revoke looks.
 */
bool server_lets_in(const struct call *call)
{
	const enum ask ask = call->request->ask;
	char wanted[32];

	if (!cluster.users || ask == ASK_AUTHENTICATE || ask == ASK_STATUS)
		return true;
	if (cluster.members[call->member].old &&
	    (ask == ASK_GRANT || ask == ASK_KEEPALIVE || ask == ASK_TIME_TO_LIVE))
		return true;
	make_token(wanted);
	return call->token && !strcmp(call->token, wanted);
}

enum status server_refusal(const struct call *call, const char **why)
{
	const bool changed = cluster.token_epoch % 2;

	*why = !call->token ? "etcdserver: user name is empty"
	       : changed    ? "etcdserver: revision of auth store is old"
			    : "etcdserver: invalid auth token";
	return call->token && !changed ? STATUS_UNAUTHENTICATED : STATUS_INVALID;
}

static void authenticate(struct call *call)
{
	struct reply *reply;
	char token[32];

	if (!cluster.users) {
		fail(call, STATUS_PRECONDITION, "etcdserver: authentication is not enabled");
		return;
	}
	make_token(token);
	reply = server_reply(call);
	reply->token = arena_text(token);
	network_reply(reply);
}

/* --- a request has come ----------------------------------------------------------------------- */

static void take_up(struct call *call, bool ghost)
{
	struct work *work = arena_get(sizeof *work);

	*work = (struct work){ .call = call,
				.request = call->request,
				.header = server_header(call->member),
				.until = now + SERVER_LIMIT,
				.born = now,
				.member = call->member,
				.ghost = ghost };
	later(work, random_between(50 * US, 300 * US));
}

static bool is_written(const struct request *request)
{
	return request->writes || request->ask == ASK_GRANT || request->ask == ASK_REVOKE;
}

/* An error for no reason, as while the leader changes. Returns whether what was asked for is not
 * done. */
static bool fail_by_chance(struct call *call)
{
	struct member *member = &cluster.members[call->member];

	member->errors -= member->errors > 0;
	/* It cannot apply as fast as it is written to. */
	if (is_written(call->request) && random_chance(0.2)) {
		fail(call, STATUS_EXHAUSTED, "etcdserver: too many requests");
		return true;
	}
	fail(call, random_chance(0.5) ? STATUS_UNAVAILABLE : STATUS_UNKNOWN,
	     "etcdserver: leader changed");
	return random_chance(0.6) || call->request->ask == ASK_WATCH;
}

void server_process(struct call *call)
{
	const struct member *member = &cluster.members[call->member];
	struct reply *reply;
	bool ghost = false;

	if (member->errors > 0 || random_chance(cluster.error)) {
		if (fail_by_chance(call))
			return;
		ghost = true;
	}
	if (call->request->ask == ASK_WATCH) {
		server_watch(call);
	} else if (!server_lets_in(call)) {
		const char *why;
		const enum status status = server_refusal(call, &why);

		fail(call, status, why);
	} else if (call->request->ask == ASK_AUTHENTICATE) {
		authenticate(call);
	} else if (call->request->ask == ASK_STATUS) {
		reply = server_reply(call);
		reply->version = member->old ? "3.4.23" : "3.5.16";
		network_reply(reply);
	} else {
		take_up(call, ghost);
	}
}

void server_reset(void)
{
	stream_reset();
}
