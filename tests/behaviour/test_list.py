"""--list: all locks of this host, as a table like that of lslocks(8) and as JSON."""
import collections
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys

import pytest

from conftest import ME_ONLY, address, forms, is_listed, process_state, read_line, release, user, \
    wait_for, waiters_of
from injection import FEW
from shape import rows_of

AGE = r"(?:\d+(?:\.\d)?(?:ms|s|m|h|d)){1,2}"


@pytest.fixture
def rows(call):
    """rows(PREFIX..., missing): the rows of --list --json by their locks, and what it cannot see."""

    def rows_(*prefix, missing=b""):
        r = call(*prefix, ME_ONLY, "--list", "--json")
        assert (r.returncode, r.stderr) == (0, missing), r
        return {row["lock"]: row for row in rows_of(json.loads(r.stdout), "locks")}

    return rows_


@forms
def test_a_lock(hold, run, rows, lock, form):
    holder = hold(lock, *form)
    row = rows()[lock]
    assert (row["state"], row["pid"], row["user"], row["uid"]) == ("held", holder.job, user(),
                                                                   os.geteuid())
    assert (row["slot"], row["waiters"], row["command"], row["hidden"]) == (0, 0, "cat", None)
    assert row["at_most"] is (form == ("-F",)) and isinstance(row["since"], float) \
        and isinstance(row["age"], float)
    text = run("--list").stdout.decode()
    # SLOT and WAITERS are there if any lock of this host has them.
    assert [name for name in text.split("\n")[0].split() if name not in ("SLOT", "WAITERS")] == \
        ["LOCK", "STATE", "PID", "USER", "SINCE", "AGE", "COMMAND"]
    assert re.search(
        rf"^{lock} +held +{holder.job} {user()} +([-0-9]{{10}}|[:0-9]{{8}}) +<?{AGE} +(0 +)*cat$",
        text, re.M)
    assert release(holder) == 0
    assert lock not in rows()


@pytest.mark.root
def test_no_locks(call, rows):
    """
    A network namespace of its own has no locks; file locks are found through processes, so there
    must be no others.
    """
    alone = ("unshare", "--net", "--pid", "--fork", "--mount-proc")
    missing = (b"me-only: some file locks may be missing: those from outside this PID namespace "
               b"are not shown\n")
    assert rows(*alone, missing=missing) == {}
    r = call(*alone, ME_ONLY, "--list")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", missing)


def test_waiters_are_counted(hold, start, rows, lock):
    hold(lock)
    waiters = []
    for n in range(1, 8):
        waiters.append(start(ME_ONLY, "-w", "inf", lock, "true"))
        wait_for(lambda: waiters_of(lock) == n, "it waits")
    assert rows()[lock]["waiters"] == 7
    for p in (waiters[0], waiters[3], waiters[6]):
        p.kill()
        p.wait()
    wait_for(lambda: rows()[lock]["waiters"] == 4, "the dead are not counted")


