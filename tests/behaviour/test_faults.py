"""
Every system call before the exec is delayed in turn, or brings a deadly signal (strace's
injection). For failing calls see test_errnos.py.

The calls come from a trace of a clean run, so that none is forgotten when the program changes.
Whatever fails: the command is never started twice and never without the lock, no lock is left, and
the status and one line tell what happened. The command is tests/programs/under-lock.c, which proves
all that; strace detaches from it at its exec.
"""
import collections
import concurrent.futures
import itertools
import os
import re
import signal
import subprocess

import pytest

from conftest import DEADLINE, ME_ONLY, PROGRAMS, address, children_of, is_bound, wait_for

# strace sees no loader and no sanitizer there, only the program's own calls
pytestmark = pytest.mark.static

UNDER_LOCK = os.path.join(PROGRAMS, "under-lock")
STATUS = 7  # the command's own
# seconds after which a run counts as hanging; each takes milliseconds, or its time limit
HANG = 2 * DEADLINE
# milliseconds for a command that a signal is to end: if it does not, the run hangs
LONG = 2 * 1000 * HANG

# No process can continue after these: the C library's start, the way out.
LEFT_OUT = {"arch_prctl", "set_tid_address", "exit", "exit_group", "rt_sigreturn",
            "restart_syscall"}


def is_ours(call):
    """
    Beyond LEFT_OUT: the C library's fork() sets signal masks, which cannot fail, and ignores the
    result; the first is the program's own.
    """
    return call.name not in LEFT_OUT and (call.name != "rt_sigprocmask" or call.number == 1)


Call = collections.namedtuple("Call", "name number")
Run = collections.namedtuple("Run", "status stderr report")


class Trial:
    """One run of the program under strace, with its own lock and report."""

    numbers = itertools.count()

    def __init__(self, directory, lock):
        self.number = next(self.numbers)
        self.lock = f"{lock}/{self.number}"
        self.report = os.path.join(directory, f"report-{self.number}")
        self.trace = os.path.join(directory, f"trace-{self.number}")

    def command(self, milliseconds=0):
        return [UNDER_LOCK, self.report, self.lock, str(STATUS), str(milliseconds)]

    def argv(self, options, inject=None, all_processes=True, milliseconds=0, detached=True):
        strace = ["strace", "-q", "-b", "execve", "-o", self.trace]
        if detached:
            # the program is this process's child, not strace's: its status is its own
            strace += ["-D"]
        if all_processes:
            strace += ["-f"]
        if inject:
            strace += ["-e", "inject=" + inject]
        return strace + [ME_ONLY, *options, self.lock, *self.command(milliseconds)]

    def start(self, *args, **kw):
        return subprocess.Popen(self.argv(*args, **kw), stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE)

    def finish(self, process):
        """The outcome: status None for a run that hung."""
        try:
            _, stderr = process.communicate(timeout=HANG)
            status = process.returncode
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *children_of(process.pid)]:
                os.kill(pid, signal.SIGKILL)
            _, stderr = process.communicate()
            status = None
        return Run(status, stderr.decode(errors="replace").splitlines(), self.reported())

    def run(self, *args, **kw):
        return self.finish(self.start(*args, **kw))

    def reported(self):
        """What the commands reported, as a list of [pid, word]."""
        try:
            with open(self.report, encoding="ascii") as f:
                return [line.split() for line in f]
        except FileNotFoundError:
            return []

    def settle(self):
        """Wait until the lock is free and every command has ended, and return the whole report."""
        wait_for(lambda: not is_bound(address(self.lock)), f"{self.lock} is free")
        return self.reported()

    def calls(self):
        """
        The program's own system calls of a traced run, in order: {pid: [(Call, sleeps)]}; the
        first pid is the program's. A poll() that may wait sleeps.
        """
        calls, counts = collections.defaultdict(list), collections.Counter()
        looks_only = re.compile(r", 0(\)| <unfinished)")
        with open(self.trace, encoding="utf-8", errors="replace") as f:
            for i, line in enumerate(f):
                m = re.match(r"(\d+) +(?:<\.\.\. )?(\w+)(\(| resumed>)", line)
                if i == 0 or not m:  # the first is strace's own execve of the program
                    continue
                pid, name, begins = int(m[1]), m[2], m[3] == "("
                if begins:
                    counts[pid, name] += 1
                    calls[pid].append((Call(name, counts[pid, name]),
                                       name == "poll" and not looks_only.search(line)))
        return calls


def all_calls(calls, which=None):
    """
    Every call that a process made, the highest number of any of them standing for all, in the order
    of the trace.
    """
    found = dict.fromkeys(call for pid in calls for call, _ in calls[pid] if which is None
                          or pid in which)
    return [c for c in found if is_ours(c)]


def many(work, items, at_once=4):
    """
    work(item) for each item, several at a time, since runs mostly wait. Fails with the complaints
    of all.
    """
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        complaints = [f"{item}: {problem}" for item, problems in zip(items, pool.map(work, items))
                      for problem in problems]
    assert not complaints, "\n".join(["", *complaints])


def wrong_report(report):
    """What must never happen, whatever failed."""
    starts = [pid for pid, word in report if word == "started"]
    if len(starts) > 1:
        yield f"the command was started {len(starts)} times"
    for pid, word in report:
        if word not in ("started", "held"):
            yield f"the command ran without the lock: {report}"


