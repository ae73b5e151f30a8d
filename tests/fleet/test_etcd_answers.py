"""
Answers that real servers rarely give: late, half, never, and garbage.

The server is a script (gateway.py). Whatever it does: the command runs once or not at all, nothing
is run without a lock, and the command ends before a lock that cannot be confirmed.
"""
import re
import signal
import time

import pytest

import gateway as g
import protobuf
from etcd_server import to64
from fleet import DEADLINE, LATE, Ticks, boottime, helper_of, is_alive, read_line, release, said, \
    wait_for

QUICK = {"ETCDCTL_COMMAND_TIMEOUT": "700ms", "ETCDCTL_DIAL_TIMEOUT": "500ms"}
TTL = 10
SHORT = ("-q", "--ttl", str(TTL), "-k", "2")


@pytest.fixture
def c(callers, gateway):
    return callers(gateway)


@pytest.fixture
def runs(tmp_path):
    """The command to run, and how often it has run."""
    class Runs:
        path = tmp_path / "runs"
        command = ("sh", "-c", 'echo "$ME_ONLY_TOKEN $ETCD_LOCK_KEY" >>"$0"', str(path))

        def lines(self):
            return self.path.read_text().splitlines() if self.path.exists() else []
    return Runs()


def assert_ran_once(c, gateway, runs, *options):
    r = c.run("-q", *options, c.lock, *runs.command)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b""), r
    line, = runs.lines()
    assert re.fullmatch(rf"\d+ {c.lock[5:]}/[0-9a-f]+", line), line
    wait_for(lambda: gateway.keys() == [], "the lock is free")


def assert_refused(c, runs, *options, pattern=r"[^\n]+", **env):
    r = c.run("-q", *options, c.lock, *runs.command, env={**QUICK, **env})
    assert (r.returncode, r.stdout) == (3, b""), r
    assert re.fullmatch(rf"me-only: {c.lock}: {pattern}\n", said(r)), r
    assert not re.search("[\0-\x09\x0b-\x1f\x7f]", said(r)), r
    assert runs.lines() == []


def is_acquiring(x):
    """The write that takes the lock: a txn that puts a key."""
    return "request_put" in x.body.decode()


def is_releasing(x):
    return "request_delete_range" in x.body.decode() or x.path == "kv/deleterange"


def is_reading(x):
    """The read that belongs to a renewal, of one key or of several at once: it writes nothing."""
    return x.path in ("kv/range", "kv/txn") and not is_acquiring(x) and not is_releasing(x)


def on(gateway, path, hook):
    """gateway.on(), and "read" for all reads."""
    gateway.on("*" if path == "read" else path, g.only(is_reading, hook) if path == "read"
               else hook)


def ranges(value):
    """The answers to ranges in the answer to a read."""
    return [r["response_range"] for r in value.get("responses", [])
            if "response_range" in r] if "responses" in value else [value]


# ---- all is well ----

def test_a_run(c, gateway, runs):
    assert_ran_once(c, gateway, runs)
    lease, = {x.message["ID"] for x in gateway.seen("lease/grant")}
    assert 0 < int(lease) < 1 << 63
    assert runs.lines()[0].endswith(f"/{int(lease):x}")
    # Nothing is asked without need, and every request makes a member without a leader report that
    # at once.
    assert len(gateway.requests) <= 8, [x.path for x in gateway.requests]
    assert {x.path.split("/")[0] for x in gateway.requests} <= {"lease", "kv", "", "watch",
                                                                "maintenance"}
    assert all(x.headers.get("hasleader") == "true" for x in gateway.requests
               if x.path.startswith(("kv/", "lease/", "watch")))


def test_waiting(c, gateway, runs):
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", c.lock, *runs.command)
    gateway.wait_for_line(2)
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1


def test_held(c, gateway, runs):
    holder = c.hold("-q")
    r = c.run(c.lock, *runs.command)
    assert r.returncode == 4 and f"held by pid {holder.pid} (" in said(r)


# ---- once something goes wrong ----

ONCE = {"drop": g.drop, "drop after": g.drop_after, "half": g.half, "hang": g.hang,
        "hang after": g.hang_after, "half and hang": g.half_and_hang,
        "late": g.late(0.5), "unavailable": g.fails(14, "etcdserver: request timed out"),
        "no leader": g.fails(14, "etcdserver: no leader"),
        "unknown": g.fails(2, "context deadline exceeded"),
        "deadline": g.fails(4, "context deadline exceeded"),
        "closing": g.fails(1, "grpc: the client connection is closing"),
        "stopped": g.fails(14, "etcdserver: server stopped"),
        "502": g.says("<html>502 Bad Gateway</html>", 502, "text/html"),
        "503 empty": g.says("", 503, "text/plain"),
        "reset": g.reset, "unread": g.unread, "go away": g.go_away,
        "compressed": g.says_bytes(b"\x0a\x00", compressed=1),
        "bytes": g.one_byte_at_a_time}
