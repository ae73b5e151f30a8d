"""
--who: who holds one lock and who waits for it, as text and as JSON; and asking disturbs no process.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile

import pytest

from conftest import (BUILD, DEADLINE, ME_ONLY, address, children_of, forms, is_listed, name_of,
                      process_state, program, queue_of, read_line, refusal, release, user,
                      wait_for, waiters_of)
from shape import rows_of

with open(os.path.join(os.path.dirname(__file__), "stranger.py"), encoding="utf-8") as source:
    STRANGER = source.read()

AGE = r"(\d+(\.\d)?(ms|s|m|h|d)){1,2}"
OTHER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--")
HELPER = os.path.join(BUILD, "libexec", "me-only", "list")


@pytest.fixture
def who(call):
    """who(LOCK, prefix=, status=) returns the rows of --who --json."""

    def who_(lock, prefix=(), status=4, me_only=ME_ONLY, **kw):
        r = call(*prefix, me_only, "--who", "--json", lock, **kw)
        assert (r.returncode, r.stderr) == (status, b""), r
        return rows_of(json.loads(r.stdout), "who")

    return who_


@pytest.fixture
def for_everybody():
    """The directory of a copy of the program and its helper that every user can run."""
    directory = tempfile.mkdtemp(prefix="me-only-test-")
    os.makedirs(os.path.join(directory, "libexec", "me-only"))
    shutil.copy(ME_ONLY, directory)
    shutil.copy(HELPER, os.path.join(directory, "libexec", "me-only"))
    for path, _, _ in os.walk(directory):
        os.chmod(path, 0o755)
    os.chmod(os.path.join(directory, "libexec", "me-only", "list"), 0o755)
    yield directory
    shutil.rmtree(directory)


def first_line(call, lock, prefix=(), me_only=ME_ONLY, status=4, **kw):
    r = call(*prefix, me_only, "--who", lock, **kw)
    assert (r.returncode, r.stderr) == (status, b""), r
    return r.stdout.decode().split("\n")[0]


def listed(call, lock, prefix=(), me_only=ME_ONLY, missing=b""):
    """The one row of --list --json for the lock. MISSING: what it says that it cannot see."""
    r = call(*prefix, me_only, "--list", "--json")
    assert (r.returncode, r.stderr) == (0, missing), r
    rows = [row for row in rows_of(json.loads(r.stdout), "locks") if row["lock"] == lock]
    assert len(rows) == 1, rows
    return rows[0]


def without_ages(text):
    return re.sub(rf"for (at most )?{AGE}", "for AGE", text)


def roles(rows):
    return {(row["role"], row["pid"]) for row in rows}


def waiting(rows):
    return [row["pid"] for row in rows if row["role"] == "waiter"]


@pytest.fixture
def line(start, lock):
    """line(N) adds N waiters to the lock, each of them in line before the next starts."""
    n = 0

    def line_(count):
        nonlocal n
        added = []
        for _ in range(count):
            n += 1
            added.append(start(ME_ONLY, "-w", "inf", lock, "true", stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL))
            wait_for(lambda: waiters_of(lock) >= n, "it waits")
        return added

    return line_


# --- a lock ---

def test_a_free_lock(run, lock, who):
    r = run("--who", lock)
    assert (r.returncode, r.stdout, r.stderr) == (0, f"{lock}: free\n".encode(), b"")
    assert who(lock, status=0) == []
    assert run("--exit-base=100", "--who", lock).returncode == 0
    assert not is_listed(address(lock))


@forms
def test_the_job_and_what_belongs_to_it(hold, run, who, lock, form):
    holder = hold(lock, *form)
    wait_for(lambda: process_state(holder.job) == "S", "it waits for its input")
    r = run("--who", lock)
    assert r.returncode == 4 and r.stderr == b""
    lines = r.stdout.decode().splitlines()
    age = rf"{'at most ' if form == ('-F',) else ''}{AGE}"
    assert re.fullmatch(rf"{lock}: held by pid {holder.job} \({user()}\) for {age}: cat", lines[0])
    assert lines[1].split() == ["ROLE", "PID", "USER", "STATE", "SINCE", "AGE", "COMMAND"]
    assert re.fullmatch(
        rf"job +{holder.job} {user()} +sleeping +([-0-9]{{10}}|[:0-9]{{8}}) +<?{AGE} +cat", lines[2])
    assert run("--exit-base=100", "--who", lock).returncode == 104
    rows = who(lock)
    job = rows[0]
    assert (job["lock"], job["role"], job["pid"], job["uid"],
            job["state"], job["process"]) == \
        (lock, "job", holder.job, os.geteuid(), "held", "sleeping")
    assert (job["slot"], job["place"], job["command"], job["hidden"]) == (0, None, "cat", None)
    assert job["at_most"] is (form == ("-F",)) and isinstance(job["since"], float) \
        and isinstance(job["age"], float)
    expected = {("job", holder.job)} | ({("wrapper", holder.pid)} if form != ("-F",) else set())
    assert {row for row in roles(rows) if row[0] != "keeper"} == expected


def test_the_keeper_is_told_apart(hold, who, lock):
    holder = hold(lock, "-o")
    keeper = [pid for pid in children_of(holder.pid) if name_of(pid) == "me-only keeper"]
    assert roles(who(lock)) == {("job", holder.job), ("wrapper", holder.pid), ("keeper", keeper[0])}


def test_children_that_inherited_it(me_only, who, lock):
    p = me_only(lock, "sh", "-c", "sleep 1000 & echo $!; exec sleep 1001")
    child = int(read_line(p.stdout))
    assert ("child", child) in roles(who(lock))


def test_a_me_only_inside_the_job(me_only, who, lock):
    """
    It is the job of the outer lock; and the process that keeps the inner lock for it is not the
    outer one's keeper.
    """
    p = me_only(lock, ME_ONLY, lock + "b", "sh", "-c", "echo $$; exec sleep 1000")
    inner_job = int(read_line(p.stdout))
    inner = wait_for(lambda: [pid for pid in children_of(p.pid) if name_of(inner_job) == "sleep"],
                     "it runs")[0]
    outer = {(role, pid) for role, pid in roles(who(lock)) if role != "keeper"}
    assert {("job", inner), ("wrapper", p.pid), ("child", inner_job)} <= outer
    assert {("job", inner_job), ("wrapper", inner)} <= roles(who(lock + "b"))


def test_a_stopped_job_is_shown_as_stopped(hold, run, who, call, lock):
    holder = hold(lock, "-F")
    os.kill(holder.job, signal.SIGSTOP)
    wait_for(lambda: process_state(holder.job) == "T", "it is stopped")
    assert who(lock)[0]["state"] == "stopped"
    assert listed(call, lock)["state"] == "stopped"


# --- agreement of the message, --who and --list ---

def job_is_alone(hold, lock):
    holder = hold(lock)
    holder.kill()
    holder.wait()
    return holder.job


def daemon_inherited(start, lock):
    p = start(ME_ONLY, lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    pid = int(read_line(p.stdout))
    assert p.wait(DEADLINE) == 0
    # The shell does not wait for that.
    wait_for(lambda: pathlib.Path(f"/proc/{pid}/comm").read_text() == "sleep\n", "it is sleep")
    return pid


@pytest.mark.parametrize("scene", ["default", "-F", "-o", "me-only killed", "inherited",
                                   "stopped me-only"])
def test_the_three_agree(hold, start, run, call, who, lock, scene):
    if scene == "me-only killed":
        pid = job_is_alone(hold, lock)
    elif scene == "inherited":
        pid = daemon_inherited(start, lock)
    else:
        holder = hold(lock, *[scene] if scene.startswith("-") else [])
        pid = holder.job
        if scene.startswith("stopped"):
            os.kill(holder.pid, signal.SIGSTOP)
            wait_for(lambda: process_state(holder.pid) == "T", "it is stopped")
    said = refusal(run, lock).rstrip("\n")
    assert f"held by pid {pid} ({user()})" in said
    assert without_ages("me-only: " + first_line(call, lock)) == without_ages(said)
    rows = who(lock)
    assert (rows[0]["pid"], rows[0]["role"]) == (pid, "child" if scene == "inherited" else "job")
    row = listed(call, lock)
    assert (row["pid"], row["user"], row["command"]) == (pid, rows[0]["user"], rows[0]["command"])
    assert row["state"] == ("inherited" if scene == "inherited" else "held")
    assert row["at_most"] == rows[0]["at_most"] == ("for at most" in said)


def test_lies_of_a_stranger_of_this_user(hold, start, run, call, who, lock):
    """
    A replayed greeting of another lock: the process named is one that has the socket, not the other
    lock's job.
    """
    victim = hold(lock)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect(address(lock))
        greeting = s.recv(65536)
    theirs = lock + "x"
    p = start(sys.executable, "-ISc", STRANGER, address(theirs).hex(), "replay", greeting.hex(),
              stdin=subprocess.PIPE)
    assert read_line(p.stdout) == b"ready\n"
    assert without_ages("me-only: " + first_line(call,
                                                 theirs)) == \
        without_ages(refusal(run, theirs).rstrip("\n"))
    assert (who(theirs)[0]["pid"], listed(call, theirs)["pid"]) == (p.pid, p.pid)
    assert victim.job not in [row["pid"] for row in who(theirs)]


@pytest.mark.root
def test_a_pid_that_was_used_again_is_not_named(call, lock, for_everybody):
    """
    In its own PID namespace the next PID can be chosen: another process gets the job's PID once the
    job has ended.
    """
    script = """
        "$0/me-only" "$1" sh -c 'sleep 1000 & echo $$ $! >&3' 3>"$2/pids"
        read job child <"$2/pids"
        echo $((job - 1)) >/proc/sys/kernel/ns_last_pid
        sleep 1001 & other=$!
        "$0/me-only" --who "$1" >"$2/who"
        "$0/me-only" --list --json >"$2/list"
        "$0/me-only" "$1" true 2>"$2/said"
        echo $job $child $other
    """
    with tempfile.TemporaryDirectory() as directory:
        r = call("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script,
                 for_everybody, lock, directory)
        job, child, other = r.stdout.split()
        assert job == other, "the number was used again"

        def read(name):
            with open(os.path.join(directory, name), encoding="utf-8") as f:
                return f.read()

        said = read("said").rstrip("\n")
        assert f"held by pid {child.decode()} (root), left running by" in said
        assert without_ages("me-only: " + read("who").split("\n")[0]) == without_ages(said)
        assert [row["pid"] for row in json.loads(read("list"))["locks"]
                if row["lock"] == lock] == [int(child)]


# --- waiters ---

def test_waiters_in_their_order(hold, line, run, who, lock):
    holder = hold(lock)
    waiters = line(6)
    rows = wait_for(lambda: [r for r in [who(lock)] if len(waiting(r)) == 6], "all are shown")[0]
    assert waiting(rows) == [p.pid for p in waiters]
    assert [row["place"] for row in rows if row["role"] == "waiter"] == [1, 2, 3, 4, 5, 6]
    for row in rows[-6:]:
        assert row["at_most"] is True and row["process"] == "sleeping" and row["state"] == "waiting" \
            and row["uid"] == os.geteuid()
        assert row["command"] == f"{ME_ONLY} -w inf {lock} true"
    text = run("--who", lock).stdout.decode()
    assert re.search(
        rf"^waiter +1 +{waiters[0].pid} {user()} +sleeping .*<{AGE} +{re.escape(ME_ONLY)} -w inf "
        rf"{lock} true$", text, re.M)
    assert release(holder) == 0


@pytest.mark.parametrize("gone", [(0,), (1,), (2,), (0, 1), (1, 2), (4,), (5,)], ids=str)
def test_waiter_that_has_gone_is_not_shown(hold, line, who, call, lock, gone):
    """
    Whichever of the front, its successors and the others ends, the order of the remaining ones is
    shown.
    """
    hold(lock)
    waiters = line(6)
    for i in gone:
        waiters[i].kill()
        waiters[i].wait()
    left = [p.pid for i, p in enumerate(waiters) if i not in gone]
    wait_for(lambda: waiting(who(lock)) == left, "those who are left are shown in their order")
    # The kernel leaves some out of a long table while others, of other tests, are closed.
    wait_for(lambda: listed(call, lock)["waiters"] == len(left), "all are counted")


def test_a_stopped_waiter_is_shown_as_stopped(hold, line, who, lock):
    hold(lock)
    waiters = line(5)
    os.kill(waiters[4].pid, signal.SIGSTOP)
    wait_for(lambda: [row["state"] for row in who(lock) if row["pid"] == waiters[4].pid]
             == ["stopped"], "it is shown as stopped")


# Connects to a queue as waiters do, from so many processes, one after the other. Each line that it
# reads ends the process with that number.
CROWD = '''
import os, signal, socket, sys
for _ in range(int(sys.argv[2])):
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(bytes.fromhex(sys.argv[1]))
        os.close(theirs)
        signal.pause()
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    print(pid, flush=True)
for line in sys.stdin:
    os.kill(int(line), signal.SIGKILL)
    os.waitpid(int(line), 0)
    print("ended", flush=True)
'''


def test_a_thousand_and_more_waiters(hold, line, who, call, lock, start):
    """The first ones are real: the front, its successors, one in line. To the kernel all are alike."""
    hold(lock)
    waiters = [p.pid for p in line(4)]
    crowd = start(sys.executable, "-ISc", CROWD, queue_of(lock).hex(), "1200", stdin=subprocess.PIPE)
    waiters += [int(read_line(crowd.stdout)) for _ in range(1200)]
    assert waiting(who(lock)) == waiters
    dead = waiters[7::7]
    for pid in dead:
        crowd.stdin.write(b"%d\n" % pid)
        crowd.stdin.flush()
        assert read_line(crowd.stdout) == b"ended\n"
    left = [pid for pid in waiters if pid not in dead]
    assert waiting(who(lock)) == left
    assert listed(call, lock)["waiters"] == len(left)


# --- slots ---

def slots_line(text):
    return text.decode().split("\n")[0].partition(": ")[2]


@pytest.mark.parametrize("held, said", [
    ((0,), "1 of 3 slots are in use, 2 are free"), ((0, 1), "2 of 3 slots are in use, 1 is free"),
    ((0, 1, 2), "all 3 slots are in use"),
    ((2,), "1 of 3 slots are in use, 2 are free"), ((), "free")], ids=str)
def test_how_many_slots_are_free(hold, run, who, lock, held, said):
    holders = [hold(lock, "-j3") for _ in range(3)]
    for n, h in enumerate(holders):
        if n not in held:
            assert release(h) == 0
    r = run("--who", lock)
    assert (r.returncode, slots_line(r.stdout), r.stderr) == (4 if held else 0, said, b"")
    assert [(row["slot"], row["pid"]) for row in who(lock, status=4 if held else 0)
            if row["role"] == "job"] == \
        [(n, holders[n].job) for n in held]


@forms
def test_all_holders_and_what_belongs_to_them(hold, run, who, lock, form):
    holders = [hold(lock, *form, "-j3") for _ in range(3)]
    rows = [row for row in who(lock) if row["role"] != "keeper"]
    wrappers = [] if form == ("-F",) else ["wrapper"]
    assert [(row["role"], row["slot"], row["pid"]) for row in rows] == \
        [(role, n, h.job if role == "job" else h.pid) for n, h in enumerate(holders)
         for role in ["job", *wrappers]]
    for row in who(lock):
        assert (row["lock"], row["place"], row["hidden"],
                row["uid"]) == (lock, None, None, os.geteuid())
    lines = run("--who", lock).stdout.decode().splitlines()
    assert lines[1].split() == ["ROLE", "SLOT", "PID", "USER", "STATE", "SINCE", "AGE", "COMMAND"]
    jobs = [line.split()[:3] for line in lines if line.startswith("job ")]
    assert jobs == [["job", str(n), str(h.job)] for n, h in enumerate(holders)]


def test_the_tables_are_read_as_often_however_many_slots(hold, call, lock, tmp_path):
    trace = tmp_path / "trace"

    def readings():
        call("strace", "-f", "-o", trace, "-e", "trace=sendto,open,openat", ME_ONLY, "--who", lock)
        calls = trace.read_text()
        return calls.count("nlmsg_len"), calls.count('"/proc"')

    for _ in range(20):
        hold(lock, "-j20")
    # When others close sockets meanwhile, it looks again.
    tables, walks = min(readings() for _ in range(4))
    assert tables <= 5 and walks == 1


def test_the_keeper_of_each_slot(hold, who, lock):
    holders = [hold(lock, "-o", "-j2") for _ in range(2)]
    keepers = [[pid for pid in children_of(h.pid) if name_of(pid) == "me-only keeper"]
               for h in holders]
    assert {(row["slot"], row["pid"]) for row in who(lock)
            if row["role"] == "keeper"} == {(n, k[0]) for n, k in enumerate(keepers)}


def test_a_child_in_a_slot(hold, run, who, lock):
    hold(lock, "-j2")
    left = int(run("-j2", lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").stdout)
    assert {(row["role"], row["slot"], row["pid"]) for row in who(lock)
            if row["slot"] == 1} == {("child", 1, left)}
    assert slots_line(run("--who", lock).stdout) == "all 2 slots are in use"


def test_a_plain_holder_beside_those_with_slots(hold, run, who, lock):
    plain, other = hold(lock), hold(lock, "-j4")
    assert slots_line(run("--who", lock).stdout) == "2 of 4 slots are in use, 2 are free"
    assert [(row["slot"], row["pid"]) for row in who(lock)
            if row["role"] == "job"] == [(0, plain.job), (1, other.job)]


def test_a_lock_with_one_slot_is_shown_as_a_plain_one(hold, run, lock):
    holder = hold(lock, "-j1")
    lines = run("--who", lock).stdout.decode().splitlines()
    assert re.fullmatch(rf"{lock}: held by pid {holder.job} \({user()}\) for {AGE}: cat", lines[0])
    assert "SLOT" not in lines[1]


def test_waiters_for_slots_in_their_order(hold, start, run, who, lock):
    """They have no slot yet. Waiters for another number of slots stand in another line."""
    for _ in range(2):
        hold(lock, "-j2")
    waiters = []
    for n in range(5):
        waiters.append(start(ME_ONLY, "-w", "inf", "-j2", lock, "true"))
        wait_for(lambda: waiters_of(lock, 2) > n, "it waits")
    rows = wait_for(lambda: [r for r in [who(lock)] if len(waiting(r)) == 5], "all are shown")[0]
    assert waiting(rows) == [p.pid for p in waiters]
    assert [(row["slot"], row["place"]) for row in rows
            if row["role"] == "waiter"] == [(None, n) for n in range(1, 6)]
    text = run("--who", lock).stdout.decode()
    assert re.search(rf"^waiter +1 +{waiters[0].pid} {user()} +sleeping ", text, re.M)
    plain = start(ME_ONLY, "-w", "inf", lock, "true")
    wait_for(lambda: waiters_of(lock) == 1, "it waits")
    rows = wait_for(lambda: [r for r in [who(lock)] if len(waiting(r)) == 6], "all are shown")[0]
    assert {(row["pid"], row["place"]) for row in rows if row["role"] == "waiter"} == \
        {(plain.pid, 1), *((p.pid, n + 1) for n, p in enumerate(waiters))}


def test_waiters_for_slots_show_how_many_there_are(hold, start, run, lock):
    """The holder in slot 0 was started without."""
    hold(lock)
    hold(lock, "-F", "-j2")
    assert slots_line(run("--who", lock).stdout) == "all 2 slots are in use"
    hold(lock, "-F", "-j3")
    start(ME_ONLY, "-w", "inf", "-j3", lock, "true")
    wait_for(lambda: waiters_of(lock, 3) == 1, "it waits")
    assert slots_line(run("--who", lock).stdout) == "all 3 slots are in use"


@pytest.mark.root
def test_strangers_in_slots(start, hold, who, lock, for_everybody):
    ours = hold(lock, "-j2")
    p = start(*OTHER, os.path.join(for_everybody, "me-only"), "-j2", lock, "sh", "-c",
              "echo $$; exec sleep 1000")
    job = int(read_line(p.stdout))
    assert [(row["slot"], row["pid"], row["user"]) for row in who(lock)
            if row["role"] == "job"] == [(0, ours.job, "root"), (1, job, "nobody")]
    rows = who(lock, OTHER, me_only=os.path.join(for_everybody, "me-only"))
    assert [(row["slot"], row["pid"]) for row in rows
            if row["role"] == "job"] == [(0, ours.job), (1, job)]
    # For a stranger's job, the descendants in its slot cannot be seen.
    assert [row["slot"] for row in rows if row["role"] == "child" and row["pid"] is None] == [0]


# --- asking disturbs no process ---

def pending(lock):
    """How many connections wait to be accepted at the lock's name."""
    r = subprocess.run(["ss", "-xlnH"], capture_output=True, text=True, timeout=DEADLINE,
                       check=True, errors="replace")  # others' names
    return [int(row.split()[2]) for row in r.stdout.splitlines() if f"@me-only:{lock} " in row][0]


