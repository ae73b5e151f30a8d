"""
With -F the kernel frees the lock when it closes the holder's descriptors, some of them before others.
A waiter starts its command once all of them are closed; but it does not wait for a holder that lives
on without its lock, nor for one that does not end.
"""
import os
import signal
import subprocess
import sys

import pytest

from conftest import DEADLINE, ME_ONLY, read_line, wait_for, waiters_of

# A job with files that it has locked at descriptors before and behind one that takes the kernel
# milliseconds to close.
JOB = """
import fcntl, os, sys
first = os.open(sys.argv[1], os.O_RDONLY | os.O_CREAT)
much = os.memfd_create("much")
os.posix_fallocate(much, 0, 30 << 20)
last = os.open(sys.argv[2], os.O_RDONLY | os.O_CREAT)
fcntl.flock(first, fcntl.LOCK_EX)
fcntl.flock(last, fcntl.LOCK_EX)
print(flush=True)
sys.stdin.read()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("options", [(), ("-j2",)], ids=["", "slots"])
@pytest.mark.parametrize("form", [(), ("-F",)], ids=["default", "no-fork"])
def test_the_next_job_meets_nothing_of_the_last(start, me_only, lock, tmp_path, options, form):
    files = [str(tmp_path / "first"), str(tmp_path / "last")]
    for _ in range(3):
        others = [start(ME_ONLY, *options, lock, "cat", stdin=subprocess.PIPE) for _ in options]
        for other in others:
            other.stdin.write(b"x")
            other.stdin.flush()
            assert other.stdout.read(1) == b"x"
        holder = start(ME_ONLY, "-F", *options, lock, sys.executable, "-c", JOB, *files, stdin=subprocess.PIPE)
        assert read_line(holder.stdout) == b"\n"
        waiter = me_only(*form, *options, "-w", "inf", lock, "sh", "-c", 'flock -n "$0" true && flock -n "$1" echo free', *files)
        wait_for(lambda: waiters_of(lock, 2 if options else 1) == 1, "it waits")
        holder.stdin.close()
        assert waiter.communicate(timeout=DEADLINE) == (b"free\n", b"")
        for other in others:
            other.stdin.close()
            assert other.wait(DEADLINE) == 0


# Closes the lock, and lives on.
CLOSES = 'exec 60>&-; echo; exec sleep 1000'


@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped"])
def test_a_holder_that_only_closes_its_lock_is_not_waited_for(start, me_only, lock, tmp_path, stopped):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    holder = start(ME_ONLY, "-F", lock, "bash", "-c", f'echo; read -r x <"{fifo}"; {CLOSES}')
    assert read_line(holder.stdout) == b"\n"
    waiter = me_only("-w", "inf", lock, "echo", "mine")
    wait_for(lambda: waiters_of(lock) == 1, "it waits")
    fifo.write_text("x\n")
    assert read_line(holder.stdout) == b"\n"
    if stopped:
        os.kill(holder.pid, signal.SIGSTOP)
    assert waiter.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert holder.poll() is None


def test_a_termination_meanwhile_ends_the_waiter(start, me_only, lock):
    """As at any other time while it waits; the lock is free then."""
    holder = start(ME_ONLY, "-F", lock, "sh", "-c", "echo; exec cat", stdin=subprocess.PIPE)
    assert read_line(holder.stdout) == b"\n"
    waiter = me_only("-w", "inf", lock, "sleep", "1000")
    wait_for(lambda: waiters_of(lock) == 1, "it waits")
    holder.stdin.close()
    waiter.terminate()
    assert (waiter.wait(DEADLINE), holder.wait(DEADLINE)) == (-signal.SIGTERM, 0)
    assert me_only(lock, "true").wait(DEADLINE) == 0
