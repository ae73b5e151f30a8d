"""Side by side with `etcdctl lock`: one at a time, in the order in which they came."""
import os
import signal

import pytest

from fleet import DEADLINE, is_alive, program, read_line, release, said, wait_for
from test_etcd_wait import Line


@pytest.fixture
def line(c, store):
    return Line(c, store)


def etcdctl_lock(c, line, *command, **kw):
    """Start one, and return once it is in line."""
    before = len(line.entries())
    p = c.etcdctl("lock", c.lock.removeprefix("etcd:"), "--", *command, **kw)
    wait_for(lambda: len(line.entries()) > before, "it is in line")
    return p


def etcdctl_holds(c, line):
    p = etcdctl_lock(c, line, "sh", "-c", f"echo $$; while [ -e {line.stop} ]; do sleep 0.02; done")
    p.job = int(read_line(p.stdout))
    return p


@pytest.fixture(autouse=True)
def stop(line, tmp_path):
    """etcdctl passes no standard input: a file tells its command to continue."""
    line.stop = tmp_path / "go_on"
    line.stop.touch()


def test_etcdctl_holds(c, line):
    """It is named as what it is, and none starts beside it."""
    p = etcdctl_holds(c, line)
    entry, = line.entries()
    r = c.run(c.lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"")
    assert said(r) == \
        (f"me-only: {c.lock}: held by another program (etcdctl lock?) with the lease "
         f"{entry.lease:x}\n")
    for options in (("-s",), ("-j2",), ("-w", "0.2")):
        assert c.run("-q", *options, c.lock, "echo", "ran").returncode == 4
    line.stop.unlink()
    assert p.wait(DEADLINE) == 0
    assert c.run("-q", c.lock, "true").returncode == 0


@pytest.mark.parametrize("options", [(), ("-s",), ("-j2",)], ids=["plain", "shared", "slots"])
def test_me_only_holds(c, line, options):
    holder = c.hold("-q", *options)
    p = etcdctl_lock(c, line, "echo", "etcdctl's")
    assert c.run("-q", *options, "-w", "0.3", c.lock, "true").returncode == 4
    assert p.poll() is None
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"etcdctl's\n"


def test_the_order_is_that_in_which_they_came(c, line, tmp_path):
    """Whichever they are; a witness shows that none runs beside another."""
    scratch = tmp_path / "witness"
    reader, writer = os.pipe()
    holder = c.hold("-q")
    everybody = []
    for n in range(8):
        job = (program("witness"), str(scratch), "5", str(n))
        everybody.append(line.wait("-q", command=job, stdout=writer) if n % 2
                         else etcdctl_lock(c, line, *job, stdout=writer))
    os.close(writer)
    assert len(line.entries()) == 9
    assert release(holder) == 0
    assert [p.wait(DEADLINE) for p in everybody] == [0] * 8
    with open(reader, encoding="ascii") as f:
        assert [int(n) for n in f] == list(range(8))
    assert scratch.read_bytes() == b"" and line.entries() == []


def test_a_crowd_of_both(c, line, tmp_path):
    scratch, out = tmp_path / "witness", tmp_path / "out"
    with open(out, "wb") as f:
        job = (program("witness"), str(scratch), "5", "ran")
        crowd = []
        for _ in range(6):
            crowd.append(c.start("-q", "-w", "inf", c.lock, *job, stdout=f))
            crowd.append(c.etcdctl("lock", line.prefix[:-1], "--", *job, stdout=f))
        assert [p.wait(DEADLINE) for p in crowd] == [0] * 12
    assert out.read_bytes() == b"ran\n" * 12 and scratch.read_bytes() == b"" \
        and line.entries() == []


def test_tokens_of_both_grow(c, line):
    """ETCD_LOCK_REV is the revision at which the lock was taken, in both."""
    holder = c.hold("-q")
    first = line.entries()[0].modified
    say = ("sh", "-c", "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV")
    everybody = [line.wait("-q", command=say) if n % 2 else etcdctl_lock(c, line, *say)
                 for n in range(4)]
    keys = [e.key for e in line.entries()][1:]
    assert release(holder) == 0
    told = [p.communicate(timeout=DEADLINE)[0].decode().split() for p in everybody]
    assert [t[0] for t in told] == keys
    tokens = [first, *(int(t[1]) for t in told)]
    assert tokens == sorted(set(tokens))


def test_etcdctl_is_killed(c, line, store):
    """
    Its lease ends some time; then it is this caller's turn, after the pause for what it has left
    running.
    """
    p = c.etcdctl("lock", "--ttl", "2", line.prefix[:-1], "--", "sh", "-c",
                  "echo up; exec sleep 1000")
    assert read_line(p.stdout) == b"up\n"
    waiter = line.wait("-q")
    p.kill()
    assert waiter.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_etcdctl_waits_behind_one_that_is_killed(c, line):
    holder = c.hold("-q")
    p = etcdctl_lock(c, line, "echo", "etcdctl's")
    job = holder.job
    holder.kill()
    assert p.communicate(timeout=DEADLINE)[0] == b"etcdctl's\n"
    assert not is_alive(job)


def test_etcdctl_gives_up(c, line):
    holder = c.hold("-q")
    p = etcdctl_lock(c, line, "echo", "etcdctl's")
    last = line.wait("-q")
    p.send_signal(signal.SIGINT)
    p.wait(DEADLINE)
    wait_for(lambda: len(line.entries()) == 2, "its key is gone")
    assert release(holder) == 0
    assert last.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_who_shows_both(c, line):
    p = etcdctl_holds(c, line)
    waiter = line.wait("-q")
    r = c.run("--who", c.lock)
    text = (r.stdout + r.stderr).decode()
    assert r.returncode == 4
    assert "another program (etcdctl lock?)" in text and str(waiter.pid) in text, text
    line.stop.unlink()
    assert p.wait(DEADLINE) == 0
    assert waiter.communicate(timeout=DEADLINE)[0] == b"mine\n"
