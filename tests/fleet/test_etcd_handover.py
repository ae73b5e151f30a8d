"""
An exclusive lock is handed over: the write that deletes the holder's key makes the next one the
holder.
"""
import itertools
import json
import subprocess

import pytest

import gateway as g
import protobuf
from etcd_server import from64, to64
from fleet import read_line, release, wait_for

WAITS = {"v": 1, "m": "x", "st": "wait", "host": "elsewhere", "boot": "b", "user": "u", "cmd": "c",
         "pid": 1, "start": 1, "ns": 1, "pipe": 1, "since": 1}
# Keys of others: before and after every possible name of a lease, in alphabetical order.
FIRST, LAST = "/", "z"
SHORT = ("--ttl", "10")
SIDES = pytest.mark.parametrize("side", [FIRST, LAST], ids=["before", "after"])


@pytest.fixture(params=["gateway", "etcd"])
def place(request):
    """
    Where the lock is: (the variables for it, a function that puts a key, all entries by their
    keys).
    """
    if request.param == "etcd":
        etcd = request.getfixturevalue("etcd")
        store = etcd.client()
        return etcd.env, store.put, lambda prefix: {entry.key: entry
                                                    for entry in store.entries(prefix)}
    gateway = request.getfixturevalue("gateway")
    return gateway.env, lambda key, value: gateway.put(key.encode(), value.encode()), \
        all_entries(gateway)


@pytest.fixture
def two(new_gateway, callers):
    """Two members of a cluster, and variables that name both."""
    first = new_gateway()
    second = new_gateway(store=first.store)
    return first, second, callers({"ETCDCTL_ENDPOINTS": f"{first.endpoint},{second.endpoint}"})


def all_entries(gateway):
    return lambda prefix: {key.decode(): entry for key, entry in gateway.store.keys.items()
                           if key.decode().startswith(prefix)}


def other(**changes):
    """The value of another waiter."""
    return json.dumps({**WAITS, **changes})


def joins(gateway, key):
    """Another waiter joins the line."""
    gateway.put(key.encode(), other().encode())


def hold(c, entries, prefix, *options):
    holder = c.hold("-q", *(options or SHORT))
    holder.key, = entries(prefix)
    return holder


def waits(c, entries, prefix, *options):
    """Start a waiter: soon the holder."""
    before = set(entries(prefix))
    waiter = c.start("-q", "-w", "inf", *(options or SHORT), c.lock, "sh", "-c",
                     "echo ready; cat >/dev/null", stdin=subprocess.PIPE)
    wait_for(lambda: len(entries(prefix)) > len(before), "it waits")
    waiter.key, = set(entries(prefix)) - before
    return waiter


def state(entry):
    return json.loads(entry.value)["st"]


LINES = {"alone": [], "one behind it": [1], "many behind it": [1, -1, 1, -1],
         "one on the other side": [-1]}


@SIDES
@pytest.mark.parametrize("behind", LINES.values(), ids=LINES.keys())
def test_the_next_one_is_made_the_holder(callers, place, prefix, side, behind):
    """
    Wherever its key is, and those of the others behind it: a key's position in line is not its
    position in the alphabet.
    """
    env, put, entries = place
    c = callers(env)
    first = hold(c, entries, prefix)
    holder = waits(c, entries, prefix)
    put(prefix + side, other())
    for number, where in enumerate(behind):
        put(prefix + (side if where > 0 else {FIRST: LAST, LAST: FIRST}[side]) + str(number),
            other())
    assert release(first) == 0
    assert read_line(holder.stdout) == b"ready\n"
    before = entries(prefix)
    assert release(holder) == 0
    after = entries(prefix)
    assert set(after) == set(before) - {holder.key}
    changed = {key for key in after if after[key].modified != before[key].modified}
    assert changed == {prefix + side} and state(after[prefix + side]) == "held"
    assert after[prefix + side].created == before[prefix + side].created
    assert json.loads(after[prefix + side].value) == {**WAITS, "st": "held",
                                                      "since": json.loads(
                                                          after[prefix + side].value)["since"]}


