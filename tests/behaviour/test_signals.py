"""
Point by point: what a signal sent to me-only, or typed at its terminal, does to the command and to
me-only.
"""
import ctypes
import os
import random
import shlex
import signal
import subprocess
import sys
import time

import pytest

from conftest import (DEADLINE, ME_ONLY, PROGRAMS, address, children_of, is_listed, process_state,
                      read_line, release, wait_for)

HEARS = os.path.join(PROGRAMS, "hears")
FORMS = [(), ("-o",), ("-F",)]
MARK = signal.SIGRTMIN + 20  # sent last: once it has arrived, so has everything before
SENT = [getattr(signal, "SIG" + n) for n in
        "HUP INT QUIT USR1 USR2 PIPE ALRM TERM URG WINCH IO PWR VTALRM PROF XCPU XFSZ".split()]

forms = pytest.mark.parametrize("options", FORMS, ids=lambda o: " ".join(o) or "default")


class Ear:
    """The output of a `hears`: its PID and the signals it got."""

    def __init__(self, path):
        self.path = str(path)
        self.job = 0

    def lines(self):
        try:
            with open(self.path) as f:
                return f.read().split("\n")[:-1]
        except FileNotFoundError:
            return []

    def wait_until_ready(self):
        self.job = int(wait_for(self.lines, "the job is ready")[0].split()[1])

    def wait_for(self, number):
        wait_for(lambda: str(int(number)) in self.lines(), f"the job hears signal {number}")

    def signals(self):
        return [int(line) for line in self.lines()[1:]]

    def count(self, number):
        return self.signals().count(int(number))


@pytest.fixture
def ear(tmp_path):
    return Ear(tmp_path / "heard")


@pytest.fixture
def listening(me_only, lock, ear):
    """listening(OPTION...) starts a job that records signals, and returns the me-only process."""

    def listening_(*options, **kw):
        p = me_only(*options, lock, HEARS, ear.path, **kw)
        ear.wait_until_ready()
        return p

    return listening_


def job_of(parent, name="sleep"):
    """The process of that name that runs below PARENT."""
    def find():
        for pid in children_of(parent):
            with open(f"/proc/{pid}/comm") as f:
                if f.read() == name + "\n":
                    return pid
    return wait_for(find, f"{name} runs")


def bash_child(bash):
    """The PID of the first process that bash has started."""
    return wait_for(lambda: children_of(bash.process.pid), "bash has a child")[0]


def job_line(lock, *command, options=()):
    """The command line for a shell."""
    return shlex.join([ME_ONLY, *options, lock, *command])


def wait_for_state(pid, states, what):
    wait_for(lambda: process_state(pid) in states, f"{what} has a state of {states}")


def wait_until_free(lock):
    wait_for(lambda: not is_listed(address(lock)), "the lock is free")


# ---- sent by kill ----


@forms
def test_each_signal_sent_to_us_reaches_the_job_once(listening, ear, options):
    p = listening(*options)
    numbers = SENT + list(range(signal.SIGRTMIN, signal.SIGRTMAX))
    for number in numbers:
        if number != MARK:
            os.kill(p.pid, number)
            ear.wait_for(number)
    os.kill(p.pid, MARK)
    ear.wait_for(MARK)
    assert sorted(ear.signals()) == sorted(numbers)
    os.kill(p.pid, signal.SIGRTMAX)
    assert p.wait(DEADLINE) == 0


@forms
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGRTMIN + 1])
def test_a_value_and_its_sender_are_passed_on(listening, ear, options, number):
    p = listening(*options)
    for value in (0x1234567890abcdef, 7):
        assert ctypes.CDLL(None).sigqueue(p.pid, int(number), ctypes.c_void_p(value)) == 0
        wait_for(lambda: f"{int(number)} {value:#x} from {os.getpid()} of {os.geteuid()}" in ear.lines(),
                 f"the job hears {value:#x}: {ear.lines()}")


@forms
def test_a_burst_of_one_real_time_signal_arrives_complete(listening, ear, options):
    p = listening(*options)
    for _ in range(100):
        os.kill(p.pid, signal.SIGRTMIN + 5)
    os.kill(p.pid, MARK)
    ear.wait_for(MARK)
    assert ear.count(signal.SIGRTMIN + 5) == 100