def test_inherited_and_stopped(me_only, hold, rows, lock):
    p = me_only(lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    child = int(read_line(p.stdout))
    wait_for(lambda: p.poll() is not None, "the command ends")
    row = rows()[lock]
    assert (row["state"], row["pid"], row["command"]) == ("inherited", child, "sleep 1000")
    holder = hold(lock + "s")
    os.kill(holder.job, signal.SIGSTOP)
    wait_for(lambda: process_state(holder.job) == "T", "it is stopped")
    assert rows()[lock + "s"]["state"] == "stopped"


def test_many_at_once(start, rows, lock):
    """
    More locks than descriptors: they are asked in turns. One that does not answer does not affect
    the others.
    """
    script = 'for i in $(seq 60); do "$0" "$1/$i" sh -c "echo up; exec sleep 1000" & done; wait'
    p = start("sh", "-c", script, ME_ONLY, lock)
    for _ in range(60):
        assert read_line(p.stdout) == b"up\n"
    wanted = {f"{lock}/{i}" for i in range(1, 61)}
    for prefix in ((), ("prlimit", "--nofile=40:40")):
        seen = rows(*prefix)
        assert wanted <= set(seen)
        assert all(seen[name]["state"] == "held" and seen[name]["pid"] for name in wanted)


@pytest.mark.root  # in a user namespace the helper belongs to nobody
@pytest.mark.native("strace traces the emulator")
def test_many_files_cost_no_square(call, tmp_path):
    """The kernel's table of file locks is read a few times, not for each lock."""
    script = 'for i in $(seq 20); do "$0" -F "file:$1/$i" sh -c "echo; exec sleep 1000" & done | head -n 20 >"$1/up"; ' \
             'strace -qq -f -o "$1/trace" -P /proc/locks -e trace=open,openat "$0" --list; exit'
    r = call(FEW, "sh", "-c", script, ME_ONLY, tmp_path)
    assert r.returncode == 0 and all(f"file:{tmp_path}/{i} " in r.stdout.decode() for i in range(1, 21)), r
    assert (tmp_path / "trace").read_text().count("/proc/locks") <= 5


@forms
def test_each_slot_has_a_row(hold, start, run, call, lock, form):
    """The waiters may get any of them: each row counts them."""
    holders = [hold(lock, *form, "-j4") for _ in range(3)]
    assert release(holders[1]) == 0

    def seen():
        r = call(ME_ONLY, "--list", "--json")
        assert (r.returncode, r.stderr) == (0, b"")
        return [(row["slot"], row["pid"], row["state"], row["waiters"])
                for row in json.loads(r.stdout)["locks"] if row["lock"] == lock]

    assert seen() == [(0, holders[0].job, "held", 0), (2, holders[2].job, "held", 0)]
    text = run("--list").stdout.decode()
    assert re.findall(rf"^{lock} +held +(\d+) {user()} .*<?{AGE} +(\d) +(?:0 +)?cat$", text, re.M) == \
        [(str(holders[n].job), str(n)) for n in (0, 2)]
    start(ME_ONLY, "-w", "inf", lock, "true")
    wait_for(lambda: waiters_of(lock) == 1, "it waits")
    wait_for(lambda: seen() == [(0, holders[0].job, "held", 1), (2, holders[2].job, "held", 1)],
             "it is counted")


def test_a_slot_that_was_inherited(run, hold, call, lock):
    hold(lock, "-j2")
    left = int(run("-j2", lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").stdout)
    rows = [row for row in json.loads(call(ME_ONLY, "--list", "--json").stdout)["locks"]
            if row["lock"] == lock]
    assert [(row["slot"], row["state"]) for row in rows] == [(0, "held"), (1, "inherited")]
    assert rows[1]["pid"] == left


@forms
def test_long_names_are_whole_in_each_slot(hold, call, lock, form):
    name = lock * 10
    holders = [hold(name, *form, "-j2") for _ in range(2)]
    rows = [row for row in json.loads(call(ME_ONLY, "--list", "--json").stdout)["locks"]
            if row["lock"] == name]
    assert [(row["slot"], row["pid"]) for row in rows] == [(n, h.job)
                                                           for n, h in enumerate(holders)]


def test_holder_that_does_not_greet_is_shown(hold, me_only, rows, lock):
    holder = hold(lock)
    os.kill(holder.pid, signal.SIGSTOP)
    wait_for(lambda: process_state(holder.pid) == "T", "it is stopped")
    row = rows()[lock]
    assert (row["pid"], row["at_most"], row["state"]) == (holder.job, True, "held")


@forms
@pytest.mark.parametrize("prefix", ["", "host:"])
def test_long_names_are_whole(hold, rows, lock, form, prefix):
    name = lock * 10
    holder = hold(prefix + name, *form)
    assert rows()[name]["pid"] == holder.job


def test_a_long_name_that_nobody_tells(start, rows, lock):
    """The address has its beginning, and only the digest of the rest."""
    name = lock.removeprefix("/test/") * 10
    p = start(ME_ONLY, "-F", name, "env", "-i", sys.executable, "-c",
              "print('up', flush=True); input()", stdin=subprocess.PIPE)
    assert read_line(p.stdout) == b"up\n"
    row = [r for r in rows().values() if r["pid"] == p.pid]
    assert [r["lock"] for r in row] == [name[:44] + "..."]


def test_names_that_are_no_locks(lock, rows):
    """
    Other addresses are not mistaken for me-only's: other types, empty names, unknown suffixes,
    names too long.
    """
    before = set(rows())
    sockets = []
    for kind, addr in ((socket.SOCK_STREAM, address(lock)),
                       (socket.SOCK_SEQPACKET, address(lock, b"\0other\x000")),
                       (socket.SOCK_SEQPACKET, address(lock, b"\0slot\x000")),
                       (socket.SOCK_SEQPACKET, address(lock, b"\0slot\x0001")),
                       (socket.SOCK_SEQPACKET, address(lock, b"\0slot\x001024")),
                       (socket.SOCK_SEQPACKET, address(lock, b"\0place\x000")),
                       (socket.SOCK_SEQPACKET, address(lock, b"x" * 60)),
                       (socket.SOCK_SEQPACKET, b"\0me-only#" + lock.encode())):
        sockets.append(socket.socket(socket.AF_UNIX, kind))
        sockets[-1].bind(addr)
        sockets[-1].listen()
    assert not [name for name in set(rows()) - before if lock in name]
    for s in sockets:
        s.close()


def test_a_name_that_is_bound_and_no_more(lock, rows):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(address(lock))
        row = rows()[lock]
        assert row["state"] in ("held", "hidden", "inherited") and row["pid"] in (os.getpid(), None)


def test_names_that_need_their_kind(me_only, rows, lock):
    """The name is shown as it has to be typed."""
    p = me_only("host:db:" + lock, "sh", "-c", "echo up; exec sleep 1000")
    assert read_line(p.stdout) == b"up\n"
    assert "host:db:" + lock in rows()


def test_a_narrow_terminal(terminal, hold, lock):
    """Long fields are cut on a terminal, and only there."""
    name = lock + "n" * 50
    hold(name)
    t = terminal("sh", "-c", 'read go; "$0" --list; echo done', ME_ONLY)
    t.resize(24, 100)
    t.enter("go")
    screen = t.wait_for(r"(?s)LOCK.*done").group().decode()
    lines = screen.replace("\r", "").split("\n")[:-1]
    assert max(map(len, lines)) <= 100
    # How much of it depends on the other locks of this host.
    firsts = [line.split()[0] for line in lines]
    assert [cut for cut in firsts if cut.endswith("...") and name.startswith(cut[:-3])]
    assert name not in firsts


def test_the_rows_are_sorted_by_lock(run, hold, lock):
    for end in "cab":
        hold(lock + end)
    text = run("--list").stdout.decode()
    assert re.findall(re.escape(lock) + "[abc]", text) == [lock + end for end in "abc"]


def test_locks_come_and_go(start, rows, lock):
    """
    A lock that was released meanwhile is not listed. (A process that is about to exit may have a
    socket and show none.)
    """
    script = 'while :; do "$0" "$1" true; done'
    start("sh", "-c", script, ME_ONLY, lock, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: is_listed(address(lock)), "it is taken")
    found = collections.Counter(rows().get(lock, {}).get("hidden") for _ in range(100))
    # On a busy machine one may end a moment after the last look; without that look it would be one
    # in ten.
    assert found.pop("it has just released the lock", 0) <= 3
    assert set(found) <= {None, "/proc does not show its process"}


def test_the_limit_of_descriptors_is_raised(rows, hold, lock):
    hold(lock)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert lock in rows("prlimit", f"--nofile=16:{min(hard, 1024)}")