def resident(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1])


def test_questions_leave_nothing_behind(hold, line, lock, call):
    """
    Many: whatever each of them left behind, a descriptor, a page, an entry in the backlog,
    would be there as many times.
    """
    holder = hold(lock)
    waiters = line(3)
    wait_for(lambda: any(name_of(pid) == "me-only keeper" for pid in children_of(holder.pid)),
             "it has all that it will have")
    ask = [f'for i in $(seq {{}}); do "{ME_ONLY}" --who "{lock}" >/dev/null; done'] * 2
    call("sh", "-c", ask[0].format(20))
    descriptors, pages = len(os.listdir(f"/proc/{holder.pid}/fd")), resident(holder.pid)
    call("sh", "-c", ask[1].format(150), timeout=10 * DEADLINE)
    wait_for(lambda: len(os.listdir(f"/proc/{holder.pid}/fd")) <= descriptors
             and pending(lock) == 0, "nothing is left")
    assert resident(holder.pid) <= pages + 8
    assert waiters_of(lock) == 3 and all(p.poll() is None for p in waiters)


def test_questions_do_not_fill_the_backlog_of_no_fork(hold, lock, call):
    hold(lock, "-F")
    call("sh", "-c",
         f'for i in $(seq 200); do "{ME_ONLY}" --who "{lock}"; "{ME_ONLY}" --list; done >/dev/null',
         timeout=10 * DEADLINE)
    # 17, and parallel tests also list all locks: several may look at the same moment
    assert pending(lock) <= 32


