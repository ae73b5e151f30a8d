/* Profiles: what kind of faults a run has. */
#include "cluster.h"
#include "world.h"

static void plan(const enum fault *faults, size_t n, int count, ns end)
{
	for (int i = 0; i < count; i++) {
		const enum fault fault = faults[random_below((unsigned)n)];
		const ns lasts = fault_duration();

		fault_at(random_between(500 * MS, end), fault, lasts);
	}
}

#define PLAN(list, count, end) plan(list, sizeof list / sizeof *list, count, end)

static const enum fault of_members[] = {
	FAULT_CRASH,	FAULT_FREEZE, FAULT_DISK,   FAULT_ISOLATE,
	FAULT_CUT_PEER, FAULT_LEADER, FAULT_ERRORS, FAULT_DISK,
};
static const enum fault of_network[] = {
	FAULT_CUT_UP,	FAULT_CUT_DOWN, FAULT_CUT_CLIENT, FAULT_CUT_CLIENT, FAULT_ISOLATE,
	FAULT_CUT_PEER, FAULT_CRASH,	FAULT_OUTAGE,	  FAULT_COMPACT,
};
static const enum fault of_clients[] = {
	FAULT_KILL_ME_ONLY,    FAULT_KILL_HELPER,    FAULT_KILL_BOTH,
	FAULT_STOP_ME_ONLY,    FAULT_STOP_HELPER,    FAULT_STOP_BOTH,
	FAULT_STOP_GROUP,      FAULT_HOST,	     FAULT_SUSPEND,
	FAULT_CALL_OF_ME_ONLY, FAULT_CALL_OF_HELPER, FAULT_CALL_OF_HELPER,
	FAULT_CALL_OF_ME_ONLY, FAULT_TERM,
};
static const enum fault odd[] = {
	FAULT_COMPACT, FAULT_SPACE, FAULT_TOKENS, FAULT_ERRORS,
	FAULT_LEADER,  FAULT_CRASH, FAULT_TOKENS,
};
static const enum fault unseen[] = { FAULT_UNSEEN };
static const enum fault by_hand[] = { FAULT_DELETE_KEY, FAULT_REVOKE_LEASE, FAULT_DELETE_KEY,
				      FAULT_COMPACT, FAULT_LEADER };
static const enum fault of_users[] = { FAULT_TOKENS, FAULT_LEADER, FAULT_CRASH, FAULT_ERRORS };

static int some(void)
{
	return 3 + (int)random_below(10);
}

/* One fault of a member at a time, shorter than the rules promise, and then a while without. */
static void mild(ns end)
{
	static const enum fault faults[] = {
		FAULT_CRASH,  FAULT_FREEZE, FAULT_DISK,	 FAULT_ISOLATE,
		FAULT_LEADER, FAULT_ERRORS, FAULT_CRASH,
	};

	for (ns t = random_between(1 * S, 5 * S); t < end; t += random_between(15 * S, 25 * S)) {
		const enum fault fault = faults[random_below(7)];

		fault_at(t, fault,
			 fault == FAULT_CRASH || fault == FAULT_ISOLATE
				 ? random_between(1 * S, 8 * S)
				 : random_between(200 * MS, 6 * S));
	}
	cluster.slow = 0.002;
}

/* A network on which a little of everything goes wrong. */
static void worsen_network(void)
{
	cluster.loss = random_chance(0.7) ? 0.02 : 0.1;
	cluster.slow = random_chance(0.7) ? 0.01 : 0.1;
	cluster.reset = 0.03;
	cluster.duplicate = 0.005;
	cluster.error = 0.01;
	/* Each request takes about as long as it may. */
	if (random_chance(0.2))
		cluster_slow(random_between(50 * MS, 320 * MS));
	cluster.event_loss = 0.03;
	cluster.event_cancel = 0.02;
	task_slow_wakes = 0.01;
}

static void network(ns end)
{
	const int n = some();

	PLAN(of_members, n, end);
	PLAN(of_network, n, end);
	worsen_network();
}

static void clients(ns end)
{
	PLAN(of_clients, some(), end);
}

static void everything(ns end)
{
	const int n = some();

	PLAN(of_members, n, end);
	PLAN(of_network, n, end);
	PLAN(of_clients, n / 2, end);
	worsen_network();
}

static void odds(ns end)
{
	everything(end);
	PLAN(odd, some(), end);
}

static void early(ns end)
{
	(void)end;
	cluster.breaks_early = true;
}

static void deaf(ns end)
{
	early(end);
	cluster.event_loss = 0.5;
}

/* Streams end and move meanwhile. */
static void early_drained(ns end)
{
	early(end);
	cluster.goaway = random_chance(0.5) ? 0.5 : 0.05;
	cluster.event_cancel = random_chance(0.5) ? 0.2 : 0;
}

static void pauses(ns end)
{
	PLAN(unseen, some(), end);
}

static void deletions(ns end)
{
	PLAN(by_hand, some() / 2, end);
}

static void upgrade_member(void *unused, int64_t n)
{
	(void)unused;
	fault_member(FAULT_UPGRADE, (int)(n & 3), n >> 2);
}

