"""A lock that is lost while the command runs: the command never outlives it.

No process of a job may live later than TTL seconds after the last time at which the server can have
confirmed the lock.
"""
import os
import re
import shlex
import signal
import subprocess
import time

import pytest

from fleet import (DEADLINE, LATE, ME_ONLY, Ticks, all_processes_of, boottime, control_group,
                   environment, helper_of, is_alive, process_state, program, read_line, release,
                   said, wait_for)
from test_etcd_wait import Line, wait_renewed

TTL = 10
SHORT = ("-q", "--ttl", str(TTL), "-k", "2")
JOBS = {"plain": (), "stubborn": ("stubborn",), "family": ("stubborn", "child", "daemon", "bare"),
        "forks": ("stubborn", "forks")}
jobs = pytest.mark.parametrize("words", JOBS.values(), ids=JOBS.keys())


@pytest.fixture
def ticks(tmp_path):
    return Ticks(tmp_path / "ticks")


def begin(c, ticks, *words, options=SHORT):
    """Start a job that ticks; returns once all of its processes live, and the helper knows that."""
    p = c.start(*options, c.lock, *ticks.job(*words))
    ticks.wait_for("job", *(w for w in words if w in ("child", "daemon", "bare")))
    p.helper = helper_of(p)
    wait_for(lambda: process_state(p.pid) == "S", "it has told its helper of the command")
    return p


def assert_lost(c, p, ticks, by=None, status=5, why=r"[^\n]+"):
    """me-only reports it, and no process of the job lives, or has lived later than BY."""
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (status, b""), err
    assert ticks.living() == set()
    assert re.fullmatch(
        rf"me-only: {c.lock}: lost\b[^\n]*: {why}; the command (was ended by|had just "
        rf"ended)[^\n]*\n", said(err)), err
    if by:
        assert ticks.last() < by + LATE
    assert not is_alive(p.helper) or wait_for(lambda: not is_alive(p.helper),
                                              "the helper has ended")
    assert all_processes_of(c.lock) == []


# ---- the loss is known at once ----

def delete_key(store, entry):
    store.delete(entry.key)


def revoke_lease(store, entry):
    store.revoke(entry.lease)


def replace_key(store, entry):
    store.delete(entry.key)
    store.put(entry.key, "x", entry.lease)


@pytest.mark.parametrize("how", [delete_key, revoke_lease, replace_key])
@jobs
def test_somebody_takes_the_lock_away(c, store, prefix, ticks, how, words):
    p = begin(c, ticks, *words, options=("-q",))
    entry, = store.entries(prefix)
    how(store, entry)
    assert_lost(c, p, ticks, by=boottime() + 15)
    if words == ():
        assert "term" in ticks.seen()
    store.delete(entry.key)


def test_the_command_is_asked_first(c, store, prefix, ticks):
    """By SIGTERM; it may clean up."""
    p = begin(c, ticks, options=("-v",))
    store.delete(store.entries(prefix)[0].key)
    out, err = p.communicate(timeout=DEADLINE)
    assert p.returncode == 5 and "term" in ticks.seen()
    assert b"SIGTERM" in err and b"SIGKILL" not in err


@pytest.mark.parametrize("options, status", [(("--exit-base=90",), 95), (("-E", "9"), 5),
                                             (("-o",), 5)], ids=["base", "E", "close"])
def test_the_status(c, store, prefix, ticks, options, status):
    p = begin(c, ticks, options=("-q", *options))
    store.delete(store.entries(prefix)[0].key)
    assert_lost(c, p, ticks, status=status)


def test_a_command_that_ends_with_success_when_it_is_asked_has_lost_its_lock_all_the_same(
        c, store, prefix, ticks):
    p = begin(c, ticks, options=("-q",))
    store.delete(store.entries(prefix)[0].key)
    assert p.wait(DEADLINE) == 5


@pytest.mark.parametrize("words", [("stubborn",), ()], ids=["stubborn", "plain"])
def test_nobody_starts_beside_a_command_that_is_being_stopped(c, store, prefix, tmp_path, words):
    """Waiters keep away for as long as it may take."""
    scratch = tmp_path / "witness"
    script = ("trap '' TERM; " if words else "") + 'exec "$@"'
    holder = c.start("-q", c.lock, "sh", "-c", script, "sh", program("witness"), scratch,
                     "100000", "up")
    assert read_line(holder.stdout) == b"up\n"
    line = Line(c, store)
    waiter = line.wait("-q", command=(program("witness"), scratch, "0", "mine"))
    store.revoke(line.entries()[0].lease)
    assert waiter.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert waiter.returncode == 0 and holder.wait(DEADLINE) == 5
    assert scratch.read_bytes() == b""