def test_a_question_never_joins_the_queue(start, lock, call, hold):
    hold(lock)
    p = start(sys.executable, "-ISc", STRANGER, queue_of(lock).hex(), "mute", stdin=subprocess.PIPE)
    assert read_line(p.stdout) == b"ready\n"
    first_line(call, lock)
    call(ME_ONLY, "--list")
    p.stdin.close()
    assert p.stdout.read() == b""


# --- what cannot be seen ---

@pytest.mark.root
def test_another_users_view(hold, line, who, call, lock, for_everybody):
    holder = hold(lock)
    line(4)
    me_only = os.path.join(for_everybody, "me-only")
    rows = who(lock, OTHER, me_only=me_only)
    assert (rows[0]["role"], rows[0]["pid"], rows[0]["user"],
            rows[0]["command"]) == ("job", holder.job, "root", "cat")
    assert [row["hidden"] for row in rows
            if row["role"] == "child"] == \
        ["other users' processes may also hold it"]
    waiters = [row for row in rows if row["role"] == "waiter"]
    assert [row["place"] for row in waiters] == [1, 2, 3,
                                                 4] and {row["user"] for row in waiters} == {"root"}
    assert {(row["pid"], row["hidden"])
            for row in waiters} == {(None, "/proc does not show its process")}
    assert "(/proc does not show its process)" in call(*OTHER, me_only, "--who", lock).stdout.decode()


