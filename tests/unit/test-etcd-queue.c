/* The rules of the queue, for every mix of up to five entries, in every order in which they can take the lock and leave. */
#include <stdlib.h>

#include "base/limits.h"
#include "helper/queue.h"
#include "tap.h"

#define MOST 5
#define KINDS 6

static const struct entry kinds[KINDS] = {
	{ .mode = ENTRY_EXCLUSIVE },
	{ .mode = ENTRY_SHARED },
	{ .mode = ENTRY_SLOTS, .slots = 1 },
	{ .mode = ENTRY_SLOTS, .slots = 2 },
	{ .mode = ENTRY_SLOTS, .slots = 3 },
	{ .foreign = true, .state = ENTRY_UNKNOWN },
};

static char signs[] = "xs123f";

/* What has become of one of a mix: it waits, has the lock (with a slot), or is gone. */
enum fate { WAITS, HAS, GONE = HAS + 3, FATES };

struct mix {
	size_t n;
	unsigned kind[MOST], fate[MOST];
};

static bool good[16];
static const char *const properties[] = {
	"the first of all can always got the lock",
	"who has it alone is alone",
	"those who share it are only sharers",
	"slots are fewer than each holder allows",
	"no two have the same slot",
	"a slot is below the number of slots",
	"who may have it may have it when others leave, take it, or are kept",
	"who is told to wait for one cannot have it before that one changes",
	"who is told to wait for any of them has nobody but holders of slots before",
	"who has it or may have it is shown as a holder",
	"of those who cannot have it nobody is shown as one but who waits for another to choose its slot",
	"with --queue all are counted but the holders",
	"one that vanishes while it holds the lock can have been lost, for all behind it but those that share the lock with it",
};

static void note(unsigned property, bool holds, const struct mix *mix, size_t who)
{
	if (good[property] && !holds) {
		printf("# %s:", properties[property]);
		for (size_t i = 0; i < mix->n; i++)
			printf(" %c%u%s", signs[mix->kind[i]], mix->fate[i], i == who ? "*" : "");
		printf("\n");
	}
	good[property] = good[property] && holds;
}

/* The entries of MIX that are left, before the one at END. Returns how many; *INDEX of those is which of the mix. */
static size_t present(const struct mix *mix, size_t end, struct entry *entries, size_t *index)
{
	size_t n = 0;

	for (size_t i = 0; i < end; i++) {
		if (mix->fate[i] == GONE)
			continue;
		entries[n] = kinds[mix->kind[i]];
		entries[n].created = i + 1;
		entries[n].queue = !entries[n].foreign;
		if (mix->fate[i] != WAITS) {
			entries[n].state = ENTRY_HELD;
			entries[n].slot = mix->fate[i] - HAS;
		}
		if (index)
			index[n] = i;
		n++;
	}
	return n;
}

static enum queue_verdict judge(const struct mix *mix, size_t who, unsigned *slot)
{
	struct entry before[MOST], ours = kinds[mix->kind[who]];
	const struct entry *blocker;
	size_t n = present(mix, who, before, NULL);
	enum queue_verdict verdict = queue_judge(&ours, before, n, &blocker, slot);

	if (verdict == QUEUE_WATCH_KEY)
		note(7, blocker >= before && blocker < before + n && queue_judge(&ours, blocker, 1, &(const struct entry *){ NULL }, &(unsigned){ 0 }) != QUEUE_OURS,
		     mix, who);
	if (verdict == QUEUE_WATCH_ALL)
		for (size_t i = 0; i < n; i++)
			note(8, before[i].mode == ENTRY_SLOTS && !before[i].foreign && before[i].state == ENTRY_HELD, mix, who);
	return verdict;
}

/* WHO may have the lock. It may have it, too, when one of those before it has left, or is kept. */
static void check_stays(const struct mix *mix, size_t who)
{
	for (size_t i = 0; i < who; i++) {
		struct mix other = *mix;
		struct entry before[MOST], ours = kinds[mix->kind[who]];
		const struct entry *blocker;
		unsigned slot;
		size_t n;

		if (mix->fate[i] == GONE)
			continue;
		other.fate[i] = GONE;
		n = present(&other, who, before, NULL);
		note(6, queue_judge(&ours, before, n, &blocker, &slot) == QUEUE_OURS, mix, who);
		n = present(mix, who, before, NULL);
		for (size_t j = 0; j < n; j++)
			before[j].state = before[j].state == ENTRY_HELD ? ENTRY_KEPT : before[j].state;
		note(6, queue_judge(&ours, before, n, &blocker, &slot) == QUEUE_OURS, mix, who);
	}
}

/* A foreign one that is the first has the lock as far as anybody knows. */
static bool has_it(const struct mix *mix, size_t i)
{
	if (mix->fate[i] == GONE)
		return false;
	if (!kinds[mix->kind[i]].foreign)
		return mix->fate[i] != WAITS;
	for (size_t j = 0; j < i; j++)
		if (mix->fate[j] != GONE)
			return false;
	return true;
}

