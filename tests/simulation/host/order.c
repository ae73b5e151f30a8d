/* The order of waiters: first come, first served, for each user and each number of slots. */
#include <stdio.h>
#include <string.h>

#include "world.h"

static bool is_before(const struct run *a, const struct run *b, bool first)
{
	return first ? a->join < b->join : a->join_last < b->join_last;
}

/* How many of ORDER, as they got the lock, have to be left out to have the others in the order of
 * joining, the FIRST or the last time. */
static int disorder(struct run *const order[], int n, bool first)
{
	int best[MOST_RUNS], longest = 0;

	for (int i = 0; i < n; i++) {
		best[i] = 1;
		for (int j = 0; j < i; j++)
			if (is_before(order[j], order[i], first) && best[j] >= best[i])
				best[i] = best[j] + 1;
		if (best[i] > longest)
			longest = best[i];
	}
	return n - longest;
}

/* All that waited in one queue, in the order in which they got the lock, without those that lost
 * it and could not join again. PAST: one of them took it past a front that did not move. */
static int find_group(struct run *order[], int slots, uid_t uid, bool *past)
{
	int n = 0;

	*past = false;
	for_each_run(r) {
		int at = n;

		if (r->slots != slots || r->uid != uid || r->lock != 'L' || !r->join ||
		    !r->exec_step || r->faulted)
			continue;
		if (is_alone(r)) {
			W.overtaken++;
			continue;
		}
		*past |= r->past;
		for (n++; at > 0 && order[at - 1]->got > r->got; at--)
			order[at] = order[at - 1];
		order[at] = r;
	}
	return n;
}

static void show_group(char *text, struct run *const order[], int n)
{
	*text = 0;
	for (int i = 0; i < n; i++) {
		text += sprintf(text, " W%d(joined %ld", order[i]->index, order[i]->join);
		text += order[i]->joins > 1 ? sprintf(text, ", again %ld)", order[i]->join_last)
					    : sprintf(text, ")");
	}
}

/* Returns whether some have lost their place, as is documented: they came in the instant in which
 * the last of the line left. */
static bool check_group(struct run *const order[], int n)
{
	char text[MOST_RUNS * 40];
	bool is_late = !W.lost_by_kill && disorder(order, n, true) > W.kills + W.strikes;

	show_group(text, order, n);
	if (disorder(order, n, false) > 0)
		fail("ORDER%s%s: after %d kills and %d stops the lock went to%s",
		     W.kills ? ", kills" : "", W.stops ? ", stops" : "", W.kills, W.stops, text);
	else if (is_late && !W.lost_by_leaving)
		fail("FIRST%s%s: after %d kills and %d stops the lock went to%s",
		     W.kills ? ", kills" : "", W.stops ? ", stops" : "", W.kills, W.stops, text);
	return is_late;
}

/*
 * ORDER: the last time that somebody joined counts, strictly. FIRST: as the user sees it the first
 * time counts, and each kill may cost one waiter its place. TWOKILLS: two deaths in a line that was
 * at rest must not cost the queue. QLOST is what docs/design.md says of kills that come while the
 * queue is founded.
 */
void check_order(void)
{
	bool is_late = false;

	if (W.lost_at_rest && !W.stops)
		fail("TWOKILLS: a line at rest has lost its queue by %d kills", W.kills);
	for (int slots = 1; slots <= 3; slots++)
		for (uid_t uid = 1000; uid <= 1001; uid++) {
			struct run *order[MOST_RUNS];
			bool past;
			int n = find_group(order, slots, uid, &past);

			/* Rule 7: somebody from the line took it, since all before it did not move
			 * for 2.5 s. */
			if (n > 1 && !past)
				is_late |= check_group(order, n);
		}
	if (is_late)
		fail("limit FIRST: %d had to join again, as the last of the line left or by a stop",
		     W.lost_by_leaving);
	if (W.overtaken)
		fail("limit OVERTOOK: the founder of a queue was stopped before it listened, and "
		     "somebody waited alone");
	if (W.lost_by_kill && !W.stops)
		fail("limit QLOST: %d kills have cost the queue, with %d in it", W.kills,
		     W.lost_by_kill);
}
