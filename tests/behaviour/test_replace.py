"""
--replace: the holder is asked to exit, then killed; nothing else is; and two jobs never run at
once.

The witness is a file that every job, and all that it leaves running, has open as descriptor 8: a
job that starts looks in /proc for any other process that has it open. A process that exits closes
all descriptors before any of its locks is free (for flock(2) the kernel does not promise that:
descriptors may be closed from the highest on).
"""
import collections
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time

import pytest

from conftest import (DEADLINE, ME_ONLY, address, children_of, forms, is_bound, name_of,
                      process_state, program, read_line, release, user, wait_for, waiters_of)
from errnos import errnos_of
from injection import STATUS, Fault, Trial, calls_of
from test_faults import many as many_at_once

forking = pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])

# "up" reports that the job is set up; "drop" is for children that with -o outlive the lock, as they
# may.
WITNESSED = """
others() { exec 8>&-; readlink /proc/[0-9]*/fd/8 | grep -cxF "$WITNESS"; }
up() { echo $$; }
drop() { [ -z "$LEAVES" ] || exec 8>&-; }
alone() {
    n=$(others)
    [ "$n" = "$1" ] && return
    echo "pid $$ ran, with the witness open in $n processes" >>"$WITNESS"
    exit 99
}
"""
STARTS = WITNESSED + 'exec 8>>"$WITNESS"; alone 1;'

# Their behaviour, and the signals that end the shell that is the job.
JOBS = {
    "ordinary": ("up; exec sleep 1000", "TERM"),
    "obstinate": ("trap '' TERM; up; exec sleep 1000", "KILL"),
    "with a child": ("(drop; up; exec sleep 1000); true", "TERM"),
    "with an obstinate child": ("(drop; trap '' TERM; up; exec sleep 1000); true", "TERM"),
    "obstinate with children": ("trap '' TERM; (drop; up; sleep 1000; true) & read never", "KILL"),
    "with a child in another session": (
        "drop; setsid sh -c 'trap \"\" TERM; echo $PPID; exec sleep 1000'; true", "TERM"),
}
jobs = pytest.mark.parametrize("job, end", JOBS.values(), ids=JOBS.keys())


def of(name):
    return -getattr(signal, "SIG" + name)


class Witness:
    """The file on which the jobs prove that they run alone."""

    def __init__(self, path):
        self.path = path
        self.env = dict(os.environ, WITNESS=str(path), LEAVES="")

    def complaints(self):
        return self.path.read_text()


@pytest.fixture
def witness(tmp_path):
    """At the end of each test, no job has run beside another."""
    w = Witness(tmp_path / "witness")
    w.path.touch()
    yield w
    assert w.complaints() == ""


@pytest.fixture
def take(me_only, witness):
    """
    take(OPTION..., LOCK, JOB) starts a holder with a shell as its job, and returns when that prints
    its PID: .job. before= is a command prefix that starts the shell.
    """

    def take_(*argv, before=(), **kw):
        kw.setdefault("env", witness.env)
        if "-o" in argv or "-C" in before:
            kw["env"] = dict(kw["env"], LEAVES="yes")
        p = me_only(*argv[:-1], *before, "sh", "-c", STARTS + argv[-1], stdin=subprocess.PIPE, **kw)
        line = read_line(p.stdout)
        assert line, p.stderr.read()
        p.job = int(line)
        return p

    return take_


@pytest.fixture
def replace(run, witness):
    """
    replace(OPTION..., LOCK) runs --replace to its end, with a job that must run alone and prints
    "ran".
    """
    return lambda *argv, **kw: run("--replace", *argv, "sh", "-c", STARTS + "echo ran",
                                   env=witness.env, **kw)


def assert_ran(r):
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r


def refused(r, reason, status=4):
    """One line tells why, nothing was run."""
    assert (r.returncode, r.stdout) == (status, b""), r
    text = r.stderr.decode()
    assert re.fullmatch(rf"me-only: [^\n]*: not replaced, {re.escape(reason)}: [^\n]*\n",
                        text), text
    return text


def keeper_of(wrapper):
    return wait_for(lambda: next((p for p in children_of(wrapper)
                                  if name_of(p) == "me-only keeper"), None), "a keeper")


def is_alive(pid):
    return process_state(pid) not in (None, "Z", "X")


def stop(pid):
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: process_state(pid) == "T", "it is stopped")


# --- holders of every form ---

@forms
@jobs
def test_the_holder_ends_and_then_the_new_job_runs(take, replace, lock, form, job, end):
    holder = take(*form, lock, job)
    assert_ran(replace("-k", "0.3", *form, lock))
    assert holder.wait(DEADLINE) == of(end)
    assert not is_bound(address(lock))


@forms
def test_nothing_but_sigterm_is_needed_for_what_a_shell_leaves_running(take, replace, lock, form):
    """The shell ends by its signal, and then its child is asked as well."""
    holder = take(*form, lock, "(drop; up; exec sleep 1000); true")
    assert_ran(replace("-k", "inf", lock))
    assert holder.wait(DEADLINE) == -signal.SIGTERM


