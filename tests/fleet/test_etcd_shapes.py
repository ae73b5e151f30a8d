"""-s, -j, --queue, --hold-for: locks of other shapes."""
import os
import re
import signal
import time

import pytest

from fleet import DEADLINE, environment_of, is_alive, program, read_line, release, said, \
    user, wait_for
from test_etcd_wait import Line

HOST = os.uname().nodename


@pytest.fixture
def line(c, store):
    return Line(c, store)


def refused(c, *options):
    r = c.run(*options, c.lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b""), r
    return said(r)


# ---- shared ----

def test_those_who_share_run_together(c, line):
    holders = [c.hold("-q", "-s") for _ in range(4)]
    assert line.states() == ["held"] * 4 and {e.json()["m"] for e in line.entries()} == {"s"}
    for h in holders:
        assert release(h) == 0
    assert line.entries() == []


def test_one_alone_is_kept_out_by_those_who_share(c):
    holders = [c.hold("-q", "-s") for _ in range(2)]
    message = refused(c)
    assert any(f"held by pid {h.pid} (" in message for h in holders), message
    assert release(holders[0]) == 0
    refused(c)
    assert release(holders[1]) == 0
    assert c.run("-q", c.lock, "true").returncode == 0


def test_those_who_share_are_kept_out_by_one_alone(c):
    holder = c.hold("-q")
    assert f"held by pid {holder.pid} (" in refused(c, "-s")
    assert release(holder) == 0
    assert c.run("-q", "-s", c.lock, "true").returncode == 0


def test_those_who_share_wait_behind_one_alone_that_waits(c, line):
    """So that it has its turn; then they start together."""
    reader = c.hold("-q", "-s")
    writer = line.wait("-q", command=("sh", "-c", "echo mine; exec cat"), stdin=-1)
    late = [line.wait("-q", "-s", command=("sh", "-c", "echo shared; exec cat"), stdin=-1)
            for _ in range(2)]
    refused(c, "-q", "-s")
    assert line.states() == ["held", "wait", "wait", "wait"]
    assert release(reader) == 0
    assert read_line(writer.stdout) == b"mine\n"
    assert line.states() == ["held", "wait", "wait"]
    assert release(writer) == 0
    assert [read_line(p.stdout) for p in late] == [b"shared\n"] * 2
    assert line.states() == ["held", "held"]
    assert [release(p) for p in late] == [0, 0]


def test_an_exclusive_waiter_waits_for_all_sharers(c, line):
    holders = [c.hold("-q", "-s") for _ in range(3)]
    writer = line.wait("-q")
    for n in (1, 2, 0):
        assert writer.poll() is None
        assert release(holders[n]) == 0
    assert writer.communicate(timeout=DEADLINE)[0] == b"mine\n"


# ---- slots ----

def slot(holder):
    return int(environment_of(holder.job)["ME_ONLY_SLOT"])


def test_at_most_so_many(c, line):
    holders = [c.hold("-q", "-j3") for _ in range(3)]
    assert sorted(slot(h) for h in holders) == [0, 1, 2]
    message = refused(c, "-j3")
    assert re.search(
        rf"all 3 slots are in use, slot [012] held by pid \d+ \({user()}\) on {HOST} for ",
        message), message
    assert release(holders[1]) == 0
    again = c.hold("-q", "-j3")
    assert slot(again) == 1
    assert line.states() == ["held"] * 3


def test_slots_are_distinct_and_never_too_many(c, tmp_path, line):
    """A crowd, with a witness for each slot."""
    scratch = tmp_path / "witness"
    crowd = [c.start("-q", "-w", "inf", "-j3", c.lock, program("slot-witness"), scratch, "20",
                     env={"SLOTS": "3"}) for _ in range(15)]
    assert [p.wait(DEADLINE) for p in crowd] == [0] * 15
    assert scratch.read_bytes() == b"" and line.entries() == []


