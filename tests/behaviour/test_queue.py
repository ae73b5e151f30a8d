"""
--queue=N: at most N wait, the rest give up; and a run that starts later covers every caller that
gives up.
"""
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from conftest import (DEADLINE, ME_ONLY, address, forms, is_bound, is_listed, process_state,
                      program, queue_of, read_line, refusal, release, user, wait_for, waiters_of)

STAMP = program("stamp")
DYNAMIC = bool(os.environ.get("ME_ONLY_DYNAMIC"))


def place_of(name, number):
    """The address of a place in which a process waits for NAME, or for file:PATH."""
    suffix = b"\0place\0%d" % number
    if name.startswith("file:"):
        status = os.stat(name.removeprefix("file:"))
        return b"\0me-only@%d:%d:%d" % (os.major(status.st_dev), os.minor(status.st_dev),
                                        status.st_ino) + suffix
    if len(name) > 77:
        return (
            f"\0me-only#{name[:44]}#"
            f"{hashlib.sha256(name.encode()).hexdigest()[:32]}").encode() + suffix
    return address(name, suffix)


def places_taken(name, places=24):
    """The places with a waiter: those that listen."""
    with open("/proc/net/unix", "rb") as f:
        # Other processes' names can contain line feeds.
        names = {line.rstrip(b"\n").split(b" ", 7)[-1] for line in f
                 if line.split()[3:4] == [b"00010000"]}
    return [n for n in range(places) if place_of(name, n).replace(b"\0", b"@") in names]


def nothing_is_left(name):
    return not (is_bound(address(name)) or is_bound(queue_of(name))
                or any(is_bound(place_of(name, n)) for n in range(8)))


@pytest.fixture
def queue(me_only, lock):
    """
    queue(PLACES, OPTION..., lock=) starts a waiter that has taken a place; its job waits for its
    standard input to end.
    """

    def queue_(places, *options, lock=lock, script="echo $$; exec cat >/dev/null", wait="inf"):
        taken = places_taken(lock)
        p = me_only("-w", wait, f"--queue={places}", *options, lock, "sh", "-c", script,
                    stdin=subprocess.PIPE)
        wait_for(lambda: len(places_taken(lock)) > len(taken), "it has its place")
        wait_for(lambda: process_state(p.pid) == "S", "it waits")
        return p

    return queue_


FULL = b": the queue is full, "


def full(run, lock, *options):
    """Ask with --queue while it is full: the waiter and the holder that the message names."""
    said = refusal(run, "-w", "inf", *options, lock)
    match = re.fullmatch(
        rf"me-only: {re.escape(lock)}: the queue is full, ([^\n]* waits?); ([^\n]*)\n", said)
    assert match, said
    return match[1], match[2]


def full_of(run, lock, *options):
    """The same: only the waiter."""
    return full(run, lock, *options)[0]


# ---- the number ----


@pytest.mark.parametrize("places", [1, 2, 3, 5])
@forms
def test_so_many_wait_and_the_next_gives_up(hold, queue, run, lock, places, form):
    holder = hold(lock)
    waiters = [queue(places, *form) for _ in range(places)]
    assert places_taken(lock) == list(range(places))
    for _ in range(3):
        assert full(run, lock, f"--queue={places}", *form)
    assert holder.poll() is None and all(w.poll() is None for w in waiters)
    assert release(holder) == 0
    for w in waiters:
        assert read_line(w.stdout)
        assert release(w) == 0
    assert nothing_is_left(lock)


def test_a_lock_that_is_free_is_taken_at_once(run, lock):
    assert run("-w", "inf", "--queue=1", lock, "echo", "ran").stdout == b"ran\n"
    assert nothing_is_left(lock)


def test_the_largest_number_of_places(hold, queue, run, lock):
    hold(lock)
    waiter = queue(1024)
    assert full_of(run, lock, "--queue=1").startswith(f"pid {waiter.pid} (")
    assert run("-w", "0.1", "--queue=1024", lock,
               "true").stderr.startswith(f"me-only: {lock}: gave up after".encode())