static void check_holders(const struct mix *mix)
{
	size_t holders = 0;

	for (size_t i = 0; i < mix->n; i++)
		holders += has_it(mix, i);
	for (size_t i = 0; i < mix->n; i++) {
		const struct entry *kind = &kinds[mix->kind[i]];

		if (!has_it(mix, i))
			continue;
		note(1, (kind->mode != ENTRY_EXCLUSIVE && !kind->foreign) || holders == 1, mix, i);
		if (kind->mode == ENTRY_SLOTS) {
			note(3, holders <= kind->slots, mix, i);
			note(5, mix->fate[i] - HAS < kind->slots, mix, i);
		}
		for (size_t j = 0; j < mix->n; j++) {
			if (j == i || !has_it(mix, j))
				continue;
			note(2, kinds[mix->kind[j]].mode == kind->mode, mix, i);
			note(4, kind->mode != ENTRY_SLOTS || mix->fate[j] != mix->fate[i], mix, i);
		}
	}
}

/* What others are shown agrees with what the rules say. */
static void check_shown(const struct mix *mix)
{
	struct entry entries[MOST];
	const struct entry *first;
	size_t index[MOST], n = present(mix, mix->n, entries, index), shown = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned slot;
		bool holds = queue_holds(entries, i), ours = entries[i].state == ENTRY_HELD || (entries[i].foreign && i == 0);

		if (!ours && !entries[i].foreign)
			ours = judge(mix, index[i], &slot) == QUEUE_OURS;
		note(9, holds || !ours, mix, index[i]);
		note(10, ours || !holds || (i < n && entries[i].mode == ENTRY_SLOTS && i < entries[i].slots), mix, index[i]);
		shown += holds || entries[i].foreign;
	}
	note(11, queue_count(entries, n, &first) == n - shown && (n == shown) == !first, mix, 0);
}

/* WHO holds the lock, and vanishes: those behind it that wait have seen it when it waited. */
static void check_lost(const struct mix *mix, size_t who)
{
	struct entry before[MOST], gone = kinds[mix->kind[who]];
	struct mix other = *mix;

	gone.created = who + 1;
	other.fate[who] = GONE;
	for (size_t i = who + 1; i < mix->n; i++) {
		const struct entry *ours = &kinds[mix->kind[i]];
		bool both_share = ours->mode == ENTRY_SHARED && gone.mode == ENTRY_SHARED;

		if (mix->fate[i] == WAITS && !ours->foreign)
			note(12, queue_can_be_lost(ours, &gone, before, present(&other, i, before, NULL)) == !both_share, mix, i);
	}
}

static bool seen[FATES * FATES * FATES * FATES * FATES];
static unsigned long states;

/* All that can become of MIX. */
static void follow(struct mix *mix)
{
	size_t number = 0, first = mix->n;

	for (size_t i = 0; i < mix->n; i++)
		number = number * FATES + mix->fate[i];
	if (seen[number])
		return;
	seen[number] = true;
	states++;
	check_holders(mix);
	check_shown(mix);
	for (size_t i = 0; i < mix->n; i++) {
		unsigned slot, fate = mix->fate[i];

		if (fate == GONE)
			continue;
		if (first == mix->n)
			first = i;
		if (has_it(mix, i))
			check_lost(mix, i);
		if (fate == WAITS && !kinds[mix->kind[i]].foreign) {
			enum queue_verdict verdict = judge(mix, i, &slot);

			note(0, verdict == QUEUE_OURS || i != first, mix, i);
			if (verdict == QUEUE_OURS) {
				check_stays(mix, i);
				note(5, slot < 3, mix, i);
				mix->fate[i] = HAS + (slot < 3 ? slot : 0);
				follow(mix);
			}
		}
		mix->fate[i] = GONE;
		follow(mix);
		mix->fate[i] = fate;
	}
}

static void all_mixes(void)
{
	unsigned long mixes = 0;

	for (size_t i = 0; i < sizeof properties / sizeof *properties; i++)
		good[i] = true;
	for (size_t n = 1; n <= MOST; n++) {
		unsigned long count = 1;

		for (size_t i = 0; i < n; i++)
			count *= KINDS;
		for (unsigned long number = 0; number < count; number++) {
			struct mix mix = { .n = n };
			unsigned long rest = number;

			for (size_t i = 0; i < n; i++, rest /= KINDS)
				mix.kind[i] = (unsigned)(rest % KINDS);
			memset(seen, 0, sizeof seen);
			follow(&mix);
			mixes++;
		}
	}
	printf("# %lu mixes, %lu states\n", mixes, states);
	ok(states > 100000, "there was something to look at");
	for (size_t i = 0; i < sizeof properties / sizeof *properties; i++)
		ok(good[i], "%s", properties[i]);
}

static const struct entry *const none;

/* OURS behind the N in BEFORE: WANTED, and of whom (-1: nobody) or which slot. */
static void is_judged(const struct entry *ours, const struct entry *before, size_t n, enum queue_verdict wanted, int number, const char *what)
{
	const struct entry *blocker = none;
	unsigned slot = 99;
	enum queue_verdict verdict = queue_judge(ours, before, n, &blocker, &slot);

	ok(verdict == wanted && (verdict != QUEUE_OURS || slot == (unsigned)number) && (verdict != QUEUE_WATCH_KEY || blocker == &before[number]), "%s", what);
}