@forms
@jobs
def test_a_job_that_has_closed_its_descriptors(take, replace, lock, form, job, end):
    """As ssh does. With -F the lock is then free."""
    holder = take(*form, lock, job, before=(program("caller"), "-C", "3"))
    if form == ("-F",):
        assert not is_bound(address(lock))
        holder.kill()
        return
    assert_ran(replace("-k", "0.3", lock))
    assert holder.wait(DEADLINE) == of(end)


@forms
def test_a_lock_that_is_free_is_taken_at_once(replace, lock, form):
    r = replace(*form, lock)
    assert_ran(r)
    assert r.stderr == b""


@forking
@jobs
def test_me_only_was_killed(take, replace, lock, form, job, end):
    """With -o its keeper holds the lock, otherwise the job does."""
    holder = take(*form, lock, job)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(DEADLINE)
    assert is_bound(address(lock))
    assert_ran(replace("-k", "0.3", lock))
    wait_for(lambda: not is_alive(holder.job), "the job has ended")


@jobs
def test_me_only_was_killed_and_the_keeper_holds(take, replace, lock, job, end):
    holder = take(lock, job, before=(program("caller"), "-C", "3"))
    keeper = keeper_of(holder.pid)
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait(DEADLINE)
    assert is_bound(address(lock)) and is_alive(keeper)
    assert_ran(replace("-k", "0.3", lock))
    wait_for(lambda: not is_alive(holder.job) and not is_alive(keeper), "nobody is left")


@forms
@pytest.mark.parametrize("job, end", [JOBS["ordinary"], JOBS["obstinate"]],
                         ids=["ordinary", "obstinate"])
@pytest.mark.parametrize("who", ["job", "me-only", "both"])
def test_the_holder_is_stopped(take, replace, lock, form, who, job, end):
    """A stopped process cannot end: it is resumed."""
    holder = take(*form, lock, job)
    for pid in {"job": [holder.job], "me-only": [holder.pid],
                "both": [holder.job, holder.pid]}[who]:
        stop(pid)
    assert_ran(replace("-k", "0.3", lock))
    assert holder.wait(DEADLINE) == of(end)


def test_the_job_has_ended_while_its_me_only_was_stopped(take, replace, lock):
    holder = take(lock, "up; exec sleep 1000")
    stop(holder.pid)
    os.kill(holder.job, signal.SIGKILL)
    wait_for(lambda: process_state(holder.job) == "Z", "the job has ended")
    assert_ran(replace("-k", "0.3", lock))
    assert holder.wait(DEADLINE) == -signal.SIGKILL


@pytest.mark.parametrize("options", [("-k", "inf"), ("-k", "0.3")], ids=" ".join)
@pytest.mark.parametrize("how", ["a session of its own", "another environment", "obstinate"])
def test_a_daemon_has_inherited_the_lock(take, replace, lock, how, options):
    daemon = {"a session of its own": "setsid sleep 1000 & echo $!",
              "another environment": "env -i sleep 1000 & echo $!",
              "obstinate": "trap '' TERM; setsid sleep 1000 & echo $!"}[how]
    # A process with another environment is known as the command's child, as long as the command
    # lives.
    holder = take(lock, daemon + ("; exec sleep 1000" if how == "another environment" else ""))
    wait_for(lambda: name_of(holder.job) == "sleep", "the daemon runs")
    if how != "another environment":
        assert holder.wait(DEADLINE) == 0
    if how == "obstinate" and "inf" in options:
        r = replace("-w", "0.3", *options, lock)
        assert r.returncode == 4 \
            and b": gave up after 300ms: held by pid %d " % holder.job in r.stderr
        assert is_alive(holder.job)
        return
    if how == "another environment":
        # The command was asked, and has ended. The time needed to kill it makes the order random.
        r = replace("-k", "inf", lock)
        assert r.returncode == 4 \
            and b": not replaced, nothing proves that it was started under this lock: " in r.stderr
        assert is_alive(holder.job)
        return
    assert_ran(replace(*options, lock))
    wait_for(lambda: not is_alive(holder.job), "the daemon has ended")


NESTED = [[a, b] for a in ((), ("-F",), ("-o",)) for b in ((), ("-F",), ("-o",))]


@pytest.mark.parametrize("job, end", [JOBS["ordinary"], JOBS["obstinate"]],
                         ids=["ordinary", "obstinate"])
@pytest.mark.parametrize("outer, inner", NESTED,
                         ids=["/".join("".join(o) or "default" for o in pair) for pair in NESTED])
@pytest.mark.parametrize("which", ["outer", "inner"])
def test_nested_locks(take, me_only, run, witness, lock, which, outer, inner, job, end):
    """
    Both become free, neither before the job has ended; the inner me-only is not killed, or its lock
    could be free too early.
    """
    names = {"outer": lock, "inner": lock + "/inner"}
    other = names["inner" if which == "outer" else "outer"]
    holder = take(*outer, lock, job, before=(ME_ONLY, *inner, names["inner"]))
    # The new job and this one are under different locks: they may run at once, but not beside the
    # old one.
    new = ("sh", "-c", WITNESSED + "alone 0; echo ran")
    waiter = me_only("-q", "-w", "inf", other, *new, env=witness.env)
    wait_for(lambda: waiters_of(other), "it waits for the other lock")
    assert_ran(run("--replace", "-k", "0.3", names[which], *new, env=witness.env))
    assert holder.wait(DEADLINE) == of(end)
    assert waiter.communicate(timeout=DEADLINE) == (b"ran\n", b"")
    assert not is_bound(address(lock)) and not is_bound(address(other))


