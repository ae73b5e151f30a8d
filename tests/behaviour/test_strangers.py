"""What others can do with lock names: take them, and nothing else.

Every test of a stranger's action runs with a stranger of the same user, and as root also with one
of another user.
"""
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import pytest

from conftest import (DEADLINE, ME_ONLY, PROGRAMS, address, is_bound, process_state, processor_time,
                      queue_of, read_line, release, wait_for, waiters_of)

with open(os.path.join(os.path.dirname(__file__), "stranger.py"), encoding="utf-8") as source:
    STRANGER = source.read()

DYNAMIC = bool(os.environ.get("ME_ONLY_DYNAMIC"))
SOON = 3  # seconds for what takes up to one by the manual; tests share the machine
LATER = 30  # for a waiter in a line that a process of the same user holds up
# seconds that one more waiter waits, in which all others could do what they should not
AROUND = "0.4"
HOLDING = ["unheard", "deaf", "full", "mute", "early", "shut", "garbage", "words", "one descriptor",
           "many descriptors",
           "itself"]
QUEUEING = HOLDING + ["wrong descriptors"]
USERS = [None, pytest.param("daemon", marks=pytest.mark.root)]
users = pytest.mark.parametrize("user", USERS, ids=lambda u: u or "same user")


def by(user):
    """Arguments to start a process as another user, in a directory that everybody may enter."""
    return {"user": user, "group": user, "extra_groups": [], "cwd": "/"} if user else {}


@pytest.fixture
def stranger(start):
    """
    stranger(ADDRESS, WAY, user=, data=, prefix=) starts one, and returns when it is ready, with its
    first line in .first.
    """

    def stranger_(addr, way, user=None, data=b"", prefix=()):
        p = start(*prefix, sys.executable, "-ISc", STRANGER, addr.hex(), way, data.hex(),
                  stdin=subprocess.PIPE, **by(user))
        p.first = read_line(p.stdout).decode()
        assert p.first.startswith("ready"), p.stderr.read()
        return p

    return stranger_


@pytest.fixture(scope="session")
def for_everybody():
    """
    A directory with copies of the programs that every user may run, and in which everybody may
    write.
    """
    path = tempfile.mkdtemp()
    os.chmod(path, 0o777)
    for program in (ME_ONLY, os.path.join(PROGRAMS, "witness")):
        shutil.copy(program, path)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def me_only_by(start, for_everybody):
    """me_only_by(USER, ARGUMENT...) starts the program as another user."""
    return lambda user, *argv, prefix=(), **kw: start(*prefix,
                                                      os.path.join(for_everybody,
                                                                   os.path.basename(ME_ONLY)),
                                                      *argv,
                                                      **by(user), **kw)


def one_plain_line(stderr):
    """The text, which must be one line without anything that a terminal would interpret."""
    text = stderr.decode()
    assert text.endswith("\n") and text.isascii() and text[:-1].isprintable(), repr(text)
    return text[:-1]


def descriptors_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def elapsed_until_done(p, status=0):
    began = time.monotonic()
    out = p.communicate(timeout=DEADLINE)[0]
    assert p.returncode == status
    return time.monotonic() - began, out


# The job reports its descriptors: it must have none of a stranger's.
JOB = ("ls", "/proc/self/fd")


@pytest.fixture
def undisturbed(run, lock):
    """The output of JOB without a disturbance."""
    return run(lock + "/undisturbed", *JOB).stdout


def end(s):
    """End a stranger, and return the rest of its output."""
    s.stdin.close()
    said = s.stdout.read()
    s.wait(DEADLINE)
    return said


# ---- the name of the lock ----


@users
@pytest.mark.parametrize("way", HOLDING)
def test_a_try_on_a_name_of_a_stranger_is_refused_at_once(stranger, run, lock, user, way):
    s = stranger(address(lock), way, user)
    began = time.monotonic()
    p = run(lock, "echo", "ran")
    assert time.monotonic() - began < SOON
    assert (p.returncode, p.stdout) == (4, b"")
    line = one_plain_line(p.stderr)
    assert line.startswith(f"me-only: {lock}: held")
    if "hidden" not in line:
        assert f"held by pid {s.pid} (" in line
        assert ("(daemon, neither this user nor root)" in line) == (user is not None)


