/*
 * Elections, the leader's leases and the faults of members.
 *
 * What is modelled of etcd: a leader commits with a majority that it reaches; one that has been
 * replaced believes to lead until it hears of the other; leases are counted by the leader alone,
 * and a new leader gives each its whole time again, and one election more (lessor.Promote()); an
 * old server whose disk has hung ends all leases that it believes to be over when it goes on, and
 * the new leader takes that for a client's wish (issue 15247, until 3.4.31 and 3.5.13).
 */
#include "cluster.h"

#include <inttypes.h>
#include <string.h>

#include "server.h"
#include "store.h"
#include "world.h"

#define TICK (50 * MS)
#define TICKS_PER_LEASE_LOOK 10 /* lessor.go: every 500 ms */
#define ELECTION (1 * S)

/* Without a leader for longer, a member ends its streams of clients that ask for one. */
#define STREAMS_END (4 * S)

struct cluster cluster;
static ns healthy_at, patience, last_commit;
static unsigned ticks;

ns member_clock(int m)
{
	return clock_boottime(HOSTS + m);
}

bool member_works(int m)
{
	return cluster.members[m].up && !cluster.members[m].frozen && !cluster.members[m].stuck;
}

bool member_linked(int a, int b)
{
	return a == b || (!cluster.cut[a][b] && !cluster.cut[b][a]);
}

bool member_can_commit(int m)
{
	int n = 0;

	if (!member_works(m))
		return false;
	for (int i = 0; i < MEMBERS; i++)
		n += member_works(i) && member_linked(m, i);
	return n > MEMBERS / 2;
}

/* --- who leads -------------------------------------------------------------------------------- */

static int candidate;

static void extend(struct lease *lease)
{
	lease->expiry = lease->view[candidate] = member_clock(candidate) + lease->ttl * S +
						 ELECTION;
}

static void lead(int m)
{
	const int before = cluster.leader;

	if (before >= 0 && before != m)
		cluster.members[before].stale_since = member_can_commit(before) ? now
						    : last_commit > healthy_at	? last_commit
										: healthy_at;
	cluster.leader = m;
	cluster.elections++;
	for (int i = 0; i < MEMBERS; i++)
		if (cluster.members[i].up && cluster.members[i].term > cluster.term)
			cluster.term = cluster.members[i].term;
	cluster.members[m].term = ++cluster.term;
	cluster.members[m].believed = m;
	cluster.members[m].contact = now;
	cluster.members[m].applied = store.revision;
	candidate = m;
	lease_each(extend);
	healthy_at = now;
	patience = random_between(1000 * MS, 2000 * MS);
	trace("member %d leads in term %" PRIu64, m, cluster.term);
}

static void follow(int m)
{
	struct member *member = &cluster.members[m];

	/* One that comes back with a later term makes the others elect. */
	if (member->term > cluster.term) {
		lead(cluster.leader);
		return;
	}
	member->contact = now;
	member->believed = cluster.leader;
	member->term = cluster.term;
	if (member->applied != store.revision) {
		member->applied = store.revision;
		server_flush(m);
	}
}

static void miss_leader(int m)
{
	struct member *member = &cluster.members[m];

	if (member->believed >= 0)
		trace("member %d knows no leader", m);
	member->believed = -1;
	/* 3.4 has no pre-vote: one that is cut off counts terms up. */
	if (member->old && random_chance(0.03))
		member->term++;
	if (now - member->contact > STREAMS_END)
		server_end_streams(m, STREAM_NO_LEADER);
}

static void look_at_members(void)
{
	for (int m = 0; m < MEMBERS; m++) {
		struct member *member = &cluster.members[m];

		if (!member_works(m))
			continue;
		if (m == cluster.leader && member_can_commit(m)) {
			member->contact = now;
			member->believed = m;
			member->term = cluster.term;
			member->applied = store.revision;
		} else if (m != cluster.leader && member_can_commit(cluster.leader) &&
			   member_linked(m, cluster.leader)) {
			follow(m);
		} else if (now - member->contact > member->patience) {
			miss_leader(m);
		}
	}
}

static void elect(void)
{
	int candidates[MEMBERS], n = 0;

	for (int m = 0; m < MEMBERS; m++)
		if (member_can_commit(m))
			candidates[n++] = m;
	if (n)
		lead(candidates[random_below((unsigned)n)]);
}

/* --- leases ----------------------------------------------------------------------------------- */

/* A server that ends leases early hits those that count more often. */
static void look_at_lease(struct lease *lease)
{
	double chance;

	if (member_clock(cluster.leader) >= lease->expiry) {
		lease_revoke(lease, BY_EXPIRY);
		return;
	}
	if (!cluster.breaks_early)
		return;
	chance = store.n_kvs && store.kvs[0].lease == lease->id ? 0.03 : 0.004;
	if (random_chance(chance) && store_has_lease(lease->id))
		lease_revoke(lease, BY_MISTAKE);
}

static int late_leader;

static void end_if_believed(struct lease *lease)
{
	const struct member *member = &cluster.members[late_leader];

	if (lease->granted < member->stale_since &&
	    member_clock(late_leader) >= lease->view[late_leader])
		lease_revoke(lease, member_clock(cluster.leader) >= lease->expiry ? BY_EXPIRY
										  : BY_MISTAKE);
}

