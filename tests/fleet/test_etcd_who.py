"""--who and --list for fleet locks: holders and waiters, on all hosts, as text and as JSON."""
import json
import os
import re

import pytest

import gateway as g
from etcd_server import PASSWORD
from fleet import DEADLINE, Caller, release, said, user, wait_for
from shape import rows_of
from test_etcd_wait import Line

HOST = os.uname().nodename


@pytest.fixture
def line(c, store):
    return Line(c, store)


def who(c, lock=None, status=4):
    """The rows of --who --json."""
    r = c.run("--who", "--json", lock or c.lock)
    assert (r.returncode, said(r)) == (status, ""), r
    return rows_of(json.loads(r.stdout), "who")


def listed(c, prefix):
    """The rows of --list --json."""
    r = c.run("--list", "--json", prefix)
    assert (r.returncode, said(r)) == (0, ""), r
    return rows_of(json.loads(r.stdout), "locks")


def table(r):
    """The rows of a table, by the names in its head; columns are where the head has them."""
    lines = [line for line in r.stdout.decode().splitlines() if not line.startswith("etcd:")
             or " held by " not in line]
    head = next(n for n, line in enumerate(lines) if line.startswith("LOCK"))
    return [line.split() for line in lines[head + 1:]]


# ---- --who ----

def test_a_free_lock(c):
    r = c.run("--who", c.lock)
    assert (r.returncode, r.stdout.decode(), said(r)) == (0, f"{c.lock}: free\n", "")
    assert who(c, status=0) == []


def test_a_lock_and_those_who_wait(c, line):
    holder = c.hold("-q")
    waiters = [line.wait("-q", command=("echo", str(n))) for n in range(3)]
    rows = who(c)
    assert [row["pid"] for row in rows] == [holder.pid, *(p.pid for p in waiters)]
    first = rows[0]
    entry = line.entries()[0]
    assert (first["lock"], first["state"], first["mode"], first["user"], first["host"],
            first["command"]) == \
        (c.lock, "held", "exclusive", user(), HOST, "sh")
    assert first["token"] == entry.modified and 0 < first["left"] <= 30 \
        and 0 <= first["age"] < DEADLINE and first["place"] is None
    assert first["slot"] == 0 and first["role"] == "wrapper" and first["waiters"] == 3
    for n, row in enumerate(rows[1:], 1):
        assert (row["state"], row["place"], row["command"], row["token"],
                row["left"]) == ("waiting", n, "echo", None, None)
    r = c.run("--who", c.lock)
    assert r.returncode == 4 and said(r) == ""
    text = r.stdout.decode().splitlines()
    assert re.fullmatch(rf"{c.lock}: held by pid {holder.pid} \({user()}\) on {HOST} for \d\S*: sh",
                        text[0]), text
    assert text[1].split() == ["LOCK", "STATE", "PLACE", "PID", "USER", "HOST", "SINCE",
                               "AGE", "LEFT", "COMMAND"]
    assert [row[:2] for row in table(r)] == [[c.lock, "held"], *[[c.lock, "waiting"]] * 3]
    assert release(holder) == 0
    assert [p.wait(DEADLINE) for p in waiters] == [0] * 3
    assert who(c, status=0) == []


def test_asking_changes_nothing(c, store, prefix):
    c.hold("-q")
    before = store.revision()
    who(c)
    listed(c, c.lock)
    assert store.revision() == before


def test_those_who_share(c):
    holders = [c.hold("-q", "-s") for _ in range(3)]
    rows = who(c)
    assert [(row["state"], row["mode"]) for row in rows] == [("held", "shared")] * 3
    assert {row["pid"] for row in rows} == {h.pid for h in holders}
    assert b"shared by 3" in c.run("--who", c.lock).stdout


def test_slots(c):
    holders = [c.hold("-q", "-j3") for _ in range(2)]
    rows = who(c)
    assert sorted((row["slot"], row["slots"]) for row in rows) == [(0, 3), (1, 3)]
    assert {row["pid"] for row in rows} == {h.pid for h in holders}
    assert b"2 of 3 slots are in use" in c.run("--who", c.lock).stdout