once = pytest.mark.parametrize("hook", ONCE.values(), ids=ONCE.keys())


@once
@pytest.mark.parametrize("path", ["lease/grant", "kv/txn"])
def test_once_something_goes_wrong_at_the_start(c, gateway, runs, path, hook):
    gateway.on(path, g.once(hook))
    assert_ran_once(c, gateway, runs)


@once
def test_once_something_goes_wrong_at_the_end(c, gateway, runs, hook):
    """
    The command's status counts; the next caller finds the lock free, at the latest when the lease
    ends.
    """
    gateway.on("kv/txn", g.only(is_releasing, g.once(hook))).on("kv/deleterange", g.once(hook))
    r = c.run("-q", "--ttl", "10", c.lock, "sh", "-c", "exit 7")
    assert (r.returncode, r.stderr) == (7, b""), r
    wait_for(lambda: gateway.keys() == [], "the lock is free")


@once
@pytest.mark.parametrize("path", ["lease/keepalive", "read"])
def test_once_something_goes_wrong_while_it_is_held(c, gateway, path, hook):
    holder = c.hold("-q", "--ttl", "20")
    on(gateway, path, g.once(hook))
    before = len(gateway.seen("lease/keepalive"))
    gateway.wait_for("lease/keepalive", before + 2)
    assert holder.poll() is None
    assert release(holder) == 0
    assert gateway.keys() == [] and holder.stderr.read() == b""


@once
@pytest.mark.parametrize("path", ["lease/grant", "kv/txn", "read", "watch", "lease/timetolive"])
def test_once_something_goes_wrong_while_it_waits(c, gateway, runs, path, hook):
    holder = c.hold("-q", "--ttl", "10")
    on(gateway, path, g.once(hook))
    p = c.start("-q", "-w", "inf", "--ttl", "10", c.lock, *runs.command)
    wait_for(lambda: len(gateway.keys()) == 2, "it waits")
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1
    wait_for(lambda: gateway.keys() == [], "the lock is free")


def test_every_answer_is_late(c, gateway, runs):
    gateway.on("*", g.late(0.2))
    assert_ran_once(c, gateway, runs)


def test_half_of_all_answers_get_lost(c, gateway, runs):
    """Half of the requests do: they can be repeated."""
    count = [0]

    def hook(x):
        count[0] += 1
        return (g.drop, g.drop_after, None, g.half)[count[0] % 4](x) if count[0] % 4 != 2 else None
    gateway.on("*", hook)
    assert_ran_once(c, gateway, runs)


def test_the_connections_are_closed_again_and_again(c, gateway):
    holder = c.hold("-q", "--ttl", "10")
    for n in range(3):
        gateway.disconnect()
        gateway.wait_for("lease/keepalive", n + 1)
    assert release(holder) == 0 and gateway.keys() == []


# ---- never a good answer ----

NEVER = {"hang": g.hang, "drop": g.drop, "half": g.half, "half and hang": g.half_and_hang,
         "not found": g.says("404 page not found\n", 404, "text/plain"),
         "html": g.says("<html><h1>It works!</h1></html>", 200, "text/html"),
         "502": g.says("<html>", 502, "text/html"),
         "redirect": g.says("", 301), "empty": g.says(""), "no status": g.says_bytes(code="x"),
         "no message": g.says_bytes(), "an empty message": g.says_bytes(b""),
         "two messages": g.says_bytes(b"\x0a\x02\x08\x01", b"\x0a\x02\x08\x01"),
         "compressed": g.says_bytes(b"\x0a\x02\x08\x01", compressed=1),
         "half a field": g.says_bytes(b"\x0a\x7f\x08"), "field 0": g.says_bytes(b"\x00\x01"),
         "an endless number": g.says_bytes(b"\x08" + b"\xff" * 20),
         "header is a number": g.says_bytes(b"\x08\x01"),
         "another cluster's": g.says_bytes(b"\x0a\x00\x10\x01"),
         "control": g.fails(3, "\0\x1b[31mred\n"), "binary": g.says(bytes(range(256))),
         "deep": g.says_bytes(b"\x1a\x82\x80\x80\x00\x22" * 1000),
         "long": g.says("x" * 3000000), "long message": g.fails(3, "x" * 10000),
         "reset": g.reset,
         "permission": g.fails(7, "etcdserver: permission denied"),
         "invalid": g.fails(3, "etcdserver: something"),
         "out of range": g.fails(11, "etcdserver: mvcc: required revision has been compacted"),
         "no space": g.fails(8, "etcdserver: mvcc: database space exceeded"),
         "unavailable": g.fails(14, "etcdserver: no leader"),
         "unknown": g.fails(2, "context deadline exceeded"),
         "unimplemented": g.fails(12, "unknown method"),
         "token": g.fails(16, "etcdserver: invalid auth token"),
         "name": g.fails(3, "etcdserver: user name is empty"),
         "whitelist": g.says("", 421, "text/plain"),
         "no code": g.says_bytes(code=-1), "a large code": g.says_bytes(code=9999)}
