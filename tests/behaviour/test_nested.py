"""
A job that asks for a lock that it already holds is refused at once, and never waits for itself
(rule 14).
"""
import os
import re
import signal
import subprocess

import pytest

from conftest import (DEADLINE, ME_ONLY, address, children_of, forms, is_bound, process_state,
                      program, refusal, release, user, wait_for)

CLOSING = [program("caller"), "-C", "3"]

# Ways from a job to a me-only below it; "$@" is the command line.
WAYS = {
    "direct": [],
    "sh": ["sh", "-c", '"$@"; exit $?', "sh"],
    "shells": ["sh", "-c",
               'sh -c \'bash -c "\\"\\$@\\"; exit \\$?" bash "$@"; exit $?\' sh "$@"; exit $?',
               "sh"],
    "emptied environment": ["env", "-i"],
    "own session": ["setsid", "--wait"],
    "other directory": ["env", "-C", "/"],
    "time limit": ["timeout", "60"],
}

# With -F only the command has the lock, and may drop it by closing its descriptors; otherwise not.
CLOSING_WAYS = {"closed descriptors": CLOSING, "both": ["env", "-i", *CLOSING]}
CASES = [(form, way) for form in ((), ("-F",), ("-o",)) for way in WAYS] + \
        [(form, way) for form in ((), ("-o",)) for way in CLOSING_WAYS]

# The same through a command that changes its user, or could.
ROOTS_WAYS = {
    "sudo": ["sudo", "-n"],
    "sudo as nobody": ["sudo", "-n", "-u", "nobody"],
    "su": ["su", "-s", "/bin/sh", "-c", 'exec "$0" "$@"', "root", "--"],
    "su as nobody": ["su", "-s", "/bin/sh", "-c", 'exec "$0" "$@"', "nobody", "--"],
    "setpriv as nobody": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
    "mount namespace": ["unshare", "--mount"],
}

forms_and_ways = pytest.mark.parametrize("form, way", [(form, (WAYS | CLOSING_WAYS)[way])
                                                       for form, way in CASES],
                                         ids=[f"{way}{''.join(form)}" for form, way in CASES])
roots_ways = pytest.mark.parametrize("way", ROOTS_WAYS.values(), ids=ROOTS_WAYS.keys())
asking = pytest.mark.parametrize("ask", [(), ("-w", "inf"), ("-F",), ("-w", "inf", "-o")],
                                 ids=["now", "waiting", "no-fork", "waiting, close"])


def assert_told_so(r, lock, status=4):
    """The inner me-only's answer, which is the whole outcome of the outer one."""
    assert (r.returncode, r.stdout) == (status, b""), r
    message = r.stderr.decode()
    assert re.fullmatch(rf"me-only: {lock}: this job already holds it[^\n]*\n", message), message


# --- a job under the lock asks for it ---

@asking
@forms_and_ways
def test_a_job_that_asks_for_its_own_lock_is_told_so_at_once(run, lock, form, ask, way):
    assert_told_so(run(*form, lock, *way, ME_ONLY, *ask, lock, "echo", "ran"), lock)
    assert not is_bound(address(lock))


@pytest.mark.root
@forms
@pytest.mark.parametrize("ask", [(), ("-w", "inf")], ids=["now", "waiting"])
@roots_ways
def test_so_is_one_by_way_of_another_user(run, lock, public_me_only, form, ask, way):
    assert_told_so(run(*form, lock, *way, public_me_only, *ask, lock, "echo", "ran"), lock)


@pytest.mark.parametrize("depth", [1, 30, 31, 32, 33, 70])
def test_however_deep_below_the_job(run, lock, tmp_path, depth):
    """With -o it does not have the socket: only its ancestors tell."""
    script = tmp_path / "script"
    script.write_text('[ $1 = 0 ] || { sh "$0" $(($1 - 1)) "$2" "$3"; exit; }\n'
                      '"$2" -w inf "$3" true\nexit\n')
    assert_told_so(run("-o", lock, "sh", script, str(depth), ME_ONLY, lock), lock)


