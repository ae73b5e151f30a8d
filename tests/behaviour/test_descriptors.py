"""
The lock never takes the number of a descriptor that is the command's own, and nothing is written to
a wrong descriptor (rule 4).
"""
import contextlib
import itertools
import os
import re
import subprocess
import sys

import pytest

from conftest import DEADLINE, ME_ONLY, address, forms, is_listed, program, queue_of, \
    release, wait_for

# Which of the standard descriptors the caller has closed: all 8 combinations.
CLOSED = [c for n in range(4) for c in itertools.combinations((0, 1, 2), n)]
closed_ones = pytest.mark.parametrize("closed", CLOSED,
                                      ids=lambda c: "closed:" + "".join(map(str, c)))

FIRST_OF_OURS = 10  # scripts use 3 to 9


def closing(closed):
    return [program("caller"), *(word for fd in closed for word in ("-c", str(fd)))]


@pytest.fixture
def files(tmp_path):
    """
    Three files, readable and writable, as standard descriptors: arguments for call() and start().
    """
    streams = {}
    for name in ("stdin", "stdout", "stderr"):
        (tmp_path / name).write_bytes(b"")
        streams[name] = open(tmp_path / name, "r+b")
    yield streams
    for stream in streams.values():
        stream.close()


def descriptors(report):
    """{number: rest of the line} of a report of the program "state"."""
    with open(report) as f:
        found = re.findall(r"^descriptor (\d+): (.*)$", f.read(), re.MULTILINE)
    return {int(fd): what for fd, what in found}


def assert_as_without_us(found, usual, form):
    """
    The command has the same descriptors as without me-only, and the lock, at a number that scripts
    do not use.
    """
    ours = {fd: what for fd, what in found.items() if fd not in usual}
    assert {fd: what for fd, what in found.items() if fd in usual} == usual
    if form == ("-o",):
        assert ours == {}
    else:
        assert len(ours) == 1
        ((fd, what),) = ours.items()
        assert fd >= FIRST_OF_OURS
        assert what.startswith("socket:[")


@forms
@closed_ones
def test_closed_standard_descriptors_stay_closed(call, lock, tmp_path, files, closed, form):
    usual, found = tmp_path / "usual", tmp_path / "found"
    assert call(*closing(closed), program("state"), usual, **files).returncode == 0
    assert call(*closing(closed), ME_ONLY, *form, lock, program("state"), found,
                **files).returncode == 0
    assert set(descriptors(usual)) == {0, 1, 2} - set(closed)
    assert_as_without_us(descriptors(found), descriptors(usual), form)


@forms
@closed_ones
def test_closed_standard_descriptors_stay_closed_after_waiting(
        start, hold, lock, tmp_path, files, closed, form):
    """
    Waiting opens more descriptors than taking a free lock. With -q a long wait writes no line on
    them.
    """
    usual, found = tmp_path / "usual", tmp_path / "found"
    holder = hold(lock)
    start(*closing(closed), program("state"), usual, **files).wait(DEADLINE)
    waiter = start(*closing(closed), ME_ONLY, *form, "-q", "-w", "inf", lock, program("state"),
                   found, **files)
    wait_for(lambda: is_listed(queue_of(lock)), "it waits")
    assert release(holder) == 0
    assert waiter.wait(DEADLINE) == 0
    assert_as_without_us(descriptors(found), descriptors(usual), form)


@forms
def test_all_other_descriptors_reach_the_command(call, lock, tmp_path, form):
    """
    More than me-only could ever step over: every number up to 200 is taken, each by its own file.
    """
    usual, found = tmp_path / "usual", tmp_path / "found"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    script = "".join(f"exec {{fd}}<>{tmp_path}/{n}\n" for n in range(190)) + 'exec "$@"'
    for report, argv in ((usual, [program("state"), usual]),
                         (found, [ME_ONLY, *form, lock, program("state"), found])):
        assert call("bash", "-c", script, "bash", *argv, **quiet).returncode == 0
    # bash allocates no number below 10 for {fd}: 3 to 9 are free here, and the lock must not take
    # them.
    assert len(descriptors(usual)) == 193
    assert_as_without_us(descriptors(found), descriptors(usual), form)