def test_a_lock_that_is_kept(c):
    assert c.run("-q", "--hold-for", "200", c.lock, "true").returncode == 0
    row, = who(c)
    assert (row["state"], row["command"]) == ("kept", "true") and 100 < row["left"] <= 202
    assert b"whose command has ended (--hold-for)" in c.run("--who", c.lock).stdout


def test_another_program(c, store, prefix):
    lease = store.grant(60)
    store.put(f"{prefix}{lease:x}", "", lease)
    row, = who(c)
    assert (row["state"], row["mode"], row["pid"], row["user"], row["host"],
            row["since"]) == ("held", "exclusive", None, None, None, None)
    assert f"{lease:x}" in row["command"] and 0 < row["left"] <= 60
    assert f"held by another program (etcdctl lock?) with the lease {lease:x}".encode() in c.run(
        "--who", c.lock).stdout


def test_a_key_without_a_lease(c, store, prefix):
    store.put(prefix + "forgotten")
    row, = who(c)
    assert row["state"] == "held" and row["left"] is None
    store.delete(prefix + "forgotten")


def test_what_others_have_written_is_made_harmless(c, store, prefix):
    """In a table it is one line, in JSON a string."""
    lease = store.grant(60)
    value = {"v": 1, "m": "x", "st": "held", "host": "h\x1b[31m\nost", "user": "u\u202eser",
             "cmd": "c\x07\n\u2028", "pid": 7, "since": 1}
    store.put(f"{prefix}{lease:x}", json.dumps(value), lease)
    for r in (c.run("--who", c.lock), c.run("--list", c.lock)):
        text = r.stdout.decode()
        assert not re.search("[\0-\x09\x0b-\x1f\x7f\u202e]", text), text
        assert len(table(r)) == 1
    row, = who(c)
    assert row["pid"] == 7


@pytest.mark.parametrize("value", [b"x", b"{", b"[]", b"\xff\xfe", b"x" * 100000, b'{"v":1}',
                                   b'{"v":1,"m":7,"k":"x","st":[],"host":1,"since":-1e300,'
                                   b'"pid":1e99}',
                                   b"[" * 10000], ids=["x", "brace", "list", "binary", "big", "v1",
                                                       "types", "deep"])
def test_whatever_somebody_has_written(c, store, prefix, value):
    lease = store.grant(60)
    store.put(f"{prefix}{lease:x}", value, lease)
    asked, found = who(c), listed(c, c.lock)
    for row in asked + found:
        del row["age"], row["left"]
    assert asked == found and len(found) == 1 and found[0]["state"] in ("held", "kept", "waiting")
    assert c.run("--who", c.lock).returncode == 4


# ---- --list ----

def test_all_locks_below_a_prefix(c, store):
    """In the order of their names, and the holders of each before its waiters."""
    below = [f"{c.lock}/{n}" for n in ("a", "b", "c")]
    holders = [c.hold("-q", lock=lock) for lock in below]
    waiter = Line(c, store, below[1]).wait("-q")
    rows = listed(c, c.lock + "/")
    assert [(row["lock"], row["state"], row["pid"]) for row in rows] == [
        (below[0], "held", holders[0].pid), (below[1], "held", holders[1].pid),
        (below[1], "waiting", waiter.pid), (below[2], "held", holders[2].pid)]
    r = c.run("--list", c.lock + "/")
    assert r.returncode == 0 and [row[:2] for row in table(r)] == [[row["lock"], row["state"]]
                                                                   for row in rows]
    assert [row["lock"] for row in listed(c, below[2])] == [below[2]]
    # They are only some of the cluster's locks.
    assert {row["lock"] for row in rows} <= {row["lock"] for row in listed(c, "etcd:")}


def test_no_locks(c):
    assert listed(c, c.lock) == []
    r = c.run("--list", c.lock)
    assert (r.returncode, r.stdout, said(r)) == (0, b"", "")


def test_many(c, store, prefix):
    """More than fits into one packet, or one page."""
    lease = store.grant(60)
    for n in range(300):
        store.put(f"{prefix}{n:03}/{lease:x}",
                  json.dumps({"v": 1, "m": "x", "st": "held", "host": "h" * 60, "user": "u",
                              "cmd": "c" * 100, "pid": n + 1,
                              "since": 1}), lease)
    rows = listed(c, c.lock + "/")
    assert [row["lock"] for row in rows] == [f"{c.lock}/{n:03}" for n in range(300)]