never = pytest.mark.parametrize("hook", NEVER.values(), ids=NEVER.keys())


@never
def test_no_good_answer_to_anything(c, gateway, runs, hook):
    gateway.on("*", hook)
    assert_refused(c, runs)


@never
def test_no_good_answer_to_the_taking_of_the_lock(c, gateway, runs, hook):
    """What cannot be understood is never taken for yes."""
    gateway.on("kv/txn", hook)
    assert_refused(c, runs)


# Without those that grant it all the same: then the next answer is that it exists.
NOT_GRANTED = {n: h for n, h in NEVER.items() if not n.startswith(("half", "reset"))}


@pytest.mark.parametrize("hook", NOT_GRANTED.values(), ids=NOT_GRANTED.keys())
def test_no_good_answer_to_the_lease(c, gateway, runs, hook):
    gateway.on("lease/grant", hook)
    assert_refused(c, runs)


@pytest.mark.parametrize("code, message", [(7, "etcdserver: permission denied"),
                                           (8, "etcdserver: mvcc: database space exceeded"),
                                           (14, "etcdserver: no leader"),
                                           (3, "etcdserver: user name is empty"), (2, "a reason"),
                                           (16, "etcdserver: invalid auth token")])
def test_errors_of_all_versions(c, gateway, runs, code, message):
    gateway.on("*", g.fails(code, message))
    assert_refused(c, runs)


VERSIONS = {"hang": g.hang, "drop": g.drop, "404": g.says("no", 404, "text/plain"),
            "empty": g.says_bytes(b""), "number": g.says_bytes(b"\x10\x07"),
            "x.y": g.changes(lambda v: v.update(version="x.y")),
            "control": g.changes(lambda v: v.update(version="3.4.23\n\x1b[31m")),
            "500": g.says("<html>", 500)}


@pytest.mark.parametrize("hook", VERSIONS.values(), ids=VERSIONS.keys())
def test_the_version_does_not_matter(c, gateway, runs, hook):
    gateway.on("maintenance/status", hook)
    r = c.run(c.lock, *runs.command)
    assert r.returncode == 0 and len(runs.lines()) == 1
    assert b"\x1b" not in r.stderr and r.stderr.count(b"\n") <= 1


# ---- other encodings of the same ----

def something_more(x):
    """Fields of each wire type that a later version may have."""
    _, values = x.normal()
    more = b"\xf8\x3f\x07" + b"\xf9\x3f12345678" + b"\xfa\x3f\x01x" + b"\xfd\x3f1234"
    return g.says_bytes(more + protobuf.encode(protobuf.METHODS[x.path][2], values[0]) + more)(x)


def test_other_ways_to_write_the_same(c, gateway, runs):
    for path in ("lease/grant", "lease/keepalive", "lease/timetolive", "kv/txn", "kv/range"):
        gateway.on(path, something_more)
    holder = c.hold("-q", "--ttl", "10")
    p = c.start("-q", "-w", "inf", c.lock, *runs.command)
    wait_for(lambda: len(gateway.keys()) == 2, "it waits")
    gateway.wait_for("lease/keepalive", 2)
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1


# ---- while the lock is held ----

@pytest.fixture
def ticks(tmp_path):
    return Ticks(tmp_path / "ticks")


def begin(c, ticks, *options):
    p = c.start(*(options or SHORT), c.lock, *ticks.job())
    ticks.wait_for("job")
    p.helper = helper_of(p)
    return p


def assert_lost(c, p, ticks, by):
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (5, b""), err
    assert re.fullmatch(rf"me-only: {c.lock}: lost\b[^\n]*; the command was ended by [^\n]*\n",
                        said(err)), err
    assert ticks.living() == set() and ticks.last() < by + LATE
    wait_for(lambda: not is_alive(p.helper), "the helper has ended")


def without_ttl(value):
    value.pop("TTL", None)


def ttl_zero(value):
    value["TTL"] = "0"