@users
@pytest.mark.parametrize("way", HOLDING)
def test_a_waiter_waits_for_a_stranger_and_goes_on_when_it_has_gone(
        stranger, me_only, lock, undisturbed, user, way):
    s = stranger(address(lock), way, user)
    p = me_only("-w", "inf", lock, *JOB)
    wait_for(lambda: waiters_of(lock), "it waits")
    if way not in ("unheard", "deaf", "full"):
        assert read_line(s.stdout) == b"accepted\n"
    assert me_only("-w", AROUND, lock, *JOB).wait(DEADLINE) == 4
    assert p.poll() is None
    assert descriptors_of(p.pid) < 16
    assert processor_time(p.pid) < (1 if DYNAMIC else 0.05)
    end(s)
    seconds, out = elapsed_until_done(p)
    assert out == undisturbed
    assert seconds < SOON


@users
@pytest.mark.parametrize("way", ["mute", "garbage", "shut"])
def test_a_connection_kept_after_the_name_was_closed_holds_nobody_up(
        stranger, me_only, lock, undisturbed, user, way):
    s = stranger(address(lock), way, user)
    waiters = []
    for n in range(3):
        waiters.append(me_only("-w", "inf", lock, *JOB))
        wait_for(lambda: waiters_of(lock) > n, "it waits")
    assert read_line(s.stdout) == b"accepted\n"
    s.stdin.write(b"\n")
    s.stdin.flush()
    wait_for(lambda: read_line(s.stdout) == b"closed\n", "the name is closed")
    for p in waiters:
        seconds, out = elapsed_until_done(p)
        assert out == undisturbed
        assert seconds < SOON
    assert s.poll() is None


@pytest.mark.root
@pytest.mark.parametrize("options", [(), ("-q",), ("-w", "0.2"), ("-q", "-w", "0.2")], ids=" ".join)
@pytest.mark.parametrize("theirs", [(), ("-F",), ("-o",)], ids=lambda o: " ".join(o) or "default")
def test_a_holder_of_another_user_is_always_named(me_only_by, run, lock, options, theirs):
    holder = me_only_by("daemon", *theirs, lock, "sh", "-c", "echo $$; exec sleep 1000")
    job = int(read_line(holder.stdout))
    p = run(*options, lock, "true")
    assert p.returncode == 4
    assert f"held by pid {job} (daemon, neither this user nor root) for " in one_plain_line(
        p.stderr)


@pytest.mark.root
def test_between_two_users_the_name_of_the_program_alone_is_shown(me_only_by, lock):
    holder = me_only_by("daemon", lock, "sh", "-c", "echo $$; exec sleep 1234")
    job = int(read_line(holder.stdout))
    wait_for(lambda: b"sleep" in open(f"/proc/{job}/comm", "rb").read(),
             "the shell has become sleep")
    p = me_only_by("bin", lock, "true")
    err = p.communicate(timeout=DEADLINE)[1]
    assert p.returncode == 4
    line = one_plain_line(err)
    assert f"held by pid {job} (daemon, neither this user nor root) for " in line
    assert line.endswith(": sleep")


@pytest.mark.root
def test_a_lock_of_root_is_no_strangers(hold, me_only_by, lock):
    holder = hold(lock)
    p = me_only_by("bin", lock, "true")
    assert f"held by pid {holder.job} (root) for " in one_plain_line(
        p.communicate(timeout=DEADLINE)[1])
    assert p.returncode == 4
    p = me_only_by("bin", "-q", lock, "true")
    assert p.communicate(timeout=DEADLINE) == (b"", b"")
    assert p.returncode == 4


UGLY = "\x1b[2J\x1b]0;owned\x07\nme-only: fake\r\u202e\x85"


@users
def test_a_name_of_a_process_is_shown_so_that_no_terminal_obeys_it(start, run, lock, user):
    program = ("import ctypes, socket, sys\n"
               "ctypes.CDLL(None).prctl(15, sys.argv[2].encode())\n"
               "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
               "s.bind(bytes.fromhex(sys.argv[1]))\n"
               "s.listen()\n"
               "print('ready', flush=True)\n"
               "sys.stdin.read()\n")
    p = start(sys.executable, "-ISc", program, address(lock).hex(), UGLY, stdin=subprocess.PIPE,
              **by(user))
    assert read_line(p.stdout) == b"ready\n"
    line = one_plain_line(run(lock, "true").stderr)
    assert "\\x1b[2J" in line


