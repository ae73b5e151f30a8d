"""What SECURITY.md and docs/stability.md promise, as far as no other test would miss it."""
import os
import pty
import re
import shutil

import pytest

from conftest import BUILD, DEADLINE, ME_ONLY

# Files of the libraries, in the directories where systems keep them.
LIBRARIES = re.compile(
    r"/(usr/(local/)?)?lib|/etc/(ld\.so\.|localtime$)|/usr/share/(locale|zoneinfo)")


@pytest.mark.static
@pytest.mark.parametrize("words, status", [
    ("FREE true", 0), ("HELD true", 4), ("-w 0.01 HELD true", 4), ("--held HELD", 1),
    ("--who HELD", 4), ("--list", 0)])
def test_what_is_read_and_that_nothing_is_written(hold, start, lock, tmp_path, words, status):
    hold(lock)
    words = [{"FREE": lock + "/free", "HELD": lock}.get(word, word) for word in words.split()]
    trace = tmp_path / "trace"
    p = start("strace", "-f", "-o", trace, "-e", "trace=%file,socket", ME_ONLY, *words)
    p.communicate(timeout=DEADLINE)
    assert p.returncode == status
    opened, writes, families, commands = set(), [], set(), set()
    for line in trace.read_text().splitlines():
        pid, call = line.split(None, 1)
        if re.search(r'execve\(.*"true"', call):
            commands.add(pid)
        if pid in commands:
            continue
        families |= set(re.findall(r"socket\((AF_\w+)", call))
        opens = re.match(r'open(?:at)?\((?:\S+, )?"(.*?)", (\S+?)[,)].* = \d', call)
        if opens:
            opened.add(opens[1])
            writes += [call] * bool(re.search("O_WRONLY|O_RDWR|O_CREAT", opens[2]))
    ours = {path for path in opened if not LIBRARIES.match(path) and not path.startswith("/proc")}
    assert ours <= {"/etc/passwd", "/", os.path.join(BUILD, "libexec/me-only"), "list"}
    assert writes == []
    assert families <= {"AF_UNIX", "AF_NETLINK"}


@pytest.mark.root
def test_a_helper_from_the_environment_needs_the_rights_of_the_caller(public_me_only, call):
    """The variable counts for every user, but not in a program that gains rights when it starts."""
    directory = os.path.dirname(public_me_only)
    # Prints its arguments.
    shutil.copy("/bin/echo", os.path.join(directory, "list"))

    def ask():
        return call("setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", public_me_only,
                    "--list", env={**os.environ, "ME_ONLY_EXEC_PATH": directory}, cwd="/")

    assert ask().stdout == b"--list\n"
    os.chmod(public_me_only, 0o4755)
    assert ask().stdout != b"--list\n"


def test_a_terminal_that_is_locked_does_not_become_the_controlling_one(call):
    master, slave = pty.openpty()
    try:
        r = call("setsid", ME_ONLY, "file:" + os.ttyname(slave),
                 "sh", "-c", ": </dev/tty && echo has one")
        assert b"has one" not in r.stdout and r.returncode in (1, 2) and b"/dev/tty" in r.stderr
    finally:
        os.close(master)
        os.close(slave)


@pytest.mark.parametrize("prefix", ["redis", "files", "etc", "x", "consul+tls", "s3"])
def test_an_unknown_prefix_may_become_a_kind_of_lock(run, lock, prefix):
    name = f"{prefix}:{lock}"
    r = run(name, "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")
    assert f"no such kind of lock: '{name}'".encode() in r.stderr
    assert run("host:" + name, "echo", "ran").stdout == b"ran\n"