def ttl_negative(value):
    value["TTL"] = "-1"


@pytest.mark.parametrize("change", [without_ttl, ttl_zero, ttl_negative])
def test_the_lease_has_ended(c, gateway, ticks, change):
    """That is reported with status 200."""
    p = begin(c, ticks, "-q", "--ttl", "10", "-k", "5")
    gateway.on("lease/keepalive", g.changes(change))
    gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 1)
    assert_lost(c, p, ticks, by=boottime() + 5)


def test_the_lease_is_not_found(c, gateway, ticks):
    p = begin(c, ticks, "-q", "--ttl", "10", "-k", "5")
    gateway.on("lease/keepalive", g.fails(5, "etcdserver: requested lease not found"))
    gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 1)
    assert_lost(c, p, ticks, by=boottime() + 5)


def without_keys(value):
    for answer in ranges(value):
        answer.pop("kvs", None)
        answer.pop("count", None)


def created_later(value):
    for answer in ranges(value):
        for kv in answer.get("kvs", []):
            kv["create_revision"] = str(int(kv["create_revision"]) + 1000)


@pytest.mark.parametrize("change", [without_keys, created_later])
def test_the_key_is_gone_or_anothers(c, gateway, ticks, change):
    """Although the lease is reported as alive."""
    p = begin(c, ticks, "-q", "--ttl", "10", "-k", "5")
    on(gateway, "read", g.changes(change))
    gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 1)
    assert_lost(c, p, ticks, by=boottime() + 5)


def other_term(x):
    """As if there were a new leader between the two halves of a renewal."""
    status, values = x.normal()
    values[0]["header"]["raft_term"] = str(1000 + x.count)
    return x.reply(status, values)


def test_a_new_leader_in_the_middle_of_a_renewal_is_not_noticed(c, gateway):
    holder = c.hold("-q", "--ttl", "10")
    on(gateway, "read", g.once(other_term))
    gateway.wait_for("lease/keepalive", 8)
    assert release(holder) == 0 and holder.stderr.read() == b""


UNCONFIRMED = {
    "a new leader in each renewal": ("read", other_term),
    "no answer to the keepalive": ("lease/keepalive", g.hang),
    "no answer to the read": ("read", g.hang),
    "half an answer": ("lease/keepalive", g.half),
    "garbage": ("lease/keepalive", g.says_bytes(b"{]")),
    "compressed": ("lease/keepalive", g.says_bytes(b"\x0a\x02\x08\x01", compressed=1)),
    "reset": ("lease/keepalive", g.reset),
    "empty": ("lease/keepalive", g.says("")),
    "nothing": ("lease/keepalive", g.says_bytes(b"")),
    "no header": ("read", g.changes(lambda v: v.pop("header"))),
    "no term": ("read", g.changes(lambda v: v["header"].pop("raft_term"))),
    "another lease": ("lease/keepalive", g.changes(lambda v: v.update(ID="12345"))),
    "negative time": ("lease/keepalive", g.changes(lambda v: v.update(TTL="-1"))),
    "another cluster": ("*", g.changes(lambda v: v["header"].update(cluster_id="12345"))),
    "unavailable": ("*", g.fails(14, "etcdserver: no leader")),
    "no permission": ("read", g.fails(7, "etcdserver: permission denied")),
    "no space": ("*", g.fails(8, "etcdserver: mvcc: database space exceeded")),
    "not found": ("*", g.says("404 page not found\n", 404, "text/plain")),
    "proxy": ("*", g.says("<html>502</html>", 502, "text/html")),
}


@pytest.mark.parametrize("path, hook", UNCONFIRMED.values(), ids=UNCONFIRMED.keys())
def test_what_is_no_confirmation_does_not_prolong_the_lock(c, gateway, ticks, path, hook):
    p = begin(c, ticks)
    with gateway.store.changed:
        on(gateway, path, hook)
        confirmed = boottime()
    assert_lost(c, p, ticks, by=confirmed + TTL)


def test_the_servers_time_to_live_counts(c, gateway, ticks):
    """Not the one that was requested."""
    def shorter(value):
        value["TTL"] = str(TTL)
    gateway.on("lease/grant", g.changes(shorter))
    p = begin(c, ticks, "-q", "--ttl", "60", "-k", "2")
    with gateway.store.changed:
        gateway.on("*", g.hang)
        gateway.disconnect()
        confirmed = boottime()
    assert_lost(c, p, ticks, by=confirmed + TTL)