@pytest.mark.parametrize("words", [("stubborn",), ()], ids=["stubborn", "plain"])
@pytest.mark.parametrize("holder_first", [True, False], ids=["holder first", "holder last"])
def test_all_leases_of_a_line_end_at_once(c, store, prefix, tmp_path, words, holder_first):
    """
    A server bug can cause that. A waiter in line does not start beside the command that is being
    stopped.
    """
    scratch = tmp_path / "witness"
    script = ("trap '' TERM; " if words else "") + 'exec "$@"'
    holder = c.start("-q", c.lock, "sh", "-c", script, "sh", program("witness"), scratch,
                     "100000", "up")
    assert read_line(holder.stdout) == b"up\n"
    line = Line(c, store)
    waiters = [line.wait("-q", command=(program("witness"), scratch, "0", "mine"))
               for _ in range(3)]
    for entry in line.entries() if holder_first else reversed(line.entries()):
        store.revoke(entry.lease)
    for p in waiters:
        out, _ = p.communicate(timeout=DEADLINE)
        assert (p.returncode, out) in ((0, b"mine\n"), (3, b""))
    assert holder.wait(DEADLINE) == 5
    assert scratch.read_bytes() == b""


def test_a_child_that_is_left_is_ended_too(c, store, prefix, ticks):
    """me-only is gone, and so is the command; the helper does it."""
    p = c.start("-q", c.lock, *ticks.job("leave", "stubborn", "child", "daemon"))
    assert p.wait(DEADLINE) == 0
    ticks.wait_for("child", "daemon")
    ticks.grow()
    entry, = store.entries(prefix)
    store.delete(entry.key)
    wait_for(lambda: not ticks.living(), "nobody lives")
    wait_for(lambda: all_processes_of(c.lock) == [], "nobody is left")


# ---- the server does not answer ----

def kill(server):
    server.kill()


def end(server):
    server.end()


def pause(server):
    server.pause()


@pytest.mark.parametrize("how", [kill, pause])
@pytest.mark.parametrize("words", [(), JOBS["family"]], ids=["plain", "family"])
def test_the_server_is_away_for_longer_than_the_lock_lasts(callers, own_etcd, ticks, how, words):
    c = callers(own_etcd)
    p = begin(c, ticks, *words)
    how(own_etcd)
    confirmed = boottime()
    assert_lost(c, p, ticks, by=confirmed + TTL)
    if not words:
        assert "term" in ticks.seen()


@pytest.mark.parametrize("cut", ["up", "down", "both"])
def test_the_network_is_cut(callers, own_etcd, proxy, ticks, cut):
    wire = proxy(own_etcd)
    c = callers(wire)
    p = begin(c, ticks, *JOBS["family"])
    wire.cut = cut
    # With one direction cut the server still receives renewals whose answers are lost.
    confirmed = boottime()
    assert_lost(c, p, ticks, by=confirmed + TTL)


@pytest.mark.parametrize("how", [kill, end, pause])
def test_a_server_that_comes_back_in_time_is_not_noticed(callers, own_etcd, ticks, how):
    c, store = callers(own_etcd), own_etcd.client()
    p = begin(c, ticks, options=("-q", "--ttl", str(TTL), "-k", "0.5"))
    entry, = store.entries(c.lock[5:] + "/")
    # Leaves the server as much time to start as possible on a busy machine: some six seconds.
    wait_renewed(store, entry.lease)
    how(own_etcd)
    time.sleep(2)  # longer than between renewals, shorter than the lock lasts
    if how is pause:
        own_etcd.resume()
    else:
        own_etcd.start()
    over = boottime() + TTL + 1
    wait_for(lambda: boottime() > over, "the time has passed that the lock would last alone",
             timeout=60)
    assert p.poll() is None and "term" not in ticks.seen()
    assert store.time_left(entry.lease) > 0
    p.terminate()
    assert p.wait(DEADLINE) == 0
    assert "term" in ticks.seen() and p.stderr.read() == b""
    assert store.entries(c.lock[5:] + "/") == []


