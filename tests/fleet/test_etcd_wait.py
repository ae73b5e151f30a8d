"""-w: waiting for a lock, first come, first served."""
import os
import re
import signal
import time

import pytest

from fleet import DEADLINE, ME_ONLY, environment, helper_of, is_alive, process_state, \
    processor_time, program, read_line, release, said, user, wait_for

HOST = os.uname().nodename


class Line:
    """The holders and waiters of a test's lock, as the cluster has them."""

    def __init__(self, c, store, lock=None):
        self.c, self.store, self.lock = c, store, lock or c.lock
        self.prefix = self.lock.removeprefix("etcd:") + "/"

    def entries(self):
        return self.store.entries(self.prefix)

    def states(self):
        return [e.json()["st"] if e.value else "foreign" for e in self.entries()]

    def wait(self, *options, duration="inf", command=("echo", "mine"), **kw):
        """Start a waiter, and return once it is in line."""
        before = len(self.entries())
        p = self.c.start("-w", duration, *options, self.lock, *command, **kw)
        wait_for(lambda: len(self.entries()) > before, "it is in line")
        p.key = self.entries()[-1].key
        return p


def wait_renewed(store, lease):
    """Wait until the remaining time of a lease grows."""
    last = [0]

    def grows():
        before, last[0] = last[0], store.time_left(lease)
        return 0 < before < last[0]
    wait_for(grows, "the lease is renewed")


@pytest.fixture
def line(c, store):
    return Line(c, store)


def test_a_lock_that_is_free_is_taken_at_once(c, store, prefix):
    r = c.run("-w", "inf", c.lock, "echo", "ran")
    assert (r.returncode, r.stdout, said(r)) == (0, b"ran\n", "")
    assert store.entries(prefix) == []


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_a_waiter_gets_its_turn(c, line, form):
    holder = c.hold("-q", *form)
    p = line.wait(*form)
    assert line.states() == ["held", "wait"]
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0
    assert line.entries() == []


def test_first_come_first_served(c, line, tmp_path):
    """Each runs alone."""
    scratch = tmp_path / "witness"
    holder = c.hold("-q")
    reader, writer = os.pipe()
    waiters = [line.wait("-q", command=(program("witness"), scratch, "0", str(n)), stdout=writer)
               for n in range(10)]
    os.close(writer)
    assert release(holder) == 0
    assert [p.wait(DEADLINE) for p in waiters] == [0] * 10
    with open(reader, encoding="ascii") as f:
        assert [int(n) for n in f] == list(range(10))
    assert scratch.read_bytes() == b"" and line.entries() == []


def test_a_crowd_that_comes_at_once_runs_one_by_one(c, line, tmp_path):
    scratch, out = tmp_path / "witness", tmp_path / "out"
    with open(out, "wb") as f:
        crowd = [c.start("-q", "-w", "inf", c.lock, program("witness"), scratch, "10", "ran",
                         stdout=f) for _ in range(12)]
        assert [p.wait(DEADLINE) for p in crowd] == [0] * 12
    assert out.read_bytes() == b"ran\n" * 12 and scratch.read_bytes() == b"" \
        and line.entries() == []


def test_tokens_grow_along_the_line(c, line):
    holder = c.hold("-q")
    waiters = [line.wait("-q", command=("sh", "-c", "echo $ME_ONLY_TOKEN")) for _ in range(3)]
    first = line.entries()[0].modified
    assert release(holder) == 0
    tokens = [first, *(int(p.communicate(timeout=DEADLINE)[0]) for p in waiters)]
    assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("options, status", [((), 4), (("-E", "9"), 9), (("--exit-base=90",), 94)],
                         ids=["plain", "E", "base"])
def test_the_time_is_up(c, line, store, options, status):
    holder = c.hold("-q")
    p = line.wait(*options, duration="300ms")
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (status, b"")
    assert re.fullmatch(
        rf"me-only: {c.lock}: gave up after 300ms: held by pid {holder.pid} \({user()}\) on {HOST} "
        rf"for \d\S*: sh\n", said(err)), err
    assert line.states() == ["held"]
    assert release(holder) == 0


def test_with_complain_after_a_line_comes_when_the_holder_is_old_enough(c, line):
    """The age grows from when the cluster has told it."""
    holder = c.hold("-q")
    p = line.wait("--complain-after=2s")
    told = re.fullmatch(rb"me-only: [^\n]*: waiting for pid \d+ [^\n]*, ([\d.]+)s: [^\n]*\n",
                        read_line(p.stderr))
    assert float(told[1]) >= 2
    assert release(holder) == 0
    assert p.wait(DEADLINE) == 0