def greeting_of(lock):
    """The bytes with which a genuine holder greets every connection."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(DEADLINE)
        s.connect(address(lock))
        return s.recv(65536)


@users
def test_a_greeting_that_lies_is_not_believed_against_the_kernel(hold, stranger, run, lock, user):
    """Its time and PID are a stranger's claim: nobody must be led to kill the wrong process."""
    victim = hold(lock)
    greeting = greeting_of(lock)
    theirs = lock[:-1] + ("0" if lock[-1] != "0" else "1")
    forged = greeting.replace(lock.encode(), theirs.encode())
    assert forged != greeting
    for data in (greeting, forged):
        s = stranger(address(theirs), "replay", user, data)
        p = run(theirs, "true")
        assert p.returncode == 4
        line = one_plain_line(p.stderr)
        if user:
            assert "(daemon, neither this user nor root)" in line
        assert f"pid {victim.job} " not in line
        end(s)


@users
def test_a_damaged_greeting_does_no_harm(hold, stranger, run, lock, user):
    hold(lock)
    greeting = greeting_of(lock)
    theirs = lock[:-1] + ("0" if lock[-1] != "0" else "1")
    greeting = greeting.replace(lock.encode(), theirs.encode())
    damaged = [greeting[:n] for n in range(0, len(greeting), 5)]
    damaged += [greeting[:n] + b"\xff" * 8 + greeting[n + 8:] for n in range(0, len(greeting), 8)]
    damaged += [greeting * 2, greeting + b"\x1b[2J" * 1000, b"\x1b[31m\n" * 20]
    for data in damaged:
        s = stranger(address(theirs), "replay", user, data)
        p = run(theirs, "true")
        assert p.returncode == 4
        assert one_plain_line(p.stderr).startswith(f"me-only: {theirs}: held")
        end(s)


# ---- the name of the queue ----


@users
@pytest.mark.parametrize("way", QUEUEING)
def test_a_queue_that_a_stranger_made_up(stranger, hold, me_only, lock, undisturbed, user, way):
    """No job runs while the lock is held, none is lost or spins, and no descriptor is kept."""
    holder = hold(lock)
    s = stranger(queue_of(lock), way, user)
    p = me_only("-w", "inf", lock, *JOB)
    if way not in ("unheard", "deaf", "full"):
        assert read_line(s.stdout) == b"accepted\n"
    assert me_only("-w", AROUND, lock, "true").wait(DEADLINE) == 4
    assert p.poll() is None
    assert descriptors_of(p.pid) < 16
    assert processor_time(p.pid) < (1 if DYNAMIC else 0.05)
    release(holder)
    seconds, out = elapsed_until_done(p)
    assert out == undisturbed
    assert seconds < (SOON if user else LATER)
    assert s.poll() is None


@users
def test_nobody_is_lost_in_a_queue_that_a_stranger_made_up(stranger, hold, me_only, lock, user):
    holder = hold(lock)
    stranger(queue_of(lock), "words", user)
    waiters = [me_only("-w", "inf", lock, "echo", "mine") for _ in range(2)]
    release(holder)
    began = time.monotonic()
    assert [p.communicate(timeout=DEADLINE)[0] for p in waiters] == [b"mine\n"] * 2
    assert time.monotonic() - began < (SOON if user else LATER)


@users
def test_the_queue_is_used_again_when_the_stranger_has_left_it(stranger, hold, me_only, lock, user):
    holder = hold(lock)
    s = stranger(queue_of(lock), "mute", user)
    early = me_only("-w", "inf", lock, "true")
    assert read_line(s.stdout) == b"accepted\n"
    end(s)
    late = [me_only("-w", "inf", lock, "true") for _ in range(3)]
    wait_for(lambda: waiters_of(lock) >= 3, "they wait in line")
    release(holder)
    assert [p.wait(DEADLINE) for p in [early] + late] == [0] * 4


@users
@pytest.mark.parametrize("count, way", [(200, "words")] + [(1, way) for way in (
    "mute", "early", "shut", "garbage", "words", "thief", "one descriptor", "many descriptors",
    "itself")])