@forms
def test_the_message_says_who(run, lock, form):
    script = 'echo $$; "$@" "$0" true; exit $?'
    r = run(*form, lock, "sh", "-c", script, lock, ME_ONLY)
    whom = rf"held by pid {int(r.stdout)} \({user()}\)"
    message = r.stderr.decode()
    assert re.fullmatch(rf"me-only: {lock}: this job already holds it: {whom}[^\n]*\n",
                        message), message


@forms
def test_other_spellings_of_the_name_are_the_same_lock(run, lock, form):
    assert_told_so(run(*form, lock, ME_ONLY, "-w", "inf", "host:" + lock, "true"), "host:" + lock)


def test_long_names_too(run, lock):
    name = lock + "x" * 10_000
    r = run(name, ME_ONLY, "-w", "inf", name, "true")
    assert r.returncode == 4 and b"this job already holds it" in r.stderr


@forms
def test_the_conflict_status_is_not_for_this(run, lock, form):
    """
    A caller that treats a conflict as success must not mistake a job that can never run for one.
    """
    assert_told_so(run(*form, lock, ME_ONLY, "-E", "0", lock, "true"), lock)
    assert_told_so(run(*form, lock, ME_ONLY, "--exit-base=100", "-E", "0", lock, "true"), lock, 104)


@forms
@pytest.mark.parametrize("depth", [1, 5])
def test_several_locks_are_held_at_once(run, lock, form, depth):
    """Each job holds its own lock and all those above it."""
    above = [word for i in range(depth) for word in (ME_ONLY, *form, f"{lock}/{i}")]
    assert run(*above[1:], "echo", "ran").stdout == b"ran\n"
    for i in range(depth):
        assert_told_so(run(*above[1:], ME_ONLY, "-w", "inf", f"{lock}/{i}", "true"), f"{lock}/{i}")
        assert run(*above[1:], ME_ONLY, "--held", f"{lock}/{i}").returncode == 0
    assert run(*above[1:], ME_ONLY, f"{lock}/other", "echo", "ran").stdout == b"ran\n"


# --- when processes in between have been killed ---