def test_the_command_ends_while_the_server_is_away(callers, own_etcd):
    """Its status counts; nothing waits long for the server."""
    c = callers(own_etcd)
    p = c.start("-q", c.lock, "sh", "-c", "echo up; read line; exit 7", stdin=-1)
    read_line(p.stdout)
    own_etcd.pause()
    before = time.monotonic()
    p.communicate(b"\n", timeout=DEADLINE)
    assert p.returncode == 7
    assert time.monotonic() - before < 20
    own_etcd.resume()


def test_a_signal_while_the_server_is_away(callers, own_etcd, ticks):
    c = callers(own_etcd)
    p = begin(c, ticks)
    own_etcd.kill()
    p.terminate()
    assert p.wait(DEADLINE) == 0
    assert "term" in ticks.seen()
    wait_for(lambda: not is_alive(p.helper), "the helper has ended")


# ---- the two halves ----

@pytest.mark.local
@jobs
def test_the_helper_is_killed(c, ticks, words):
    """The command is ended at once; the lock ends with its lease."""
    p = begin(c, ticks, *words)
    os.kill(p.helper, signal.SIGKILL)
    assert_lost(c, p, ticks, by=boottime() + TTL,
                why=r"the helper was killed by signal 9 \(last confirmed [^)]*\)")


@pytest.mark.local
def test_the_helper_is_stopped(c, ticks):
    p = begin(c, ticks, *JOBS["family"])
    os.kill(p.helper, signal.SIGSTOP)
    wait_for(lambda: process_state(p.helper) == "T", "it is stopped")
    stopped = boottime()
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (5, b""), err
    assert ticks.living() == set() and ticks.last() < stopped + TTL + LATE
    # If it is still alive, it finds nothing to do.
    if is_alive(p.helper):
        os.kill(p.helper, signal.SIGCONT)
        wait_for(lambda: not is_alive(p.helper), "the helper has ended")


@pytest.mark.local
def test_the_command_has_ended_in_time_but_what_it_has_left_is_not_guarded(c, ticks):
    """
    The helper is stopped when the command ends, so nothing reports that the lock is kept for what
    still runs: that ends by the deadline.
    """
    p = c.start(*SHORT, c.lock, "sh", "-c", '"$@" & read line; exit 7', "sh",
                *ticks.job("stubborn"), stdin=subprocess.PIPE)
    ticks.wait_for("job")
    p.helper = helper_of(p)
    os.kill(p.helper, signal.SIGSTOP)
    wait_for(lambda: process_state(p.helper) == "T", "it is stopped")
    stopped = boottime()
    out, err = p.communicate(timeout=DEADLINE)  # the end of its input ends the command
    assert (p.returncode, out) == (5, b""), err
    assert ticks.living() == set() and ticks.last() < stopped + TTL + LATE
    wait_for(lambda: not is_alive(p.helper), "the helper has ended")


@pytest.mark.local
def test_the_command_has_ended_in_time_and_has_left_nothing(c):
    """
    Then nothing can have gone wrong: its status counts. Only that others have the lock is not known.
    """
    p = c.start(*SHORT, c.lock, "sh", "-c", "echo; read line; exit 7", stdin=subprocess.PIPE)
    assert read_line(p.stdout) == b"\n"
    p.helper = helper_of(p)
    os.kill(p.helper, signal.SIGSTOP)
    wait_for(lambda: process_state(p.helper) == "T", "it is stopped")
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (7, b"")
    assert err == (f"me-only: {c.lock}: cannot confirm that the lock was released: "
                   "the helper does not answer\n").encode()
    wait_for(lambda: not is_alive(p.helper), "the helper has ended")


@pytest.mark.parametrize("words", [(), ("stubborn", "child", "daemon")], ids=["plain", "family"])
def test_me_only_is_killed(c, store, prefix, ticks, words):
    """The kernel ends the command, and the helper what is left of it; then the lock is free."""
    p = begin(c, ticks, *words)
    p.kill()
    assert p.wait(DEADLINE) == -signal.SIGKILL
    wait_for(lambda: store.entries(prefix) == [], "the lock is free")
    # Free means that no process is left: not a little later.
    assert ticks.living() == set()
    assert all_processes_of(c.lock) == []
    wait_for(lambda: not is_alive(p.helper), "the helper has ended")