def test_waiters_for_slots_start_in_order(c, line):
    holders = [c.hold("-q", "-j2") for _ in range(2)]
    reader, writer = os.pipe()
    waiters = [line.wait("-q", "-j2", command=("sh", "-c", f"echo {n}; exec cat"), stdin=-1,
                         stdout=writer) for n in range(3)]
    os.close(writer)
    with open(reader, "rb", buffering=0) as f:
        assert release(holders[1]) == 0
        assert read_line(f) == b"0\n"
        assert line.states().count("held") == 2
        assert release(waiters[0]) == 0
        assert read_line(f) == b"1\n"
        assert release(holders[0]) == 0
        assert read_line(f) == b"2\n"
    assert [release(p) for p in waiters[1:]] == [0, 0]


def test_one_slot_is_the_same_as_none(c):
    holder = c.hold("-q", "-j1")
    assert slot(holder) == 0
    assert f"held by pid {holder.pid} (" in refused(c, "-j1")
    assert f"held by pid {holder.pid} (" in refused(c)
    assert release(holder) == 0
    holder = c.hold("-q")
    assert f"held by pid {holder.pid} (" in refused(c, "-j1")


def test_fewer_slots_count_for_all(c):
    """If numbers differ, the smaller one applies."""
    c.hold("-q", "-j2")
    c.hold("-q", "-j5")
    refused(c, "-q", "-j5")
    refused(c, "-q", "-j2")


SHAPES = {"x": (), "s": ("-s",), "n": ("-j2",)}


@pytest.mark.parametrize("first", SHAPES)
@pytest.mark.parametrize("second", SHAPES)
def test_shapes_that_do_not_go_together(c, first, second):
    holder = c.hold("-q", *SHAPES[first])
    together = first == second and first != "x"
    assert (c.run("-q", *SHAPES[second], c.lock, "true").returncode == 0) == together
    assert release(holder) == 0
    assert c.run("-q", *SHAPES[second], c.lock, "true").returncode == 0


def test_a_crowd_of_all_shapes(c, line, tmp_path):
    """An exclusive holder runs alone: a witness that shares locks a file as flock(1) does."""
    scratch = tmp_path / "file"
    scratch.touch()
    crowd = []
    for n in range(12):
        shape = ("x", "s", "n")[n % 3]
        how = {"x": "-xn", "s": "-sn", "n": "-sn"}[shape]
        crowd.append(c.start("-q", "-w", "inf", *SHAPES[shape], c.lock, "flock", how, str(scratch),
                             "sleep", "0.02"))
    assert [p.wait(DEADLINE) for p in crowd] == [0] * 12
    assert line.entries() == []


# ---- --queue ----

def test_ten_calls_during_a_run_make_one_more_run(c, line, tmp_path):
    holder, out = c.hold("-q"), tmp_path / "runs"
    calls = [c.start("-q", "-w", "inf", "--queue=1", c.lock, "sh", "-c", 'echo ran >>"$0"',
                     str(out)) for _ in range(10)]
    wait_for(lambda: sum(p.poll() is not None for p in calls) == 9, "nine have given up")
    assert not out.exists() and line.states() == ["held", "wait"]
    assert release(holder) == 0
    assert sorted(p.wait(DEADLINE) for p in calls) == [0] + [4] * 9
    assert out.read_text() == "ran\n" and line.entries() == []


@pytest.mark.parametrize("places", [1, 2, 3])
def test_so_many_wait_and_the_next_gives_up(c, line, places):
    holder = c.hold("-q")
    waiters = [line.wait("-q", f"--queue={places}") for _ in range(places)]
    message = refused(c, "-w", "inf", f"--queue={places}")
    assert re.fullmatch(
        rf"me-only: {c.lock}: the queue is full, pid {waiters[0].pid} [^\n]* waits?; held by pid "
        rf"{holder.pid} [^\n]*\n", message), message
    assert refused(c, "-q", "-w", "inf", f"--queue={places}") == ""
    r = c.run("-q", "-E", "7", "-w", "inf", f"--queue={places}", c.lock, "true")
    assert r.returncode == 7
    assert release(holder) == 0
    assert [p.wait(DEADLINE) for p in waiters] == [0] * places


def test_waiter_without_queue_is_not_counted(c, line):
    holder = c.hold("-q")
    plain = line.wait("-q")
    counted = line.wait("-q", "--queue=1")
    refused(c, "-q", "-w", "inf", "--queue=1")
    assert release(holder) == 0
    assert [p.wait(DEADLINE) for p in (plain, counted)] == [0, 0]