def hears(gateway, key, kind):
    """Wait until streams have reported what has happened to the key."""
    def is_told(value):
        return any(to64(key) in json.dumps(event) and
                   (event.get("type") == "DELETE") == (kind == "DELETE")
                   for event in value.get("events", []))

    wait_for(lambda: [x for x in gateway.seen("watch")
                      if any(is_told(line) for line in getattr(x, "lines", ()))], "it is told")


def all_watches(stream):
    """What a client has asked for on a stream, so far."""
    return [protobuf.decode("Watch", message)["create_request"]
            for message in protobuf.messages_of(stream.stream.data)[0]]


def watches_line(stream, key):
    """Whether a holder with this key watches all others."""
    watches = all_watches(stream)
    return watches[0]["key"] == to64(key) and any("range_end" in w for w in watches)


def acts(gateway, holder):
    """Wait until the holder has done something else, and so has taken in what came before."""
    def renewals():
        return [x for x in gateway.seen("lease/keepalive")
                if int(x.message["ID"]) == int(holder.key.split("/")[-1], 16)]

    before = len(renewals())
    renewal = wait_for(lambda: renewals()[before:], "it renews its lease")[0]
    wait_for(lambda: [x for x in gateway.requests if x.time > renewal.time
                      and x.path == "kv/txn" and x.answered], "and has read its key")


def told(gateway, holder, key, kind="PUT"):
    """Wait until the holder has heard, and taken that in."""
    hears(gateway, key, kind)
    acts(gateway, holder)


def beside_renewals(requests):
    """Their paths. One may be due at any time."""
    return [x.path for x in requests if x.path != "lease/keepalive" and not (
        x.path == "kv/txn" and b"request_put" not in x.body
        and b"request_delete_range" not in x.body)]


def test_holder_that_was_told_does_not_ask(callers, gateway, prefix):
    """One request, then: the next one waits for it."""
    entries = all_entries(gateway)
    holder = hold(callers(gateway), entries, prefix)
    gateway.wait_for("watch")
    joins(gateway, prefix + LAST)
    told(gateway, holder, prefix + LAST)
    before = len(gateway.requests)
    assert release(holder) == 0
    assert beside_renewals(gateway.requests[before:]) == ["kv/txn"]
    assert state(entries(prefix)[prefix + LAST]) == "held"


def asks_who_is_next(prefix):
    """Whether a request does."""
    return lambda x: x.path == "kv/range" and from64(x.message["key"]) == prefix.encode()


def test_holder_that_has_waited_asks_while_its_command_runs(callers, gateway, prefix):
    """Its stream reports only later entries."""
    c, entries = callers(gateway), all_entries(gateway)
    first = hold(c, entries, prefix)
    holder = waits(c, entries, prefix)
    joins(gateway, prefix + LAST)
    assert release(first) == 0
    wait_for(lambda: any(x.answered for x in gateway.requests if asks_who_is_next(prefix)(x)),
             "it has asked")
    ask = next(x for x in gateway.requests if asks_who_is_next(prefix)(x))
    line = wait_for(lambda: [x for x in gateway.seen("watch") if watches_line(x, holder.key)],
                    "it watches the line")[0]
    # If the answer took too long, the stream has a new connection.
    assert line.stream.connection is not ask.stream.connection \
        or ask.stream.number < line.stream.number, "it asks when its command has run for a while"
    acts(gateway, holder)
    before = len(gateway.requests)
    assert release(holder) == 0
    assert beside_renewals(gateway.requests[before:]) == ["kv/txn"]
    assert state(entries(prefix)[prefix + LAST]) == "held"


@SIDES
@pytest.mark.parametrize("next_one", [FIRST, LAST], ids=["next before", "next after"])
def test_an_event_that_was_lost_makes_nobody_jump_the_line(callers, gateway, prefix,
                                                           side, next_one):
    """
    It was never told of the first one: the holder takes the second for the next one. The write
    shows that it is not.
    """
    entries = all_entries(gateway)
    holder = hold(callers(gateway), entries, prefix)
    gateway.wait_for("watch")
    gateway.store.drop_puts = 1
    joins(gateway, prefix + side + "1")
    joins(gateway, prefix + next_one + "2")
    told(gateway, holder, prefix + next_one + "2")
    before = entries(prefix)
    assert release(holder) == 0
    after = entries(prefix)
    assert set(after) == set(before) - {holder.key}
    assert all(after[key].modified == before[key].modified for key in after), \
        "nobody is made the holder, or the first one is"


