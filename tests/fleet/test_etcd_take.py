"""
Taking the lock by waiters that were stopped, have to stand back, or whose time is over; and giving
back a position in line.

The gateway is a script (gateway.py): others in line are keys that the test puts there.
"""
import json
import os
import signal
import threading
import time

import pytest

import gateway as g
from etcd_server import from64, to64
from fleet import DEADLINE, ME_ONLY, boottime, process_state, read_line, release, said, wait_for

SHORT = ("-q", "--ttl", "10", "-k", "2")
LOCK_DELAY = 3
READY = ("sh", "-c", "echo ready; exec cat")
WHEN = ("sh", "-c", "exec cat /proc/uptime")


@pytest.fixture
def c(callers, gateway):
    return callers(gateway)


class Others:
    """Entries without a process."""

    def __init__(self, gateway, prefix):
        self.gateway, self.prefix, self.n = gateway, prefix, 0

    def value(self, mode, state, slots=0):
        who = {"host": "elsewhere", "boot": "b", "user": "u", "cmd": "c", "pid": 1, "start": 1,
               "ns": 1, "pipe": 1, "since": 1}
        slot = {"k": slots, "slot": self.n} if mode == "n" else {}
        return json.dumps({"v": 1, "m": mode, "st": state, **who, **slot}).encode()

    def join(self, mode="x", state="held"):
        """One more. Returns its lease."""
        self.n += 1
        with self.gateway.store.changed:
            self.gateway.store.leases[self.n] = g.Lease(1000)
        self.gateway.put(self.key(self.n), self.value(mode, state), self.n)
        return self.n

    def key(self, lease):
        return f"{self.prefix}{lease:x}".encode()

    def set(self, lease, mode="x", state="held"):
        self.gateway.put(self.key(lease), self.value(mode, state), lease)

    def let_go(self, lease):
        self.gateway.delete(self.key(lease))

    def is_lost(self, lease):
        self.gateway.end_lease(lease)

    def keys(self):
        """Those that are not these."""
        return [k for k in self.gateway.keys() if not (k.startswith(self.prefix.encode())
                                                       and lease_of(k) <= self.n)]


@pytest.fixture
def others(gateway, prefix):
    return Others(gateway, prefix)


def waits(c, others, *options, command=READY, wait="inf"):
    """Start a waiter, and return once its stream is open, or it has the lock."""
    gateway, before = others.gateway, set(others.keys())
    p = c.start(*SHORT, "-w", wait, *options, c.lock, *command, stdin=-1)
    p.key, = wait_for(lambda: set(others.keys()) - before, "it is in line")
    wait_for(lambda: state(gateway, p.key) == "held" or [
        x for x in gateway.seen("watch")
        if to64(p.key) in x.body.decode() and len(getattr(x, "lines", ())) >= 2],
             "its stream is open")
    return p


def lease_of(key):
    return int(key.split(b"/")[-1], 16)


def state(gateway, key):
    with gateway.store.changed:
        entry = gateway.store.keys.get(key)
        return entry and json.loads(entry.value)["st"]


def leases_asked_for(gateway):
    return {int(x.message["ID"]) for x in gateway.seen("lease/timetolive")}


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: process_state(pid) == "T", "it is stopped")


def gone(gateway, key):
    wait_for(lambda: key not in gateway.keys(), "its place is given back")


def ran_at(p):
    """When its command ran: seconds of CLOCK_BOOTTIME, rounded down to a hundredth."""
    out, err = p.communicate(timeout=DEADLINE)
    assert p.returncode == 0, err
    return float(out.split()[0])


def knows_of(gateway, holder, p):
    """Wait until the holder has been told which entry is next, and has done something since."""
    key = wait_for(lambda: [k for k in gateway.keys() if k != p.key], "it holds the lock")[0]

    def renewals():
        return [x for x in gateway.seen("lease/keepalive") if int(x.message["ID"]) == lease_of(key)]
    wait_for(lambda: [x for x in gateway.seen("watch") if to64(p.key) not in x.body.decode() and
                      to64(p.key) in json.dumps(getattr(x, "lines", ()))], "it is told")
    before = len(renewals())
    wait_for(lambda: holder.poll() is not None or len(renewals()) > before, "it has renewed")


def is_look(x):
    writes = b"request_put" in x.body or b"request_delete_range" in x.body
    return x.path == "kv/txn" and b"request_range" in x.body and not writes