def test_a_time_to_live_that_is_too_little_for_any_command(c, gateway, runs):
    """Nothing could be started, however often it was renewed."""
    def shorter(value):
        value["TTL"] = "6"
    gateway.on("lease/grant", g.changes(shorter)).on("lease/keepalive", g.changes(shorter))
    assert_refused(c, runs, "--ttl", "10", "-k", "5",
                   pattern=r"etcd granted a lease of only 6 s \([^\n]+\)")
    assert gateway.keys() == []


def test_an_answer_that_comes_too_late_is_none(c, gateway, ticks):
    """The time counts from the request."""
    p = begin(c, ticks)
    gateway.on("lease/keepalive", g.late(6))
    confirmed = boottime()
    assert_lost(c, p, ticks, by=confirmed + TTL + 2)


# What makes a user log in again.
ENDS_OF_TOKENS = {"expired": g.Gateway.expire_tokens, "users changed": g.Gateway.change_users}
ends_of_tokens = pytest.mark.parametrize("end", ENDS_OF_TOKENS.values(), ids=ENDS_OF_TOKENS.keys())


@ends_of_tokens
def test_a_user_whose_token_has_ended(callers, gateway, ticks, end):
    """All versions of etcd report this; the user logs in again, and the job is not affected."""
    gateway.users = {"mo": "the password"}
    c = callers({**gateway.env, "ETCDCTL_USER": "mo", "ETCDCTL_PASSWORD": "the password"})
    p = begin(c, ticks)
    for n in range(3):
        end(gateway)
        gateway.wait_for("auth/authenticate", n + 2)
        # With the new token, which would else be too late to expire.
        gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 1)
    gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 3)
    p.terminate()
    assert p.wait(DEADLINE) == 0 and p.stderr.read() == b"" and gateway.keys() == []


@ends_of_tokens
def test_a_waiter_whose_token_has_ended(callers, gateway, runs, end):
    gateway.users = {"mo": "the password"}
    c = callers({**gateway.env, "ETCDCTL_USER": "mo:the password"})
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", "--ttl", "10", c.lock, *runs.command)
    gateway.wait_for_line(2)
    end(gateway)
    gateway.disconnect()
    end(gateway)
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1
    assert gateway.keys() == []


@ends_of_tokens
def test_a_stream_whose_token_has_ended(callers, gateway, end):
    """It is opened again with a new token, long before the next renewal."""
    gateway.users = {"mo": "the password"}
    c = callers({**gateway.env, "ETCDCTL_USER": "mo:the password"})
    holder = c.hold("-q", "--ttl", "300")
    gateway.wait_for("watch", 1)
    end(gateway)
    gateway.disconnect()
    wait_for(lambda: gateway.seen("watch")[-1].headers["token"] == "token.2", "it is open")
    assert gateway.seen("lease/keepalive") == []
    assert release(holder) == 0 and gateway.keys() == []


def test_a_user_who_is_deleted_meanwhile(callers, gateway, ticks):
    gateway.users = {"mo": "the password", "other": "x"}
    c = callers({**gateway.env, "ETCDCTL_USER": "mo:the password"})
    p = begin(c, ticks)
    del gateway.users["mo"]
    gateway.expire_tokens()
    confirmed = boottime()
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (5, b"") and b"the password" not in err
    assert ticks.living() == set() and ticks.last() < confirmed + TTL + LATE


def test_an_event_that_comes_while_renewals_are_not_answered(c, gateway, ticks):
    """
    It may be late as well, and others have stood back since: the command has no grace. (A renewal
    is due after a sixth of the shortest TTL, and tried again after a tenth.)
    """
    gateway.on("lease/keepalive", g.hang)
    p = c.start(*SHORT, c.lock, *ticks.job("stubborn"))
    key, = wait_for(gateway.keys, "it holds the lock")
    gateway.wait_for("lease/keepalive", 2)
    assert ticks.living()
    gateway.delete(key)
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (5, b"")
    assert "the command was ended by SIGKILL" in said(err), err


# ---- while it waits ----

def canceled(*reasons):
    """A watch that is not the requested one; the stream stays open."""
    def hook(x):
        x.start()
        for reason in reasons:
            x.stream.send(reason if isinstance(reason, bytes) else x.framed(reason))
        x.wait()
        return True
    return hook


def ended(*values, code=0, message=""):
    """A watch that ends at once."""
    def hook(x):
        x.start()
        x.stream.send(b"".join(x.framed(value) for value in values))
        x.finish(code, message)
        return True
    return hook