@pytest.fixture
def trial(tmp_path, lock, start):  # start: whatever is left over is ended
    return lambda: Trial(str(tmp_path), lock)


def clean_calls(trial, options, **kw):
    """The calls of a run in which nothing fails."""
    t = trial()
    subprocess.run(t.argv(options, detached=False, **kw), stdin=subprocess.DEVNULL, check=False,
                   timeout=HANG)
    assert [w for _, w in t.settle()] == ["started", "held"]
    calls = t.calls()
    assert sum(map(len, calls.values())) >= 5, "the trace shows no run"
    return calls


def until_it_sleeps(calls):
    """
    The program's own calls, in order, up to the first that waits for the command; and those after
    it.
    """
    own = [(c, sleeps) for c, sleeps in next(iter(calls.values())) if c.name not in LEFT_OUT]
    first = next(i for i, (_, sleeps) in enumerate(own) if sleeps)
    return [c for c, _ in own[: first + 1]], [c for c, _ in own[first + 1 :]]


def deaths(calls, deadly):
    return [f"{c.name}:signal={int(deadly)}:when={c.number}" for c in calls]


@pytest.mark.parametrize("options", [[], ["-o"], ["-w", "20"]], ids=["default", "close", "wait"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGRTMIN + 6],
                         ids=["SIGTERM", "real-time"])
def test_a_deadly_signal_at_each_call(trial, options, number):
    """
    Before the command starts, it ends me-only; during the command, it reaches the command and then
    ends me-only; it is never lost.
    """
    before, after = until_it_sleeps(clean_calls(trial, options, milliseconds=900))

    def work(item):
        fault, is_before = item
        t = trial()
        run = t.run(options, fault, all_processes=False, milliseconds=LONG if is_before else 0)
        report = t.settle()
        problems = list(wrong_report(report))
        if run.stderr:
            problems.append(f"says {run.stderr}")
        if run.status != -number and (is_before or run.status != STATUS):
            problems.append(f"status {run.status}")
        return problems

    many(work, [(f, True) for f in deaths(before, number)] + [(f, False)
                                                              for f in deaths(after, number)])


@pytest.mark.parametrize("options", [[], ["-o"], ["-w", "20"]], ids=["default", "close", "wait"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP],
                         ids=["SIGINT", "SIGQUIT", "SIGHUP"])
def test_a_typed_signal_before_the_command(trial, options, number):
    """
    strace's signals come from the kernel, like those of the terminal: a command that is not there
    yet has not got it.
    """
    own = [c for c, _ in next(iter(clean_calls(trial, options).values()))]
    # Signals are blocked by the very last call before the start. A key typed in that instant looks
    # as if it were typed once the command runs.
    last = next(i for i, c in enumerate(own) if c.name in ("fork", "vfork", "clone", "clone3")) - 1
    assert own[last].name == "rt_sigprocmask"

    def work(fault):
        t = trial()
        run = t.run(options, fault, all_processes=False, milliseconds=LONG)
        problems = list(wrong_report(t.settle()))
        if run.status != -number or run.stderr:
            problems.append(f"status {run.status}: {run.stderr}")
        return problems

    many(work, deaths([c for c in own[:last] if c.name not in LEFT_OUT], number))


@pytest.mark.parametrize("options, milliseconds", [([], 30), (["-F"], 30), (["-o"], 30),
                                                   (["-w", "20"], 30), ([], 1200), (["-o"], 1200)],
                         ids=["default", "no-fork", "close", "wait", "default-long", "close-long"])
def test_sigkill_at_each_call(trial, options, milliseconds):
    """The command, if it was started, has the lock to its end, and then the lock is free."""
    calls = clean_calls(trial, options, milliseconds=milliseconds)
    own = [c for c, _ in next(iter(calls.values())) if c.name not in LEFT_OUT]

    def work(fault):
        t = trial()
        run = t.run(options, fault, all_processes=False, milliseconds=milliseconds)
        report = t.settle()
        problems = list(wrong_report(report))
        if run.status not in (-signal.SIGKILL, STATUS):
            problems.append(f"status {run.status}: {run.stderr}")
        if len(report) % 2:
            problems.append(f"the lock was free before the command had ended: {report}")
        return problems

    many(work, deaths(own, signal.SIGKILL), at_once=16 if milliseconds > 1000 else 4)


@pytest.mark.parametrize("options", [[], ["-F"], ["-o"], ["-w", "20"]],
                         ids=["default", "no-fork", "close", "wait"])
def test_each_call_is_slow(trial, options):
    """A rival that tries all the time finds no gap."""
    calls = all_calls(clean_calls(trial, options))

    def work(fault):
        t = trial()
        process = t.start(options, fault, milliseconds=1)
        tries = 0
        while process.poll() is None and tries < 1000:
            tries += 1
            rival = subprocess.run([ME_ONLY, "-q", t.lock, *t.command(0)], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, check=False, timeout=HANG)
            if rival.returncode not in (STATUS, 4):
                return [f"the rival: {rival}"]
        run = t.finish(process)
        report = t.settle()
        problems = []
        if any(word not in ("started", "held") for _, word in report):
            problems.append(f"two at once, or one without the lock: {report}")
        if run.status != STATUS and (run.status != 4 or "-w" in options):
            problems.append(f"status {run.status}: {run.stderr}")
        return problems

    many(work, [f"{c.name}:delay_exit=15ms:when={c.number}" for c in calls])