LEFT = {"closed": ((), (), ("bare",)), "without environment": ((), ("env", "-i"),
                                                               ("child", "daemon")),
        # Like sudo, which does not end with its parent.
        "without a parent": (("-o",), ("env", "-i", "setpriv", "--pdeathsig", "clear"), ())}


@pytest.mark.parametrize("form, way, words", LEFT.values(), ids=LEFT.keys())
def test_by_what_the_helper_finds_a_command_whose_me_only_is_killed(
        c, store, prefix, ticks, form, way, words):
    """One part of the lock is enough."""
    p = c.start(*SHORT, *form, c.lock, *way, *ticks.job("stubborn", *words))
    ticks.wait_for("job", *words)
    helper = helper_of(p)
    p.kill()
    wait_for(lambda: store.entries(prefix) == [], "the lock is free")
    assert ticks.living() == set()
    wait_for(lambda: not is_alive(helper), "the helper has ended")


def test_a_command_that_is_stopped_is_asked_too(c, store, prefix, ticks):
    """It must resume to notice that."""
    p = begin(c, ticks, options=("-q",))
    job, = ticks.living()
    os.kill(job, signal.SIGSTOP)
    wait_for(lambda: process_state(job) == "T", "it is stopped")
    store.delete(store.entries(prefix)[0].key)
    assert_lost(c, p, ticks)
    assert "term" in ticks.seen()


def test_what_is_left_of_a_command_whose_me_only_is_killed_is_asked_first(c, ticks):
    """The command itself ends with me-only; a child of it may clean up."""
    p = begin(c, ticks, "child")
    p.kill()
    wait_for(lambda: not ticks.living(), "nobody lives")
    assert "term" in ticks.seen()


@pytest.fixture
def group(name):
    """
    A control group (v2) that is delegated to its processes, as systemd does with Delegate=yes.
    """
    with control_group(f"test-{name}") as directory:
        os.setxattr(directory, "trusted.delegate", b"1")
        yield directory


@pytest.mark.root
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "lost"])
def test_a_group_of_the_commands_own(c, start, store, prefix, group, ticks, killed):
    """
    It also finds processes that have closed the lock, emptied their environment, and lost their
    ancestor.
    """
    p = start("sh", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', group, ME_ONLY, *SHORT, c.lock,
              "env", "-i", *ticks.job("stubborn", "bare"),
              env=environment(c.env))
    ticks.wait_for("job", "bare")
    p.helper = helper_of(p)
    if killed:
        p.kill()
        wait_for(lambda: store.entries(prefix) == [], "the lock is free")
        assert ticks.living() == set()
    else:
        store.delete(store.entries(prefix)[0].key)
        assert_lost(c, p, ticks)
    wait_for(lambda: not any(entry.is_dir() for entry in os.scandir(group)), "its group is gone")