# ---- Ctrl-Z and fg ----

@pytest.mark.parametrize("given", [False, True], ids=["takes it", "is given it"])
def test_a_waiter_that_is_stopped_runs_in_its_turn_when_it_goes_on(c, gateway, others, given):
    """Everything is reset: measurements for the old place mean nothing."""
    holder = c.hold(*SHORT)
    p = waits(c, others)
    if given:
        knows_of(gateway, holder, p)
    stop(p.pid)
    assert release(holder) == 0
    gone(gateway, p.key)
    p.send_signal(signal.SIGCONT)
    assert read_line(p.stdout) == b"ready\n"
    gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 2)
    assert release(p) == 0


def test_a_waiter_that_is_stopped_again_holds_nobody_up(c, gateway, others):
    """Even in the place that it has joined again it checks whether it is stopped."""
    holder = c.hold(*SHORT)
    p = waits(c, others, "--ttl", "300")
    stop(p.pid)
    assert release(holder) == 0
    gone(gateway, p.key)
    stopped = threading.Event()
    gateway.on("kv/txn", lambda x: others.keys() and not stopped.wait(DEADLINE))
    p.send_signal(signal.SIGCONT)
    key, = wait_for(others.keys, "it has a place again")
    stop(p.pid)
    stopped.set()
    gone(gateway, key)
    assert c.run(*SHORT, c.lock, "true").returncode == 0
    p.send_signal(signal.SIGCONT)
    assert read_line(p.stdout) == b"ready\n"
    assert release(p) == 0


def test_nobody_stands_back_for_one_that_was_stopped(c, gateway, others):
    """It has run nothing: its place is given back cleanly."""
    holder = c.hold(*SHORT)
    p, last = waits(c, others), waits(c, others)
    stop(p.pid)
    assert release(holder) == 0
    assert read_line(last.stdout) == b"ready\n"
    assert lease_of(p.key) in gateway.store.leases
    assert release(last) == 0
    p.send_signal(signal.SIGCONT)
    assert release(p) == 0


def test_one_that_is_killed_while_it_is_stopped_leaves_no_place(c, gateway, others):
    """Even if its place is being given back at that moment because it is stopped."""
    holder = c.hold(*SHORT)
    p = waits(c, others, "--ttl", "300")

    def gives_back(x):
        ours = "request_delete_range" in x.body.decode() and to64(p.key) in x.body.decode()
        return x.path == "lease/revoke" or (ours and b"request_put" not in x.body)
    for path in "kv/txn", "lease/revoke":
        gateway.on(path, g.only(gives_back, g.once(g.hang)))
    stop(p.pid)
    assert release(holder) == 0
    wait_for(lambda: [x for x in gateway.seen("kv/txn") if gives_back(x)],
             "its place is being given back")
    p.kill()
    gone(gateway, p.key)


# ---- standing back ----

@pytest.mark.parametrize("mode", ["s", "n"])
def test_behind_several_each_of_them_counts(c, gateway, others, mode):
    """The last one releases the lock cleanly; the first was lost just before."""
    first, second = others.join(mode), others.join(mode)
    p = waits(c, others, command=WHEN)
    lost = boottime()
    others.is_lost(first)
    others.let_go(second)
    assert ran_at(p) >= lost + LOCK_DELAY - 0.01


@pytest.mark.parametrize("mode, looks", [("x", False), ("s", True)],
                         ids=["asked while it is taken", "asked before"])
def test_a_leader_that_has_been_replaced_is_no_witness(c, gateway, others, mode, looks):
    """It reports the lease as alive, which the others have ended: in the term in which it led."""
    def outdated(value):
        value["header"]["raft_term"] = str(gateway.store.term - 1)
        value["TTL"] = "9"
    gateway.on("lease/timetolive", g.changes(outdated))
    holder = others.join(mode)
    p = waits(c, others, *(("-j2",) if looks else ()), command=WHEN)
    lost = boottime()
    others.is_lost(holder)
    assert ran_at(p) >= lost + LOCK_DELAY - 0.01
    assert leases_asked_for(gateway) == {holder}