def test_a_free_lock_with_a_queue_is_taken(c):
    assert c.run("-w", "inf", "--queue=1", c.lock, "echo", "ran").stdout == b"ran\n"


def test_a_waiter_that_leaves_makes_room(c, line):
    c.hold("-q")
    first = line.wait("-q", "--queue=1")
    first.terminate()
    first.wait(DEADLINE)
    wait_for(lambda: line.states() == ["held"], "its key is gone")
    line.wait("-q", "--queue=1")


# ---- --hold-for ----

def test_a_lock_that_is_kept_after_its_command(c, line, store):
    r = c.run("--hold-for", "100", c.lock, "echo", "ran")
    assert (r.returncode, r.stdout, said(r)) == (0, b"ran\n", "")
    entry, = line.entries()
    assert entry.json()["st"] == "kept" and 0 <= store.time_left(entry.lease) <= 102
    message = refused(c)
    assert re.fullmatch(
        rf"me-only: {c.lock}: held by pid \d+ \({user()}\) on {HOST}, whose command has ended "
        rf"\(--hold-for\), for \d\S*: echo\n", message), message


def test_a_lock_is_kept_for_as_long_as_was_said(c):
    before = time.monotonic()
    assert c.run("-q", "--hold-for", "2", c.lock, "true").returncode == 0
    wait_for(lambda: c.run("-q", c.lock, "true").returncode == 0, "it is free")
    assert time.monotonic() - before >= 1.9


def test_waiter_gets_a_kept_lock_when_its_time_is_over(c, line):
    assert c.run("-q", "--hold-for", "100", c.lock, "true").returncode == 0
    before = line.entries()[0]
    p = line.wait("-q")
    line.store.revoke(before.lease)
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert before.key not in [e.key for e in line.entries()]


def test_a_command_that_takes_longer_is_not_kept(c, line):
    holder = c.hold("-q", "--hold-for", "0.2")
    taken = time.monotonic()
    wait_for(lambda: time.monotonic() - taken > 0.3, "the time is over")
    assert release(holder) == 0
    assert line.entries() == []


def test_a_command_that_fails_is_kept_too(c, line):
    assert c.run("-q", "--hold-for", "100", c.lock, "false").returncode == 1
    assert line.states() == ["kept"]
    assert c.run("-q", "--hold-for", "100", c.lock, "true").returncode == 4


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_a_command_that_could_not_be_run_is_not_kept(c, line, form):
    """A user who corrects the command line does not have to wait."""
    assert c.run("-q", "--hold-for", "100", *form, c.lock,
                 "me-only-no-such-command").returncode == 1
    assert line.entries() == []


def test_me_only_does_not_stay_for_it(c, line):
    before = time.monotonic()
    assert c.run("-q", "--hold-for", "300", c.lock, "true").returncode == 0
    assert time.monotonic() - before < 30
    entry, = line.entries()
    assert 200 < line.store.time_left(entry.lease) <= 302


def test_a_kept_lock_is_waited_for_no_longer_than_asked(c):
    assert c.run("-q", "--hold-for", "100", c.lock, "true").returncode == 0
    r = c.run("-w", "0.3", c.lock, "true")
    assert r.returncode == 4 and "gave up after 300ms: held by pid " in said(r)


def test_a_slot_that_is_kept(c, line):
    assert c.run("-q", "--hold-for", "100", "-j2", c.lock, "true").returncode == 0
    holder = c.hold("-q", "-j2")
    assert sorted(line.states()) == ["held", "kept"]
    refused(c, "-q", "-j2")
    assert release(holder) == 0
    assert c.run("-q", "-j2", c.lock, "true").returncode == 0


def test_a_lock_of_a_killed_command_is_kept_for_its_children(c, line):
    """They hold it; the time counts from when it was taken."""
    p = c.start("-q", "--hold-for", "1", c.lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    child = int(read_line(p.stdout))
    assert p.wait(DEADLINE) == 0
    time.sleep(1.2)  # the time of --hold-for is over
    refused(c, "-q")
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: c.run("-q", c.lock, "true").returncode == 0, "it is free")