@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
@pytest.mark.parametrize("way", [[], ["env", "-i"]], ids=["", "emptied environment"])
def test_after_me_only_was_killed(start, lock, form, way):
    """By its inherited socket, or, with -o, by its keeper, which holds the lock for it."""
    script = 'kill -KILL $PPID; "$@" -w inf "$0" echo ran; echo $?; "$@" --held "$0"; echo $?'
    p = start(ME_ONLY, *form, lock, "sh", "-c", script, lock, *way, ME_ONLY)
    assert p.wait(DEADLINE) == -signal.SIGKILL
    out, err = p.communicate(timeout=DEADLINE)
    assert out == b"4\n0\n"
    assert b"this job already holds it" in err


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_after_me_only_was_killed_and_the_descriptors_were_closed(start, lock, form):
    """Only the keeper has the lock, on behalf of this job."""
    p = start(ME_ONLY, *form, lock, *CLOSING, "sh", "-c",
              'echo; read line; "$@" -w inf "$0" echo ran; echo $?; '
              '"$@" --held "$0"; echo $?', lock, ME_ONLY, stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"\n"
    wait_for(lambda: any("keeper" in open(f"/proc/{k}/comm").read() for k in children_of(p.pid)),
             "a keeper")
    p.kill()
    p.wait(DEADLINE)
    out, _ = p.communicate(b"\n", timeout=DEADLINE)
    assert out == b"4\n0\n"


def test_a_child_left_running_holds_the_lock_that_it_inherited(start, lock, tmp_path):
    script = '(read line; "$@" -w inf "$0" echo ran; echo $?) <"$FIFO" & :'
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    p = start(ME_ONLY, lock, "sh", "-c", script, lock, ME_ONLY,
              env={**os.environ, "FIFO": str(fifo)})
    assert p.wait(DEADLINE) == 0
    fifo.write_text("\n")
    out, err = p.communicate(timeout=DEADLINE)
    assert out == b"4\n"
    assert b"this job already holds it" in err


# --- processes that are not under the lock ---

@pytest.mark.parametrize("words, outcome", [(["--held"], b"1\n"), ([], b"ran\n0\n"),
                                            (["-w", "inf"], b"ran\n0\n")],
                         ids=["held", "now", "waiting"])
def test_a_daemon_that_merely_inherited_the_variable_gets_the_free_lock(
        start, lock, tmp_path, words, outcome):
    """
    With -o it has no descriptor of the lock either, and the job that started it ended long ago.
    """
    script = 'setsid sh -c \'read line; "$@"; echo $?\' sh "$@" <"$FIFO" & :'
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [] if words == ["--held"] else ["echo", "ran"]
    p = start(ME_ONLY, "-o", lock, "sh", "-c", script, "sh", ME_ONLY, *words, lock, *command,
              env={**os.environ, "FIFO": str(fifo)})
    assert p.wait(DEADLINE) == 0
    fifo.write_text("\n")
    assert p.communicate(timeout=DEADLINE)[0] == outcome


def test_the_variable_alone_proves_nothing(run, hold, lock):
    env = {**os.environ, "ME_ONLY_LOCK": lock}
    assert run("--held", lock, env=env).returncode == 1
    assert run(lock, "echo", "ran", env=env).stdout == b"ran\n"
    holder = hold(lock)
    r = run(lock, "echo", "ran", env=env)
    assert r.returncode == 4
    assert f"held by pid {holder.job} (" in r.stderr.decode()
    assert run("--held", lock, env=env).returncode == 1


@forms
def test_a_job_of_another_lock_is_not_under_this_one(hold, run, lock, form):
    holder = hold(lock, *form)
    r = run(*form, lock + "/other", ME_ONLY, lock, "true")
    assert r.returncode == 4
    assert f"held by pid {holder.job} (" in r.stderr.decode()
    r = run(*form, lock + "/other", ME_ONLY, "--held", lock)
    assert r.returncode == 1


def test_a_sibling_of_the_job_is_not_under_the_lock(hold, run, lock):
    """The holder's parent is also this process's: an ancestor of the holder is not a holder."""
    hold(lock)
    assert "held by" in refusal(run, lock)
    assert run("--held", lock).returncode == 1


# --- --held ---

@forms_and_ways
def test_held_under_the_lock(run, lock, form, way):
    r = run(*form, lock, *way, ME_ONLY, "--held", lock)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b"")


@pytest.mark.root
@forms
@roots_ways
def test_held_by_way_of_another_user(run, lock, public_me_only, form, way):
    r = run(*form, lock, *way, public_me_only, "--held", lock)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b"")


@forms
def test_not_held_by_us(run, hold, lock, form):
    free = run("--held", lock)
    assert (free.returncode, free.stdout, free.stderr) == (1, b"", b"")
    holder = hold(lock, *form)
    others = run("--held", lock)
    assert (others.returncode, others.stdout, others.stderr) == (1, b"", b"")
    assert release(holder) == 0
    assert run("--held", lock).returncode == 1


def test_held_takes_no_lock(run, lock):
    assert run("--held", lock).returncode == 1
    assert not is_bound(address(lock))


def test_held_under_several_spellings(run, lock):
    assert run(lock, ME_ONLY, "--held", "host:" + lock).returncode == 0
    assert run(lock, ME_ONLY, "--held", lock + "/other").returncode == 1
    assert run(lock, ME_ONLY, "--held", lock[:-1]).returncode == 1
    long_name = lock + "x" * 10_000
    assert run(long_name, ME_ONLY, "--held", long_name).returncode == 0
    assert run(long_name, ME_ONLY, "--held", long_name + "x").returncode == 1


@pytest.mark.parametrize("words", [["--held"], ["--held", ""], ["--held", "host:"],
                                   ["--held", "etdc:x"]])