def test_what_is_not_a_lock_is_not_read(callers, gateway):
    """Keys come in pages of one revision, and values only of what may be a lock."""
    c = callers(gateway)
    holder = c.hold("-q")
    with gateway.store.changed:
        for n in range(1200):
            gateway.put(f"{c.lock[5:]}{n:04}".encode(), b"x" * 1000)
            gateway.put(f"{c.lock[5:]}/other/{n:04}".encode(), b"x" * 1000)
    # Before the last page, what was read so far is compacted.
    gateway.on("kv/range", g.only(lambda x: x.count == 3, g.fails(
        11, "etcdserver: mvcc: required revision has been compacted")))
    assert [row["pid"] for row in listed(c, c.lock)] == [holder.pid]
    pages = gateway.seen("kv/range")
    assert len(pages) == 3 + 5
    assert all(x.message["keys_only"] and int(x.message["limit"]) == 500 for x in pages)
    assert ["revision" in x.message for x in pages] == [False, True, True] + [False] + 4 * [True]
    assert not [x for x in pages if len(json.dumps(x.answered)) > 300000]
    read = [op["request_range"]["key"] for op in gateway.seen("kv/txn")[-1].message["success"]]
    assert len(read) == 1


@pytest.mark.parametrize("argv", [("--list", "host:x"), ("--list", "file:/tmp/x"), ("--list", "x"),
                                  ("--list", "etdc:x"), ("--list", "etcd:x", "true"),
                                  ("--who", "etcd:"), ("--json", "etcd:x", "true")], ids=" ".join)
def test_wrong_usage(c, argv):
    r = c.run(*argv)
    assert (r.returncode, r.stdout) == (2, b"") and re.fullmatch(r"me-only: [^\n]+\n", said(r)), r


def test_the_locks_of_a_host_are_listed_without_the_cluster(c):
    """The cluster is not asked."""
    r = c.with_env(ETCDCTL_ENDPOINTS="127.0.0.1:1").run("--list")
    assert r.returncode == 0 and said(r) == ""


# ---- other ways ----

def test_with_certificates(callers, tls_etcd):
    c = callers(tls_etcd)
    holder = c.hold("-q")
    assert [row["pid"] for row in who(c)] == [holder.pid] == [row["pid"]
                                                              for row in listed(c, c.lock)]


def test_with_a_user(callers, auth_etcd, allowed):
    c = callers(auth_etcd)
    c.lock = allowed
    holder = c.hold("-q")
    assert [row["pid"] for row in who(c)] == [holder.pid] == [row["pid"]
                                                              for row in listed(c, allowed)]
    # This user may not see all locks of the cluster.
    r = c.run("--list", "etcd:")
    assert (r.returncode, r.stdout) == (3, b"") and "permission" in said(r) \
        and PASSWORD not in said(r)


@pytest.mark.parametrize("gateway", ["3.4", "debian", "3.6"], indirect=True)
def test_with_other_versions(callers, gateway):
    c: Caller = callers(gateway)
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", c.lock, "true")
    wait_for(lambda: len(gateway.keys()) == 2, "it waits")
    assert [row["pid"] for row in who(c)] == [holder.pid,
                                              p.pid] == [row["pid"] for row in listed(c, c.lock)]


def test_without_a_quorum(callers, gateway):
    """What a member knows by itself may be stale; it is shown as such, or not at all."""
    c = callers(gateway)
    holder = c.hold("-q")
    gateway.on("kv/range", lambda x: None if x.message.get("serializable")
               else x.fail(14, "etcdserver: no leader"))
    gateway.on("kv/txn", lambda x: x.fail(14, "etcdserver: no leader"))
    r = c.run("--who", c.lock, env={"ETCDCTL_COMMAND_TIMEOUT": "1s"})
    if r.returncode == 4:
        assert f"pid {holder.pid} " in r.stdout.decode() \
            and "stale" in (r.stdout + r.stderr).decode()
    else:
        assert (r.returncode, r.stdout) == (3, b"") and said(r).startswith("me-only: ")