@forms
def test_descriptors_3_to_9_are_left_free(call, lock, tmp_path, form):
    found = tmp_path / "found"
    assert call(ME_ONLY, *form, lock, program("state"), found).returncode == 0
    assert [fd for fd in descriptors(found) if 2 < fd < FIRST_OF_OURS] == []


def test_the_one_more_is_the_lock(hold, lock):
    holder = hold(lock)
    with open("/proc/net/unix", "rb") as f:
        shown = address(lock).replace(b"\0", b"@")
        inodes = {int(line.split()[6]) for line in f if line.endswith(b" " + shown + b"\n")}
    links = set()
    for fd in os.listdir(f"/proc/{holder.job}/fd"):
        with contextlib.suppress(FileNotFoundError):    # its shell closes one
            links.add(os.readlink(f"/proc/{holder.job}/fd/{fd}"))
    assert {link for link in links if link.startswith("socket:")} <= {
        f"socket:[{n}]" for n in inodes}
    assert any(link.startswith("socket:") for link in links)


# --- messages go to standard error or nowhere ---

# Holds the given name, unlike any me-only: shows what is written to the connections of callers that
# ask.
STRANGER = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind(b"\\0me-only:" + os.fsencode(sys.argv[1]))
listener.listen(100)
print(flush=True)
sys.stdin.read()
listener.setblocking(False)
try:
    while True:
        connection, _ = listener.accept()
        connection.setblocking(True)
        while data := connection.recv(65536):
            sys.stdout.buffer.write(data)
except BlockingIOError:
    pass
"""


@pytest.fixture
def stranger(start, lock):
    p = start(sys.executable, "-c", STRANGER, lock, stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"\n"
    return p


OCCASIONS = {
    "held": (4, lambda lock: [lock, "true"], b": held by pid "),
    "gave up": (4, lambda lock: ["-v", "-w", "0.05", lock, "true"], b": gave up after 50ms"),
    "not found": (1, lambda lock: [lock + "/free", "/nowhere/at/all"],
                  b"/nowhere/at/all: not found\n"),
    "not found -F": (1, lambda lock: ["-F", lock + "/free", "/nowhere/at/all"],
                     b"/nowhere/at/all: not found\n"),
    "not found -o": (1, lambda lock: ["-o", lock + "/free", "/nowhere/at/all"],
                     b"/nowhere/at/all: not found\n"),
    "usage": (2, lambda lock: ["-F", "-o", lock, "true"], b"--help'\n"),
    "verbose": (0, lambda lock: ["-v", lock + "/free", "true"], b"me-only: "),
    "verbose -F": (0, lambda lock: ["-v", "-F", lock + "/free", "true"], b"me-only: "),
    "verbose -o": (0, lambda lock: ["-v", "-o", lock + "/free", "true"], b"me-only: "),
}


@closed_ones
@pytest.mark.parametrize("occasion", OCCASIONS)
def test_messages_go_to_standard_error_or_nowhere(call, stranger, lock, tmp_path, files,
                                                  closed, occasion):
    status, argv, text = OCCASIONS[occasion]
    r = call(*closing(closed), ME_ONLY, *argv(lock), **files)
    assert r.returncode == status
    assert stranger.communicate(timeout=DEADLINE) == (b"", b"")
    assert (tmp_path / "stdin").read_bytes() == (tmp_path / "stdout").read_bytes() == b""
    written = (tmp_path / "stderr").read_bytes()
    if 2 in closed:
        assert written == b""
    else:
        assert written.startswith(b"me-only: ") and text in written


@closed_ones
def test_help_and_version_without_standard_descriptors(call, lock, files, tmp_path, closed):
    for option in ("--help", "--version"):
        call(*closing(closed), ME_ONLY, option, **files)
    assert (tmp_path / "stdin").read_bytes() == b""
    assert (b"me-only" in (tmp_path / "stdout").read_bytes()) == (1 not in closed)


def test_a_standard_error_that_nobody_reads(start, hold, lock):
    """The message is lost, the status is not: SIGPIPE does not end me-only instead."""
    hold(lock)
    reading, writing = os.pipe()
    os.close(reading)
    p = start(ME_ONLY, lock, "true", stderr=writing)
    os.close(writing)
    assert p.wait(DEADLINE) == 4


def test_a_standard_error_that_is_full(run, hold, lock):
    hold(lock)
    with open("/dev/full", "wb") as full:
        assert run(lock, "true", stderr=full).returncode == 4
