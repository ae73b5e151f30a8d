"""What a person sees: tables that fit, the age before the end of the line, times, who ended whom."""
import json
import os
import pathlib
import re
import signal
import unicodedata

import pytest

from conftest import DEADLINE, ME_ONLY, process_state, read_line, user, wait_for, waiters_of
from shape import rows_of

AGE = r"(?:\d+(?:\.\d)?(?:ms|s|m|h|d)){1,2}"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
WIDE = "zürich-\u65e5\u672c\u8a9e-" * 12


def width(text):
    """How many columns of a terminal it takes."""
    return sum(0 if unicodedata.combining(c) else
               2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def screen_of(terminal, columns, *argv):
    """What a program writes on a terminal that is so wide, in lines."""
    t = terminal("sh", "-c", 'stty cols "$0"; "$@"; echo "#end"', str(columns), *argv)
    return t.wait_for("(?s)^.*#end").group().decode().replace("\r", "").split("\n")[:-1]


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: process_state(pid) == "T", "it is stopped")


# --- tables ---

@pytest.mark.parametrize("columns", [30, 80])
@pytest.mark.parametrize("name", ["x", "n" * 70, WIDE, "\x1b[31m\\" * 20],
                         ids=["short", "long", "wide", "escaped"])
def test_tables_fit_the_terminal(terminal, hold, start, run, lock, columns, name):
    lock += name
    hold(lock, "-j2")
    start(ME_ONLY, "-w", "inf", "-j1", lock, "echo", WIDE, "\n" * 50)
    wait_for(lambda: b"waiting" in run("--who", "--json", lock).stdout, "it waits")
    for question in (["--who", lock], ["--list"]):
        lines = screen_of(terminal, columns, ME_ONLY, *question)
        assert len(lines) > 1 and max(map(width, lines)) <= columns, lines
    if columns >= 80:
        assert any(line.startswith("waiter ") for line in
                   screen_of(terminal, columns, ME_ONLY, "--who", lock))


def test_the_width_can_be_given(run, hold, lock):
    hold(lock + WIDE)
    env = {**os.environ, "COLUMNS": "80"}
    for question in (["--who", lock + WIDE], ["--list"]):
        text = run(*question, env=env).stdout.decode()
        assert max(map(width, text.splitlines())) <= 80
        assert lock + WIDE in run(*question).stdout.decode(), "whole elsewhere"
    for nonsense in ("0", "-1", "x", ""):
        env["COLUMNS"] = nonsense
        assert lock + WIDE in run("--list", env=env).stdout.decode()


def test_a_sentence_that_does_not_fit_is_broken(terminal, hold, lock):
    """Nothing of it is lost."""
    holder = hold(lock + "n" * 100)
    lines = screen_of(terminal, 80, ME_ONLY, "--who", lock + "n" * 100)
    head = next(n for n, line in enumerate(lines) if line.startswith("ROLE"))
    whole = "".join(line[2:] if n else line for n, line in enumerate(lines[:head]))
    assert head > 1 and f"{lock + 'n' * 100}:" in whole and f"pid {holder.job}" in whole


def test_columns_that_say_nothing_are_left_out(run, hold, start, lock):
    hold(lock)
    head = run("--who", lock).stdout.decode().splitlines()[1].split()
    assert head == ["ROLE", "PID", "USER", "STATE", "SINCE", "AGE", "COMMAND"]
    start(ME_ONLY, "-w", "inf", lock, "true")
    wait_for(lambda: waiters_of(lock), "it waits")
    assert "PLACE" in run("--who", lock).stdout.decode().splitlines()[1]
    hold(lock + "j", "-j2")
    hold(lock + "j", "-j2")
    assert "SLOT" in run("--who", lock + "j").stdout.decode().splitlines()[1]


@pytest.mark.root
def test_a_list_without_slots_and_waiters(call):
    """In a network namespace of its own there is only this lock."""
    script = '"$0" /a sh -c "\\"$0\\" --list; \\"$0\\" -w 0 -j3 /b true"'
    r = call("unshare", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", script, ME_ONLY,
             env={**os.environ, "ME": ME_ONLY})
    assert r.stdout.decode().split("\n")[0].split() == \
        ["LOCK", "STATE", "PID", "USER", "SINCE", "AGE", "COMMAND"]


# --- JSON ---

