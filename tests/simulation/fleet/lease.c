#include <inttypes.h>
#include <stdlib.h>

#include "cluster.h"
#include "store.h"

/* Leases are looked up by id often, dead ones too: those of a run are few. */
#define MOST_LEASES 100000

/* etcd grants no less: 1.5 times the election's timeout, rounded up. */
#define LEAST_TTL 2

static struct lease *leases[MOST_LEASES];
static size_t n_leases;
static struct lease *alive[MOST_LEASES];
static size_t n_alive;

struct lease *lease_find(uint64_t id)
{
	for (size_t i = n_leases; i-- > 0;)
		if (leases[i]->id == id)
			return leases[i];
	return NULL;
}

bool lease_is_alive(uint64_t id)
{
	for (size_t i = n_alive; i-- > 0;)
		if (alive[i]->id == id)
			return true;
	return false;
}

struct lease *lease_grant(uint64_t id, int64_t ttl)
{
	struct lease *lease;

	if (id && lease_is_alive(id))
		return NULL;
	while (id == 0 || lease_is_alive(id))
		id = random_number() >> 1;
	if (n_leases == MOST_LEASES)
		abort();
	ttl = ttl < LEAST_TTL ? LEAST_TTL : ttl;
	lease = arena_get(sizeof *lease);
	*lease = (struct lease){ .id = id,
				  .ttl = ttl,
				  .granted = now,
				  .expiry = member_clock(cluster.leader) + ttl * S };
	for (int m = 0; m < MEMBERS; m++)
		lease->view[m] = member_clock(m) + ttl * S;
	leases[n_leases++] = alive[n_alive++] = lease;
	return lease;
}

void lease_revoke(struct lease *lease, enum why why)
{
	size_t i = 0;

	while (alive[i] != lease)
		i++;
	for (n_alive--; i < n_alive; i++)
		alive[i] = alive[i + 1];
	lease->revoked = now ? now : 1;
	lease->mistaken = why == BY_MISTAKE;
	cluster.mistakes += lease->mistaken;
	trace("store: lease %" PRIx64 " ends%s", lease->id,
	      why == BY_MISTAKE	 ? " BY MISTAKE"
	      : why == BY_EXPIRY ? ": expired"
				 : "");
	store_delete_lease(lease->id, why);
}

/* CALL may revoke the lease that it is given. */
void lease_each(void (*call)(struct lease *lease))
{
	for (size_t i = 0; i < n_alive;) {
		struct lease *lease = alive[i];

		call(lease);
		if (i < n_alive && alive[i] == lease)
			i++;
	}
}

unsigned lease_count(void)
{
	return (unsigned)n_alive;
}

ns lease_ends(uint64_t id)
{
	const struct lease *lease = lease_find(id);

	if (!lease || lease->mistaken)
		return -1;
	return lease->revoked ? 0 : clock_when(HOSTS + cluster.leader, lease->expiry);
}

void lease_reset(void)
{
	n_leases = n_alive = 0;
}