def test_a_nested_me_only_that_waits_and_ignores_sigterm(take, me_only, replace, witness, lock):
    """
    It has no command, and ignoring a signal does not stop --replace. It is not killed at first: it
    could have one.
    """
    other = lock + "/other"
    holder = me_only(other, "sh", "-c", "echo up; exec sleep 1000")
    assert read_line(holder.stdout) == b"up\n"
    outer = take(lock, f"trap '' TERM; up; exec {ME_ONLY} -q -w inf {other} true")
    wait_for(lambda: waiters_of(other), "it waits for the other lock")
    assert_ran(replace("-k", "0.1", lock))
    assert outer.wait(DEADLINE) == -signal.SIGVTALRM
    assert is_bound(address(other))


# --- when force is used ---

def test_sigkill_comes_after_sigterm_and_not_at_once(take, me_only, witness, lock):
    holder = take(lock, "trap 'echo told' TERM; up; while :; do read line && echo \"$line\"; done")
    p = me_only("-v", "--replace", "-k", "inf", lock, "echo", "ran")
    assert read_line(holder.stdout) == b"told\n"
    holder.stdin.write(b"goes on\n")
    holder.stdin.flush()
    assert read_line(holder.stdout) == b"goes on\n"
    q = me_only("-v", "--replace", "-k", "0.3", lock, "echo", "ran", "too")
    assert read_line(holder.stdout) == b"told\n"
    assert holder.wait(DEADLINE) == -signal.SIGKILL
    assert [x.communicate(timeout=DEADLINE)[0] for x in (p, q)] == [b"ran\n", b"ran too\n"]


def test_without_k_the_time_is_five_seconds(run, take, lock):
    """As much as can be checked without a clock: there was no force within two seconds."""
    holder = take(lock, "trap '' TERM; up; exec sleep 1000")
    r = run("--replace", "-w", "2", lock, "true")
    assert r.returncode == 4 and b": gave up after 2.0s: held by pid %d " % holder.job in r.stderr
    assert is_alive(holder.job) and is_alive(holder.pid)


@pytest.mark.parametrize("options", [("-w", "0.3", "-k", "inf"), ("-w", "0.3"),
                                     ("-w", "0.3", "-E", "99"),
                                     ("-w", "0.3", "--exit-base=100")], ids=" ".join)
def test_it_gives_up_when_its_time_is_over(run, take, lock, options):
    holder = take(lock, "trap '' TERM; up; exec sleep 1000")
    r = run("--replace", *options, lock, "echo", "ran")
    assert (r.returncode, r.stdout) == ({"99": 99, "--exit-base=100": 104}.get(options[-1], 4), b"")
    held = rf"held by pid {holder.job} \({user()}\) for [^\n]*\n"
    assert re.fullmatch(rf"me-only: {lock}: gave up after 300ms: {held}", r.stderr.decode())
    assert is_alive(holder.job)


def test_k_0_is_force_at_once(take, replace, lock):
    holder = take(lock, "trap '' TERM; up; exec sleep 1000")
    assert_ran(replace("-k", "0", lock))
    assert holder.wait(DEADLINE) == -signal.SIGKILL