/* One member after the other is stopped, and comes back as 3.5. */
static void upgrade(ns end)
{
	ns t = random_between(2 * S, end / 2);
	const int n = some();

	for (int m = 0; m < MEMBERS; m++) {
		const ns lasts = random_between(500 * MS, 4 * S);

		event_at(t, upgrade_member, NULL, m | lasts << 2);
		t += lasts + random_between(3 * S, 15 * S);
	}
	PLAN(of_members, n / 4, end);
}

/* Proxies between clients and members, which drain connections and reset streams. */
static void proxies(ns end)
{
	PLAN(of_members, some() / 2, end);
	cluster.goaway = random_chance(0.5) ? 0.05 : 0.5;
	cluster.reset = 0.05;
	cluster.event_cancel = 0.02;
}

/* Users are switched on while others hold and wait, and perhaps off and on again. */
static void switch_users(ns end)
{
	for (ns t = random_between(1 * S, end / 2); t < end; t += random_between(5 * S, 40 * S))
		fault_at(t, FAULT_USERS, 0);
	PLAN(of_users, some() / 2, end);
}

/* Nothing else: no job may be lost for that. */
static void drained(ns end)
{
	(void)end;
	cluster.goaway = random_chance(0.5) ? 0.05 : 0.5;
}

const struct profile profiles[] = {
	{ .name = "calm",
	  .what = "no faults",
	  .etcd = NEW_ETCD,
	  .calm = true,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "mild",
	  .what = "short faults of one member at a time",
	  .faults = mild,
	  .etcd = ANY_ETCD,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "network",
	  .what = "faults of members and of the network",
	  .faults = network,
	  .etcd = ANY_ETCD,
	  .long_jobs = true,
	  .rivals = true,
	  .no_mistakes = true },
	{ .name = "clients",
	  .what = "clients and hosts are killed, stopped and frozen",
	  .faults = clients,
	  .etcd = NEW_ETCD,
	  .long_jobs = true,
	  .no_mistakes = true,
	  .lost_if_hit = true },
	{ .name = "new",
	  .what = "all together, on 3.5",
	  .faults = everything,
	  .etcd = NEW_ETCD,
	  .long_jobs = true,
	  .no_mistakes = true },
	{ .name = "old",
	  .what = "all together, on 3.4.23",
	  .faults = everything,
	  .etcd = OLD_ETCD,
	  .long_jobs = true,
	  .no_mistakes = true },
	{ .name = "odds",
	  .what = "the same, with users, compactions and full disks",
	  .faults = odds,
	  .etcd = ANY_ETCD,
	  .long_jobs = true,
	  .users = true,
	  .no_mistakes = true },
	{ .name = "rivals",
	  .what = "no faults, and etcdctl lock among the jobs",
	  .etcd = ANY_ETCD,
	  .gentle = true,
	  .rivals = true,
	  .no_mistakes = true },
	{ .name = "early",
	  .what = "the server ends leases early",
	  .faults = early,
	  .etcd = NEW_ETCD,
	  .long_jobs = true,
	  .lost_by_mistake = true },
	{ .name = "by-hand",
	  .what = "somebody deletes keys and revokes leases",
	  .faults = deletions,
	  .etcd = ANY_ETCD,
	  .long_jobs = true },
	{ .name = "upgrade",
	  .what = "3.4.23 becomes 3.5 under those who hold and wait",
	  .faults = upgrade,
	  .etcd = OLD_ETCD,
	  .long_jobs = true,
	  .no_mistakes = true },
	{ .name = "users",
	  .what = "users are switched on and off meanwhile",
	  .faults = switch_users,
	  .etcd = ANY_ETCD,
	  .long_jobs = true,
	  .has_user = true,
	  .no_mistakes = true },
	{ .name = "proxies",
	  .what = "connections are drained (GOAWAY), streams reset alone",
	  .faults = proxies,
	  .etcd = ANY_ETCD,
	  .long_jobs = true,
	  .no_mistakes = true },
	{ .name = "drained",
	  .what = "connections are drained (GOAWAY), and nothing else happens",
	  .faults = drained,
	  .etcd = ANY_ETCD,
	  .gentle = true,
	  .no_mistakes = true },
	{ .name = "early-drained",
	  .what = "the server ends leases early, connections drain, and streams end",
	  .faults = early_drained,
	  .etcd = NEW_ETCD,
	  .long_jobs = true,
	  .lost_by_mistake = true },
	{ .name = "beyond",
	  .what = "clocks whose rates differ by 15 %",
	  .faults = everything,
	  .etcd = ANY_ETCD,
	  .named = true,
	  .long_jobs = true,
	  .drift = 0.15,
	  .limit = LIMIT_CLOCK + 1 },
	{ .name = "pauses",
	  .what = "hosts pause and no clock shows it",
	  .faults = pauses,
	  .etcd = NEW_ETCD,
	  .named = true,
	  .long_jobs = true,
	  .limit = LIMIT_PAUSE + 1 },
	{ .name = "deaf",
	  .what = "the server ends leases early and loses half of all events",
	  .faults = deaf,
	  .etcd = NEW_ETCD,
	  .named = true,
	  .long_jobs = true,
	  .deaf = true },
};
const size_t n_profiles = sizeof profiles / sizeof *profiles;