def test_a_leader_that_is_replaced_meanwhile(c, gateway, others):
    """
    The line was read since, in a new term: then no waiter stands back any more once the time is
    over.
    """
    first, second = others.join("s"), others.join("s")
    p = waits(c, others)
    others.let_go(second)
    wait_for(lambda: second in leases_asked_for(gateway), "it is asked for")
    gateway.store.term += 1
    over = boottime() + LOCK_DELAY
    wait_for(lambda: boottime() > over, "the time is over")
    others.let_go(first)
    assert read_line(p.stdout) == b"ready\n"
    assert release(p) == 0


def test_a_waiter_that_gave_up_was_not_lost(c, gateway, others):
    """Nor can it have been: the holder still exists."""
    holder, first, second = others.join(), others.join(state="wait"), others.join(state="wait")
    p = waits(c, others)
    others.is_lost(first)
    others.let_go(second)
    gateway.wait_for("watch", 2)
    others.let_go(holder)
    assert read_line(p.stdout) == b"ready\n"
    assert first not in leases_asked_for(gateway)
    assert release(p) == 0


def test_a_holder_that_let_go_long_ago_was_not_lost(c, gateway, others):
    """Another has taken the lock since."""
    first, second, third = others.join(), others.join(state="wait"), others.join(state="wait")
    p = waits(c, others)
    others.let_go(first)
    others.is_lost(first)
    others.set(second)
    others.let_go(third)
    gateway.wait_for("watch", 2)
    others.let_go(second)
    assert read_line(p.stdout) == b"ready\n"
    assert first not in leases_asked_for(gateway)
    assert release(p) == 0


def test_a_waiter_that_gives_up_leaves_its_lease_behind(c, gateway, others):
    """So that it is not mistaken for a lost one."""
    others.join()
    p = waits(c, others, wait="3")
    assert p.wait(DEADLINE) == 4
    gone(gateway, p.key)
    assert lease_of(p.key) in gateway.store.leases


def test_one_that_is_ended_while_it_stands_back_is_stood_back_for(c, gateway, others):
    """It holds the lock, and those behind it see only that."""
    holder = others.join()
    p = waits(c, others)
    others.is_lost(holder)
    wait_for(lambda: state(gateway, p.key) == "held", "it has the lock")
    p.terminate()
    gone(gateway, p.key)
    assert lease_of(p.key) not in gateway.store.leases


def takes(p):
    """Whether an exchange is the write by which the waiter P takes the lock."""
    return lambda x: b"request_put" in x.body and to64(p.key) in x.body.decode()


def test_one_that_is_ended_before_it_knows_that_it_holds_the_lock(c, gateway, others):
    """The write has taken it, and nobody has read the answer: those behind it must stand back."""
    holder = others.join()
    p = waits(c, others)
    gateway.on("kv/txn", g.only(takes(p), g.hang_after))
    others.is_lost(holder)
    wait_for(lambda: state(gateway, p.key) == "held", "it has the lock")
    p.terminate()
    gone(gateway, p.key)
    assert lease_of(p.key) not in gateway.store.leases


def test_one_that_hears_late_that_it_is_in_line(c, gateway, others):
    """The holder was lost meanwhile, and the second answer shows nobody ahead."""
    holder = others.join()
    lost = []

    def lose(x):
        status, values = x.normal()
        if not others.keys():  # its lease is not there yet
            return x.reply(status, values)
        others.is_lost(holder)
        lost.append(boottime())
        raise g.Gone
    gateway.on("kv/txn", lambda x: None if lost else lose(x))
    p = c.start(*SHORT, "-w", "inf", c.lock, *WHEN)
    # Standing back takes three seconds.
    assert ran_at(p) >= lost[0] + LOCK_DELAY - 0.01


def test_all_that_have_gone_are_asked_for_at_once(c, gateway, others):
    """And once."""
    shared = [others.join("s") for _ in range(5)]
    p = waits(c, others)
    together = threading.Barrier(len(shared))

    def meet(x):
        if int(x.message["ID"]) in shared:
            together.wait(DEADLINE)
    gateway.on("lease/timetolive", meet)
    for lease in shared:
        others.let_go(lease)
    assert read_line(p.stdout) == b"ready\n"
    assert sorted(int(x.message["ID"]) for x in gateway.seen("lease/timetolive")) == shared
    assert release(p) == 0


# ---- many holders ----