def test_all_kinds_of_locks_have_one_shape(run, hold, start, lock, tmp_path):
    path = f"file:{tmp_path}/lock"
    hold(lock)
    hold(path)
    shared = hold(path + "s", "-s")
    start(ME_ONLY, "-w", "inf", lock, "true")
    wait_for(lambda: waiters_of(lock), "it waits")
    stop(shared.job)
    listed = {row["lock"]: row for row in rows_of(json.loads(run("--list", "--json").stdout),
                                                  "locks")}
    for name in (lock, path, path + "s"):
        rows = rows_of(json.loads(run("--who", "--json", name).stdout), "who")
        assert {row["lock"] for row in rows} == {name} and rows[0]["role"] == "job"
        same = ("lock", "role", "state", "mode", "slot", "slots", "place", "pid", "user", "uid",
                "host", "at_most", "left", "waiters", "token", "command", "hidden")
        assert {key: rows[0][key] for key in same} == {key: listed[name][key] for key in same}
        assert {row["host"] for row in rows} == {os.uname().nodename}
    assert (listed[path]["mode"], listed[path + "s"]["mode"]) == ("exclusive", "shared")
    assert (listed[lock]["waiters"], listed[path]["waiters"]) == (1, 0)
    assert (listed[path]["state"], listed[path + "s"]["state"]) == ("held", "stopped")


def test_nobody_is_an_empty_array_of_that_shape(run, lock, tmp_path):
    for name in (lock, f"file:{tmp_path}/lock"):
        answer = json.loads(run("--who", "--json", name).stdout)
        assert answer == {"version": 1, "who": []}


# --- --who with -j ---

@pytest.mark.parametrize("held, slots, status", [
    ((), None, 0), ((), 1, 0), ((0,), None, 4), ((0,), 1, 4), ((0,), 2, 0), ((0, 1), 2, 4),
    ((0, 1), 3, 0), ((1,), None, 4), ((1,), 1, 0), ((1,), 2, 0), ((1, 2), 2, 0)], ids=str)
def test_the_status_of_who_is_that_of_a_try_with_the_same_j(run, hold, lock, held, slots, status):
    holders = [hold(lock, "-j3") for _ in range(3)]
    for n, holder in enumerate(holders):
        if n not in held:
            holder.stdin.close()
            holder.wait(DEADLINE)
    options = [f"-j{slots}"] if slots else []
    r = run("--who", *options, lock)
    assert (r.returncode, r.stderr) == (status, b"")
    assert run("--who", "--json", *options, lock).returncode == status
    if slots:
        assert run(*options, lock, "true").returncode == status
        used = sum(n < slots for n in held)
        said = r.stdout.decode().split("\n")[0].removeprefix(lock + ": ")
        assert said.startswith("held by pid " if (used, slots) == (1, 1) else
                               f"all {slots} slots are" if used == slots else
                               f"{used} of {slots} slots are" if held else "free")


def test_a_file_has_no_slots_to_ask_about(run, tmp_path):
    r = run("--who", "-j2", f"file:{tmp_path}/lock")
    assert (r.returncode, r.stdout) == (2, b"") and b"-j" in r.stderr


# --- the holder ---

@pytest.mark.parametrize("name", ["n" * 100, WIDE], ids=["long", "wide"])
def test_a_narrow_waiting_line_has_the_age(terminal, hold, lock, name):
    lock += name
    holder = hold(lock)
    t = terminal("sh", "-c", 'stty cols 80; exec "$0" -w inf "$1" echo ran', ME_ONLY, lock)
    line = t.wait_for(rf"me-only: [^\r]*: waiting for pid {holder.job} \({user()}\), "
                      rf"(at most )?{AGE}").group().decode()
    assert line.startswith("me-only: " + lock[:8]) and width(line) < 80


@pytest.mark.parametrize("form", [(), ("-F",)], ids=["default", "no-fork"])
def test_a_stopped_holder_is_said_to_be_stopped(run, hold, lock, form):
    holder = hold(lock, *form)
    stop(holder.job)
    said = rf"held by pid {holder.job} \({user()}\), which is stopped, for (at most )?{AGE}: "
    r = run(lock, "true")
    assert r.returncode == 4 and re.search(said, r.stderr.decode()), r.stderr
    assert re.search(said, run("--who", lock).stdout.decode())
    r = run("-v", "-w", "0.1", lock, "true")
    assert re.search(rf"waiting for pid {holder.job} \({user()}\), (at most )?{AGE}, which is "
                     rf"stopped: ", r.stderr.decode()), r.stderr


