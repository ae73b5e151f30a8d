"""--complain-after: silent about a young holder, one line about one that is too old."""
import re

import pytest

from conftest import DEADLINE, ME_ONLY, forms, refusal, release, wait_for

HOLDER = r"me-only: {lock}: held by pid {job} \([^)]+\) for (at most )?\d\S*: [^\n]+\n"


def old(hold, run, name, age, *options, **kw):
    """A holder that the message reports to be older than AGE seconds."""
    holder = hold(name, *options, **kw)

    def is_old():
        line = refusal(run, name)
        said = re.search(r" for (?:at most )?(\S+):", line)[1]
        return not said.endswith("ms") and (not re.fullmatch(r"\d\.\ds", said)
                                            or float(said[:-1]) > age)

    wait_for(is_old, "the holder is old enough")
    return holder


@forms
def test_a_young_holder_is_not_worth_a_line(hold, run, lock, form):
    hold(lock, *form)
    r = run("--complain-after=1h", lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (4, b"", b"")


@forms
def test_an_old_holder_is_named_in_one_line(hold, run, lock, form):
    holder = old(hold, run, lock, 1, *form)
    r = run("--complain-after=1s", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"")
    assert re.fullmatch(HOLDER.format(lock=lock, job=holder.job), r.stderr.decode())


def test_the_status_can_be_nothing_to_worry_about(hold, run, lock):
    holder = hold(lock)
    assert run("-E", "0", "--complain-after=1d", lock, "false").returncode == 0
    release(holder)
    assert run("-E", "0", "--complain-after=1d", lock, "false").returncode == 1


def test_age_zero_complains_always_and_inf_never(hold, run, lock):
    hold(lock)
    assert b": held by pid " in run("--complain-after=0", lock, "true").stderr
    assert run("--complain-after=inf", lock, "true").stderr == b""


def test_a_wait_in_vain_is_silent_behind_a_young_holder(hold, run, lock):
    hold(lock)
    r = run("--complain-after=1h", "-w", "0.1", lock, "true")
    assert (r.returncode, r.stderr) == (4, b"")
    r = run("--complain-after=0", "-w", "0.1", lock, "true")
    assert r.returncode == 4
    assert r.stderr.startswith(f"me-only: {lock}: gave up after 100ms: held by pid ".encode())


@pytest.mark.root
def test_a_stranger_is_named_however_young(start, run, public_me_only, lock):
    p = start("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups", public_me_only,
              lock,
              "sh", "-c", "echo; exec sleep 1000")
    p.stdout.readline()
    r = run("--complain-after=1h", lock, "true")
    assert r.returncode == 4
    assert b"neither this user nor root" in r.stderr


def test_a_job_that_asks_for_its_own_lock_is_told_so(run, lock):
    r = run(lock, "sh", "-c", '"$0" --complain-after=1h "$1" true', ME_ONLY, lock)
    assert r.returncode == 4
    assert b": this job already holds it: " in r.stderr


@pytest.mark.parametrize("argument", ["", "1x", "-1", "soon"])
def test_what_is_no_age_is_a_usage_error(run, lock, argument):
    r = run(f"--complain-after={argument}", lock, "true")
    assert (r.returncode, r.stdout) == (2, b"")
    assert r.stderr.startswith(b"me-only: --complain-after: not a duration: ")


def test_quiet_and_complain_after_contradict_each_other(run, lock):
    r = run("-q", "--complain-after=1h", lock, "true")
    assert (r.returncode, r.stdout) == (2, b"")
    assert b"contradict" in r.stderr


def test_a_command_that_runs_is_none_of_its_business(run, lock):
    r = run("--complain-after=1h", lock, "sh", "-c", "echo out; echo err >&2; exit 7",
            timeout=DEADLINE)
    assert (r.returncode, r.stdout, r.stderr) == (7, b"out\n", b"err\n")