def test_a_stranger_in_our_line_holds_nobody_up(stranger, hold, me_only, lock, undisturbed, user,
                                                count, way):
    """
    It stands between the front and later waiters, and is never given the queue if it is another
    user's.
    """
    holder = hold(lock)
    waiters = [me_only("-w", "inf", lock, *JOB)]
    wait_for(lambda: waiters_of(lock) == 1, "the front waits")
    s = stranger(queue_of(lock), f"connect {count} {way}", user)
    for n in range(2):
        before = waiters_of(lock)
        waiters.append(me_only("-w", "inf", lock, *JOB))
        if user is None:
            wait_for(lambda: waiters_of(lock) > before or process_state(waiters[-1].pid) == "S",
                     "it waits")
    assert me_only("-w", AROUND, lock, "true").wait(DEADLINE) == 4
    for p in waiters:
        assert p.poll() is None
        assert descriptors_of(p.pid) < 16
    release(holder)
    began = time.monotonic()
    assert [p.communicate(timeout=DEADLINE)[0] for p in waiters] == [undisturbed] * 3
    assert time.monotonic() - began < (SOON if user else LATER)
    assert [p.returncode for p in waiters] == [0] * 3
    said = end(s)
    if user:
        assert b"got" not in said


@users
def test_a_queue_that_is_full_of_strangers_holds_nobody_up(stranger, hold, me_only, lock, user):
    holder = hold(lock)
    waiters = [me_only("-w", "inf", lock, "true")]
    wait_for(lambda: waiters_of(lock) == 1, "the front waits")
    # or it would empty the queue as fast as the strangers fill it
    os.kill(waiters[0].pid, signal.SIGSTOP)
    wait_for(lambda: process_state(waiters[0].pid) == "T", "the front is stopped")
    with open("/proc/sys/net/core/somaxconn") as f:
        room = int(f.read())
    each = min(900, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 20)
    crowd = [stranger(queue_of(lock), f"connect {each} mute", user)
             for _ in range(room // each + 2)]
    assert crowd[-1].first == "ready 0\n"
    waiters.append(me_only("-w", "inf", lock, "true"))
    assert me_only("-w", AROUND, lock, "true").wait(DEADLINE) == 4
    release(holder)
    assert waiters[1].wait(DEADLINE) == 0
    os.kill(waiters[0].pid, signal.SIGCONT)
    assert waiters[0].wait(DEADLINE) == 0


# ---- a flood ----


@users
@pytest.mark.parametrize("options", [(), ("-F",), ("-o",)], ids=lambda o: " ".join(o) or "default")
def test_a_flood_of_connections_costs_the_holder_nothing(stranger, hold, me_only, run, lock,
                                                         user, options):
    holder = hold(lock, *options)
    start = processor_time(holder.pid)
    each = min(1000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 20)
    crowd = [stranger(address(lock), f"connect {each} flood", user) for _ in range(2000 // each)]
    assert sum(int(s.first.split()[1]) for s in crowd) >= 1000
    waiter = me_only("-w", "inf", lock, "true")
    wait_for(lambda: waiters_of(lock) == 1, "it waits")
    wait_for(lambda: process_state(holder.pid) == "S", "the holder has taken in what it can")
    before = processor_time(holder.pid)
    assert me_only("-w", "2", lock, "true").wait(DEADLINE) == 4  # the time that is measured
    after = processor_time(holder.pid)
    slow = 10 if DYNAMIC else 1
    assert after - before < 0.01 * slow
    assert after - start < 0.2 * slow
    p = run(lock, "true")
    assert p.returncode == 4
    assert f"held by pid {holder.job} (" in one_plain_line(p.stderr)
    assert release(holder) == 0
    seconds, _ = elapsed_until_done(waiter)
    assert seconds < SOON
    assert not is_bound(address(lock))


def test_ten_thousand_refused_tries_leave_nothing_in_the_holder(stranger, hold, lock):
    """A caller that asked and left is forgotten: no descriptor stays."""
    holder = hold(lock)
    for _ in range(5):
        s = stranger(address(lock), "connect 2000 early")
        end(s)
    wait_for(lambda: descriptors_of(holder.pid) < 16, "the holder has closed them")
    assert release(holder) == 0


# ---- several users, and users that the kernel cannot name ----


@pytest.mark.root
def test_two_users_wait_and_both_get_it(hold, me_only_by, lock, for_everybody, tmp_path):
    holder = hold(lock)
    witness, scratch = os.path.join(for_everybody, "witness"), \
        os.path.join(for_everybody, "scratch")
    with open(scratch, "w", encoding="ascii"):
        os.chmod(scratch, 0o666)
    waiters = [me_only_by(user, "-w", "inf", lock, witness, scratch, "1")
               for user in ("daemon", "bin", None) * 10]
    wait_for(lambda: waiters_of(lock) == 10, "ours wait")
    release(holder)
    assert [p.wait(DEADLINE) for p in waiters] == [0] * 30
    assert os.path.getsize(scratch) == 0


UNMAPPED = ("unshare", "--user")


@pytest.mark.root
def test_in_unmapped_user_namespaces_two_users_wait_and_both_get_it(hold, me_only_by, lock):
    """To both, and to everyone they see, the kernel gives the same user number."""
    holder = hold(lock)
    waiters = [me_only_by(user, "-w", "inf", lock, "echo", "mine", prefix=UNMAPPED)
               for user in ("daemon", "bin", None) * 3]
    for p in waiters:
        wait_for(lambda: process_state(p.pid) == "S", "it waits")
    release(holder)
    began = time.monotonic()
    assert [p.communicate(timeout=DEADLINE)[0] for p in waiters] == [b"mine\n"] * 9
    assert time.monotonic() - began < LATER


@pytest.mark.root
@pytest.mark.parametrize("way", ["mute", "words", "itself", "wrong descriptors",
                                 "many descriptors"])
def test_in_an_unmapped_user_namespace_a_queue_of_the_overflow_user_is_a_strangers(
        hold, stranger, me_only_by, lock, way):
    holder = hold(lock)
    s = stranger(address(lock, b"\0queue\x0065534"), way, "bin", prefix=UNMAPPED)
    p = me_only_by("daemon", "-w", "inf", lock, "echo", "mine", prefix=UNMAPPED)
    assert read_line(s.stdout) == b"accepted\n"
    assert me_only_by("daemon", "-w", AROUND, lock, "true", prefix=UNMAPPED).wait(DEADLINE) == 4
    assert p.poll() is None
    release(holder)
    seconds, out = elapsed_until_done(p)
    assert out == b"mine\n"
    assert seconds < SOON
    assert b"got" not in end(s)


@pytest.mark.root
def test_in_an_unmapped_user_namespace_a_stranger_is_not_in_our_line(
        hold, stranger, me_only_by, lock):
    holder = hold(lock)
    waiters = [me_only_by("daemon", "-w", "inf", lock, "echo", "mine", prefix=UNMAPPED)]
    wait_for(lambda: process_state(waiters[0].pid) == "S", "it waits")
    s = stranger(address(lock, b"\0queue\x0065534"), "connect 5 words", "bin", prefix=UNMAPPED)
    waiters.append(me_only_by("daemon", "-w", "inf", lock, "echo", "mine", prefix=UNMAPPED))
    assert me_only_by("daemon", "-w", AROUND, lock, "true", prefix=UNMAPPED).wait(DEADLINE) == 4
    release(holder)
    assert [p.communicate(timeout=DEADLINE)[0] for p in waiters] == [b"mine\n"] * 2
    assert b"got" not in end(s)


@pytest.mark.root
@pytest.mark.parametrize("options", [(), ("-q",)], ids=lambda o: " ".join(o) or "default")
def test_in_an_unmapped_user_namespace_the_overflow_user_is_a_stranger(me_only_by, lock, options):
    holder = me_only_by("bin", lock, "sh", "-c", "echo up; exec sleep 1000")
    assert read_line(holder.stdout) == b"up\n"
    p = me_only_by("daemon", *options, lock, "true", prefix=UNMAPPED)
    err = p.communicate(timeout=DEADLINE)[1]
    assert p.returncode == 4
    assert re.search(r"held by pid \d+ \([^)]*where all users look the same\)|hidden",
                     one_plain_line(err))
