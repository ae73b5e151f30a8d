"""
docs/protocol.md is true: programs in three languages that follow it exclude me-only, are excluded
by it, and are seen by it, without any code of ours.
"""
import os
import re
import shutil
import signal
import socket
import struct
import subprocess

import pytest

from conftest import (DEADLINE, ME_ONLY, ROOT, address, is_bound, is_listed, queue_of,
                      read_line, wait_for)

EXAMPLES = os.path.join(ROOT, "examples")
LANGUAGES = ["c", "py", "pl"]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    program = str(tmp_path_factory.mktemp("hold-lock") / "hold-lock")
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-o", program,
                    os.path.join(EXAMPLES, "hold-lock.c")], check=True, timeout=DEADLINE)
    return program


@pytest.fixture(params=LANGUAGES)
def example(request):
    """The command line of the example in one language."""
    path = os.path.join(EXAMPLES, f"hold-lock.{request.param}")
    # Not by their first lines: the tests' own interpreter may be another one.
    return {"c": lambda: [request.getfixturevalue("compiled")],
            "py": lambda: ["/usr/bin/python3", path],
            "pl": lambda: ["perl", path]}[request.param]()


@pytest.fixture
def holds(start):
    """holds(WORDS): starts a program that holds a lock until its standard input ends."""
    def holds_(*words):
        p = start(*words, stdin=subprocess.PIPE)
        assert read_line(p.stdout) == b"alone\n"
        return p
    return holds_


def let_go(p):
    p.stdin.close()
    assert p.wait(DEADLINE) == 0


@pytest.mark.parametrize("language", LANGUAGES)
def test_examples_are_short(language):
    with open(os.path.join(EXAMPLES, f"hold-lock.{language}"), encoding="utf-8") as f:
        lines = f.read().splitlines()
    assert len(lines) <= 15 and all(len(line.expandtabs(8)) <= 100 for line in lines)
    assert "\n".join(["", *lines, "```", ""]) in protocol(), "word for word"


def test_excludes_me_only_and_is_named(example, holds, run, lock):
    p = holds(*example, lock)
    refused = run(lock, "true")
    assert refused.returncode == 4 and b": held by pid %d (" % p.pid in refused.stderr
    who = run("--who", lock)
    assert who.returncode == 4 and re.search(rb"^job +(\d+)", who.stdout, re.M)[1] == b"%d" % p.pid
    listed = [line.split() for line in run("--list").stdout.decode().splitlines()]
    assert [lock, "held", str(p.pid)] in [row[:3] for row in listed]
    let_go(p)
    assert run(lock, "true").returncode == 0, "free with its end"


def test_is_excluded_by_me_only(example, hold, call, lock):
    hold(lock)
    assert call(*example, lock).returncode == 4
    assert call(*example, lock + "/free").returncode == 0


def test_excludes_its_like(example, holds, call, lock):
    holds(*example, lock)
    assert call(*example, lock).returncode == 4


def test_a_waiter_starts_when_it_ends(example, holds, start, lock):
    p = holds(*example, lock)
    waiter = start(ME_ONLY, "-w", "inf", lock, "echo", "my turn")
    wait_for(lambda: is_listed(queue_of(lock)), "it waits")
    let_go(p)
    out, err = waiter.communicate(timeout=DEADLINE)
    assert (waiter.returncode, out) == (0, b"my turn\n")


def test_killed_it_leaves_nothing(example, holds, run, lock):
    p = holds(*example, lock)
    p.kill()
    p.wait(DEADLINE)
    wait_for(lambda: not is_bound(address(lock)), "the kernel has freed it")
    assert run(lock, "true").returncode == 0


@pytest.mark.parametrize("length, plain", [(77, True), (78, False), (300, False)])
def test_long_names(example, holds, hold, run, call, lock, length, plain):
    name = lock.ljust(length, "x")
    if example[0].endswith("/hold-lock") and not plain:
        assert call(*example, name).returncode == 3, "refused, never cut"
        assert not is_bound(address(name[:77]))
        return
    p = holds(*example, name)
    assert run(name, "true").returncode == 4 and run(name[:-1], "true").returncode == 0
    let_go(p)
    hold(name)
    assert call(*example, name).returncode == 4