def test_verbose_says_whom_it_asks_and_kills(take, me_only, lock):
    holder = take(lock, "(trap '' TERM; echo $PPID >&2; up; exec sleep 1000); true")
    child, = children_of(holder.job)
    p = me_only("-v", "--replace", "-k", "8", lock, "true")
    said = [line.split(": ", 2)[2] for line in p.stderr.read().decode().splitlines()]
    assert said[0].startswith("waiting for pid %d (" % holder.job)
    assert said[1] == f"asked pid {holder.job} to exit"
    assert said[2] == f"asked pid {child} to exit"
    assert said[3] == f"killed pid {child}"
    assert said[4].startswith("got the lock after ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_a_replacement_and_then_no_force_is_used(take, run, me_only, lock, number):
    holder = take(lock, "trap 'echo told' TERM; up; while :; do read line; done")
    p = me_only("-q", "--replace", "-k", "1000", lock, "echo", "ran")
    assert read_line(holder.stdout) == b"told\n"
    # There is no other process that could use force later.
    assert children_of(p.pid) == []
    p.send_signal(number)
    assert p.communicate(timeout=DEADLINE) == (b"", b"")
    assert p.returncode == -number
    assert run("-n", lock, "true").returncode == 4
    assert is_alive(holder.job)


# --- several at once ---

many = pytest.mark.parametrize("count", [2, 5, 20])


@pytest.fixture
def replacers(me_only, witness, lock):
    """
    replacers(COUNT, OPTION...) starts COUNT processes; their jobs must run alone and print "ran".
    """
    return lambda count, *options: [me_only("-v", "--replace", *options, lock, "sh", "-c",
                                            STARTS + "echo ran", env=witness.env)
                                    for _ in range(count)]


@many
def test_all_have_seen_the_same_holder(take, replacers, lock, count):
    """Each has its turn, and none ends another: all have asked the first holder, and no other."""
    holder = take(lock, "trap '' TERM; up; exec sleep 1000")
    started = replacers(count, "-k", "inf")
    for p in started:
        while b"asked pid %d to exit" % holder.job not in read_line(p.stderr):
            pass
    os.kill(holder.job, signal.SIGKILL)
    for p in started:
        out, err = p.communicate(timeout=DEADLINE)
        assert (p.returncode, out) == (0, b"ran\n") and b"asked" not in err
    assert not is_bound(address(lock))


@many
@pytest.mark.parametrize("job, end", JOBS.values(), ids=JOBS.keys())
def test_many_that_come_at_once(take, replacers, lock, count, job, end):
    """
    A late one sees a holder other than the first. So the next one ends some, but none is lost, and
    none asks twice.
    """
    holder = take(lock, job)
    started = replacers(count, "-k", "0.1")
    for p in started:
        out, err = p.communicate(timeout=DEADLINE)
        assert (p.returncode, out) in ((0, b"ran\n"), (-signal.SIGTERM, b"ran\n"),
                                       (-signal.SIGTERM, b"")), err
    assert sum(p.returncode == 0 for p in started) > 0
    assert holder.wait(DEADLINE) in (of(end), of("KILL"))
    assert not is_bound(address(lock))


def test_next_in_line_is_not_replaced(take, me_only, witness, lock):
    holder = take(lock, "up; exec sleep 1000")
    waiter = me_only("-q", "-w", "inf", lock, "sh", "-c", STARTS + "up; exec cat",
                     stdin=subprocess.PIPE, env=witness.env)
    wait_for(lambda: waiters_of(lock) == 1, "it waits")
    p = me_only("-q", "--replace", "-k", "0", lock, "sh", "-c", STARTS + "echo ran",
                env=witness.env)
    assert holder.wait(DEADLINE) in (-signal.SIGTERM, -signal.SIGKILL)
    job = int(read_line(waiter.stdout))
    # A second of -k has passed, and another try after it.
    assert subprocess.run([ME_ONLY, "-q", "-w", "1.5", lock, "true"], check=False).returncode == 4
    assert is_alive(job) and p.poll() is None
    assert release(waiter) == 0
    assert p.communicate(timeout=DEADLINE) == (b"ran\n", b"")


@pytest.mark.static
def test_a_holder_that_ends_while_it_is_looked_at(tmp_path, take, me_only, start, witness, lock):
    """
    Another process takes the lock between the look at the socket table and the connection: that one
    was not meant.
    """
    trace = tmp_path / "trace"

    def replacer(*options):
        """A holder, a waiter, and a process that replaces."""
        holder = take(lock, "up; exec cat >/dev/null")
        waiter = me_only("-q", "-w", "inf", lock, "sh", "-c", STARTS + "up; exec cat",
                         stdin=subprocess.PIPE, env=witness.env)
        wait_for(lambda: waiters_of(lock) == 1, "it waits")
        p = start("strace", "-q", "-o", str(trace), *options, ME_ONLY, "-q", "--replace", "-k", "0",
                  lock, "sh", "-c",
                  STARTS + "echo ran", env=witness.env)
        return holder, waiter, p

    holder, waiter, p = replacer()
    assert holder.wait(DEADLINE) == -signal.SIGTERM
    assert read_line(waiter.stdout) and release(waiter) == 0
    assert p.communicate(timeout=DEADLINE) == (b"ran\n", b"")
    before = trace.read_text().split("sendto(")[0].count("connect(")
    trace = tmp_path / "second"
    trace.touch()
    holder, waiter, p = replacer("-e", f"inject=connect:delay_enter=2000000:when={before + 1}")
    # strace writes the beginning of a call before it delays it.
    wait_for(lambda: "sendto(" in trace.read_text()
             and "connect(" in trace.read_text().split("sendto(")[1], "the table was read")
    assert release(holder) == 0
    assert read_line(waiter.stdout)
    wait_for(lambda: trace.read_text().count("sendto(") >= 2
             and "poll(" in trace.read_text().split("sendto(")[-1], "it waits")
    assert "pidfd_send_signal(" not in trace.read_text()
    assert release(waiter) == 0
    assert p.communicate(timeout=DEADLINE) == (b"ran\n", b"")


@pytest.mark.static
def test_a_holder_that_the_kernel_reports_as_gone(tmp_path, take, start, lock):
    """
    Before Linux 6.16 SO_PEERPIDFD fails for a process that was reaped. Here each of these calls
    fails once: two from Linux 6.5 on, and one on older kernels, which do not know the option.
    """
    trace = tmp_path / "trace"

    def replace(*inject):
        holder = take(lock, "up; exec cat >/dev/null")
        p = start("strace", "-q", "-o", str(trace),
                  "-e", "trace=getsockopt,pidfd_send_signal", *inject,
                  ME_ONLY, "-q", "--replace", "-w", str(DEADLINE), lock, "echo", "ran")
        assert p.communicate(timeout=DEADLINE) == (b"ran\n", b"") and p.returncode == 0
        assert holder.wait(DEADLINE) == -signal.SIGTERM

    replace()
    calls = re.findall(r"^getsockopt\(.*", trace.read_text().split("pidfd_send_signal(")[0], re.M)
    # Not every strace knows the option by its name.
    asks = [n for n, call in enumerate(calls, 1)
            if re.search(r"SOL_SOCKET, (0x4d|SO_PEERPIDFD)", call)]
    assert asks
    for n in asks:
        replace("-e", f"inject=getsockopt:error=EINVAL:when={n}")
        assert "(INJECTED)" in trace.read_text()


# --- innocent processes ---

def clone_with(pid, *argv):
    """Start a program as process number PID. Root only."""
    source = ("import ctypes, os, signal, sys\n"
              "pid = (ctypes.c_int * 1)(int(sys.argv[1]))\n"
              "a = (ctypes.c_uint64 * 11)(0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, "
              "ctypes.addressof(pid), 1, 0)\n"
              "r = ctypes.CDLL(None, use_errno=True).syscall(435, a, ctypes.sizeof(a))\n"
              "if r == 0: os.execvp(sys.argv[2], sys.argv[2:])\n"
              "sys.exit(0 if r > 0 else ctypes.get_errno())\n")
    subprocess.run([sys.executable, "-ISc", source, str(pid), *argv], check=True,
                   stdin=subprocess.DEVNULL, timeout=DEADLINE)
    wait_for(lambda: name_of(pid) == os.path.basename(argv[0]), "it runs")


@pytest.mark.root
@pytest.mark.parametrize("how", ["asked", "killed"])
def test_a_process_that_has_the_number_of_the_job(take, me_only, replace, witness, lock, how):
    """
    The job has ended, what it left running holds the lock, and an innocent process has got the
    job's PID.
    """
    trap = "trap '' TERM; " if how == "killed" else ""
    holder = take("-F", lock, f"up; {trap}sleep 1000 & read line; exit 0")
    daemon = wait_for(lambda: children_of(holder.job), "the daemon runs")[0]
    assert holder.pid == holder.job
    p = None
    if how == "killed":
        # It is seen alive, and is gone when force is used.
        p = me_only("-v", "--replace", "-k", "2", lock, "sh", "-c", STARTS + "echo ran",
                    env=witness.env)
        assert b"waiting" in read_line(p.stderr) \
            and b"asked pid %d" % holder.job in read_line(p.stderr)
    release(holder)
    clone_with(holder.job, "sleep", "1000")
    if p:
        assert p.communicate(timeout=DEADLINE)[0] == b"ran\n"
    else:
        assert_ran(replace(lock))
    wait_for(lambda: not is_alive(daemon), "the daemon has ended")
    assert is_alive(holder.job)


# Receives a descriptor and keeps it: a service.
SERVICE = ("import array, os, socket, sys\n"
           "s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)\n"
           "s.bind(sys.argv[1]); os.chmod(sys.argv[1], 0o777); s.listen()\n"
           "print('ready', flush=True)\n"
           "c, _ = s.accept()\n"
           "kept = socket.recv_fds(c, 1, 10)\n"
           "print(len(kept[1]), flush=True)\n"
           "c.send(b'x')\n"
           "sys.stdin.read()\n")

# A job that sends its lock to the service, and then ends, or waits for the end of its standard
# input.
PLANT = ("import os, socket, stat, sys\n"
         "lock = [fd for fd in range(10, 100) if os.path.exists(f'/proc/self/fd/{fd}') and "
         "stat.S_ISSOCK(os.fstat(fd).st_mode)]\n"
         "c = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)\n"
         "c.connect(sys.argv[1])\n"
         "socket.send_fds(c, [b'x'], lock)\n"
         "c.recv(1)\n"
         "print('planted', flush=True)\n"
         "sys.stdin.read()\n")

planters = pytest.mark.parametrize("planter",
                                   [(), pytest.param(("setpriv", "--reuid=2", "--regid=2",
                                                      "--clear-groups"),
                                                     marks=pytest.mark.root)],
                                   ids=["same user", "another user"])


@pytest.fixture
def planted(start, me_only, lock, tmp_path, request):
    """planted(PLANTER) runs a job that sends its lock to a service, and returns both."""
    path = f"/tmp/me-only-test-{lock[6:]}"
    request.addfinalizer(lambda: os.path.exists(path) and os.unlink(path))

    def planted_(planter, *before):
        service = start(*before, sys.executable, "-ISc", SERVICE, path, stdin=subprocess.PIPE)
        assert read_line(service.stdout) == b"ready\n"
        holder = me_only(lock, *planter, sys.executable, "-ISc", PLANT, path, stdin=subprocess.PIPE)
        assert read_line(service.stdout) == b"1\n"
        assert read_line(holder.stdout) == b"planted\n"
        return service, holder

    return planted_


@planters
@pytest.mark.parametrize("before", [(), ("setsid", "--wait")],
                         ids=["same session", "its own session"])
def test_a_service_into_which_the_lock_was_planted(planted, replace, lock, planter, before):
    """It has the socket, and nothing else speaks against it."""
    service, holder = planted(planter, *before)
    assert release(holder) == 0
    assert is_bound(address(lock))
    text = refused(replace("-k", "0", lock), "nothing proves that it was started under this lock")
    assert ", left running by a command that has ended" in text
    assert service.poll() is None


@planters
@pytest.mark.parametrize("before", [(), ("setsid", "--wait")],
                         ids=["same session", "its own session"])
def test_a_planted_lock_is_not_ended_by_force_either(planted, run, lock, planter, before):
    """
    The job ends as asked, the service has the lock. It may be in the job's session, but it existed
    before.
    """
    service, holder = planted(planter, *before)
    r = run("-q", "--replace", "-w", "1.5", "-k", "0.2", lock, "true")
    assert r.returncode == 4
    # On a busy machine the job may not have ended in time.
    assert holder.wait(DEADLINE) in (-signal.SIGTERM, -signal.SIGKILL)
    assert service.poll() is None


@pytest.mark.root
@pytest.mark.parametrize("options", [(), ("-q",), ("-E", "99"), ("-w", "5"), ("-k", "0"),
                                     ("--complain-after", "1h")], ids=" ".join)
@pytest.mark.parametrize("form", [(), ("-F",), ("-o",)], ids=["default", "no-fork", "close"])
def test_the_holder_is_a_strangers(start, replace, public_me_only, lock, options, form):
    """Even to root: otherwise a process that takes a name first would choose whom root ends."""
    holder = start("setpriv", "--reuid=2", "--regid=2", "--clear-groups", public_me_only, *form,
                   lock, "sh", "-c",
                   "echo $$; exec sleep 1000")
    job = int(read_line(holder.stdout))
    text = refused(replace(*options, lock), "the holder is neither this user nor root")
    assert f": held by pid {job} (bin, neither this user nor root) for " in text
    assert is_alive(job)


@pytest.mark.root
def test_exit_base_counts_for_a_refusal(start, replace, public_me_only, lock):
    holder = start("setpriv", "--reuid=2", "--regid=2", "--clear-groups", public_me_only,
                   lock, "sh", "-c",
                   "echo up; exec sleep 1000")
    assert read_line(holder.stdout) == b"up\n"
    refused(replace("--exit-base=100", lock), "the holder is neither this user nor root", 104)
    refused(replace("-E", "99", "--exit-base=100", lock),
            "the holder is neither this user nor root", 104)


@pytest.mark.root
@forms
@pytest.mark.parametrize("descendant", [False, True], ids=["job", "descendant"])
def test_the_holder_is_roots(start, take, public_me_only, lock, form, descendant):
    """Being known is not being permitted."""
    job = "setsid sleep 1000 & echo $!" if descendant else "up; exec sleep 1000"
    holder = take(*form, lock, job)
    if descendant:
        holder.wait(DEADLINE)
    if descendant and form == ("-o",):
        # The lock has ended with the command.
        reason = None
    elif descendant:
        # Another user cannot even see what root has left running.
        reason = "the holder cannot be verified"
    else:
        reason = "this user may not signal it"
    for options in ((), ("-q",), ("-E", "99")):
        p = start("setpriv", "--reuid=2", "--regid=2", "--clear-groups", public_me_only,
                  "--replace", *options, lock, "echo", "ran")
        out, err = p.communicate(timeout=DEADLINE)
        if reason:
            assert (p.returncode, out) == (4, b"")
            assert f": not replaced, {reason}: held".encode() in err
        else:
            assert (p.returncode, out) == (0, b"ran\n")
    assert is_alive(holder.job)


@pytest.mark.root
@forms
def test_the_holder_is_in_another_pid_namespace(take, call, witness, lock, form):
    holder = take(*form, lock, "up; exec sleep 1000")
    r = call("unshare", "--pid", "--fork", "--mount-proc", ME_ONLY, "--replace", "-k", "0", lock,
             "echo", "ran")
    refused(r, "the holder is in another PID namespace")
    assert is_alive(holder.job)


@pytest.mark.root
@pytest.mark.parametrize("job, end", JOBS.values(), ids=JOBS.keys())
def test_the_holder_is_in_a_pid_namespace_below(start, replace, witness, lock, job, end):
    holder = start("unshare", "--pid", "--fork", "--mount-proc", ME_ONLY, lock, "sh", "-c",
                   job.replace("drop;", "").replace("up", "echo up"),
                   stdin=subprocess.PIPE)
    read_line(holder.stdout)
    assert_ran(replace("-k", "0.3", lock))
    assert holder.wait(DEADLINE) in (of(end), 128 - of(end))


@pytest.mark.root
@pytest.mark.parametrize("job, end", JOBS.values(), ids=JOBS.keys())
def test_the_proc_of_another_pid_namespace_is_not_believed(start, witness, lock, job, end):
    """
    A PID in it is another process. The job is known without it, what it leaves running is not; and
    nothing else is ended.
    """
    script = f'''
        for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & others="$others $!"; done
        {ME_ONLY} "$1" sh -c "$2" </dev/null & sleep 0
        while [ ! -s "$3" ]; do sleep 0.01; done
        {ME_ONLY} -q --replace -w 2 -k 0.3 "$1" echo ran
        for i in $others; do kill -0 $i || echo "$i was ended"; done'''
    flag = witness.path.with_name("flag")
    up = f'echo up >"{flag}"'
    p = start("unshare", "--pid", "--fork", "--kill-child", "sh", "-c", script, "sh", lock,
              job.replace("drop;", "").replace("up", up).replace("echo $PPID", up), str(flag))
    out, err = p.communicate(timeout=DEADLINE)
    assert b"was ended" not in out, out
    if job in (JOBS["ordinary"][0], JOBS["obstinate"][0]):
        assert out == b"ran\n", err


@forms
@pytest.mark.parametrize("options", [(), ("-q",), ("-E", "99"), ("-k", "0")], ids=" ".join)
def test_a_job_does_not_replace_itself(me_only, lock, form, options):
    words = " ".join(options)
    p = me_only(*form, lock, "sh", "-c", f'{ME_ONLY} --replace {words} "$0" echo ran; echo $?',
                lock)
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (0, b"4\n")
    assert re.fullmatch(rf"me-only: {lock}: this job already holds it: held by pid \d+ [^\n]*\n",
                        err.decode())


# --- options ---

@pytest.mark.parametrize("options, text", [
    (("--replace", "-n"), "--replace waits: leave -n and -w 0 out"),
    (("--replace", "-w", "0"), "--replace waits: leave -n and -w 0 out"),
    (("-k", "5"),
     "-k is for --replace, and for locks that can be lost, such as etcd:NAME, not for 'LOCK'"),
    (("-w", "5", "-k", "5"),
     "-k is for --replace, and for locks that can be lost, such as etcd:NAME, not for 'LOCK'"),
    (("--replace", "-k", "x"), "-k: not a duration: 'x' (a number and ms, s, m, h or d, or inf)"),
], ids=lambda o: " ".join(o) if isinstance(o, tuple) else "")
def test_usage(take, run, lock, options, text):
    holder = take(lock, "up; exec sleep 1000")
    r = run(*options, lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr.decode()) == (
        2, b"", f"me-only: {text.replace('LOCK', lock)}; try 'me-only --help'\n")
    assert is_alive(holder.job)


# --- when something is missing ---

@pytest.mark.root
@pytest.mark.static
@jobs
def test_without_proc(take, call, witness, lock, job, end):
    """
    The kernel identifies the command. What it leaves running cannot be found, and is waited for.
    """
    holder = take(lock, job)
    alone = job in (JOBS["ordinary"][0], JOBS["obstinate"][0])
    r = call("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh",
             ME_ONLY, "-q", "--replace", "-k", "0.2",
             "-w", "30" if alone else "1", lock, "sh", "-c", "umount /proc; " + STARTS + "echo ran",
             env=witness.env)
    assert (r.returncode, r.stdout) == ((0, b"ran\n") if alone else (4, b"")), r
    assert holder.wait(DEADLINE) == of(end)


@pytest.mark.root
@pytest.mark.static
def test_without_proc_what_a_command_has_left_running_is_not_certain(take, call, witness, lock):
    holder = take(lock, "setsid sleep 1000 & echo $!")
    assert holder.wait(DEADLINE) == 0
    r = call("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh",
             ME_ONLY, "-q", "--replace", lock, "true")
    refused(r, "the holder cannot be verified")
    assert is_alive(holder.job)


@pytest.mark.root
@pytest.mark.parametrize("job, end", JOBS.values(), ids=JOBS.keys())
def test_where_proc_hides_the_processes_of_others(start, call, public_me_only, lock, job, end):
    user_2 = ("setpriv", "--reuid=2", "--regid=2", "--clear-groups")
    holder = start(*user_2, public_me_only, lock, "sh", "-c", WITNESSED + job,
                   stdin=subprocess.PIPE, env=dict(os.environ, LEAVES=""))
    assert read_line(holder.stdout)
    r = call("unshare", "--mount", "sh", "-c", 'mount -t proc -o hidepid=2 proc /proc && exec "$@"',
             "sh", *user_2, public_me_only, "-q",
             "--replace", "-k", "0.3", lock, "echo", "ran")
    assert_ran(r)
    assert holder.wait(DEADLINE) == of(end)


@pytest.mark.static
@pytest.mark.parametrize("limit", range(3, 16))
@pytest.mark.parametrize("job, end", [JOBS["ordinary"], JOBS["with an obstinate child"]],
                         ids=["ordinary", "with a child"])
def test_few_descriptors(take, me_only, witness, lock, limit, job, end):
    """
    It is replaced, or there is a reason why not, or time is over; the new job never runs beside it.
    """
    holder = take(lock, job)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    enough = limit >= 12
    wait = "inf" if enough else "2"
    p = me_only("--replace", "-k", "0.2", "-w", wait, lock, "sh", "-c",
                "ulimit -n 64; " + STARTS + "echo ran", env=witness.env,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard)))
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) in ((0, b"ran\n"), (1, b""), (3, b""), (4, b"")), err
    assert p.returncode == 0 or err.startswith(b"me-only: ")
    assert p.returncode == 0 or not enough