def has_threads(pid):
    """Beside the first, which has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "lost"])
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_a_descendant_whose_first_thread_has_ended(c, start, store, prefix, ticks, killed, closed):
    """/proc calls it a zombie, and hides what it has; it lives, and is ended like all others."""
    closed = " ".join(f"{n}>&-" for n in range(3, 80)) if closed else ""
    p = start(ME_ONLY, *SHORT, c.lock, "bash", "-c",
              f'"$1" "$0" {closed} & shift; exec "$@"', ticks.path, program("headless"),
              *ticks.job(), env=environment(c.env))
    ticks.wait_for("job", "headless")
    p.helper = helper_of(p)
    headless, = (pid for who, pid, _ in ticks.lines() if who == "headless")
    assert has_threads(headless)
    if killed:
        p.kill()
        wait_for(lambda: store.entries(prefix) == [], "the lock is free")
    else:
        store.delete(store.entries(prefix)[0].key)
        assert p.wait(DEADLINE) == 5
    assert not has_threads(headless)


def test_me_only_is_stopped_and_the_lock_taken_away(c, store, prefix, ticks):
    """
    The helper ends the command by itself, and as soon as the successor relies on, whatever
    --kill-after is.
    """
    p = begin(c, ticks, "stubborn", "child", options=("-q", "--ttl", "300", "-k", "100"))
    os.kill(p.pid, signal.SIGSTOP)
    wait_for(lambda: process_state(p.pid) == "T", "it is stopped")
    store.delete(store.entries(prefix)[0].key)
    wait_for(lambda: not ticks.living(), "nobody lives", timeout=30)
    os.kill(p.pid, signal.SIGCONT)
    assert_lost(c, p, ticks)


def test_what_the_caller_had_started_before_is_none_of_the_commands(
        c, start, store, prefix, ticks, tmp_path):
    """
    The helper knows that as well: it ends the command while me-only is stopped, and not the
    children of the shell that has become me-only.
    """
    elder = Ticks(tmp_path / "elder")
    script = (
        f'{shlex.join(elder.job())} >/dev/null 2>&1 & until [ -s "{elder.path}" ]; do :; done; '
        f'exec "$@"')
    p = start("bash", "-c", script, "bash", ME_ONLY, *SHORT, c.lock,
              *ticks.job("stubborn", "child"), env=environment(c.env))
    ticks.wait_for("job", "child")
    p.helper = helper_of(p)
    os.kill(p.pid, signal.SIGSTOP)
    wait_for(lambda: process_state(p.pid) == "T", "it is stopped")
    store.delete(store.entries(prefix)[0].key)
    wait_for(lambda: not ticks.living(), "nobody lives")
    elder.grow()
    os.kill(p.pid, signal.SIGCONT)
    assert_lost(c, p, ticks)
    elder.grow()
    assert "term" not in elder.seen()


@pytest.mark.local
@pytest.mark.static  # strace sees no loader and no sanitizer there, only the program's own calls
@pytest.mark.parametrize("options", [(), ("-o",)], ids=["plain", "close"])
def test_me_only_is_stopped_before_it_has_told_of_its_command(c, start, tmp_path, ticks, options):
    """
    The command runs. It is ended before another can have the lock, even one that has not been in
    line, and so does not stand back.
    """
    strace = ("strace", "-D", "-o", tmp_path / "trace", "-e", "trace=pidfd_open", "-e",
              "inject=pidfd_open:signal=SIGSTOP:when=1")
    p = start(*strace, ME_ONLY, *SHORT, *options, c.lock, *ticks.job("stubborn", "daemon"),
              env=environment(c.env))
    ticks.wait_for("job", "daemon")
    p.helper = helper_of(p)

    def newcomer():
        other = c.start("-q", c.lock, "sh", "-c", "echo; read line", stdin=subprocess.PIPE)
        return other if read_line(other.stdout) else None
    other = wait_for(newcomer, "the lock is free")
    assert ticks.living() == set()
    other.communicate(timeout=DEADLINE)
    os.kill(p.pid, signal.SIGCONT)
    assert_lost(c, p, ticks)


@pytest.mark.parametrize("options", [(), ("-o",)], ids=["plain", "close"])
def test_the_command_ends_while_me_only_is_stopped(c, store, prefix, options):
    """The helper notices the end of the command by itself, and releases the lock at once."""
    holder = c.hold("-q", *options)
    wait_for(lambda: process_state(holder.pid) == "S", "it has told its helper of the command")
    os.kill(holder.pid, signal.SIGSTOP)
    wait_for(lambda: process_state(holder.pid) == "T", "it is stopped")
    holder.stdin.close()
    wait_for(lambda: store.entries(prefix) == [], "the lock is free")
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.wait(DEADLINE) == 0


@pytest.mark.static  # as above
def test_the_command_ends_as_another_child_is_reaped(c, start, store, prefix, tmp_path):
    """So it is reaped before it was seen to have ended. The lock is given back all the same."""
    strace = ("strace", "-D", "-o", tmp_path / "trace", "-e", "trace=waitid", "-e",
              "inject=waitid:retval=0:when=1")
    p = start(*strace, ME_ONLY, *SHORT, c.lock, "sh", "-c", "exit 7", env=environment(c.env))
    _, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, said(err)) == (7, "")
    assert store.entries(prefix) == []


def test_a_loss_that_only_a_renewal_has_noticed_leaves_no_time(callers, gateway, ticks):
    """Others may stand back since the last renewal, which is longer ago than that pause lasts."""
    c = callers(gateway)
    p = c.start("-q", "--ttl", "30", c.lock, *ticks.job())
    ticks.wait_for("job")
    p.helper = helper_of(p)
    gateway.store.drop_deletes = -1
    gateway.delete(gateway.keys()[0])
    assert_lost(c, p, ticks)
    assert "term" not in ticks.seen()


@pytest.fixture
def streaming(callers, gateway, ticks):
    """streaming(TTL, JOB) starts a job, and returns it when its stream is open, and the stream."""

    def streaming_(ttl, *job):
        c = callers(gateway)
        p = c.start("-q", "--ttl", ttl, c.lock, *ticks.job(*job))
        ticks.wait_for("job")
        p.helper = helper_of(p)
        stream, = gateway.wait_for("watch", 1)
        wait_for(lambda: len(getattr(stream, "lines", ())) >= 2, "the stream is open")
        return c, p, stream

    return streaming_


def test_a_loss_after_the_stream_has_ended(streaming, gateway, ticks):
    """
    The stream is reopened at once and reports the loss: the next renewal, 5 s later, would be too
    late.
    """
    c, p, stream = streaming("30")
    before = boottime()
    stream.end_watch = (14, "transport is closing")
    gateway.store.drop_deletes = 0
    again = gateway.wait_for("watch", 2)[1]
    assert again.stream.connection is stream.stream.connection
    gateway.delete(gateway.keys()[0])
    assert_lost(c, p, ticks, by=before + 4)


def test_a_loss_on_a_connection_that_drains(streaming, gateway, ticks):
    """It serves the stream until another one takes over."""
    c, p, stream = streaming("120")
    stream.stream.connection.go_away()
    gateway.delete(gateway.keys()[0])
    assert_lost(c, p, ticks, by=boottime() + 4)


def test_a_stream_soon_leaves_a_connection_that_drains(streaming, gateway, ticks):
    """Nothing else is sent there that would show that it is broken; a renewal may be far off."""
    _, p, stream = streaming("120")
    renewals = len(gateway.seen("lease/keepalive"))
    stream.stream.connection.go_away()
    again = gateway.wait_for("watch", 2)[1]
    assert again.stream.connection is not stream.stream.connection
    assert len(gateway.seen("lease/keepalive")) == renewals
    assert ticks.living()
    p.terminate()
    assert p.wait(DEADLINE) == 0


def test_a_loss_while_there_was_no_stream_leaves_no_time(streaming, gateway, ticks):
    """Others may have stood back since the deletion, which the new stream reports as the past."""
    c, p, stream = streaming("120")
    over = boottime() + 2.5
    wait_for(lambda: boottime() > over, "the last proof is older than the pause of others")

    def deletes(_):
        if len(gateway.keys()) > 0:
            gateway.delete(gateway.keys()[0])

    gateway.on("watch", deletes)
    stream.end_watch = (14, "transport is closing")
    assert_lost(c, p, ticks)
    assert "term" not in ticks.seen()


def test_me_only_is_killed_and_the_helper_too(c, store, prefix, ticks):
    """Then only the kernel is left to end the command."""
    p = begin(c, ticks, "stubborn")
    os.kill(p.pid, signal.SIGSTOP)
    os.kill(p.helper, signal.SIGKILL)
    p.kill()
    p.wait(DEADLINE)
    wait_for(lambda: ticks.living() == set(), "the command has ended")


def test_me_only_is_stopped_and_the_server_away(callers, own_etcd, ticks):
    """The helper ends the command by itself."""
    c = callers(own_etcd)
    p = begin(c, ticks, *[w for w in JOBS["family"] if w != "bare"])
    os.kill(p.pid, signal.SIGSTOP)
    wait_for(lambda: process_state(p.pid) == "T", "it is stopped")
    own_etcd.kill()
    confirmed = boottime()
    wait_for(lambda: not ticks.living(), "nobody lives")
    assert ticks.last() < confirmed + TTL + LATE
    os.kill(p.pid, signal.SIGCONT)
    assert_lost(c, p, ticks)


@pytest.mark.local
def test_me_only_is_stopped_for_a_while(c, ticks):
    """
    The helper renews without it. Then the deadline known to me-only passes: ending the job is safe,
    and so is not ending it.
    """
    p = begin(c, ticks)
    os.kill(p.pid, signal.SIGSTOP)
    over = boottime() + TTL + 1
    wait_for(lambda: boottime() > over, "the time has passed that the lock would last alone",
             timeout=60)
    ticks.grow()
    os.kill(p.pid, signal.SIGCONT)
    p.terminate()
    assert p.wait(DEADLINE) in (0, 5) and not ticks.living()


@pytest.mark.local
@pytest.mark.parametrize("first", ["helper", "me-only"])
def test_all_is_frozen_for_longer_than_the_lock_lasts(c, store, prefix, ticks, first):
    """
    Whichever resumes first ends the job; neither believes that it still holds the lock. The next
    holder is not disturbed.
    """
    p = begin(c, ticks, "stubborn")
    job = [pid for who, pid, _ in ticks.lines() if who == "job"][0]
    for pid in (job, p.pid, p.helper):
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: process_state(pid) == "T", "it is stopped")
    before = ticks.last()
    wait_for(lambda: store.entries(prefix) == [], "the lease has ended")
    other = c.hold("-q")
    order = [p.helper, p.pid] if first == "helper" else [p.pid, p.helper]
    for pid in order:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not is_alive(job), "the job has ended without having run")
    out, err = p.communicate(timeout=DEADLINE)
    assert p.returncode == 5, err
    assert ticks.last() == before and ticks.living() == set()
    wait_for(lambda: not is_alive(p.helper), "the helper has ended")
    entry, = store.entries(prefix)
    assert entry.json()["pid"] == other.pid and other.poll() is None
    assert release(other) == 0


@pytest.mark.local
def test_both_halves_are_frozen_for_longer_than_the_lock_lasts(c, store, prefix, ticks):
    """Then the job keeps running, until one of them resumes."""
    p = begin(c, ticks, "stubborn", "child", "daemon")
    for pid in (p.pid, p.helper):
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: store.entries(prefix) == [], "the lease has ended")
    os.kill(p.helper, signal.SIGCONT)
    wait_for(lambda: not ticks.living(), "the helper alone ends it all")
    os.kill(p.pid, signal.SIGCONT)
    assert_lost(c, p, ticks)
    assert store.entries(prefix) == []


@pytest.mark.local
@pytest.mark.static  # strace sees only the program's own calls there
def test_the_command_ended_while_me_only_was_stopped_in_reaping(c, start, store, prefix, tmp_path,
                                                                ticks):
    """The deadline has also passed, unnoticed by me-only: the lock is lost, not released."""
    strace = ("strace", "-D", "-o", tmp_path / "trace", "-P", "anon_inode:[signalfd]", "-e",
              "inject=read:signal=SIGSTOP:when=1")
    p = start(*strace, ME_ONLY, *SHORT, c.lock, *ticks.job("stubborn"), env=environment(c.env))
    ticks.wait_for("job")
    p.helper = helper_of(p)
    os.kill(p.pid, signal.SIGCHLD)
    wait_for(lambda: process_state(p.pid) in "Tt", "it is stopped")
    os.kill(p.helper, signal.SIGSTOP)
    wait_for(lambda: store.entries(prefix) == [], "the lease has ended")
    os.kill(p.helper, signal.SIGCONT)
    wait_for(lambda: not ticks.living(), "the helper alone ends it all")
    os.kill(p.pid, signal.SIGCONT)
    assert_lost(c, p, ticks)


def test_a_loss_while_a_waiter_is_stopped(c, store, prefix, ticks):
    """Its lease is then dead, and it does not run with it."""
    holder = c.hold("-q")
    line = Line(c, store)
    p = line.wait(*SHORT, command=("sh", "-c", 'echo "$ETCD_LOCK_KEY"'))
    helper = helper_of(p)
    os.kill(helper, signal.SIGSTOP)
    wait_for(lambda: p.key not in [e.key for e in line.entries()], "its lease has ended")
    os.kill(helper, signal.SIGCONT)
    wait_for(lambda: p.poll() is not None or len(line.entries()) == 2, "it has noticed")
    assert release(holder) == 0
    out, _ = p.communicate(timeout=DEADLINE)
    if p.returncode == 0:
        assert out.decode().strip() not in ("", p.key)
    else:
        assert (p.returncode, out) == (3, b"")


# ---- nobody reads what is said about it ----

@pytest.mark.parametrize("lost", [True, False], ids=["lost", "given-back"])
def test_nobody_reads_standard_error(c, store, prefix, ticks, lost):
    """A full pipe delays neither the command's end nor the lock's, nor me-only's for long."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    if lost:
        p = c.start("-v", c.lock, *ticks.job(), stderr=writer)
        ticks.wait_for("job")
        store.delete(store.entries(prefix)[0].key)
        assert p.wait(DEADLINE) == 5
        assert ticks.living() == set()
    else:
        assert c.start("-v", c.lock, "true", stderr=writer).wait(DEADLINE) == 0
    wait_for(lambda: store.entries(prefix) == [], "the lock is free")
    assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)
