"""Never two at once, always one: in a rush, and in a storm in which everything is killed at random.

The job itself proves it: the witness takes a record lock that has nothing to do with me-only, and
never waits; the job of a storm enters a place in shared memory (storm-memory.h).
"""
import os
import re
import stat

import pytest

from conftest import DEADLINE, ME_ONLY, address, has_children, is_bound, program, queue_of

RUSH, WITNESS, JOB = map(program, ("rush", "witness", "storm-job"))
STORM = program("storm")
DYNAMIC = bool(os.environ.get("ME_ONLY_DYNAMIC"))
# A process that is killed while a sanitizer looks for its leaks leaves a useless report.
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


@pytest.mark.parametrize("options", [(), ("-F",), ("-o",), ("-n", "-q")], ids=lambda o: " ".join(o)
                         or "default")
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
        # Held at the gate until all have arrived.
        waiters.append(start("sh", "-c", 'read line; exec "$@"', "sh", ME_ONLY, "-w", "inf", lock,
                             WITNESS, str(scratch),
                             "0", stdin=gate))
    os.close(gate)
    os.close(opener)
    assert {p.wait(DEADLINE) for p in waiters} == {0}
    assert overlaps(scratch) == []
    assert not is_bound(address(lock)) and not is_bound(queue_of(lock))


def test_the_witness_catches_a_program_that_does_not_lock(start, lock, scratch, no_lock):
    p = start(RUSH, "3", "20", no_lock, lock, WITNESS, str(scratch), "-")
    text = finish(p)
    assert p.returncode == 1, text
    assert "ran beside" in "".join(overlaps(scratch))


# --- storms: scripts/storm runs the same for as long as asked ---

def acquired(text):
    """The numbers in the last line of a storm: acquisitions and violations."""
    return tuple(map(int, re.fullmatch(r"(\d+) acquisitions, (\d+) violations",
                                       text.splitlines()[-1]).groups()))


@pytest.mark.parametrize("seed", [1] if DYNAMIC else [1, 2])
def test_a_storm_in_which_everything_is_killed(call, seed):
    """
    One lock, and 49 others: with slots, on files, replaced, with commands long enough for keepers.
    """
    wanted = 1000 if DYNAMIC else 4000
    r = call(STORM, f"--acquisitions={wanted}", f"--seed={seed}", ME_ONLY, JOB, env=ENVIRONMENT,
             timeout=DEADLINE * 10)
    text = r.stdout.decode()
    assert r.returncode == 0, text
    n, violations = acquired(text)
    assert n >= wanted and violations == 0
    assert all(int(n) > 0 for n in re.findall(r"(\d+) times", text)), text


def test_the_storm_catches_commands_without_their_lock(call):
    r = call(STORM, "--acquisitions=3000", "--broken", ME_ONLY, JOB, env=ENVIRONMENT,
             timeout=DEADLINE * 10)
    text = r.stdout.decode()
    assert r.returncode == 1, text
    assert acquired(text)[1] > 0
    assert "ran beside pid" in text or "ran without its lock" in text


def test_the_storm_notices_what_is_left_and_ends_it(call, tmp_path):
    path = tmp_path / "leaves-something"
    path.write_text(f'#!/bin/sh\nsetsid sleep 1000 &\nexec "{ME_ONLY}" "$@"\n')
    path.chmod(stat.S_IRWXU)
    r = call(STORM, "--acquisitions=20", "--width=2", "--patience=2", str(path), JOB,
             env=ENVIRONMENT, timeout=DEADLINE * 10)
    text = r.stdout.decode()
    assert r.returncode == 1, text
    assert "not all ends within 2 s" in text
    assert not has_children()