@pytest.mark.root
@pytest.mark.parametrize("which", [2, 3])
@pytest.mark.parametrize("job, end", [JOBS["obstinate"], JOBS["with an obstinate child"]],
                         ids=["obstinate", "with a child"])
def test_a_holder_that_is_missing_from_one_reading_of_the_table(
        tmp_path, start, call, witness, lock, which, job, end):
    """
    That can happen when others create and close sockets meanwhile. It is not gone. (The first time
    it cannot be known that it existed.)
    """
    alone = start("unshare", "--net", "sleep", "1000")
    wait_for(lambda: name_of(alone.pid) == "sleep",
             "there is a network in which nobody else has sockets: the table is one piece")
    inside = ("nsenter", f"--net=/proc/{alone.pid}/ns/net")
    holder = start(*inside, ME_ONLY, lock, "sh", "-c", STARTS + job, stdin=subprocess.PIPE,
                   env=witness.env)
    assert read_line(holder.stdout)
    trace = tmp_path / "trace"
    r = call(*inside, "strace", "-qq", "-o", trace, "-b", "execve", "-e", "trace=recvfrom", "-e",
             f"inject=recvfrom:retval=0:when={which}",
             ME_ONLY, "--replace", "-k", "0.2", lock, "sh", "-c", STARTS + "echo ran",
             env=witness.env)
    assert_ran(r)
    assert "(INJECTED)" in trace.read_text()
    assert holder.wait(DEADLINE) == of(end)