def test_the_next_one_has_changed_what_it_is(callers, gateway, prefix):
    """It is not a waiter any more: other programs' writes are not overwritten."""
    entries = all_entries(gateway)
    holder = hold(callers(gateway), entries, prefix)
    gateway.wait_for("watch")
    key = prefix + LAST
    joins(gateway, key)
    told(gateway, holder, key)
    gateway.store.drop_puts = 1
    gateway.put(key.encode(), b"mine")
    assert release(holder) == 0
    assert {key: entry.value for key, entry in entries(prefix).items()} == {key: b"mine"}


@pytest.mark.parametrize("form", ["shared", "held", "foreign", "later version"])
def test_lock_is_not_handed_to_an_entry_that_cannot_take_it(callers, gateway, prefix, form):
    """The write would not be understood, or be for another lock."""
    entries = all_entries(gateway)
    value = {"shared": other(m="s"), "held": other(st="held"), "foreign": "",
             "later version": other(v=2)}[form]
    holder = hold(callers(gateway), entries, prefix)
    gateway.wait_for("watch")
    gateway.put((prefix + LAST).encode(), value.encode())
    told(gateway, holder, prefix + LAST)
    assert release(holder) == 0
    entry, = entries(prefix).values()
    assert entry.value == value.encode() and entry.modified == entry.created


def test_the_first_of_two_leaves(callers, gateway, prefix):
    """The second is found when the lock is released, at the latest."""
    entries = all_entries(gateway)
    holder = hold(callers(gateway), entries, prefix)
    gateway.wait_for("watch")
    for key in FIRST, LAST:
        joins(gateway, prefix + key)
    told(gateway, holder, prefix + LAST)
    gateway.delete((prefix + FIRST).encode())
    told(gateway, holder, prefix + FIRST, "DELETE")
    assert release(holder) == 0
    entry, = entries(prefix).values()
    assert entry.key.decode() == prefix + LAST and state(entry) == "held"


def test_the_next_one_leaves_while_it_is_given_the_lock(callers, gateway, prefix):
    """Then the lock is free at once."""
    c, entries = callers(gateway), all_entries(gateway)
    holder = hold(c, entries, prefix)
    waiter = waits(c, entries, prefix)
    told(gateway, holder, waiter.key)
    leaves = []

    def leave(x):
        leaves.append(x)
        gateway.delete(waiter.key.encode())
    gateway.on("kv/txn", g.only(lambda x: b"request_delete_range" in x.body
                                and b"request_put" in x.body, g.once(leave)))
    assert release(holder) == 0
    assert leaves and holder.key not in entries(prefix)
    assert read_line(waiter.stdout) == b"ready\n" and release(waiter) == 0


def test_the_reading_of_who_is_next_fails(callers, gateway, prefix):
    """Neither the command nor the lock depends on it."""
    c, entries = callers(gateway), all_entries(gateway)
    first = hold(c, entries, prefix)
    holder = waits(c, entries, prefix)
    gateway.on("kv/range", g.only(asks_who_is_next(prefix),
                                  g.fails(7, "etcdserver: permission denied")))
    assert release(first) == 0
    assert read_line(holder.stdout) == b"ready\n"
    gateway.wait_for("kv/range")
    gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 4)
    assert len(gateway.seen("kv/range")) < 20, "it asks again and again"
    assert release(holder) == 0
    assert entries(prefix) == {}


def left_of(gateway, key):
    """Of the time that a lease was granted for, s."""
    return gateway.store.leases[int(key.split("/")[-1], 16)].left()


# The deadline is 1.4 s before the end of the lease, SIGTERM is sent 10 s before that, and 3.33 s
# earlier a waiter would renew before it takes the lock.
LATE = ("--ttl", "20", "-k", "10")