@pytest.mark.parametrize("options", [[], ["-w", "0.1"], ["-w", "1", "--queue=1"], ["-q"]],
                         ids=" ".join)
def test_each_line_has_a_time_with_v(run, hold, start, lock, options):
    hold(lock)
    if "--queue=1" in options:
        start(ME_ONLY, "-w", "inf", "--queue=1", lock, "true")
        wait_for(lambda: waiters_of(lock), "it waits")
    r = run("-v", *options, lock, "true")
    assert r.returncode == 4
    lines = r.stderr.decode().splitlines()
    assert len(lines) >= ("-q" not in options), lines
    assert all(re.match(rf"me-only: {TIME} {re.escape(lock)}: ", line) for line in lines), lines


def test_failures_have_a_time_with_v(run, lock, tmp_path):
    for argv in ([lock, "/nonexistent"], [lock, str(tmp_path)],
                 [f"file:{tmp_path}/missing/lock", "true"]):
        lines = run("-v", *argv).stderr.decode().splitlines()
        assert lines and all(re.match(rf"me-only: {TIME} ", line) for line in lines), lines
        assert not re.search(TIME, run(*argv).stderr.decode())


# --- who ended whom ---

@pytest.fixture(params=["host", "file"])
def either(request, lock, tmp_path):
    return lock if request.param == "host" else f"file:{tmp_path}/lock"


def pid_of_sleep(p):
    """P's command prints its PID and becomes sleep."""
    pid = int(read_line(p.stdout))
    wait_for(lambda: pathlib.Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it is sleep")
    return pid


def test_both_sides_of_a_replacement_are_named(me_only, either):
    old = me_only(either, "sh", "-c", "echo $$; exec sleep 1000")
    job = pid_of_sleep(old)
    new = me_only("--replace", either, "echo", "ran")
    out, err = new.communicate(timeout=DEADLINE)
    assert (new.returncode, out) == (0, b"ran\n")
    said = old.communicate(timeout=DEADLINE)[1].decode()
    name = re.escape(either)
    assert re.fullmatch(rf"me-only: {name}: ended pid {job} \({user()}\) after (at most )?{AGE}: "
                        rf"sleep 1000\n", err.decode()), err
    assert re.fullmatch(rf"me-only: {name}: replaced by pid {new.pid} \({user()}\): \S*me-only "
                        rf"--replace {name} echo ran\n", said), said


def test_a_killed_job_is_named(me_only, lock):
    old = me_only(lock, "sh", "-c", "trap '' TERM; echo $$; exec sleep 1000")
    job = pid_of_sleep(old)
    err = me_only("--replace", "-k", "0.1", lock, "true").communicate(timeout=DEADLINE)[1]
    assert re.fullmatch(rf"me-only: {lock}: ended pid {job} \({user()}\) after {AGE}: "
                        r"sleep 1000\n", err.decode()), err


def test_with_q_neither_side_says_it(me_only, lock):
    old = me_only("-q", lock, "sh", "-c", "echo up; exec sleep 1000")
    assert read_line(old.stdout) == b"up\n"
    new = me_only("-q", "--replace", lock, "true")
    assert new.communicate(timeout=DEADLINE) == (b"", b"")
    assert old.communicate(timeout=DEADLINE)[1] == b""


def test_nobody_was_replaced(run, lock):
    r = run("--replace", lock, "true")
    assert (r.returncode, r.stderr) == (0, b"")


def test_other_signals_are_no_replacement(me_only, lock):
    """One of kill(1), and one that an outer me-only passes on."""
    p = me_only(lock, ME_ONLY, lock + "b", "sh", "-c", "echo up; exec sleep 1000")
    assert read_line(p.stdout) == b"up\n"
    p.send_signal(signal.SIGTERM)
    assert p.communicate(timeout=DEADLINE)[1] == b""
    assert p.returncode == -signal.SIGTERM


@pytest.mark.parametrize("argv, timed", [(["-v", "-w", "soon"], True), (["-vj", "0"], True), (["-v"], True),
                                         (["-w", "soon", "-v"], False)])
def test_a_usage_error_after_verbose_has_its_time(run, argv, timed):
    r = run(*argv)
    assert r.returncode == 2 and bool(re.match(rb"me-only: \d{4}-\d\d-\d\dT[\d:]+Z ", r.stderr)) == timed, r