def test_every_holder_is_looked_at(c, gateway, others, prefix):
    """Even in the middle of many: a job that asks for its own lock would wait for ever."""
    for _ in range(16):
        others.join("s")
    asks = (ME_ONLY, "-w", "inf", c.lock, "true")
    job = c.start(*SHORT, "-s", c.lock, "sh", "-c", 'read go; "$@"; echo $?', "sh", *asks, stdin=-1)
    wait_for(others.keys, "it holds the lock")
    wait_for(lambda: state(gateway, others.keys()[0]) == "held", "it holds the lock")
    gateway.put((prefix + "z").encode(), others.value("s", "held"))
    out, err = job.communicate(b"go\n", timeout=DEADLINE)
    assert out == b"4\n" and "this job already holds it" in said(err), (out, err)


# ---- the time is over ----

def test_the_last_look_is_not_answered(c, gateway, others):
    """It is known all the same that the lock is held."""
    others.join()
    p = waits(c, others, wait="3")
    gateway.on("kv/txn", g.only(is_look, g.hang))
    assert p.wait(DEADLINE) == 4


def test_the_lock_is_handed_over_when_the_time_is_over(c, gateway, others):
    """Between the last look and giving up."""
    holder = others.join()
    granted, waiting = [], threading.Event()

    def hand_over(_x):
        waiting.wait(DEADLINE)
        gateway.store.drop_puts = gateway.store.drop_deletes = 1
        entry = gateway.store.keys[p.key]
        value = json.dumps({**json.loads(entry.value), "st": "held"})
        gateway.put(p.key, value.encode(), entry.lease)
        granted.append(gateway.store.revision)
        others.let_go(holder)
    for path in "kv/txn", "lease/revoke":
        gateway.on(path, g.only(lambda x: x.path == "lease/revoke"
                                or b"request_delete_range" in x.body,
                                lambda x: None if granted else hand_over(x)))
    p = waits(c, others, wait="1", command=("sh", "-c", "echo $ME_ONLY_TOKEN"))
    waiting.set()
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (0, f"{granted[0]}\n".encode()), err


def test_no_place_is_joined_again_when_the_time_is_over(c, gateway, others):
    """The last look shows that this one's is lost."""
    others.join()
    p = waits(c, others, wait="3")
    gateway.store.drop_deletes = 1

    def lose(x):
        gateway.delete(p.key)
    gateway.on("kv/txn", g.only(is_look, g.once(lose)))
    assert p.wait(DEADLINE) == 4
    assert len(gateway.seen("lease/grant")) == 1


def test_a_start_has_one_limit(callers, new_gateway, gateway, lock):
    """For all of its requests: meanwhile another makes its first attempt, of two seconds."""
    other = new_gateway()
    gateway.on("*", g.hang)
    other.on("*", g.hang)
    p = callers(gateway).start("-q", lock, "true", env={"ETCDCTL_COMMAND_TIMEOUT": "300ms"})
    q = callers(other).start("-q", lock, "true", env={"ETCDCTL_COMMAND_TIMEOUT": "60s"})
    other.wait_for("lease/grant", 2)
    assert p.wait(0.5) == 3
    q.kill()


def test_a_try_that_joins_again_does_not_ask_all_the_time(c, gateway, others, prefix):
    """It was stopped for longer than an attempt lasts."""
    others.join("s")
    started = threading.Event()

    def stop_it(x):
        started.wait(DEADLINE)
        stop(p.pid)
    gateway.on("kv/txn", g.once(stop_it))
    p = c.start(*SHORT, "-s", c.lock, "true", env={"ETCDCTL_COMMAND_TIMEOUT": "700ms"})
    started.set()
    wait_for(lambda: [k for _, kind, k, _ in list(gateway.store.events)
                      if kind == "DELETE" and k.key.startswith(prefix.encode())],
             "its place is given back")
    begun = time.monotonic()
    wait_for(lambda: time.monotonic() - begun > 1, "its time is over")
    before = len(gateway.requests)
    p.send_signal(signal.SIGCONT)
    assert p.wait(DEADLINE) in (0, 4)
    assert len(gateway.requests) - before < 20


def test_a_place_that_is_lost_again_and_again(c, gateway, others):
    """It does not join again at full speed."""
    others.join()

    def lose(x):
        for line in x.body.decode().splitlines():
            key = from64(json.loads(line)["create_request"]["key"])
            if key in others.keys():
                gateway.delete(key)
    gateway.on("watch", lose)
    r = c.run(*SHORT, "-w", "2", c.lock, "true")
    assert r.returncode == 4 and 1 < len(gateway.seen("lease/grant")) < 12