def test_one_reading_of_the_kernels_table_however_many_wait(hold, queue, call, lock, tmp_path):
    hold(lock)

    def cost():
        trace = tmp_path / "trace"
        r = call("strace", "-f", "-o", trace, "-e", "trace=sendto,bind,connect", ME_ONLY, "-q",
                 "-w", "0.1", "--queue=100", lock, "true")
        assert r.returncode == 4
        # Until it has its place; at the end it looks again, for who holds the lock.
        calls = re.split(r"place.*= 0\n", trace.read_text())[0].splitlines()
        return sum("nlmsg_len" in each for each in calls), len(calls)

    costs = []
    for more in (2, 18):
        for _ in range(more):
            queue(100, script="true")
        # When others close sockets meanwhile, the kernel can leave one out: that costs more.
        costs.append(min(cost() for _ in range(5)))
    assert [tables for tables, _ in costs] == [1, 1]
    assert costs[1][1] <= costs[0][1] + 2


@pytest.mark.parametrize("argument", ["0", "1025", "-1", "x", "", "1s"])
@pytest.mark.parametrize("form", [["--queue={}"], ["--queue", "{}"]], ids=" ".join)
def test_what_is_no_number_of_places_is_wrong_usage(run, lock, argument, form):
    r = run("-w", "inf", *[word.format(argument) for word in form], lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")
    assert r.stderr.decode() == \
        f"me-only: --queue: not a number from 1 to 1024: '{argument}'; try 'me-only --help'\n"


@pytest.mark.parametrize("options", [(), ("-n",), ("-w", "0"), ("--wait=0ms",)], ids=" ".join)
def test_queue_without_waiting_is_a_usage_error(run, lock, options):
    r = run(*options, "--queue=1", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")
    assert r.stderr.decode() == \
        "me-only: --queue is for those who wait: give -w, too; try 'me-only --help'\n"
    r = run("--queue=1", *options, lock, "echo", "ran")
    assert r.returncode == 2


@pytest.mark.parametrize("question", ["--who", "--held", "--list"])
def test_it_is_for_a_command(run, lock, question):
    assert run("--queue=1", question, *([] if question == "--list" else [lock])).returncode == 2


# ---- messages ----


def test_the_message_says_who_waits_and_who_holds(hold, queue, run, lock):
    holder = hold(lock)
    waiters = [queue(4)]
    who, whom = full(run, lock, "--queue=1")
    assert who == f"pid {waiters[0].pid} ({user()}) waits"
    assert re.fullmatch(rf"held by pid {holder.job} \({user()}\) for \S+: cat", whom)
    for others in (" and one other wait", " and 2 others wait", " and 3 others wait"):
        waiters.append(queue(4))
        who = full_of(run, lock, f"--queue={len(waiters)}")
        assert who in [f"pid {w.pid} ({user()}){others}" for w in waiters]
    # It looks for no more than are needed to make it full.
    assert full_of(run, lock, "--queue=1") in [f"pid {w.pid} ({user()}) waits" for w in waiters]


def test_complain_after_is_about_the_holder(hold, queue, run, lock):
    hold(lock)
    queue(1)
    assert full(run, lock, "--complain-after=0", "--queue=1")
    assert run("--complain-after=1h", "-w", "inf", "--queue=1", lock, "true").stderr == b""


@pytest.mark.parametrize("options", [("-q",), ("--complain-after=1h",), ("--complain-after=inf",)],
                         ids=" ".join)
def test_quiet_refusal_prints_nothing(hold, queue, run, lock, options):
    hold(lock)
    queue(1)
    r = run(*options, "-w", "inf", "--queue=1", lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (4, b"", b"")


def test_the_status_is_that_of_a_conflict(hold, queue, run, lock):
    hold(lock)
    queue(1)
    assert run("-E", "0", "-w", "inf", "--queue=1", lock, "false").returncode == 0
    assert run("-E", "75", "-w", "inf", "--queue=1", lock, "false").returncode == 75
    assert run("--exit-base=90", "-w", "inf", "--queue=1", lock, "false").returncode == 94
    assert run("--exit-base=90", "-E", "75", "-w", "inf", "--queue=1", lock,
               "false").returncode == 75


@pytest.mark.root
def test_places_of_strangers_do_not_count(start, hold, queue, run, public_me_only, lock):
    """
    A process that is not trusted must not be able to block a job for ever; it can only stand in
    line.
    """
    holder = hold(lock)
    daemon = {"user": "daemon", "group": "daemon", "extra_groups": [], "cwd": "/"}
    strangers = []
    for n in range(2):
        strangers.append(start(public_me_only, "-w", "inf", "--queue=3", lock, "true", **daemon))
        wait_for(lambda: len(places_taken(lock)) > n, "he has his place")
    waiter = queue(1)
    assert full_of(run, lock, "--queue=1") == f"pid {waiter.pid} ({user()}) waits"
    assert release(holder) == 0
    assert read_line(waiter.stdout)
    assert release(waiter) == 0
    assert [p.wait(DEADLINE) for p in strangers] == [0, 0]
    assert nothing_is_left(lock)


@pytest.mark.root
def test_a_place_of_root_is_no_strangers(start, hold, queue, public_me_only, lock):
    hold(lock)
    queue(1)
    p = start(public_me_only, "-q", "-w", "inf", "--queue=1", lock, "true", user="daemon",
              group="daemon", extra_groups=[], cwd="/")
    assert p.communicate(timeout=DEADLINE) == (b"", b"")
    assert p.returncode == 4


MUTE = """
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(bytes.fromhex(sys.argv[1]))
print("bound", flush=True)
sys.stdin.read()
"""


@pytest.mark.root
def test_a_stranger_who_cannot_be_asked_keeps_nobody_from_running(start, hold, me_only, lock):
    """It has bound the place, and does not listen."""
    holder = hold(lock)
    s = start(sys.executable, "-ISc", MUTE, place_of(lock, 0).hex(), stdin=subprocess.PIPE,
              user="daemon", group="daemon",
              extra_groups=[], cwd="/")
    assert read_line(s.stdout) == b"bound\n"
    p = me_only("-q", "-w", "inf", "--queue=1", lock, "echo", "ran")
    wait_for(lambda: p.poll() is not None or waiters_of(lock), "it has given up, or waits")
    assert release(holder) == 0
    assert (p.communicate(timeout=DEADLINE), p.returncode) == ((b"ran\n", b""), 0)


@pytest.mark.static
@pytest.mark.parametrize("limit", [3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_few_descriptors(hold, queue, call, lock, limit, taken):
    """It gets its place, or reports that it cannot look; it never looks for ever."""
    if taken:
        hold(lock)
        queue(2)
    r = call("prlimit", f"--nofile={limit}:{limit}", ME_ONLY, "-w", "0.1", "--queue=1",
             lock, "true")
    assert r.returncode in ({3, 4} if taken else {0, 1, 3, 4})
    assert r.returncode == 0 or r.stderr.startswith(b"me-only: ")


# ---- when a place is free again ----


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
                         ids=lambda s: s.name)
def test_a_waiter_that_is_ended_leaves_its_place(hold, queue, run, lock, by):
    holder = hold(lock)
    waiter = queue(1)
    assert full(run, lock, "--queue=1")
    waiter.send_signal(by)
    assert waiter.wait(DEADLINE) == -by
    assert places_taken(lock) == []
    next_one = queue(1)
    assert release(holder) == 0
    assert read_line(next_one.stdout)
    assert release(next_one) == 0


def test_a_waiter_that_runs_out_of_time_leaves_its_place(hold, queue, run, lock):
    hold(lock)
    waiter = queue(1, wait="0.3")
    assert waiter.wait(DEADLINE) == 4
    assert places_taken(lock) == []
    assert run("-w", "0.1", "--queue=1", lock,
               "true").stderr.startswith(f"me-only: {lock}: gave up after 100ms".encode())


@forms
def test_a_job_that_runs_has_no_place(hold, queue, run, lock, form):
    """Nor do processes that it leaves running: the next one may wait while they run."""
    holder = hold(lock)
    first = queue(1, *form)
    assert release(holder) == 0
    assert read_line(first.stdout)
    assert places_taken(lock) == []
    second = queue(1, *form)
    assert full(run, lock, "--queue=1")
    assert release(first) == 0
    assert read_line(second.stdout)
    assert release(second) == 0


def test_a_job_does_not_see_that_it_had_a_place(hold, me_only, run, lock):
    look = ("sh", "-c", "ls -l /proc/$$/fd | grep -c socket")
    for options in ((), ("-F",), ("-o",)):
        plain = run(*options, lock, *look).stdout
        holder = hold(lock)
        p = me_only(*options, "-w", "inf", "--queue=1", lock, *look)
        wait_for(lambda: waiters_of(lock), "it waits")
        assert release(holder) == 0
        assert p.communicate(timeout=DEADLINE)[0] == plain


# ---- who is counted ----


def test_ten_calls_during_a_run_make_one_more_run(hold, start, lock, tmp_path):
    """The recipe for a deployment."""
    holder = hold(lock)
    out = tmp_path / "runs"
    calls = [start(ME_ONLY, "-q", "-w", "inf", "--queue=1", lock, "sh", "-c", 'echo ran >>"$0"',
                   str(out)) for _ in range(10)]
    wait_for(lambda: sum(p.poll() is not None for p in calls) == 9, "nine of them have given up")
    assert not out.exists()
    assert release(holder) == 0
    assert sorted(p.wait(DEADLINE) for p in calls) == [0] + [4] * 9
    assert out.read_text() == "ran\n"
    assert nothing_is_left(lock)


def test_caller_that_allows_fewer_waiters_gives_up_although_the_first_place_is_free(
        hold, queue, run, lock):
    hold(lock)
    waiters = [queue(3) for _ in range(3)]
    waiters[0].kill()
    waiters[0].wait()
    assert places_taken(lock) == [1, 2]
    assert "and one other wait" in full_of(run, lock, "--queue=2")
    assert full(run, lock, "--queue=1")
    assert places_taken(lock) == [1, 2]
    waiters[1].kill()
    waiters[1].wait()
    assert full_of(run, lock, "--queue=1").startswith(f"pid {waiters[2].pid} (")
    waiters.append(queue(2))
    assert places_taken(lock) == [0, 2]


def test_waiter_without_queue_is_not_counted(hold, me_only, run, lock):
    hold(lock)
    for n in range(5):
        me_only("-w", "inf", lock, "true")
        wait_for(lambda: waiters_of(lock) > n, "it waits")
    p = me_only("-w", "inf", "--queue=1", lock, "true")
    wait_for(lambda: places_taken(lock) == [0], "it has its place")
    assert full_of(run, lock, "--queue=1").startswith(f"pid {p.pid} (")
    before = waiters_of(lock)
    me_only("-w", "inf", lock, "true")
    wait_for(lambda: waiters_of(lock) > before, "who does not give it waits all the same")


def test_other_locks_have_places_of_their_own(hold, queue, run, lock):
    """Also names that differ only behind the end of an address."""
    long_names = [lock + "/long" * 1000 + end for end in "12"]
    for name in (lock, lock + "x", *long_names):
        hold(name)
    queue(1)
    assert run("-w", "0.1", "--queue=1", lock + "x",
               "true").stderr.startswith(f"me-only: {lock}x: gave up".encode())
    assert full(run, lock, "--queue=1")
    other = lock + "y"
    holder = hold(other)
    queue(1, lock=other)
    assert release(holder) == 0


def test_a_long_name_has_places(hold, me_only, run, lock):
    name, other = (lock + "/long" * 50 + end for end in "12")
    hold(name)
    hold(other)
    p = me_only("-w", "inf", "--queue=1", name, "true")
    wait_for(lambda: places_taken(name) == [0], "it has its place")
    assert full_of(run, name, "--queue=1").startswith(f"pid {p.pid} (")
    assert run("-w", "0.1", "--queue=1", other,
               "true").stderr.count(b": gave up after 100ms: ") == 1


def test_a_lock_with_slots(hold, me_only, run, lock):
    """The places are the lock's, whatever number of slots is asked for."""
    holders = [hold(lock, "-j2") for _ in range(2)]
    p = me_only("-w", "inf", "--queue=1", "-j2", lock, "sh", "-c", "echo $ME_ONLY_SLOT")
    wait_for(lambda: places_taken(lock) == [0], "it has its place")
    assert full_of(run, lock, "--queue=1", "-j2").startswith(f"pid {p.pid} (")
    assert full_of(run, lock, "--queue=1").startswith(f"pid {p.pid} (")
    wait_for(lambda: is_listed(queue_of(lock) + b"\x002"), "it waits")
    assert release(holders[1]) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"1\n"
    assert places_taken(lock) == []


def test_files(hold, me_only, run, tmp_path):
    """Different paths of one file are one lock, whose places are the same."""
    one, same, other = (f"file:{tmp_path / name}" for name in ("one", "same", "other"))
    holder = hold(one)
    (tmp_path / "same").hardlink_to(tmp_path / "one")
    hold(other)
    p = me_only("-w", "inf", "--queue=1", one, "echo", "ran")
    wait_for(lambda: places_taken(one) == [0], "it has its place")
    who, whom = full(run, same, "--queue=1")
    assert who == f"pid {p.pid} ({user()}) waits"
    assert whom.startswith(f"held by pid {holder.job} (")
    assert run("-w", "0.1", "--queue=1", other,
               "true").stderr.startswith(f"me-only: {other}: gave up after".encode())
    assert run("-w", "0.1", "--queue=2", one,
               "true").stderr.startswith(f"me-only: {one}: gave up after".encode())
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"ran\n"
    assert places_taken(one) == []


def test_shared_waiters_of_a_file_take_places(hold, me_only, run, tmp_path):
    path = f"file:{tmp_path / 'file'}"
    holder = hold(path)
    waiters = [me_only("-s", "-w", "inf", "--queue=2", path, "echo", "ran") for _ in range(2)]
    wait_for(lambda: places_taken(path) == [0, 1], "both have their places")
    assert "and one other wait" in full_of(run, path, "-s", "--queue=2")
    assert release(holder) == 0
    assert [p.communicate(timeout=DEADLINE)[0] for p in waiters] == [b"ran\n"] * 2


# ---- the instant of hand-over ----


@pytest.fixture
def log(tmp_path):
    """
    The file with the timestamps of calls and commands; log.read() is a list of words and times.
    """

    class Log:
        path = str(tmp_path / "log")

        def read(self):
            try:
                with open(self.path, encoding="ascii") as f:
                    return [(word, int(at)) for word, at in (line.split() for line in f)]
            except FileNotFoundError:
                return []

        def words(self):
            return [word for word, _ in self.read()]

        def call(self, word, lock, *options, before=()):
            """
            The arguments of a call that writes "call WORD" at its beginning, and whose command
            writes "run WORD" at its start.
            """
            return [STAMP, self.path, f"call-{word}", *before, ME_ONLY, *options, "-w", "inf", lock,
                    STAMP, self.path, f"run-{word}"]

    return Log()


def assert_covered(log, word):
    """A command started after the refused call of this name had begun."""
    stamps = log.read()
    began = dict(stamps)[f"call-{word}"]
    assert any(w.startswith("run-") and at > began for w, at in stamps), stamps


def goes_on(p):
    p.send_signal(signal.SIGCONT)
    return p.wait(DEADLINE)


def traced(call, tmp_path, when=0):
    """
    A prefix that records a program's calls of this name, and makes it stop itself right after the
    Nth.
    """
    stop = ["-e", f"inject={call}:signal=SIGSTOP:when={when}"] if when else []
    return [shutil.which("strace"), "-D", "-q", "-f", "-o", str(tmp_path / "trace"), "-e",
            f"trace={call}", *stop]


def trace_of(pid, tmp_path):
    """The lines recorded for a process so far."""
    path = tmp_path / "trace"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return [line for line in text.splitlines() if line.startswith(f"{pid} ")]


def wait_until_stopped(pid, tmp_path):
    """
    Wait until it has stopped itself. Every recorded call also stops it for a moment: only the trace
    tells these apart.
    """
    wait_for(lambda: any("--- stopped by SIGSTOP ---" in line for line in trace_of(pid, tmp_path)),
             "it is stopped at the call that was chosen")


def calls_of(pid, call, tmp_path):
    """How many the process has made, without the one by which it began, once all are recorded."""
    wait_for(lambda: any("+++ exited" in line for line in trace_of(pid, tmp_path)[-1:]),
             "the trace is at its end")
    return sum(f" {call}(" in line for line in trace_of(pid, tmp_path)) - (call == "execve")


HAND_OVER = {
    # The last socket that listens is the lock: it holds the lock, and still its place.
    "has the lock": ("listen", (), True),
    "has the lock, -o": ("listen", ("-o",), True),
    "has the lock, -F": ("listen", ("-F",), True),
    # Its first step towards its command, once it has left its place.
    "is about to start its command": ("signalfd4", (), False),
    "is about to start its command, -o": ("signalfd4", ("-o",), False),
    "becomes its command, -F": ("execve", ("-F",), False),
}


@pytest.mark.static
@pytest.mark.parametrize("call, options, has_place", HAND_OVER.values(), ids=HAND_OVER.keys())
def test_the_last_call_is_not_lost_when_it_comes_in_the_hand_over(
        hold, start, lock, log, tmp_path, call, options, has_place):
    """
    The waiter is stopped in the middle of it. A caller then runs, or is refused and a run begins
    after it.
    """
    def wait_in_line(word, when=0):
        holder = hold(lock)
        p = start(*log.call(word, lock, "--queue=1", *options, before=traced(call, tmp_path, when)))
        wait_for(lambda: waiters_of(lock), "it waits")
        assert release(holder) == 0
        return p

    rehearsal = wait_in_line("rehearsal")
    assert rehearsal.wait(DEADLINE) == 0
    waiter = wait_in_line("waiter", calls_of(rehearsal.pid, call, tmp_path))
    wait_until_stopped(waiter.pid, tmp_path)
    assert is_listed(address(lock)) and "run-waiter" not in log.words()
    last = start(*log.call("last", lock, "--queue=1"))
    if has_place:
        assert places_taken(lock) == [0]
        assert last.wait(DEADLINE) == 4
        assert goes_on(waiter) == 0
        assert_covered(log, "last")
        assert log.words().count("run-waiter") == 1
    else:
        wait_for(lambda: places_taken(lock) == [0], "it has a place of its own")
        one_more = start(*log.call("one-more", lock, "--queue=1"))
        assert one_more.wait(DEADLINE) == 4
        assert last.poll() is None and "run-waiter" not in log.words()
        assert goes_on(waiter) == 0
        assert last.wait(DEADLINE) == 0
        assert_covered(log, "one-more")
        assert log.words().count("run-last") == 1
    assert nothing_is_left(lock)


@pytest.mark.static
def test_the_process_at_the_gate_has_no_copy_of_the_queue(hold, start, lock, tmp_path):
    """With -o: until it runs its copy is open, and a waiter that joins finds a queue that nobody leads."""
    holder = hold(lock)
    p = start(*traced("listen,close,clone", tmp_path), ME_ONLY, "-q", "-o", "-w", "inf", lock, "true")
    wait_for(lambda: waiters_of(lock), "it waits")
    assert release(holder) == 0 and p.wait(DEADLINE) == 0
    calls_of(p.pid, "clone", tmp_path)
    trace = trace_of(p.pid, tmp_path)
    gate = next(i for i, line in enumerate(trace) if " clone(" in line)
    listening = [re.search(r" listen\((\d+),", line)[1] for line in trace[:gate] if " listen(" in line]
    # The last is the lock, which the keeper is to have.
    assert len(listening) > 1
    for fd in listening[:-1]:
        assert any(f" close({fd})" in line for line in trace[:gate]), trace
    assert not any(f" close({listening[-1]})" in line for line in trace[:gate]), trace


@pytest.mark.parametrize("kind", ["host", "file"])
def test_the_last_call_is_not_lost_when_the_waiter_is_stopped_in_line(
        hold, start, lock, log, tmp_path, kind):
    """The lock is free, and the waiter does not take it yet."""
    if kind == "file":
        lock = f"file:{tmp_path / 'file'}"
    holder = hold(lock)
    waiter = start(*log.call("waiter", lock, "--queue=1"))
    wait_for(lambda: places_taken(lock) == [0], "it has its place")
    wait_for(lambda: process_state(waiter.pid) == "S", "it waits")
    waiter.send_signal(signal.SIGSTOP)
    wait_for(lambda: process_state(waiter.pid) == "T", "it is stopped")
    assert release(holder) == 0
    last = start(*log.call("last", lock, "--queue=1"))
    assert last.wait(DEADLINE) == 4
    assert "run-waiter" not in log.words()
    assert goes_on(waiter) == 0
    assert_covered(log, "last")


@pytest.mark.static
def test_a_call_that_is_about_to_give_up_covers_nobody(hold, queue, start, lock, log, tmp_path):
    """
    It allows fewer waiters than there are, holds the first place while it counts them, and is
    stopped there; meanwhile they run.
    """
    holder = hold(lock)
    both = [queue(3), queue(3)]
    both[0].kill()
    both[0].wait()
    assert places_taken(lock) == [1]
    # It looks into its own place first, then into the next.
    about = start(*log.call("about", lock, "--queue=1", before=traced("connect", tmp_path, 2)))
    wait_until_stopped(about.pid, tmp_path)
    assert release(holder) == 0
    assert read_line(both[1].stdout)
    assert 1 not in places_taken(lock)
    last = start(*log.call("last", lock, "--queue=1"))
    # No process waits, and the running one began before: it has to run, now or when the other has
    # gone.
    wait_for(lambda: last.poll() is not None or process_state(last.pid) == "S",
             "it has given up, or waits")
    about.send_signal(signal.SIGCONT)
    assert about.wait(DEADLINE) == 4
    assert release(both[1]) == 0
    assert last.wait(DEADLINE) == 0, last.stderr.read()
    assert "run-last" in log.words()


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("kind", ["host", "file", "slots"])
def test_a_storm_of_calls_at_any_instant(start, hold, lock, log, tmp_path, kind, places):
    """
    For each refused call there is a command that started after it. The lock is held until one is
    refused, and is released then.
    """
    name = f"file:{tmp_path / 'file'}" if kind == "file" else lock
    slots = ["-j2"] if kind == "slots" else []
    options = ["-q", f"--queue={places}", *slots]
    forms_of = [[], ["-F"], ["-o"]]
    holders = [hold(name, *slots) for _ in range(2 if slots else 1)]
    calls = []
    for n in range(100 if DYNAMIC else 300):
        if n == 30:
            wait_for(lambda: any(p.poll() is not None for p in calls), "one is refused")
            for holder in holders:
                holder.stdin.close()
        calls.append(start(*log.call(str(n), name, *options, *forms_of[n % 3]),
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        moment = time.monotonic() + random.random() * 0.001
        while time.monotonic() < moment:
            pass
    statuses = [p.wait(DEADLINE) for p in calls]
    assert [holder.wait(DEADLINE) for holder in holders] == [0] * len(holders)
    stamps = log.read()
    began = {word.removeprefix("call-"): at for word, at in stamps if word.startswith("call-")}
    ran = {word.removeprefix("run-"): at for word, at in stamps if word.startswith("run-")}
    assert set(statuses) == {0, 4}, "some run, some are refused"
    assert set(ran) == {str(n) for n, s in enumerate(statuses) if s == 0}
    latest = max(ran.values())
    assert [n for n, s in enumerate(statuses) if s == 4 and began[str(n)] > latest] == []


def test_each_round_of_calls_at_the_end_of_a_run_is_covered(hold, start, lock, log):
    """Many times: the run ends, and calls arrive in that instant, the last of them last of all."""
    for n in range(20 if DYNAMIC else 60):
        holder = hold(lock)
        waiter = start(*log.call(f"waiter-{n}", lock, "-q", "--queue=1"))
        wait_for(lambda: waiters_of(lock), "it waits")
        holder.stdin.close()
        moment = time.monotonic() + random.random() * 0.003
        while time.monotonic() < moment:
            pass
        last = start(*log.call(f"last-{n}", lock, "-q", "--queue=1"))
        assert holder.wait(DEADLINE) == 0 and waiter.wait(DEADLINE) == 0
        if last.wait(DEADLINE) == 4:
            assert_covered(log, f"last-{n}")
        else:
            assert f"run-last-{n}" in log.words()


# ---- with other options ----


def test_replace_ends_nobody_when_the_queue_is_full(hold, queue, run, lock):
    holder = hold(lock)
    queue(1)
    r = run("--replace", "--queue=1", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"")
    assert FULL in r.stderr
    assert holder.poll() is None and process_state(holder.job) in ("S", "R")


def test_replace_with_a_place_that_is_free(hold, run, lock):
    holder = hold(lock)
    assert run("--replace", "--queue=1", lock, "echo", "ran").stdout == b"ran\n"
    assert holder.wait(DEADLINE) == -signal.SIGTERM
    assert nothing_is_left(lock)


@forms
@pytest.mark.parametrize("ask", [("-w", "inf"), ("-w", "1m", "-F"), ("--replace",)], ids=" ".join)
def test_a_job_that_holds_the_lock_is_told_so(run, lock, form, ask):
    r = run(*form, lock, ME_ONLY, *ask, "--queue=1", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"")
    assert re.fullmatch(rf"me-only: {lock}: this job already holds it: [^\n]*\n", r.stderr.decode())
    assert nothing_is_left(lock)


def test_verbose_is_as_without(hold, queue, run, lock):
    """One line, whatever is asked for, with its time."""
    hold(lock)
    waiter = queue(1)
    said = run("-v", "-w", "inf", "--queue=1", lock, "true").stderr.decode()
    assert re.fullmatch(rf"me-only: [-:TZ\d]+ {lock}: the queue is full, pid {waiter.pid} \([^\n]*\n", said)


ALL_PLACES = """
import os, resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, 2048))
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
taken = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(1024)]
for n, s in enumerate(taken):
    s.bind(b"\\0me-only:%s\\0place\\0%d" % (os.fsencode(sys.argv[1]), n))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.root
def test_a_stranger_who_takes_all_places_keeps_nobody_from_running(hold, me_only, start, lock):
    stranger = start(sys.executable, "-c", ALL_PLACES, lock, stdin=subprocess.PIPE)
    assert read_line(stranger.stdout) == b"ready\n"
    holder = hold(lock)
    p = me_only("-q", "-w", "inf", "--queue=1", lock, "echo", "ran")
    wait_for(lambda: is_listed(queue_of(lock)), "it waits")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE) == (b"ran\n", b"") and p.returncode == 0