CREATED = {"header": {"cluster_id": "4711", "revision": "2", "raft_term": "2"}, "created": True}
WATCHES = {
    "hangs": g.hang,
    "says nothing": canceled(),
    "is created and silent": canceled(CREATED),
    "is canceled": canceled({"header": {}, "created": True, "canceled": True,
                             "cancel_reason": "a reason"}),
    "is compacted": canceled(CREATED, {"header": {"cluster_id": "4711"}, "canceled": True,
                                       "compact_revision": "8"}),
    "has no permission": canceled({"header": {}, "watch_id": "-1", "created": True,
                                   "canceled": True,
                                   "cancel_reason": "rpc error: code = PermissionDenied desc = "
                                                    "etcdserver: permission denied"}),
    "ends": ended(CREATED),
    "ends at once": ended(),
    "ends with an error": ended(CREATED, code=14, message="transport is closing"),
    "is reset": g.reset,
    "is compressed": canceled(protobuf.framed(b"", 1)),
    "is too long": canceled(b"\0\xff\xff\xff\xff"),
    "is refused": g.fails(14, "etcdserver: no leader"),
    "is not there": g.says("404 page not found\n", 404, "text/plain"),
    "is garbage": canceled(protobuf.framed(b"<html>")),
    "is endless": canceled(b"\0\x0f\0\0\0", *([b"x" * 65536] * 64)),
    "is cut": g.drop,
}


@pytest.mark.parametrize("hook", WATCHES.values(), ids=WATCHES.keys())
def test_a_waiter_does_not_depend_on_its_watch(c, gateway, runs, hook):
    """It also looks at each renewal, and does not ask too often."""
    gateway.on("watch", hook)
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", "--ttl", "10", c.lock, *runs.command)
    gateway.wait_for_line(2)
    gateway.wait_for("lease/keepalive", 3)
    asked = len(gateway.requests)
    assert asked < 150, "it asks again and again"
    assert p.poll() is None and runs.lines() == []
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1


@pytest.mark.parametrize("drop", [1, -1])
def test_a_deletion_of_which_nobody_is_told(c, gateway, runs, drop):
    """3.4.23 does that after a compaction."""
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", "--ttl", "10", c.lock, *runs.command)
    gateway.wait_for_line(2)
    gateway.store.drop_deletes = drop
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1


def test_a_watch_in_pieces(c, gateway, runs):
    """Messages and packets need not end together."""
    def pieces(x):
        x.start()
        key = x.message["create_request"]["key"]
        while not x.gateway.closing.is_set():
            with x.gateway.store.changed:
                mine = [e for e in x.gateway.store.events if e[1] == "DELETE"
                        and to64(e[2].key) == key]
                x.gateway.store.changed.wait(0.05)
            x.wait(0.001)
            if mine:
                break
        event = {"type": "DELETE", "kv": {"key": key, "mod_revision": str(mine[0][0])}}
        data = x.framed(CREATED) + x.framed({"header": CREATED["header"], "events": [event]})
        for n in range(len(data)):
            x.stream.send(data[n:n + 1])
        x.wait()
        return True
    gateway.on("watch", pieces)
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", c.lock, *runs.command)
    gateway.wait_for_line(2)
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1


def test_a_wait_outlasts_a_cluster_that_is_away(c, gateway, runs):
    """Even if its lease has ended meanwhile: it joins the line again."""
    lease = 77
    with gateway.store.changed:
        gateway.store.leases[lease] = g.Lease(1000)
    gateway.put(f"{c.lock[5:]}/4d".encode(), b"", lease)
    p = c.start("-q", "-w", "inf", "--ttl", "10", c.lock, *runs.command)
    # Only once it knows its place: before, it would write the same key again.
    gateway.wait_for("watch")
    mine, = [k for k in gateway.keys() if not k.endswith(b"/4d")]
    gateway.down()
    with gateway.store.changed:
        gateway.end_lease(int(mine.split(b"/")[-1], 16))
    time.sleep(0.5)
    assert p.poll() is None
    gateway.up()
    wait_for(lambda: len(gateway.keys()) == 2, "it is in line again")
    gateway.end_lease(lease)
    assert p.wait(DEADLINE) == 0
    line, = runs.lines()
    assert line.split()[1] != mine.decode()


@pytest.mark.parametrize("wait, times, status", [(["-w", "inf"], 2, 0), ([], 2, 3),
                                                 (["-w", "inf"], 10 ** 9, 3)],
                         ids=["waiter", "try", "always"])
def test_the_lease_has_ended_before_it_was_used(c, gateway, runs, wait, times, status):
    """As if the answers had been lost for so long. A waiter joins the line, if it ever can."""
    gateway.on("kv/txn", g.times(times, g.fails(5, "etcdserver: requested lease not found")))
    c.env["ETCDCTL_COMMAND_TIMEOUT"] = "2s"
    p = c.start("-q", *wait, c.lock, *runs.command)
    _, err = p.communicate(timeout=DEADLINE)
    assert p.returncode == status and len(runs.lines()) == (status == 0), err
    assert (b"lease not found" in err) == (status == 3)
    assert gateway.keys() == []


