"""
Lines on standard error: they never end or stop a run, and never hold it up for long, whatever
standard error is.
"""
import contextlib
import fcntl
import os
import pty
import re
import resource
import signal
import subprocess
import termios

import pytest

from conftest import DEADLINE, ME_ONLY, program, release, wait_for

STATE = program("state")
FULL = 1024  # bytes: the least limit that a shell can set


@pytest.fixture
def stopped_terminal():
    """A terminal on which Ctrl-S was typed."""
    master, slave = pty.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    yield slave
    os.close(slave)
    os.close(master)


@pytest.fixture
def unread_terminal():
    """A terminal that nobody reads, with little room, but some."""
    master, slave = pty.openpty()
    mode = termios.tcgetattr(slave)
    mode[1] &= ~termios.OPOST
    termios.tcsetattr(slave, termios.TCSANOW, mode)
    os.set_blocking(slave, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(slave, b"x" * 64)
    os.set_blocking(slave, True)
    os.read(master, 64)
    yield slave
    os.close(slave)
    os.close(master)


@pytest.fixture
def log_at_its_limit(tmp_path):
    """A log that is as long as files may be."""
    path = tmp_path / "log"
    path.write_bytes(b"x" * FULL)
    with open(path, "ab") as log:
        yield log
    assert path.read_bytes() == b"x" * FULL


@pytest.fixture(params=["full_pipe", "stopped_terminal", "unread_terminal", "log_at_its_limit"])
def blocked(request):
    """What cannot be written to."""
    return request.getfixturevalue(request.param)


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, FULL))


LINES = {
    "refused": (4, ["LOCK", "echo", "ran"]),
    "gave-up": (4, ["-w", "0.01", "LOCK", "echo", "ran"]),
    "usage": (2, ["--no-such-option"]),
    "failed": (3, ["file:/no/such/directory/file", "echo", "ran"]),
    "not-found": (1, ["FREE", "/no/such/command"]),
    "verbose": (0, ["-v", "FREE", "echo", "ran"]),
    "who": (2, ["--who"]),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_that_cannot_be_written(hold, run, lock, blocked, line):
    """It is lost. The status is not."""
    status, argv = LINES[line]
    holder = hold(lock)
    r = run(*[{"LOCK": lock, "FREE": lock + "/free"}.get(word, word) for word in argv],
            stderr=blocked, preexec_fn=limit_files)
    assert (r.returncode, r.stdout) == (status, b"ran\n" if status == 0 else b"")
    assert release(holder) == 0


@pytest.mark.parametrize("options", [("-w", "inf"), ("-v", "-w", "inf")], ids=["", "verbose"])
@pytest.mark.parametrize("kind", ["host", "file"])
def test_a_waiter_whose_line_cannot_be_written(hold, me_only, lock, tmp_path, blocked, kind,
                                               options):
    """It gets its turn. Without -v its line is written after a second."""
    name = lock if kind == "host" else f"file:{tmp_path}/lock"
    holder = hold(name)
    p = me_only(*options, name, "echo", "ran", stderr=blocked, preexec_fn=limit_files)
    wait_for(lambda: b"" if p.poll() is not None else waits_long(p.pid), "it waits")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"ran\n" and p.returncode == 0


def waits_long(pid):
    """Whether PID has waited for more than its first second."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        began = int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime", encoding="ascii") as f:
        return float(f.read().split()[0]) - began > 1.2


@pytest.mark.native("strace traces the emulator")
@pytest.mark.parametrize("options", [(), ("-F",)], ids=["default", "no-fork"])
@pytest.mark.parametrize("kind", ["host", "file"])
def test_the_lock_is_free_while_the_line_is_written(start, call, lock, tmp_path, kind, options):
    """A command that cannot be found does not hold the lock for as long as nobody reads that."""
    name, trace = lock if kind == "host" else f"file:{tmp_path}/lock", tmp_path / "trace"
    trace.touch()
    p = start("strace", "-qq", "-f", "-o", trace, "-e", "trace=write", "-e", "inject=write:delay_enter=3000000",
              ME_ONLY, *options, name, "/no/such/command")
    # strace writes the beginning of a call before it delays it.
    wait_for(lambda: "me-only: " in trace.read_text(), "it writes")
    r = call(ME_ONLY, name, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")
    assert p.communicate(timeout=DEADLINE)[1] == b"me-only: /no/such/command: not found\n" and p.returncode == 1


SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTOU]


@pytest.mark.parametrize("how", ["default", "blocked", "ignored"])
@pytest.mark.parametrize("options", [["-v"], ["-v", "-F"], ["-v", "-w", "inf"]],
                         ids=["default", "no-fork", "wait"])
def test_the_command_has_the_callers_signals(run, call, lock, log_at_its_limit, options, how):
    """What a line needs of them is undone before the command starts."""
    def prepare():
        limit_files()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN if how == "ignored" else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_BLOCK if how == "blocked" else signal.SIG_UNBLOCK,
                               SIGNALS)

    def signals(r):
        return re.findall(rb"^(?:Sig|sig)[^\n]*", r.stdout, re.M)

    under = run(*options, lock, "grep", "^Sig[BIC]", "/proc/self/status",
                stderr=log_at_its_limit, preexec_fn=prepare)
    without = call("grep", "^Sig[BIC]", "/proc/self/status", preexec_fn=prepare)
    assert len(signals(without)) == 3
    assert signals(under) == signals(without)


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["--version"], ["--list"], ["--who", "LOCK"]])
def test_an_answer_that_does_not_fit_into_a_file(hold, run, lock, log_at_its_limit, argv):
    holder = hold(lock)
    r = run(*[lock if word == "LOCK" else word for word in argv], stdout=log_at_its_limit,
            preexec_fn=limit_files)
    assert r.returncode == 3
    assert r.stderr == b"me-only: standard output: cannot write: File too large\n"
    assert release(holder) == 0


def test_in_the_background_of_a_terminal_that_stops_writers(hold, bash, lock):
    """stty tostop: a refusal is written, and nobody has to bring it into the foreground."""
    holder = hold(lock)
    bash.enter(f"stty tostop; {ME_ONLY} {lock} echo ran & wait $!; echo status $?")
    bash.wait_for("held by pid ")
    bash.wait_for("status 4")
    assert release(holder) == 0