def test_successor_with_a_late_lock_renews_before_its_time_is_short(callers, gateway, prefix):
    """
    A waiter renews seldom. That must not cause a request to exit: before its first renewal is due
    there is time for another.
    """
    c, entries = callers(gateway), all_entries(gateway)
    holder = hold(c, entries, prefix, *LATE)
    waiter = waits(c, entries, prefix, *LATE)
    asked = gateway.seen("lease/grant")[-1]
    wait_for(lambda: left_of(gateway, waiter.key) < 16, "its lease has 16 s left")
    assert release(holder) == 0
    assert read_line(waiter.stdout) == b"ready\n"
    renewal = wait_for(lambda: [x for x in gateway.seen("lease/keepalive")
                                if x.message["ID"] == asked.message["ID"]], "it renews")[0]
    assert renewal.time - asked.time < 20 - 1.4 - 10 - 2, \
        "it is asked to end 8.6 s after the lease was asked for"
    assert release(waiter) == 0


def test_a_member_that_is_silent_is_not_asked_who_is_next(two, prefix):
    """Nor does anything else hold up the renewals."""
    first, second, c = two
    holder = hold(c, all_entries(first), prefix)
    first.wait_for("watch")
    joins(first, prefix + LAST)
    hears(first, prefix + LAST, "PUT")
    first.delete((prefix + LAST).encode())
    hears(first, prefix + LAST, "DELETE")
    first.on("*", g.hang)
    second.wait_for("lease/keepalive", 2)
    assert release(holder) == 0


def test_nor_when_the_lock_was_given_late(two, prefix):
    """There is time for the renewal at the other member, not for that and a question."""
    first, second, c = two
    entries = all_entries(first)
    holder = hold(c, entries, prefix, *LATE)
    waiter = waits(c, entries, prefix, *LATE)
    wait_for(lambda: left_of(first, waiter.key) < 15, "its lease has 15 s left")
    for path in "lease/keepalive", "kv/range":
        first.on(path, g.hang)
    assert release(holder) == 0
    assert read_line(waiter.stdout) == b"ready\n"
    second.wait_for("lease/keepalive", 2)
    assert release(waiter) == 0


def test_a_member_that_falls_silent_when_asked_does_not_keep_the_lock(two, prefix):
    """The question, and the write that releases the lock, share four seconds."""
    first, second, c = two
    entries = all_entries(first)
    holder = hold(c, entries, prefix, "--ttl", "30")
    waiter = waits(c, entries, prefix, "--ttl", "30")

    def fall_silent(x):
        first.on("*", g.hang)
        return g.hang(x)
    first.on("kv/range", g.only(asks_who_is_next(prefix), fall_silent))
    assert release(holder) == 0
    assert read_line(waiter.stdout) == b"ready\n"
    first.wait_for("kv/range")
    assert release(waiter) == 0
    wait_for(lambda: any(b"request_delete_range" in x.body for x in second.seen("kv/txn")),
             "the other one is told")


def test_an_answer_that_is_older_than_what_was_told(callers, gateway, prefix):
    """It answers that there is none; later entries are not forgotten because of that."""
    c, entries = callers(gateway), all_entries(gateway)
    first = hold(c, entries, prefix)
    holder = waits(c, entries, prefix)

    def somebody_comes(_answer):
        joins(gateway, prefix + LAST)
        hears(gateway, prefix + LAST, "PUT")
    gateway.on("kv/range", g.only(asks_who_is_next(prefix), g.once(g.changes(somebody_comes))))
    assert release(first) == 0
    told(gateway, holder, prefix + LAST)
    assert release(holder) == 0
    assert state(entries(prefix)[prefix + LAST]) == "held"


def test_a_waiter_reads_the_line_once(callers, gateway, prefix):
    """
    Each look costs the server something. Its stream begins after that: etcd starts one that begins
    in the past up to 100 ms later.
    """
    c, entries = callers(gateway), all_entries(gateway)
    holder = hold(c, entries, prefix)
    gateway.wait_for("watch")
    waiter = waits(c, entries, prefix)
    mine = to64(waiter.key)
    stream = wait_for(lambda: [x for x in gateway.seen("watch") if mine in x.body.decode()],
                      "it has a stream")[0]
    watches = wait_for(lambda: len(all_watches(stream)) == 2 and all_watches(stream), "all of it")
    assert [w["start_revision"] for w in watches] == [str(gateway.store.revision + 1)] * 2
    renewal = wait_for(lambda: [x for x in gateway.seen("lease/keepalive")
                                if int(x.message["ID"]) == int(waiter.key.split("/")[-1], 16)],
                       "it renews")[0]
    paths = [x.path for x in gateway.requests if x.time < renewal.time and mine in x.body.decode()]
    # On a busy machine the first may be repeated.
    assert [path for path, _ in itertools.groupby(paths)] == ["kv/txn", "watch"]
    assert release(holder) == 0 and release(waiter) == 0