@pytest.mark.root
def test_a_stranger_is_called_one(start, call, run, who, lock, for_everybody):
    p = start(*OTHER, os.path.join(for_everybody, "me-only"), lock, "sh", "-c",
              "echo $$; exec sleep 1000")
    job = int(read_line(p.stdout))
    wait_for(lambda: name_of(job) == "sleep", "the job is what it will be")
    said = first_line(call, lock)
    assert f"held by pid {job} (nobody, neither this user nor root) for at most " in said
    assert without_ages("me-only: " + said) == without_ages(refusal(run, lock).rstrip("\n"))
    assert roles(who(lock)) >= {("job", job), ("wrapper", p.pid)}


@pytest.mark.root
def test_a_holder_in_another_pid_namespace(hold, lock, run, who, call):
    """From inside a namespace the PIDs outside have no names."""
    hold(lock)
    inside = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    why = "in another PID namespace"
    assert first_line(call, lock, inside) == f"{lock}: held by a hidden process ({why})"
    rows = who(lock, inside)
    assert (rows[0]["pid"], rows[0]["hidden"], rows[0]["uid"]) == (None, why, 0)
    row = listed(call, lock, inside,
                 missing=b"me-only: some file locks may be missing: those from outside this PID "
                         b"namespace are not shown\n")
    assert (row["state"], row["pid"], row["hidden"]) == ("hidden", None, why)