def protocol():
    with open(os.path.join(ROOT, "docs", "protocol.md"), encoding="utf-8") as f:
        return f.read()


@pytest.mark.root
def test_addresses_in_the_page(start):
    """The page's own table: what a lock looks like in /proc/net/unix."""
    rows = re.findall(r"^\| (`.*?) \| (`@.*) \|$", protocol(), re.M)
    assert len(rows) == 3

    def text(cell):
        """`N`, 77 times; 77 times `N`; `a` and `b`; `a`, `b`."""
        cell = re.sub(r"`(\w)`, (\d+) times|(\d+) times `(\w)`",
                      lambda m: "`" + (m[1] or m[4]) * int(m[2] or m[3]) + "`", cell)
        return "".join(re.findall(r"`(.*?)`", cell))

    for name, shown in rows:
        out, _ = start("unshare", "--net", ME_ONLY, text(name), "cat",
                       "/proc/net/unix").communicate(timeout=DEADLINE)
        assert f" {text(shown)}\n".encode() in out


@pytest.mark.parametrize("options, slots", [((), 1), (("-j3",), 3)])
def test_the_greeting(hold, lock, options, slots):
    """Its bytes are those in the page's table."""
    rows = re.findall(r"^\| (?:(\d+) to (\d+)|from (\d+)) \| (.*?) \|", protocol(), re.M)
    sizes = {"characters": "8s", "signed 64 bit": "q", "unsigned 32 bit": "I"}
    form = "=" + "".join(sizes[kind] for first, _, _, kind in rows if first)
    assert [int(rows[-1][2])] == [struct.calcsize(form)] == [int(rows[-2][1]) + 1]
    job = hold(lock, *options).job
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(DEADLINE)
        s.connect(address(lock))
        said = s.recv(65536)
    magic, held, pid, count, length, zero = struct.unpack_from(form, said)
    assert (magic, pid, count, length, zero) == (b"me-only2", job, slots, len(lock), 0)
    assert held >= 0
    assert said[struct.calcsize(form):] == lock.encode()


@pytest.mark.static  # strace sees no loader there
def test_a_greeting_of_another_program(start, lock, tmp_path):
    """
    It is believed of the same user: since when, which the kernel does not know. The caller is
    stopped until it has been greeted, as its ancestor and then as the holder.
    """
    trace = tmp_path / "trace"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(address(lock))
        s.listen()
        s.settimeout(DEADLINE)
        asks = start("strace", "-q", "-D", "-o", trace, "-e", "trace=connect", "-e",
                     "inject=connect:signal=SIGSTOP", ME_ONLY, lock, "true")
        kept = []  # closing one would tell that the lock is free
        for n in 1, 2:
            kept.append(s.accept()[0])
            kept[-1].send(struct.pack("=8sqIIII", b"me-only2", 7200 * 10**9, os.getpid(), 1,
                                      len(lock), 0) + lock.encode())
            wait_for(lambda: trace.read_text().count("stopped by SIGSTOP") == n, "it is stopped")
            asks.send_signal(signal.SIGCONT)
        said = asks.communicate(timeout=DEADLINE)[1].decode()
        for connection in kept:
            connection.close()
    assert f"held by pid {os.getpid()} (" in said and " for 2h" in said and "at most" not in said


def test_slots(run, hold, lock):
    """The page's addresses of slots."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(address(lock, b"\0slot\0001"))
        s.listen()
        hold(lock, "-j2")
        assert not is_bound(address(lock, b"\0slot\0002"))
        r = run("-j3", lock, "sh", "-c", "echo $ME_ONLY_SLOT")
        assert (r.returncode, r.stdout) == (0, b"2\n"), "0 and 1 are taken"


def test_perl_is_clean():
    assert shutil.which("perl")
    subprocess.run(["perl", "-c", os.path.join(EXAMPLES, "hold-lock.pl")], check=True,
                   capture_output=True, timeout=DEADLINE)