def test_a_signal_is_passed_on_to_the_job_alone(me_only, lock, ear):
    """The job's own children get what the job makes of it, as without me-only."""
    p = me_only(lock, "sh", "-c",
                f"trap 'echo trapped; exit 5' TERM; {shlex.quote(HEARS)} {shlex.quote(ear.path)} & "
                "echo up; while :; do wait; done")
    assert read_line(p.stdout) == b"up\n"
    ear.wait_until_ready()
    os.kill(p.pid, signal.SIGTERM)
    assert p.wait(DEADLINE) == 5
    os.kill(ear.job, MARK)
    ear.wait_for(MARK)
    assert ear.signals() == [MARK]


def test_a_termination_at_any_moment_of_the_start_is_never_lost(lock):
    """
    Before the signals are blocked it ends me-only, afterwards it is kept until there is a job to
    end: always with the same result.
    """
    for _ in range(200):
        p = subprocess.Popen([ME_ONLY, lock, "sleep", "1000"], stdin=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
        moment = time.monotonic() + random.random() * 0.002
        while time.monotonic() < moment:
            pass
        p.terminate()
        try:
            assert p.wait(DEADLINE) == -signal.SIGTERM, p.stderr.read()
        finally:
            p.kill()
            p.stderr.close()
    wait_until_free(lock)


@forms
def test_what_ends_a_process_without_us_ends_both_and_frees_the_lock(me_only, lock, options):
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM,
                   signal.SIGRTMIN + 3):
        p = me_only(*options, lock, "sh", "-c", "echo up; exec sleep 1000")
        assert read_line(p.stdout) == b"up\n"
        os.kill(p.pid, number)
        assert p.wait(DEADLINE) == -number
        assert not is_listed(address(lock))


def test_sigchld_from_a_stranger_and_stray_continues_mean_nothing(hold, lock):
    p = hold(lock)
    for _ in range(20):
        os.kill(p.pid, signal.SIGCHLD)
        os.kill(p.pid, signal.SIGCONT)
    assert process_state(p.job) in ("S", "R")
    assert release(p) == 0


def test_what_the_caller_ignores_ends_neither_us_nor_the_job(start, lock):
    p = start("sh", "-c", "trap '' HUP INT USR1; exec \"$@\"", "sh", ME_ONLY, lock, "sh", "-c",
              "echo $$; exec sleep 1000")
    job = int(read_line(p.stdout))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        os.kill(p.pid, number)
        os.kill(job, number)
    os.kill(p.pid, signal.SIGTERM)
    # The last one kills the job, and none before it.
    assert p.wait(DEADLINE) == -signal.SIGTERM


def test_a_stopped_me_only_loses_nothing(listening, ear, run, lock):
    p = listening()
    os.kill(p.pid, signal.SIGSTOP)
    wait_for_state(p.pid, "T", "me-only")
    os.kill(p.pid, signal.SIGTERM)
    assert run(lock, "true").returncode == 4
    os.kill(ear.job, signal.SIGRTMAX)
    wait_for_state(ear.job, ("Z", None), "the job")
    os.kill(p.pid, signal.SIGCONT)
    assert p.wait(DEADLINE) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGRTMIN], ids=["term", "real-time"])
@pytest.mark.parametrize("wait", [True, False], ids=["stopped", "about to stop"])
def test_what_comes_while_we_stop_reaches_the_job_when_we_go_on(bash, lock, ear, number, wait):
    """
    me-only handles a stop with only that signal unblocked: the others stay pending, and do not end
    it.
    """
    bash.enter(job_line(lock, HEARS, ear.path) + " &")
    ear.wait_until_ready()
    parent = bash_child(bash)
    os.kill(parent, signal.SIGTSTP)
    if wait:
        wait_for_state(parent, "T", "me-only")
    os.kill(parent, number)
    os.kill(parent, signal.SIGCONT)
    ear.wait_for(number)
    os.kill(parent, MARK)
    ear.wait_for(MARK)
    assert ear.count(signal.SIGTSTP) <= 1
    assert ear.count(signal.SIGCONT) == 1
    assert ear.count(number) == 1


# ---- timers and pipes ----

