"""
File locks: whose claim to hold one is believed, and who must not be hit because of a false claim
(root only).
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from conftest import DEADLINE, ME_ONLY, children_of, name_of, read_line, release, wait_for

NOBODY = 65534


@pytest.fixture
def path():
    """A file of root's that everybody can read, in a directory that everybody can enter."""
    directory = tempfile.mkdtemp(prefix="me-only-test-")
    os.chmod(directory, 0o755)
    name = os.path.join(directory, "lock")
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
    os.chmod(name, 0o644)
    yield name
    shutil.rmtree(directory)


def python(start, code, *argv, **kw):
    """A process of a stranger, which prints a line when it is ready."""
    return start(sys.executable, "-c", code, *argv, stdin=subprocess.PIPE, **kw)


FALSE_KEEPER = """
import ctypes, fcntl, os, sys
path, victim = sys.argv[1], int(sys.argv[2])
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
lock = os.open(path, os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX)
reader, writer = os.pipe()
if os.fork():
    os._exit(0)     # who took it is gone
ctypes.CDLL(None).prctl(15, b"me-only keeper", 0, 0, 0)
os.pidfd_open(victim)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.root
def test_the_name_of_a_keeper_and_a_pidfd_prove_nothing(start, run, path):
    victim = start("sleep", "1000")
    false = python(start, FALSE_KEEPER, path, str(victim.pid))
    assert read_line(false.stdout) == b"ready\n"
    r = run(f"file:{path}", "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"") and f"pid {victim.pid} ".encode() not in r.stderr
    r = run("--replace", "-k", "0", "-w", "5", f"file:{path}", "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"") and b": not replaced, " in r.stderr
    r = run("--who", "--json", f"file:{path}")
    assert victim.pid not in [row["pid"] for row in json.loads(r.stdout)["who"]]
    assert victim.poll() is None


# Models a set-user-ID program that a stranger runs: the same process, which already has the lock,
# becomes root.
MORE_RIGHTS = """
import fcntl, os, subprocess, sys
path, option, *command = sys.argv[1:]
os.setresuid(65534, 65534, 0)
lock = os.open(path, os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_SH if option else fcntl.LOCK_EX)
os.setresuid(0, 0, 0)
sys.exit(subprocess.run(command, pass_fds=[lock]).returncode)
"""


@pytest.mark.root
@pytest.mark.parametrize("shared", ["", "-s"], ids=["alone", "beside root's"])
def test_held_is_no_if_a_stranger_took_it_before_he_got_more_rights(hold, start, path, shared):
    if shared:
        hold(f"file:{path}", "-s")
    p = start(sys.executable, "-c", MORE_RIGHTS, path, shared, ME_ONLY, "--held", f"file:{path}")
    assert p.wait(DEADLINE) == 1, p.stderr.read()


@pytest.mark.root
def test_held_is_yes_for_what_root_runs_by_flock_if_nobody_else_can_open_the_file(call, path):
    """Nothing proves which process took it; but it cannot have been a stranger."""
    assert call("flock", path, ME_ONLY, "--held", f"file:{path}").returncode == 1
    os.chmod(path, 0o600)
    assert call("flock", path, ME_ONLY, "--held", f"file:{path}").returncode == 0
    assert call(ME_ONLY, "-F", f"file:{path}", ME_ONLY, "--held", f"file:{path}").returncode == 0


@pytest.mark.root
def test_of_several_that_share_it_a_stranger_is_named(hold, run, start, path, public_me_only):
    """Whether the stranger came first or last, even with --quiet."""
    argv = (public_me_only, "-s", f"file:{path}", "sh", "-c", "echo $$; exec cat >/dev/null")
    for stranger_first in (True, False):
        root = None if stranger_first else hold(f"file:{path}", "-s")
        stranger = start(*argv, stdin=subprocess.PIPE, user=NOBODY, group=NOBODY, extra_groups=[])
        job = int(read_line(stranger.stdout))
        root = root or hold(f"file:{path}", "-s")
        r = run("-q", f"file:{path}", "true")
        assert r.returncode == 4 \
            and f"held by pid {job} (nobody, neither this user nor root)".encode() in r.stderr, r
        release(stranger)
        release(root)


def test_what_a_shell_had_started_before_is_not_the_job(start, run, tmp_path):
    """The shell becomes me-only, which then has children that have nothing to do with its lock."""
    lock = f"file:{tmp_path / 'lock'}"
    script = (
        f'sleep 1000 >/dev/null 2>&1 & echo $!; exec "$0" {lock} sh -c \'trap "" TERM; echo $$; '
        f'while :; do sleep 1000; done\'')
    holder = start("sh", "-c", script, ME_ONLY)
    innocent, job = int(read_line(holder.stdout)), int(read_line(holder.stdout))
    r = run(lock, "true")
    assert f"held by pid {job} ".encode() in r.stderr
    wait_for(lambda: [p for p in children_of(holder.pid) if name_of(p) == "me-only keeper"],
             "the keeper")
    assert f"held by pid {job} ".encode() in run(lock, "true").stderr
    r = run("--replace", "-k", "0.1", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (0, b"ran\n")
    assert holder.wait(DEADLINE) == -signal.SIGKILL
    os.kill(innocent, 0)
    os.kill(innocent, signal.SIGKILL)


def test_force_does_not_reach_a_later_holder(hold, me_only, start, tmp_path):
    """
    The next holder has the same variable and the same file, and is spared, since another process
    took its lock.
    """
    lock = f"file:{tmp_path / 'lock'}"
    first = hold(lock)
    second = me_only("-w", "inf", lock, "sh", "-c", "echo $$; exec cat >/dev/null",
                     stdin=subprocess.PIPE)
    wait_for(lambda: b"->" in open("/proc/locks", "rb").read(), "it waits")
    third = me_only("--replace", "-k", "0", lock, "echo", "third")
    job = int(read_line(second.stdout))
    assert first.wait(DEADLINE) in (-signal.SIGTERM, -signal.SIGKILL), third.communicate(timeout=5)
    # The third looks every second what is left of the first.
    wait_for(lambda: third.poll() is not None or open("/proc/locks", "rb").read().count(b"->") > 0,
             "the third waits")
    assert third.poll() is None, third.communicate()
    os.kill(job, 0)
    release(second)
    assert third.communicate(timeout=DEADLINE)[0] == b"third\n"