def test_quiet_gives_up_quietly(c):
    c.hold("-q")
    r = c.run("-q", "-w", "0.2", c.lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (4, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_waiter_that_is_ended_leaves_the_line(c, line, number):
    holder = c.hold("-q")
    p, last = line.wait("-q"), line.wait("-q")
    p.send_signal(number)
    assert p.communicate(timeout=DEADLINE) == (b"", b"") and p.returncode == -number
    wait_for(lambda: p.key not in [e.key for e in line.entries()], "its key is gone")
    assert line.states() == ["held", "wait"]
    assert release(holder) == 0
    assert last.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_a_waiter_that_is_killed_leaves_the_line(c, line):
    """Its helper notices."""
    c.hold("-q")
    p = line.wait("-q")
    helper = helper_of(p)
    p.kill()
    p.wait()
    wait_for(lambda: line.states() == ["held"] and not is_alive(helper), "its key is gone")


def test_a_waiter_whose_helper_is_stopped_leaves_the_line(c, line):
    """The helper resumes when me-only has ended."""
    c.hold("-q")
    p = line.wait("-q")
    helper = helper_of(p)
    stop(helper)
    p.terminate()
    p.wait()
    wait_for(lambda: line.states() == ["held"] and not is_alive(helper), "its key is gone")


def test_of_a_waiter_all_of_which_is_killed_the_lease_ends(c, line):
    """No waiter waits for longer than that."""
    holder = c.hold("-q")
    p = line.wait("-q", "--ttl", "10")
    last = line.wait("-q", "--ttl", "10")
    helper = helper_of(p)
    stop(p.pid)
    os.kill(helper, signal.SIGKILL)
    p.kill()
    assert release(holder) == 0
    assert last.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert line.entries() == []


def test_a_waiter_whose_helper_is_killed_says_so(c, line):
    c.hold("-q")
    p = line.wait()
    os.kill(helper_of(p), signal.SIGKILL)
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (3, b""), err
    assert re.fullmatch(
        rf"me-only: {c.lock}: waiting[^\n]*\nme-only: {c.lock}: [^\n]+\n|me-only: {c.lock}: "
        rf"[^\n]+\n", said(err)), err


def test_what_the_caller_ignores_does_not_end_a_waiter(c, line, start):
    holder = c.hold("-q")
    p = start("sh", "-c", "trap '' INT HUP TERM; exec \"$@\"", "sh", ME_ONLY, "-q", "-w", "inf",
              c.lock, "echo", "mine",
              env=environment(c.env))
    wait_for(lambda: line.states() == ["held", "wait"], "it waits")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        p.send_signal(number)
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: process_state(pid) == "T", "it is stopped")


def test_a_waiter_that_was_stopped_for_a_while_gets_its_turn(c, line):
    holder = c.hold("-q")
    p = line.wait("-q")
    stop(p.pid)
    p.send_signal(signal.SIGCONT)
    wait_for(lambda: process_state(p.pid) == "S", "it sleeps")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


@pytest.mark.parametrize("given", [False, True], ids=["takes it", "is given it"])
def test_a_waiter_that_is_stopped_when_its_turn_comes_keeps_nobody_waiting_for_ever(c, line, given):
    """And runs beside none when it resumes."""
    holder = c.hold("-q", "--ttl", "10")
    p, last = line.wait("-q", "--ttl", "300" if given else "10"), \
        line.wait("-q", command=("sh", "-c", "echo mine; exec cat"), stdin=-1)
    # A holder that has done something since knows which entry is next.
    if given:
        wait_renewed(line.store, line.entries()[0].lease)
    stop(p.pid)
    assert release(holder) == 0
    assert read_line(last.stdout) == b"mine\n"
    p.send_signal(signal.SIGCONT)
    wait_for(lambda: p.poll() is not None or len(line.entries()) == 2, "it has noticed")
    assert line.entries()[0].key == last.key
    assert release(last) == 0
    out, _ = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (0, b"mine\n")


def test_a_long_wait_says_for_whom(c, line):
    holder = c.hold("-q")
    p = line.wait()
    text = read_line(p.stderr).decode()
    while "has known lease bugs" in text:
        text = read_line(p.stderr).decode()
    assert re.fullmatch(
        rf"me-only: {c.lock}: waiting for pid {holder.pid} \({user()}\) on {HOST}, "
        rf"\d\S*: sh\n", text), text
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


def test_when_some_in_line_are_killed_the_others_have_their_turns(c, line):
    holder = c.hold("-q")
    reader, writer = os.pipe()
    waiters = [line.wait("-q", command=("echo", str(n)), stdout=writer) for n in range(6)]
    os.close(writer)
    for n in (0, 2, 3):
        waiters[n].kill()
    wait_for(lambda: len(line.entries()) == 4, "their keys are gone")
    assert release(holder) == 0
    assert [waiters[n].wait(DEADLINE) for n in (1, 4, 5)] == [0, 0, 0]
    with open(reader, encoding="ascii") as f:
        assert [int(n) for n in f] == [1, 4, 5]


def test_behind_a_child_that_has_inherited_the_lock(c, line):
    """Without -o the processes that the command leaves behind keep the lock."""
    p = c.start("-q", c.lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!", stdin=-1)
    child = int(read_line(p.stdout))
    assert p.wait(DEADLINE) == 0
    waiter = line.wait("-q")
    assert c.run("-q", c.lock, "true").returncode == 4
    assert waiter.poll() is None
    os.kill(child, signal.SIGKILL)
    assert waiter.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_with_o_the_lock_ends_with_the_command(c, line):
    p = c.start("-q", "-o", c.lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!; read line",
                stdin=-1)
    read_line(p.stdout)
    waiter = line.wait("-q")
    assert release(p) == 1
    assert waiter.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_a_child_that_has_inherited_the_lock_is_renewed_for(c, line, store):
    """By the helper alone: for longer than the lease has."""
    p = c.start("-q", "--ttl", "10", c.lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    child = int(read_line(p.stdout))
    assert p.wait(DEADLINE) == 0
    entry, = line.entries()
    wait_renewed(store, entry.lease)
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: line.entries() == [], "the lock is free")


def test_a_wait_outlasts_restarts_of_the_server(callers, own_etcd):
    c = callers(own_etcd)
    line = Line(c, own_etcd.client())
    holder = c.hold("-q")
    waiters = [line.wait("-q", command=("echo", str(n))) for n in range(2)]
    for way in (own_etcd.kill, own_etcd.end):
        way()
        own_etcd.start()
        assert line.states() == ["held", "wait", "wait"]
    assert release(holder) == 0
    assert [p.communicate(timeout=DEADLINE)[0] for p in waiters] == [b"0\n", b"1\n"]


def test_a_network_that_is_slow(callers, own_etcd, proxy):
    """A fifth of a second in each direction."""
    wire = proxy(own_etcd)
    wire.delay = 0.2
    c = callers(wire)
    line = Line(c, own_etcd.client())
    holder = c.hold("-q")
    p = line.wait("-q")
    assert c.run("-q", c.lock, "true").returncode == 4
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert line.entries() == []


def test_a_wait_outlasts_connections_that_are_reset(callers, own_etcd, proxy):
    wire = proxy(own_etcd)
    c = callers(wire)
    line = Line(c, own_etcd.client())
    holder = c.hold("-q", "--ttl", "10")
    p = line.wait("-q", "--ttl", "10")
    for _ in range(3):
        wire.reset()
        wait_renewed(line.store, line.entries()[1].lease)
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_a_wait_outlasts_a_compaction(callers, own_etcd):
    """Even when the watch is reopened: the server has been restarted."""
    c = callers(own_etcd)
    line = Line(c, own_etcd.client())
    holder = c.hold("-q")
    p = line.wait("-q")
    for n in range(3):
        line.store.put("x", str(n))
    line.store.compact(line.store.revision())
    own_etcd.kill()
    own_etcd.start()
    for n in range(3):
        line.store.put("x", str(n))
    line.store.compact(line.store.revision())
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_the_end_of_the_one_before_while_the_server_is_away_is_not_missed(callers, own_etcd):
    """Its lease is revoked, and all of that compacted, before the waiter can look again."""
    c = callers(own_etcd)
    line = Line(c, own_etcd.client())
    lease = line.store.grant(60)
    line.store.put(f"{line.prefix}{lease:x}", "", lease)
    p = line.wait("-q")
    helper = helper_of(p)
    os.kill(helper, signal.SIGSTOP)
    line.store.delete(f"{line.prefix}{lease:x}")
    line.store.compact(line.store.revision())
    own_etcd.kill()
    own_etcd.start()
    os.kill(helper, signal.SIGCONT)
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_a_waiter_whose_key_is_deleted_does_not_run_beside_others(c, line, store):
    """It joins the line again, or reports that it was thrown out; it never runs without a key."""
    holder = c.hold("-q")
    p = line.wait("-q", command=("sh", "-c", 'echo "$ETCD_LOCK_KEY"'))
    store.delete(p.key)
    wait_for(lambda: p.poll() is not None or len(line.entries()) == 2, "it has noticed")
    assert holder.poll() is None
    assert release(holder) == 0
    out, _ = p.communicate(timeout=DEADLINE)
    assert (p.returncode, bool(out)) in ((0, True), (3, False))
    assert line.entries() == []


def test_after_a_holder_whose_lease_has_ended_there_is_a_pause(c, line, store):
    """Two seconds for a command that is being stopped; none after one that has ended well."""
    lease = store.grant(60)
    store.put(f"{line.prefix}{lease:x}", "", lease)
    p = line.wait("-q")
    store.revoke(lease)
    before = time.monotonic()
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert time.monotonic() - before >= 1.9


def test_waiting_takes_little_processor_time(c, line):
    c.hold("-q")
    p = line.wait("-q")
    helper = helper_of(p)
    wait_for(lambda: process_state(helper) == "S", "it sleeps")
    before = processor_time(helper) + processor_time(p.pid)
    # The measured time is this one's waiting.
    assert c.run("-q", "-w", "3", c.lock, "true").returncode == 4
    slow = 5 if os.environ.get("ME_ONLY_DYNAMIC") else 1
    assert processor_time(helper) + processor_time(p.pid) - before < 0.2 * slow


def test_the_messages_of_a_wait_end_with_it(c, line):
    """Quiet: not a word during the whole wait."""
    holder = c.hold("-q")
    p = line.wait("-q")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE) == (b"mine\n", b"")