def test_usage_errors_of_held(run, words):
    r = run(*words)
    assert (r.returncode, r.stdout) == (2, b"")
    assert re.fullmatch(r"me-only: [^\n]+; try 'me-only --help'\n", r.stderr.decode())


def test_held_runs_no_command(run, lock):
    r = run("--held", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")


@forms
def test_held_does_not_disturb_the_lock(hold, run, lock, form):
    holder = hold(lock, *form)
    for _ in range(20):
        assert run("--held", lock).returncode == 1
    assert process_state(holder.job) not in (None, "Z")
    refusal(run, lock)
    assert release(holder) == 0


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_a_script_that_locks_itself(start, run, lock, tmp_path, shell):
    """
    The one line at the top of a script: it runs once, not in circles; a second start is refused.
    """
    script = tmp_path / "script"
    script.write_text(
        f'#!/usr/bin/env {shell}\n"$ME_ONLY" --held "$LOCK" || exec "$ME_ONLY" "$LOCK" "$0" "$@"\n'
        'echo "$# $1"; read line\n')
    script.chmod(0o755)
    env = {**os.environ, "ME_ONLY": ME_ONLY, "LOCK": lock}
    p = start(script, "a b", "c", env=env, stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"2 a b\n"
    second = subprocess.run([script], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            timeout=DEADLINE)
    assert (second.returncode, second.stdout) == (4, b"")
    assert b": held by pid " in second.stderr
    p.stdin.close()
    assert p.wait(DEADLINE) == 1  # status of "read" at the end of the input
    assert not is_bound(address(lock))


# ---- whose lock it is ----

# Takes the lock as the user argv[1], regains its rights, and asks, as under a stranger's sudo.
# argv[2]: whether the socket is inherited.
HANDED_DOWN = """
import os, socket, subprocess, sys
os.seteuid(int(sys.argv[1]))
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(b"\\0me-only:" + os.fsencode(sys.argv[3]))
s.listen()
os.seteuid(0)
s.set_inheritable(True)
sys.exit(subprocess.run(sys.argv[4:], close_fds=sys.argv[2] == "closed").returncode)
"""


@pytest.mark.root
@pytest.mark.parametrize("descriptor", ["inherited", "closed"])
@pytest.mark.parametrize("owner, answer", [("0", 0), ("4321", 1)], ids=["root's", "a stranger's"])
def test_a_stranger_cannot_hand_his_lock_down(start, lock, descriptor, owner, answer):
    """
    A script that is told that it runs under the lock does run, so only locks of this user and root
    count. For a refusal, all count.
    """
    def asked(*argv):
        p = start("/usr/bin/python3", "-c", HANDED_DOWN, owner, descriptor, lock, ME_ONLY, *argv)
        _, err = p.communicate(timeout=DEADLINE)
        return p.returncode, err

    assert asked("--held", lock) == (answer, b"")
    status, err = asked("-w", "inf", lock, "true")
    assert status == 4 and b": this job already holds it: " in err


# Has a listening socket from a process that has ended, as descriptor 60, and becomes argv[2:] with
# a lower limit.
LEFT_OVER = """
import os, resource, socket, sys
ours, theirs = socket.socketpair()
if os.fork() == 0:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(b"\\0me-only:" + os.fsencode(sys.argv[1]))
    s.listen()
    socket.send_fds(theirs, [b"x"], [s.fileno()])
    os._exit(0)
_, [fd], _, _ = socket.recv_fds(ours, 1, 1)
os.wait()
os.dup2(fd, 60, inheritable=True)
os.close(fd)
resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.static
def test_a_descriptor_above_a_lowered_limit_is_seen(start, lock):
    def asked(*argv):
        p = start("/usr/bin/python3", "-c", LEFT_OVER, lock, ME_ONLY, *argv)
        _, err = p.communicate(timeout=DEADLINE)
        return p.returncode, err

    assert asked("--held", lock) == (0, b"")
    assert asked("-w", "inf", lock, "true")[0] == 4