@pytest.mark.root
def test_a_proc_that_hides_others(hold, lock, call, for_everybody):
    holder = hold(lock)
    inside = ("unshare", "--mount", "sh", "-c",
              'mount -t proc -o hidepid=2 proc /proc && exec "$@"', "sh", *OTHER)
    r = call(*inside, os.path.join(for_everybody, "me-only"), "--who", "--json", lock)
    assert r.returncode == 4
    job = json.loads(r.stdout)["who"][0]
    assert (job["pid"], job["user"], job["process"], job["hidden"]) == (
        holder.job, "root", None, "/proc does not show its process")


def test_a_policy_that_forbids_to_connect(hold, lock, call, who):
    hold(lock)
    prefix = (program("forbid"), "connect=EPERM", "landlock")
    if call(*prefix, "/bin/true").returncode == 125:
        prefix = prefix[:2]
    assert first_line(call, lock, prefix).startswith(f"{lock}: held")
    rows = who(lock, prefix)
    if rows[0]["pid"] is None:
        assert rows[0]["hidden"].startswith("a policy forbids connecting")


@pytest.mark.root
def test_a_queue_that_somebody_else_has_made(hold, start, lock, who):
    hold(lock)
    p = start(*OTHER, sys.executable, "-ISc", STRANGER, queue_of(lock).hex(), "mute",
              stdin=subprocess.PIPE, cwd="/")
    assert read_line(p.stdout) == b"ready\n"
    rows = [row for row in who(lock) if row["role"] == "waiter"]
    assert [(row["pid"], row["hidden"])
            for row in rows] == [(None, "a queue that another user created is left out")]


