"""
The documents' example: examples/my-pid.sh is the only instance, and scripts can tell when it was
refused.
"""
import os
import pwd
import re

import pytest

from conftest import DEADLINE, ME_ONLY, ROOT, children_of, is_bound, address, wait_for

EXAMPLE = os.path.join(ROOT, "examples", "my-pid.sh")


def held_by(name, pid, seconds):
    """The message for the second one."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    return re.compile(
        re.escape(f"me-only: {name}: held by pid {pid} ({user}) for ").encode()
        + rb"[0-9.]+m?s: " + re.escape(f"/bin/sh {EXAMPLE} {seconds}\n".encode()))


def test_prints_its_pid_its_arguments_and_the_seconds(me_only, lock):
    p = me_only(lock, EXAMPLE, "1", "more")
    first = p.stdout.readline()
    job = int(re.fullmatch(rb"my-pid.sh: pid (\d+), arguments: 1 more\n", first)[1])
    assert job in children_of(p.pid)
    assert p.stdout.read() == b"1\n"
    assert p.wait(DEADLINE) == 0
    assert p.stderr.read() == b""
    assert not is_bound(address(lock))


def test_runs_by_itself(start):
    p = start(EXAMPLE, "0")
    assert re.fullmatch(rb"my-pid.sh: pid %d, arguments: 0\n" % p.pid, p.stdout.read())
    assert p.wait(DEADLINE) == 0


@pytest.mark.parametrize("arguments", [[], [""], ["x"], ["-1"], ["1.5"]])
def test_needs_a_number(start, arguments):
    p = start(EXAMPLE, *arguments)
    assert p.wait(DEADLINE) == 2
    assert p.stderr.read() == b"usage: my-pid.sh SECONDS [ARGUMENT]...\n"
    assert p.stdout.read() == b""


def first_line(p):
    """The PID that a running example has printed."""
    return int(re.match(rb"my-pid.sh: pid (\d+),", p.stdout.readline())[1])


def test_a_second_start_names_the_first(me_only, run, lock):
    job = first_line(me_only(lock, EXAMPLE, "1000"))
    second = run(lock, EXAMPLE, "1000")
    assert second.returncode == 4
    assert second.stdout == b""
    assert held_by(lock, job, 1000).fullmatch(second.stderr)


@pytest.mark.root
def test_the_original_command_line(start):
    """Word for word; in its own network namespace, since other tests run at the same time."""
    words = [ME_ONLY, "/tmp/my-pid", "examples/my-pid.sh", "1000"]
    existed = os.path.lexists("/tmp/my-pid")
    p = start("unshare", "--net", *words, cwd=ROOT)
    job = first_line(p)
    second = start("nsenter", "--net", f"--target={p.pid}", *words, cwd=ROOT)
    assert second.wait(DEADLINE) == 4
    assert re.fullmatch(
        rb"me-only: /tmp/my-pid: held by pid %d \(root\) for \S+: /bin/sh examples/my-pid.sh "
        rb"1000\n" % job,
        second.stderr.read())
    assert os.path.lexists("/tmp/my-pid") == existed, "a lock is no file"


def test_free_again_after_its_end(me_only, run, lock):
    p = me_only(lock, EXAMPLE, "1000")
    os.kill(first_line(p), 9)
    assert p.wait(DEADLINE) == -9
    # The script's current step, a sleep of one second, has inherited the lock.
    wait_for(lambda: not is_bound(address(lock)), "the lock is free")
    assert run(lock, EXAMPLE, "0").returncode == 0


# --- the two idioms, with the example, in three shells ---

OR = r'''
"$ME_ONLY" "$LOCK" "$EXAMPLE" "$SECONDS_" || { echo "ERROR: not the only instance" >&2; exit 1; }
echo after
'''

RC = r'''
"$ME_ONLY" "$LOCK" "$EXAMPLE" "$SECONDS_"
RC=$?
echo "RC=$RC"
'''


@pytest.fixture
def script(start, lock):
    def script_(shell, text, seconds):
        p = start(*([shell, "-f"] if shell == "zsh" else [shell]), "-c", text,
                  env={**os.environ, "ME_ONLY": ME_ONLY, "LOCK": lock, "EXAMPLE": EXAMPLE,
                       "SECONDS_": str(seconds)})
        out, err = p.communicate(timeout=DEADLINE)
        return p.returncode, out, err
    return script_


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_or_idiom(shell, script, me_only, lock):
    status, out, err = script(shell, OR, 0)
    assert (status, err) == (0, b"") and out.endswith(b"arguments: 0\nafter\n")
    job = first_line(me_only(lock, EXAMPLE, "1000"))
    status, out, err = script(shell, OR, 5)
    assert (status, out) == (1, b"")
    message, error = err.splitlines(keepends=True)
    assert held_by(lock, job, 1000).fullmatch(message)
    assert error == b"ERROR: not the only instance\n"


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_rc_idiom(shell, script, me_only, lock):
    status, out, err = script(shell, RC, 0)
    assert (status, err) == (0, b"") and out.endswith(b"arguments: 0\nRC=0\n")
    job = first_line(me_only(lock, EXAMPLE, "1000"))
    status, out, err = script(shell, RC, 5)
    assert (status, out) == (0, b"RC=4\n")
    assert held_by(lock, job, 1000).fullmatch(err)
    status, out, err = script(shell, RC, "x")
    assert (status, out) == (0, b"RC=4\n"), "the command never started"


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_the_status_of_the_job_itself(shell, script):
    status, out, err = script(shell, RC, "x")
    assert (status, out, err) == (0, b"RC=2\n", b"usage: my-pid.sh SECONDS [ARGUMENT]...\n")