@pytest.mark.static
@pytest.mark.parametrize("job", ["up; exec sleep 1000", "(trap '' TERM; up; exec sleep 1000); true",
                                 "setsid sleep 1000 & echo $!"],
                         ids=["ordinary", "with an obstinate child", "daemon"])
def test_each_call_fails(tmp_path, lock, witness, take, start, job):
    """
    For a run that replaces a holder: the new job does not run as long as anything of the old one
    has the lock.
    """
    bystander = start("sleep", "1000")

    def attempt(fault=None):
        t = Trial(str(tmp_path), lock, fault)
        holder = take(t.lock, job, env=dict(witness.env, WITNESS=f"{t.report}-witness"))
        old = [holder.job, *children_of(holder.job)]
        # A fault can keep it from seeing the holder: then it waits to the end.
        run = t.finish(t.start("-q", "--replace", "-w", "4" if fault else "20", "-k", "0.1",
                               t.lock, *t.command()))
        if run.report:
            # A process that exits has no descriptors any more, but may still exist for a moment; a
            # process that was not asked stays.
            wait_for(lambda: not any(map(is_alive, old)),
                     f"{fault}: {old} have ended, since {run.report}")
        for pid in filter(is_alive, old):
            os.kill(pid, signal.SIGKILL)
        t.wait_for_all()
        trace = t.traced()
        t.clean_up()
        return run, trace

    hits = []

    def work(fault):
        run, trace = attempt(fault)
        hits.extend(line for line in trace if line[0] == "hit")
        words = [word for _, word in run.report]
        problems = []
        if words not in ([], ["started", "held"]):
            problems.append(f"the command ran without the lock: {run.report}")
        if run.status not in (STATUS, 1, 3, 4) or (run.status == STATUS and not words):
            problems.append(f"status {run.status}, {words}: {run.stderr}")
        return problems

    run, trace = attempt()
    assert run.report
    # Of what is done for each process of the host, a few are enough, and of the errors any.
    calls = collections.defaultdict(list)
    for c in calls_of(trace):
        calls[c.name].append(c)
    chosen = [c for same in calls.values()
              for c in same[:3] + random.sample(same[3:], min(1, len(same[3:])))]
    assert len(chosen) > 40
    # After ENOEXEC the shell would read the program as a script, and do anything.
    many_at_once(work, [Fault(*c, random.choice(sorted(set(errnos_of(c.name)) - {"ENOEXEC"})))
                        for c in chosen], at_once=8)
    assert len(hits) > len(chosen) / 4
    assert bystander.poll() is None


