"""Never two at once, always one: in the rush, and in a storm in which everything is killed at random.

Who proves it is the job itself, the witness: it takes a record lock that has nothing to do with me-only, and never waits.
"""
import os
import random
import stat

import pytest

from conftest import DEADLINE, ME_ONLY, PROGRAMS, address, is_bound, queue_of, read_line

RUSH, STORM, WITNESS = (os.path.join(PROGRAMS, name) for name in ("rush", "storm", "witness"))
DYNAMIC = bool(os.environ.get("ME_ONLY_DYNAMIC"))
# A process that is killed while a sanitizer looks for its leaks leaves a report that tells nothing.
ENVIRONMENT = dict(os.environ, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")

NO_LOCK = """#!/bin/sh
# Understands the options of me-only and locks nothing.
while :; do
    case $1 in
    -*w) shift 2 ;;
    -*) shift ;;
    *) break ;;
    esac
done
shift
exec "$@"
"""


@pytest.fixture
def scratch(tmp_path):
    """The file that the witnesses lock, and in which they report."""
    return tmp_path / "scratch"


@pytest.fixture
def no_lock(tmp_path):
    path = tmp_path / "no-lock"
    path.write_text(NO_LOCK)
    path.chmod(stat.S_IRWXU)
    return str(path)


def overlaps(scratch):
    return scratch.read_text().splitlines() if scratch.exists() else []


def finish(p, deadline=DEADLINE * 5):
    out, err = p.communicate(timeout=deadline)
    return out.decode() + err.decode(errors="replace")[-2000:]


@pytest.fixture
def storm(start, lock, scratch):
    """storm(RUNS, MILLISECONDS) starts one on a lock of its own; more of them can run beside each other."""
    started = []

    def storm_(runs, milliseconds, program=ME_ONLY):
        number = len(started)
        seed = random.randrange(1 << 30)
        p = start(STORM, str(runs), str(seed), str(milliseconds), program, f"{lock}/{number}", WITNESS, f"{scratch}{number}",
                  env=ENVIRONMENT)
        p.scratch = scratch.with_name(f"{scratch.name}{number}")
        started.append(p)
        return p

    return storm_


@pytest.mark.parametrize("options", [(), ("-F",), ("-o",), ("-n", "-q")], ids=lambda o: " ".join(o) or "default")
def test_of_many_that_start_in_the_same_instant_exactly_one_runs(start, lock, scratch, options):
    rounds, width = (5, 50) if DYNAMIC else (20, 100)
    p = start(RUSH, str(rounds), str(width), ME_ONLY, *options, lock, WITNESS, str(scratch), "-")
    text = finish(p)
    assert p.returncode == 0, text
    assert overlaps(scratch) == []
    assert not is_bound(address(lock))


def test_of_many_that_wait_in_the_same_instant_each_runs_alone(start, lock, scratch):
    """All of them find the queue unbound at once, and one binds it."""
    waiters = []
    gate, opener = os.pipe()
    for _ in range(100):
        # Held at the gate until all are there.
        waiters.append(start("sh", "-c", 'read line; exec "$@"', "sh", ME_ONLY, "-w", "inf", lock, WITNESS, str(scratch),
                             "0", stdin=gate))
    os.close(gate)
    os.close(opener)
    assert {p.wait(DEADLINE) for p in waiters} == {0}
    assert overlaps(scratch) == []
    assert not is_bound(address(lock)) and not is_bound(queue_of(lock))


def test_a_storm_of_short_runs(storm):
    runs = 1000 if DYNAMIC else 5000
    for p in [storm(runs, 3), storm(runs, 3)]:
        text = finish(p)
        assert overlaps(p.scratch) == []
        assert p.returncode == 0, text


def test_a_storm_of_runs_long_enough_for_keepers(storm):
    """A keeper of the default form comes after a second: these jobs take up to one and a half."""
    storms = [storm(30, 1500) for _ in range(8)]
    for p in storms:
        text = finish(p)
        assert overlaps(p.scratch) == []
        assert p.returncode == 0, text


def test_the_witness_catches_a_program_that_does_not_lock(storm, start, lock, scratch, no_lock):
    p = storm(300, 3, no_lock)
    text = finish(p)
    assert p.returncode == 1, text
    assert "ran beside" in "".join(overlaps(p.scratch))
    p = start(RUSH, "3", "20", no_lock, lock, WITNESS, str(scratch), "-")
    text = finish(p)
    assert p.returncode == 1, text
    assert "ran beside" in "".join(overlaps(scratch))


def test_the_storm_notices_a_lock_that_is_not_free_at_the_end(storm, tmp_path, start, lock):
    """A stranger holds the name: no run gets it, and it is bound when all is over."""
    holder = start(ME_ONLY, f"{lock}/0", "sh", "-c", "echo up; exec sleep 1000")
    assert read_line(holder.stdout) == b"up\n"
    path = tmp_path / "never-waits"
    path.write_text(NO_LOCK.replace('shift\nexec "$@"', f'exec {ME_ONLY} "$@"'))
    path.chmod(stat.S_IRWXU)
    p = storm(20, 2, str(path))
    text = finish(p)
    assert p.returncode == 1
    assert "the lock is not free at the end" in text or "an unharmed run ended with wait status 0x400" in text