/* A leader that was stuck goes on, and does not know yet that it was replaced. */
static void go_on(int m)
{
	struct member *member = &cluster.members[m];

	if (!member_works(m) || member->believed != m || cluster.leader == m)
		return;
	late_leader = m;
	if (member->old && member_can_commit(cluster.leader) && member_linked(m, cluster.leader) &&
	    random_chance(0.7))
		lease_each(end_if_believed);
	member->contact = now;
}

/* --- time ------------------------------------------------------------------------------------- */

static void tick(void *unused, int64_t n)
{
	(void)unused;
	if (member_can_commit(cluster.leader))
		healthy_at = now;
	else if (now - healthy_at > patience)
		elect();
	look_at_members();
	if (++ticks % TICKS_PER_LEASE_LOOK == 0 && member_can_commit(cluster.leader) &&
	    cluster.members[cluster.leader].believed == cluster.leader)
		lease_each(look_at_lease);
	event_at(now + TICK, tick, NULL, n);
}

static void apply_event(void *unused, int64_t n)
{
	const int m = (int)(n & 3);
	const uint64_t revision = (uint64_t)n >> 2;
	struct member *member = &cluster.members[m];

	(void)unused;
	if (!member->up || member->frozen)
		return;
	if (member->applied < revision)
		member->applied = revision;
	server_flush(m);
}

/* The members hear of it one after the other. */
void cluster_committed(void)
{
	last_commit = now;
	for (int m = 0; m < MEMBERS; m++) {
		ns delay;

		if (!member_works(m) || !member_linked(m, cluster.leader) ||
		    cluster.members[m].believed != cluster.leader)
			continue;
		delay = m == cluster.leader ? random_between(10 * US, 200 * US)
					    : random_between(100 * US, 1 * MS);
		if (random_chance(cluster.slow))
			delay += random_between(10 * MS, 3 * S);
		event_at(now + delay, apply_event, NULL,
			 (int64_t)(store.revision << 2 | (unsigned)m));
	}
}

/* --- faults ----------------------------------------------------------------------------------- */

void cluster_freeze(int m, bool frozen)
{
	trace("member %d %s", m, frozen ? "is frozen" : "goes on");
	cluster.members[m].frozen = frozen;
	if (!frozen)
		go_on(m);
}

void cluster_stick(int m, bool stuck)
{
	trace("member %d: its disk %s", m, stuck ? "hangs" : "goes on");
	cluster.members[m].stuck = stuck;
	if (!stuck)
		go_on(m);
}

void cluster_power(int m, bool up)
{
	struct member *member = &cluster.members[m];

	trace("member %d is %s", m, up ? "up" : "down");
	if (member->up == up)
		return;
	member->up = up;
	member->believed = -1;
	member->contact = member->restarted = now;
	if (!up)
		server_end_streams(m, random_chance(0.5) ? STREAM_CLOSING : STREAM_CUT);
	/* A leader that is stopped in good order hands over. */
	if (!up && m == cluster.leader && random_chance(0.3))
		healthy_at = now - patience;
}

void cluster_move_leader(void)
{
	const int m = (int)random_below(MEMBERS);

	if (member_can_commit(cluster.leader) && member_can_commit(m) && m != cluster.leader)
		lead(m);
}

void cluster_compact(uint64_t revision)
{
	if (revision > store.compacted && revision <= store.revision)
		store.compacted = revision;
	trace("compacted at %" PRIu64, store.compacted);
}

void cluster_expire_tokens(void)
{
	cluster.token_epoch++;
}

void cluster_upgrade(int m)
{
	trace("member %d is 3.5 from now on", m);
	cluster.members[m].old = false;
	cluster.members[m].debian = true;
}

void cluster_slow(ns latency)
{
	for (int h = 0; h < HOSTS; h++)
		for (int m = 0; m < MEMBERS; m++)
			cluster.latency[h][m] = latency;
}

/* --- beginning -------------------------------------------------------------------------------- */

static void start_member(int m, bool old, bool debian)
{
	cluster.members[m] = (struct member){ .up = true,
					       .believed = -1,
					       .patience = random_between(1200 * MS, 2000 * MS),
					       .restarted = -1,
					       .applied = 1,
					       .old = old,
					       .debian = debian };
	for (int h = 0; h < HOSTS; h++) {
		const ns most = random_chance(0.3) ? 15 * MS : 1 * MS;

		cluster.latency[h][m] = random_between(50 * US, most);
	}
}

void cluster_start(bool old)
{
	const bool debian = random_chance(0.5);

	for (int m = 0; m < MEMBERS; m++)
		start_member(m, old, debian);
	cluster.leader = -1;
	lead((int)random_below(MEMBERS));
	for (int m = 0; m < MEMBERS; m++) {
		cluster.members[m].believed = cluster.leader;
		cluster.members[m].term = cluster.term;
	}
	event_at(now + TICK, tick, NULL, 0);
}

void cluster_reset(void)
{
	memset(&cluster, 0, sizeof cluster);
	ticks = 0;
	healthy_at = patience = last_commit = 0;
	store_reset();
	lease_reset();
	server_reset();
}