def test_an_endpoint_that_is_none_does_not_end_a_wait(c, new_gateway, gateway, runs):
    """The other one is away for a while: that passes."""
    none = new_gateway()
    none.on("*", g.says("404 page not found\n", 404, "text/plain"))
    c.env["ETCDCTL_ENDPOINTS"] = f"{gateway.endpoint},{none.endpoint}"
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", "--ttl", "10", c.lock, *runs.command)
    gateway.wait_for_line(2)
    asked = len(none.requests)
    gateway.down()
    wait_for(lambda: len(none.requests) > asked + 3, "it asks the other one, again and again")
    assert p.poll() is None
    gateway.up()
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1


def test_with_v_a_waiter_tells_when_the_cluster_does_not_answer(c, gateway):
    """Once, and once when it answers again."""
    holder = c.hold("-q")
    p = c.start("-v", "-w", "inf", "--ttl", "10", c.lock, "true")
    gateway.wait_for_line(2)
    asked = len(gateway.requests)
    gateway.on("*", g.drop)
    gateway.disconnect()
    lines = []

    def read_until(words):
        while not lines or words not in lines[-1]:
            lines.append(read_line(p.stderr))
            assert lines[-1]
    read_until(b"; still waiting")
    wait_for(lambda: len(gateway.requests) > asked + 6, "it asks again and again")
    gateway.off()
    read_until(b"answers again")
    about, = [line for line in lines if b"; still waiting" in line]
    assert about.endswith(f"{c.lock}: http://{gateway.endpoint} closed the connection; "
                          "still waiting\n".encode())
    assert lines[-1].endswith(f"{c.lock}: etcd answers again\n".encode())
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and b"still waiting" not in p.stderr.read()


def test_the_clean_end_of_the_one_before_is_no_reason_to_wait_longer(c, gateway, runs):
    """Nor is a server that cannot report how it ended a reason to wait for ever."""
    gateway.on("lease/timetolive", g.fails(14, "etcdserver: no leader"))
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", "--ttl", "10", c.lock, *runs.command)
    wait_for(lambda: len(gateway.keys()) == 2, "it waits")
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1


def test_giving_up_while_the_cluster_is_away(c, gateway, runs):
    """The time to wait is over all the same; whether the lock is held is then unknown."""
    holder = c.hold("-q")
    p = c.start("-q", "-w", "3", c.lock, *runs.command)
    gateway.wait_for_line(2)
    gateway.on("*", g.hang)
    gateway.disconnect()
    assert p.wait(DEADLINE) in (3, 4) and runs.lines() == []
    gateway.off()
    assert holder.poll() is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_cluster_hangs(c, gateway, runs, number):
    """Before there is any answer."""
    gateway.on("*", g.hang)
    p = c.start("-q", "-w", "inf", c.lock, *runs.command, env={"ETCDCTL_COMMAND_TIMEOUT": "60s"})
    wait_for(lambda: gateway.requests, "it asks")
    p.send_signal(number)
    assert p.wait(DEADLINE) == -number and runs.lines() == []


def test_the_end_of_the_command_while_the_cluster_hangs(c, gateway):
    holder = c.hold("-q")
    gateway.on("*", g.hang)
    helper = helper_of(holder)
    assert release(holder) == 0
    wait_for(lambda: not is_alive(helper), "the helper has ended")


# ---- taking it ----

def test_a_lock_that_somebody_takes_in_the_last_moment(c, gateway, runs):
    """Between looking and taking: only the server's answer counts."""
    def somebody(x):
        with gateway.store.changed:
            gateway.store.leases.setdefault(77, g.Lease(1000))
        gateway.put(f"{c.lock[5:]}/4d".encode(), b"", 77)
    gateway.on("kv/txn", g.once(somebody))
    r = c.run("-q", c.lock, *runs.command)
    assert r.returncode == 4 and runs.lines() == []


def put_other(gateway, c):
    """The key of another program, with a lease that lives on when the key is deleted."""
    with gateway.store.changed:
        gateway.store.leases[77] = g.Lease(1000)
    gateway.put(f"{c.lock[5:]}/4d".encode(), b"", 77)
    return f"{c.lock[5:]}/4d".encode()