def test_streams_tell_what_is_read(callers, gateway, prefix):
    """A key's previous value is read only for the entries ahead."""
    c, entries = callers(gateway), all_entries(gateway)
    holder = hold(c, entries, prefix)
    gateway.wait_for("watch")
    waiter = waits(c, entries, prefix)
    gateway.wait_for("watch", 2)
    asked = [json.loads(line)["create_request"] for x in gateway.seen("watch")
             for line in x.body.decode().splitlines()]
    assert [(from64(r["key"]).decode(), "NOPUT" in r.get("filters", []), bool(r.get("prev_kv")))
            for r in asked] == [
        (holder.key, True, False), (prefix, False, False), (waiter.key, False, False),
        (holder.key, True, True)]
    assert release(holder) == 0 and release(waiter) == 0


def test_waiter_that_came_while_there_was_no_stream_is_handed_the_lock(callers, gateway, prefix):
    """The new one begins after that."""
    entries = all_entries(gateway)
    holder = hold(callers(gateway), entries, prefix)
    gateway.wait_for("watch")
    gateway.disconnect()
    joins(gateway, prefix + LAST)
    gateway.put(b"another lock", b"")
    wait_for(lambda: any(x.answered for x in gateway.requests if asks_who_is_next(prefix)(x)),
             "it has asked")
    gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 1)
    assert release(holder) == 0
    assert state(entries(prefix)[prefix + LAST]) == "held"


def test_waiter_that_came_just_before_the_stream_is_handed_the_lock(callers, gateway, prefix):
    """After it was asked who is next, and before the renewal from which on the stream reports."""
    c, entries = callers(gateway), all_entries(gateway)
    first = hold(c, entries, prefix)
    holder = waits(c, entries, prefix)
    wait_for(lambda: left_of(gateway, holder.key) < 8, "a holder's renewal is due")
    gateway.on("lease/keepalive", g.only(
        lambda _x: any(x.answered for x in gateway.requests if asks_who_is_next(prefix)(x)),
        g.once(lambda _x: joins(gateway, prefix + LAST))))
    assert release(first) == 0
    wait_for(lambda: [x for x in gateway.seen("watch") if watches_line(x, holder.key)],
             "it watches the line")
    wait_for(lambda: prefix + LAST in entries(prefix), "another has come")
    assert release(holder) == 0
    assert state(entries(prefix)[prefix + LAST]) == "held"


def after_all(hook):
    """It is executed, and reported as refused."""
    def hook_(x):
        x.normal()
        return hook(x)
    return hook_


NO_ROOM = g.fails(8, "etcdserver: mvcc: database space exceeded")
REFUSALS = {"no room": NO_ROOM, "no permission": g.fails(7, "etcdserver: permission denied"),
            "too many operations": g.fails(3, "etcdserver: too many operations in txn request"),
            "by somebody else": g.says("<html>", 403, "text/html"),
            "no room, after all": after_all(NO_ROOM),
            "by somebody else, after all": after_all(g.says("<html>", 403, "text/html"))}


@pytest.mark.parametrize("hook", REFUSALS.values(), ids=REFUSALS.keys())
def test_the_write_that_hands_over_is_refused(callers, gateway, prefix, hook):
    """A write that only deletes may pass: no waiter waits for the end of the lease."""
    entries = all_entries(gateway)
    holder = hold(callers(gateway), entries, prefix)
    gateway.wait_for("watch")
    joins(gateway, prefix + LAST)
    told(gateway, holder, prefix + LAST)
    gateway.on("kv/txn", g.only(lambda x: b"request_put" in x.body, hook))
    assert release(holder) == 0
    assert set(entries(prefix)) == {prefix + LAST}