# --- names ---

NAMES = {"utf-8": ("zürich-日本", "zürich-日本"), "control": ("a\x1b[2Jb\n", r"a\x1b[2Jb\x0a"),
         "backslash": (r"a\x41", r"a\\x41"),
         "not utf-8": (b"a\xff\xfe", r"a\xff\xfe"), "bidi": ("a\u202eb", r"a\xe2\x80\xaeb"),
         "quote": ('a"b', 'a"b'),
         "prefix": ("host:etdc:x", "host:etdc:x"), "long": ("long" * 50, "long" * 50),
         "very long": ("é" * 30000, "é" * 30000)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_are_exact_and_harmless(me_only, call, lock, name, locale):
    given, shown = NAMES[name]
    given = os.fsencode(given) + os.fsencode(lock)
    shown += lock
    p = me_only("-F", given, "sh", "-c", "echo up; exec sleep 1000")
    assert read_line(p.stdout) == b"up\n"
    env = dict(os.environ, LC_ALL=locale)
    r = call(ME_ONLY, "--who", "--json", given, env=env)
    assert r.returncode == 4 and json.loads(r.stdout.decode())["who"][0]["lock"] == shown
    assert listed(call, shown)["pid"] == p.pid
    for text in (call(ME_ONLY, "--who", given, env=env).stdout.decode(),
                 call(ME_ONLY, "--list", env=env).stdout.decode()):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert shown in text


# --- what can go wrong ---

@pytest.mark.parametrize("question", ["--who", "--list"])
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_output_that_cannot_be_written(hold, call, lock, question, options):
    hold(lock)
    argv = [ME_ONLY, "--exit-base=50", question, *options, *([lock] if question == "--who" else [])]
    with open("/dev/full", "wb") as full:
        r = call(*argv, stdout=full)
    assert (r.returncode, r.stderr) == (53,
                                        b"me-only: standard output: cannot write: No space left on "
                                        b"device\n")
    reader, writer = os.pipe()
    os.close(reader)
    r = call(*argv, stdout=writer)
    # As "--list | head -1" ends it.
    assert (r.returncode, r.stderr) == (-signal.SIGPIPE, b"")
    r = call("env", "--ignore-signal=PIPE", *argv, stdout=writer)
    os.close(writer)
    assert (r.returncode, r.stderr) == (53,
                                        b"me-only: standard output: cannot write: Broken pipe\n")
    r = call("sh", "-c", 'exec "$@" >&-', "sh", *argv)
    assert (r.returncode, r.stderr) == (53,
                                        b"me-only: standard output: cannot write: Bad file "
                                        b"descriptor\n")


@pytest.mark.parametrize("question", ["--who", "--list"])
def test_a_table_of_sockets_that_cannot_be_read(call, lock, question):
    r = call(program("forbid"), "socket=EACCES", ME_ONLY, "--exit-base=50", question,
             *([lock] if question == "--who" else []))
    assert (r.returncode, r.stdout) == (53, b"")
    assert r.stderr.startswith(
        b"me-only: the kernel's socket table: cannot be read: Permission denied (")


def test_a_helper_that_is_missing(run, lock, tmp_path):
    r = run("--exit-base=50", "--who", lock, env=dict(os.environ, ME_ONLY_EXEC_PATH=str(tmp_path)))
    assert (r.returncode, r.stdout) == (53, b"")
    assert r.stderr == \
        (f"me-only: {tmp_path}/list: cannot run the helper for --who and --list: No such file "
         f"or directory; "
         "it is built with libsmartcols and libmnl\n").encode()


@pytest.mark.parametrize("what", ["file", "directory"])
def test_a_helper_that_others_can_write(run, lock, tmp_path, what):
    tmp_path.chmod(0o755)
    path = shutil.copy(HELPER, tmp_path)
    os.chmod(path if what == "file" else tmp_path, 0o777)
    assert stat.S_IMODE(os.stat(path if what == "file" else tmp_path).st_mode) == 0o777
    r = run("--who", lock, env=dict(os.environ, ME_ONLY_EXEC_PATH=str(tmp_path)))
    assert (r.returncode, r.stdout) == (3, b"")
    assert r.stderr.decode().endswith(
        "list: refusing to run the helper for --who and --list: it or its directory is writable by others\n")


@pytest.mark.static
def test_a_helper_that_the_kernel_refuses_is_not_one_that_others_can_write(call, lock, tmp_path):
    r = call("strace", "-o", str(tmp_path / "trace"), "-e", "trace=execveat", "-e",
             "inject=execveat:error=EPERM",
             ME_ONLY, "--who", lock)
    assert (r.returncode, r.stdout) == (3, b"")
    assert r.stderr.decode().endswith("--list: Operation not permitted\n"), r.stderr


@pytest.mark.parametrize("arguments", [[], ["x", "true"], ["--who"], ["--no-such-option"]], ids=str)
def test_the_helper_by_itself(call, arguments):
    r = call(HELPER, *arguments)
    assert (r.returncode, r.stdout) == (2, b"")
    assert r.stderr == b"me-only: list: part of me-only; use me-only --who or me-only --list\n"