def waits(gateway, c, *command):
    """Start a waiter; returns it and its key, once its stream is open."""
    before, streams = set(gateway.keys()), len(gateway.seen("watch"))
    p = c.start("-q", "-w", "inf", "--ttl", "10", c.lock, *command)
    wait_for(lambda: len(gateway.keys()) > len(before), "it waits")
    p.key, = set(gateway.keys()) - before
    p.stream = wait_for(lambda: [x for x in gateway.seen("watch")[streams:]
                                 if to64(p.key) in x.body.decode()
                                 and len(getattr(x, "lines", ())) >= 2],
                        "its stream")[0]
    return p


def test_an_event_that_is_not_true(c, gateway, runs):
    """The write that takes the lock is the one that compares."""
    key = put_other(gateway, c)
    p = waits(gateway, c, *runs.command)
    gateway.line(p.stream, {"header": gateway.header(), "watch_id": "1", "events": [
        {"type": "DELETE", "kv": {"key": to64(key), "mod_revision": str(gateway.store.revision)},
         "prev_kv": gateway.store.keys[key].shown()}]})
    p.stream.end_watch = (0, "")
    tries = gateway.wait_for("watch", len(gateway.seen("watch")) + 1) if p.poll() is None else []
    assert tries and p.poll() is None and runs.lines() == []
    gateway.delete(key)
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1


def test_the_lock_is_taken_by_one_write(c, gateway, runs):
    """The second try after a lost answer writes nothing: the token is that of the first."""
    key = put_other(gateway, c)
    p = waits(gateway, c, *runs.command)
    gateway.on("kv/txn", g.only(is_acquiring, g.once(g.drop_after)))
    gateway.delete(key)
    assert p.wait(DEADLINE) == 0
    joined, taken = [revision for revision, kind, k, _ in gateway.store.events if k.key == p.key
                     and kind == "PUT"]
    assert runs.lines() == [f"{taken} {p.key.decode()}"] and joined < taken


def test_a_question_that_was_stuck_and_comes_after_the_end(c, gateway, runs):
    """It would create the key again, and no client would renew it, or give it back."""
    stuck = []

    def stick(x):
        stuck.append(x)
        return g.hang(x)
    gateway.on("kv/txn", g.once(stick))
    assert_ran_once(c, gateway, runs, "--ttl", "10")
    # The helper asks for it once me-only has been told that the lock is free.
    gateway.wait_for("lease/revoke")
    wait_for(lambda: not gateway.store.leases, "the lease is ended")
    stuck[0].normal()
    assert gateway.keys() == []


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
def test_waiter_for_a_kept_lock_does_not_ask_how_its_holder_ended(c, gateway, runs, told):
    """
    It ended well, and its lease has also ended: no pause is needed. A holder that gets the lock
    like this no longer changes that.
    """
    assert c.run("-q", "--hold-for", "100", c.lock, "true").returncode == 0
    key, = gateway.keys()
    p = waits(gateway, c, *runs.command)
    if not told:
        gateway.store.drop_deletes = 1
    gateway.end_lease(gateway.store.keys[key].lease)
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1
    assert gateway.seen("lease/timetolive") == []


def test_waiter_in_line_outlasts_a_cluster_that_does_not_answer(c, gateway, runs):
    """For longer than the time limit for the first answer."""
    key = put_other(gateway, c)
    p = waits(gateway, c.with_env(ETCDCTL_COMMAND_TIMEOUT="200ms"), *runs.command)
    tries = []

    def fail(x):
        tries.append(boottime())
        return x.fail(14, "etcdserver: no leader")
    gateway.on("kv/txn", g.times(6, fail))
    gateway.delete(key)
    assert p.wait(DEADLINE) == 0 and len(runs.lines()) == 1
    assert len(tries) == 6 and tries[-1] - tries[0] > 0.2


def test_the_lease_ends_before_the_lock_is_taken(c, gateway, runs):
    """Another one is granted, or an error is reported; nothing is run with it."""
    def end(x):
        for lease in list(gateway.store.leases):
            gateway.end_lease(lease)
    gateway.on("kv/txn", g.once(end))
    r = c.run("-q", c.lock, *runs.command)
    assert (r.returncode, len(runs.lines())) in ((0, 1), (3, 0)), r
    assert gateway.keys() == []


def test_a_job_is_not_started_when_there_is_no_time_left_for_it(c, gateway, runs):
    """The lock was granted, but so late that the command would be killed at birth."""
    gateway.on("kv/txn", g.only(is_acquiring, g.late(9.5)))
    r = c.run(*SHORT, c.lock, *runs.command, env={"ETCDCTL_COMMAND_TIMEOUT": "12s",
                                                  "ETCDCTL_DIAL_TIMEOUT": "12s"})
    assert (r.returncode, runs.lines()) in ((3, []),), r