# --- a storm ---

@pytest.mark.parametrize("seed", range(2))
def test_a_storm(me_only, witness, lock, seed):
    """
    Many replace each other, and are killed at random: never two jobs at once, and the lock is free
    at the end.
    """
    dice = random.Random(seed)
    runs = []
    bodies = ["exec sleep 0.0$D", "trap '' TERM; exec sleep 0.0$D", "sleep 0.0$D; true",
              "exec sleep 1000", "trap '' TERM; exec sleep 1000",
              "(trap '' TERM; exec sleep 1000); true"]
    end = time.monotonic() + 4
    while time.monotonic() < end:
        form = dice.choice([(), (), ("-F",)])
        runs.append(me_only(*form, "-q", "--replace", "-k", dice.choice(["0", "0.05", "0.2"]),
                            lock, "sh", "-c",
                            STARTS + f"D={dice.randrange(1, 100):02d}; " + dice.choice(bodies),
                            env=witness.env))
        living = [p for p in runs if p.poll() is None]
        if dice.random() < 0.3:
            dice.choice(living or runs).send_signal(dice.choice([signal.SIGKILL, signal.SIGTERM]))
        if len(living) > 12:
            dice.choice(living).send_signal(signal.SIGTERM)
    last = me_only("-q", "--replace", "-k", "0", lock, "sh", "-c", STARTS + "echo ran",
                   env=witness.env)
    # Those in line before it have seen the same holder: only this test ends jobs without an end.
    while last.poll() is None:
        me_only("-q", "--replace", "-k", "0", "-w", "0.5", lock, "true").wait(DEADLINE)
    assert (last.returncode, last.stdout.read()) in ((0, b"ran\n"), (-signal.SIGTERM, b""),
                                                     (-signal.SIGTERM, b"ran\n"))
    for p in runs:
        while p.poll() is None:
            me_only("-q", "--replace", "-k", "0", "-w", "0.5", lock, "true").wait(DEADLINE)
        assert p.returncode in (0, -signal.SIGTERM, -signal.SIGKILL), p.stderr.read()
    wait_for(lambda: not is_bound(address(lock)), "the lock is free")