static void single_rules(void)
{
	const struct entry x = kinds[0], s = kinds[1], n2 = kinds[3], n3 = kinds[4], f = kinds[5];
	const struct entry held[3] = { { .mode = ENTRY_SLOTS, .slots = 3, .slot = 0, .state = ENTRY_HELD },
				       { .mode = ENTRY_SLOTS, .slots = 3, .slot = 1, .state = ENTRY_HELD },
				       { .mode = ENTRY_SLOTS, .slots = 3, .slot = 2, .state = ENTRY_KEPT } };
	const struct entry zero = { .mode = ENTRY_SLOTS, .slots = 0, .state = ENTRY_HELD };
	const struct entry *first;

	is_judged(&x, NULL, 0, QUEUE_OURS, 0, "alone");
	is_judged(&x, (struct entry[]){ s, s, s }, 3, QUEUE_WATCH_KEY, 2, "the last one is watched");
	is_judged(&s, (struct entry[]){ s, x, s }, 3, QUEUE_WATCH_KEY, 1, "readers wait behind a writer that waits");
	is_judged(&s, (struct entry[]){ s, f, s }, 3, QUEUE_WATCH_KEY, 1, "and behind what is not known");
	is_judged(&s, (struct entry[]){ s, s, s }, 3, QUEUE_OURS, 0, "readers share");
	is_judged(&n2, (struct entry[]){ x, n2 }, 2, QUEUE_WATCH_KEY, 0, "slots wait behind a writer");
	is_judged(&n3, held, 2, QUEUE_OURS, 2, "the next slot");
	is_judged(&n3, held + 1, 2, QUEUE_OURS, 0, "the lowest slot");
	is_judged(&n3, held, 3, QUEUE_WATCH_ALL, 0, "no slot: any may become free");
	is_judged(&n3, (struct entry[]){ held[0], n3 }, 2, QUEUE_WATCH_KEY, 1, "who is before chooses its slot first");
	is_judged(&n2, held, 2, QUEUE_WATCH_ALL, 0, "the least number counts: ours");
	is_judged(&n3, &zero, 1, QUEUE_WATCH_ALL, 0, "one that allows none keeps all out as long as it is there");
	is_number(queue_slots((struct entry[]){ n3, n2, n3 }, 2), 2, "the number that all agree to");
	is_number(queue_slots((struct entry[]){ n3, n2, n3 }, 0), 3, "those behind do not count");
	is_number(queue_slots((struct entry[]){ x }, 0), 1, "one for who wants to be alone");
	is_number((int64_t)queue_count(NULL, 0, &first), 0, "nobody waits");
	ok(!first, "and nobody is the first of them");
	ok(MOST_SLOTS >= 3, "as many slots as that are possible");
}

/* OURS saw GONE, the third in line, which vanished; AT is the place of the one BEFORE it that is left (0: nobody). */
static bool can_be_lost(const struct entry *ours, struct entry gone, struct entry before, unsigned at)
{
	gone.created = 3;
	before.created = at;
	return queue_can_be_lost(ours, &gone, &before, at ? 1 : 0);
}

static struct entry in_state(struct entry entry, enum entry_state state)
{
	entry.state = state;
	return entry;
}

static void lost_rules(void)
{
	const struct entry x = kinds[0], s = kinds[1], n2 = kinds[3], f = kinds[5];
	const struct entry x_held = in_state(x, ENTRY_HELD), s_held = in_state(s, ENTRY_HELD), n_held = in_state(n2, ENTRY_HELD);

	ok(can_be_lost(&x, x, x, 0), "nobody is left: a waiter can have held the lock since it was seen");
	ok(can_be_lost(&x, f, x, 0), "so can what is not known");
	ok(!can_be_lost(&x, in_state(x, ENTRY_KEPT), x, 0), "the command of one that is kept has ended");
	ok(!can_be_lost(&x, x, x_held, 1), "a waiter that gave up behind the holder has not held it");
	ok(!can_be_lost(&x, x, x, 1), "nor behind another waiter");
	ok(!can_be_lost(&x, s, f, 1), "nor behind what is not known");
	ok(can_be_lost(&x, s, s_held, 1), "one of those that share can have");
	ok(can_be_lost(&x, n2, n_held, 1), "one of those with slots can have");
	ok(!can_be_lost(&x, x, x_held, 4), "the one that took the lock after it stands back");
	ok(can_be_lost(&x, x, x, 4), "one that only waits does not");
	ok(can_be_lost(&s, x, s_held, 4), "we do not wait for one that shares the lock with us");
	ok(!can_be_lost(&x, x, s_held, 4), "but for one that does not");
	ok(!can_be_lost(&s, s, x, 0), "those that share do not stand back for each other");
	ok(can_be_lost(&n2, n2, n_held, 1), "those with slots do: it may be the same slot");
	ok(can_be_lost(&s, x, x, 0) && can_be_lost(&s, f, x, 0), "those that share stand back for all others");
}

int main(void)
{
	single_rules();
	lost_rules();
	all_mixes();
	return tap_done();
}