WITH_ALARM = """import os, signal, sys
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


@forms
def test_an_alarm_set_by_the_caller_reaches_the_job(start, lock, ear, options):
    """
    The kernel's timer outlives exec, and is then me-only's, not the job's: the signal comes from
    the kernel, yet not from the terminal.
    """
    p = start(sys.executable, "-c", WITH_ALARM, "0.5", ME_ONLY, *options, lock, HEARS, ear.path)
    ear.wait_until_ready()
    ear.wait_for(signal.SIGALRM)
    os.kill(p.pid, MARK)
    ear.wait_for(MARK)
    assert ear.count(signal.SIGALRM) == 1


@forms
def test_an_alarm_set_by_the_caller_ends_both(start, lock, options):
    p = start(sys.executable, "-c", WITH_ALARM, "0.3", ME_ONLY, *options, lock, "sleep", "1000")
    assert p.wait(DEADLINE) == -signal.SIGALRM
    assert not is_listed(address(lock))


def test_an_alarm_set_by_the_caller_ends_the_waiting(start, hold, lock):
    hold(lock)
    p = start(sys.executable, "-c", WITH_ALARM, "0.3", ME_ONLY, "-w", "inf", lock, "true")
    assert p.wait(DEADLINE) == -signal.SIGALRM


@pytest.mark.parametrize("options", [(), ("-v",), ("-w", "0.1", "-v")], ids=" ".join)
def test_a_reader_of_our_messages_that_has_gone_does_not_change_the_status(
        hold, start, lock, options):
    hold(lock)
    reader, writer = os.pipe()
    os.close(reader)
    p = start(ME_ONLY, *options, lock, "true", stderr=writer)
    os.close(writer)
    assert p.wait(DEADLINE) == 4


def test_a_reader_of_our_messages_that_has_gone_does_not_keep_the_job_from_running(start, lock):
    reader, writer = os.pipe()
    os.close(reader)
    p = start(ME_ONLY, "-v", lock, "sh", "-c", "exit 42", stderr=writer)
    os.close(writer)
    assert p.wait(DEADLINE) == 42


def test_the_job_dies_of_its_own_broken_pipe(run, lock):
    assert run(lock, "sh", "-c", "kill -PIPE $$").returncode == -signal.SIGPIPE


# ---- typed at the terminal ----


@forms
def test_what_is_typed_reaches_the_job_once(bash, lock, ear, options):
    bash.enter(job_line(lock, HEARS, ear.path, options=options))
    ear.wait_until_ready()
    parent = bash_child(bash)
    mark = signal.SIGRTMIN
    for _ in range(10):
        for key, number in (("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)):
            before = ear.count(number)
            bash.type(key)
            wait_for(lambda: ear.count(number) > before, "the job hears the key")
            # Everything that me-only passes on has been passed on when it passes this on.
            os.kill(parent, mark)
            ear.wait_for(mark)
            mark += 1
    assert ear.count(signal.SIGINT) == 10
    assert ear.count(signal.SIGQUIT) == 10
    os.kill(ear.job, signal.SIGRTMAX)
    bash.wait_for("ready> ")


@forms
def test_the_job_hears_a_new_size_of_the_terminal_once(bash, lock, ear, options):
    bash.enter(job_line(lock, HEARS, ear.path, options=options))
    ear.wait_until_ready()
    parent = bash_child(bash)
    for n in range(5):
        bash.resize(30 + n, 100)
        wait_for(lambda: ear.count(signal.SIGWINCH) > n, "the job hears of the size")
        os.kill(parent, MARK + n)
        ear.wait_for(MARK + n)
        assert ear.count(signal.SIGWINCH) == n + 1


@forms
@pytest.mark.parametrize("key, status", [("\x03", 130), ("\x1c", 131)],
                         ids=["ctrl-c", "ctrl-backslash"])
def test_an_interrupt_ends_both_by_the_same_signal(bash, lock, options, key, status):
    bash.enter("ulimit -c 0; " + job_line(lock, "sh", "-c", "echo up; exec sleep 1000",
                                          options=options))
    bash.wait_for("up")
    bash.type(key)
    bash.wait_for("ready> ")
    bash.enter("echo status $?")
    bash.wait_for(f"status {status}")
    assert not is_listed(address(lock))


def test_a_job_that_lives_through_an_interrupt_keeps_us(bash, lock):
    bash.enter(job_line(lock, "sh", "-c",
                        "trap 'echo caught' INT; echo up; while :; do read line; done"))
    bash.wait_for("up")
    for _ in range(3):
        bash.type("\x03")
        bash.wait_for("caught")
        assert is_listed(address(lock))
    os.kill(job_of(bash_child(bash), "sh"), signal.SIGTERM)
    bash.wait_for("ready> ")
    bash.enter("echo status $?")
    bash.wait_for("status 143")


def test_one_interrupt_ends_a_loop_in_an_interactive_shell(bash, lock):
    bash.enter("while :; do " + job_line(lock, "sh", "-c", "echo up; exec sleep 9") + "; done")
    bash.wait_for("up")
    bash.type("\x03")
    bash.wait_for("ready> ")
    bash.enter("echo only $((6 * 7))")
    assert b"up" not in bash.wait_for("[^$]*only 42").group()
    assert children_of(bash.process.pid) == []
    assert not is_listed(address(lock))


@pytest.mark.parametrize("shell", ["bash", "dash", "zsh"])
def test_one_interrupt_ends_a_loop_in_a_script(terminal, lock, shell):
    t = terminal(shell, "-c", "while :; do " + job_line(lock, "sh", "-c", "echo up; exec sleep 9")
                 + "; done")
    t.wait_for("up")
    t.type("\x03")
    assert t.process.wait(DEADLINE) in (-signal.SIGINT, 130)
    wait_until_free(lock)


@pytest.mark.parametrize("command", [("timeout", "1000", "sleep", "1000"),
                                     ("setsid", "sleep", "1000")],
                         ids=["timeout", "setsid"])
def test_an_interrupt_reaches_a_job_that_has_left_our_process_group(bash, lock, command):
    """The terminal does not tell the job, so me-only does."""
    bash.enter(job_line(lock, *command))
    me = bash_child(bash)
    job_of(me)
    if command[0] == "timeout":
        # Before its fork() has returned, a signal ends timeout(1) alone.
        wait_for_state(job_of(me, "timeout"), "S", "timeout(1)")
    bash.type("\x03")
    bash.wait_for("ready> ")
    assert children_of(bash.process.pid) == []
    wait_for(lambda: not is_listed(address(lock)), "what timeout(1) has started has ended, too")


# ---- stopped and continued ----


@forms
def test_stop_and_foreground_at_a_terminal(bash, run, lock, options):
    bash.enter(job_line(lock, "sh", "-c", "echo up; exec sleep 1000", options=options))
    bash.wait_for("up")
    parent = bash_child(bash)
    job = parent if options == ("-F",) else job_of(parent)
    for _ in range(5):
        bash.type("\x1a")
        bash.wait_for("Stopped[^$]*ready> ")
        wait_for_state(parent, "T", "me-only")
        wait_for_state(job, "T", "the job")
        assert run(lock, "true").returncode == 4
        bash.enter("fg")
        wait_for_state(parent, "S", "me-only")
        wait_for_state(job, "S", "the job")
    bash.type("\x1a")
    bash.wait_for("Stopped[^$]*ready> ")
    bash.enter("bg; echo behind")
    bash.wait_for("behind[^$]*ready> ")
    wait_for_state(parent, "S", "me-only")
    wait_for_state(job, "S", "the job")
    bash.enter("fg")
    wait_for(lambda: os.tcgetpgrp(bash.master) == os.getpgid(parent),
             "the job is in the foreground")
    bash.type("\x03")
    bash.wait_for("ready> ")
    bash.enter("echo status $?")
    bash.wait_for("status 130")
    assert not is_listed(address(lock))


def test_a_stop_and_a_continue_sent_by_kill_reach_both(bash, lock):
    bash.enter(job_line(lock, "sleep", "1000") + " &")
    parent = bash_child(bash)
    job = job_of(parent)
    for _ in range(5):
        os.kill(parent, signal.SIGTSTP)
        wait_for_state(job, "T", "the job")
        wait_for_state(parent, "T", "me-only")
        os.kill(parent, signal.SIGCONT)
        wait_for_state(parent, "S", "me-only")
        wait_for_state(job, "S", "the job")


def test_a_stop_ignored_by_the_caller_stays_ignored(bash, lock, ear):
    bash.enter(f"(trap '' TSTP; exec {job_line(lock, HEARS, ear.path)})")
    ear.wait_until_ready()
    parent = bash_child(bash)
    bash.type("\x1a")
    os.kill(parent, signal.SIGTSTP)
    os.kill(parent, MARK)
    ear.wait_for(MARK)
    assert process_state(parent) == "S"
    assert ear.signals() == [MARK]


def test_a_job_that_stops_its_whole_group_comes_back(bash, lock):
    """
    As editors and pagers do on Ctrl-Z. To me-only it looks like a signal that somebody sent; passed
    on late, it would stop the job again after fg.
    """
    bash.enter(job_line(lock, "sh", "-c",
                        "echo up; kill -TSTP 0; echo back; kill -TSTP 0; echo again"))
    bash.wait_for("up")
    bash.wait_for("Stopped[^$]*ready> ")
    bash.enter("fg")
    bash.wait_for("back")
    bash.wait_for("Stopped[^$]*ready> ")
    bash.enter("fg")
    bash.wait_for("again[^$]*ready> ")
    bash.enter("echo status $?")
    bash.wait_for("status 0")


def test_a_job_that_stops_itself_alone_is_left_alone(hold, lock):
    p = hold(lock)
    os.kill(p.job, signal.SIGSTOP)
    wait_for_state(p.job, "T", "the job")
    os.kill(p.job, signal.SIGCONT)
    assert release(p) == 0


def test_a_job_in_the_background_that_reads_the_terminal_stops_until_it_is_in_front(bash, lock):
    bash.enter(job_line(lock, "sh", "-c", "read line; echo \"got $line\"") + " &")
    parent = bash_child(bash)
    wait_for_state(parent, "T", "me-only")
    bash.enter("fg")
    wait_for(lambda: os.tcgetpgrp(bash.master) == os.getpgid(parent),
             "the job is in the foreground")
    bash.enter("something")
    bash.wait_for("got something")
    bash.wait_for("ready> ")


def test_an_interactive_shell_as_the_job_has_its_own_job_control(bash, lock):
    bash.enter("PS1='inner> ' " + job_line(lock, "bash", "--norc", "--noprofile", "--noediting",
                                           "-i"))
    bash.wait_for("inner> ")
    bash.enter("sh -c 'echo up; exec sleep 1000'")
    bash.wait_for("up")
    job = bash.foreground()
    bash.type("\x1a")
    bash.wait_for("Stopped[^$]*inner> ")
    bash.enter("fg")
    bash.wait_for("sleep")
    # The shell shows the command before it gives it the terminal again.
    wait_for(lambda: bash.foreground() == job and process_state(job) == "S",
             "the job is in the foreground again")
    bash.type("\x03")
    bash.wait_for("inner> ")
    bash.enter("echo status $?")
    bash.wait_for("status 130[^$]*inner> ")
    bash.enter("exit 9")
    bash.wait_for("ready> ")
    bash.enter("echo status $?")
    bash.wait_for("status 9")


# ---- hang-up ----


@forms
def test_a_hang_up_ends_what_runs_in_the_foreground(bash, lock, options):
    bash.enter(job_line(lock, "sh", "-c", "echo up; exec sleep 1000", options=options))
    bash.wait_for("up")
    bash.hang_up()
    bash.process.wait(DEADLINE)
    wait_until_free(lock)


@forms
def test_a_hang_up_reaches_the_job_once_when_we_lead_the_session(terminal, lock, ear, options):
    """As with ssh -t HOST me-only ...: the kernel then signals only the leader."""
    t = terminal(ME_ONLY, *options, lock, HEARS, ear.path)
    ear.wait_until_ready()
    t.hang_up()
    ear.wait_for(signal.SIGHUP)
    os.kill(t.process.pid, MARK)
    ear.wait_for(MARK)
    assert ear.count(signal.SIGHUP) == 1
    os.kill(ear.job, signal.SIGRTMAX)
    assert t.process.wait(DEADLINE) == 0


def test_a_hang_up_ends_both_when_we_lead_the_session(terminal, lock):
    t = terminal(ME_ONLY, lock, "sh", "-c", "echo up; exec sleep 1000")
    t.wait_for("up")
    t.hang_up()
    assert t.process.wait(DEADLINE) == -signal.SIGHUP
    wait_until_free(lock)


def test_a_hang_up_ends_a_waiter(terminal, hold, lock):
    hold(lock)
    t = terminal(ME_ONLY, "-w", "inf", lock, "true")
    t.wait_for("waiting")
    t.hang_up()
    assert t.process.wait(DEADLINE) == -signal.SIGHUP


def test_nohup_keeps_both(bash, lock, ear):
    bash.enter("nohup " + job_line(lock, HEARS, ear.path) + " >/dev/null 2>&1 &")
    ear.wait_until_ready()
    parent = bash_child(bash)
    bash.hang_up()
    bash.process.wait(DEADLINE)
    os.kill(parent, MARK)
    ear.wait_for(MARK)
    assert signal.SIGHUP not in ear.signals()
    os.kill(ear.job, signal.SIGRTMAX)
    wait_until_free(lock)


# ---- timeout(1), around and inside ----


def test_timeout_around_us(start, lock):
    p = start("timeout", "0.2", ME_ONLY, lock, "sleep", "1000")
    assert p.wait(DEADLINE) == 124
    wait_until_free(lock)


def test_timeout_inside(run, lock):
    assert run(lock, "timeout", "0.2", "sleep", "1000").returncode == 124
    assert not is_listed(address(lock))
