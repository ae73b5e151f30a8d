"""Every system call on the way fails in turn, is interrupted, delayed, or brings a deadly signal (strace's injection).

The calls are taken from a trace of a clean run, so that none is forgotten when the program changes. Whatever fails: the
command is never started twice and never without the lock, no lock is left, and the status and one line say what happened.
The command is tests/programs/under-lock.c, which proves all that; strace lets go of it when it is executed.
"""
import collections
import concurrent.futures
import itertools
import os
import re
import signal
import subprocess

import pytest

from conftest import DEADLINE, ME_ONLY, PROGRAMS, address, children_of, is_bound, is_listed, queue_of, release, wait_for, waiters_of

pytestmark = pytest.mark.static  # strace sees no loader and no sanitizer there, only what is ours

UNDER_LOCK = os.path.join(PROGRAMS, "under-lock")
STATUS = 7  # the command's own
HANG = 2 * DEADLINE  # seconds after which a run counts as hanging; each takes milliseconds, or what it may wait
LONG = 2 * 1000 * HANG  # milliseconds for a command that a signal is to end: if it does not, the run hangs

FORMS = {"default": [], "no-fork": ["-F"], "close": ["-o"], "wait": ["-w", "20"]}

# What the kernel may well answer. All that has no row here fails with OTHERS.
ERRORS = {
    "socket": ["EMFILE", "EACCES"],
    "bind": ["EACCES", "EPERM", "ENOMEM"],
    "connect": ["ECONNREFUSED", "EACCES", "EPERM", "EAGAIN"],
    "accept4": ["ECONNABORTED", "EMFILE", "ENFILE"],
    "fork": ["EAGAIN", "ENOMEM"],
    "vfork": ["EAGAIN", "ENOMEM"],
    "clone": ["EAGAIN", "ENOMEM"],
    "clone3": ["EAGAIN", "ENOMEM"],
    "execve": ["ENOENT", "EACCES", "ENOMEM"],
    "open": ["ENOENT", "EACCES", "EMFILE"],
    "openat": ["ENOENT", "EACCES", "EMFILE"],
    "getsockopt": ["ENOPROTOOPT", "ENOMEM"],
    "pidfd_open": ["ENOSYS", "EMFILE", "EPERM"],
    "wait4": ["ECHILD"],
    "waitid": ["ECHILD"],
    "read": ["EIO"],
    "write": ["EIO", "EPIPE"],
}
OTHERS = ["ENOMEM", "ENOSYS"]

# What a signal handler of nobody's may interrupt (a debugger that comes and goes is enough): nobody must notice.
INTERRUPTIBLE = {
    "accept", "accept4", "connect", "poll", "ppoll", "read", "recvfrom", "recvmsg", "sendmsg", "sendto", "wait4", "waitid",
    "write", "writev", "nanosleep", "clock_nanosleep", "rt_sigtimedwait", "open", "openat",
}

# A process cannot go on after these, whoever wrote it: the C library's start, the way out.
LEFT_OUT = {"arch_prctl", "set_tid_address", "exit", "exit_group", "rt_sigreturn", "restart_syscall"}


def is_ours(call):
    """Beyond LEFT_OUT: the C library's fork() sets signal masks, which cannot fail, and does not look; the first is our own."""
    return call.name not in LEFT_OUT and (call.name != "rt_sigprocmask" or call.number == 1)


Call = collections.namedtuple("Call", "name number")
Run = collections.namedtuple("Run", "status stderr report")


class Trial:
    """One run of the program under strace, with a lock and a report of its own."""

    numbers = itertools.count()

    def __init__(self, folder, lock):
        self.number = next(self.numbers)
        self.lock = f"{lock}/{self.number}"
        self.report = os.path.join(folder, f"report-{self.number}")
        self.trace = os.path.join(folder, f"trace-{self.number}")
        self.injected = None

    def command(self, milliseconds=0):
        return [UNDER_LOCK, self.report, self.lock, str(STATUS), str(milliseconds)]

    def argv(self, options, inject=None, all_processes=True, milliseconds=0, detached=True):
        strace = ["strace", "-q", "-T", "-b", "execve", "-o", self.trace]
        if detached:
            strace += ["-D"]  # the program is our child, not strace's: its status is its own
        if all_processes:
            strace += ["-f"]
        self.injected = inject
        if inject:
            strace += ["-e", "inject=" + inject]
        return strace + [ME_ONLY, *options, self.lock, *self.command(milliseconds)]

    def start(self, *args, **kw):
        return subprocess.Popen(self.argv(*args, **kw), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
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
        """What the commands said, as a list of [pid, word]."""
        try:
            with open(self.report, encoding="ascii") as f:
                return [line.split() for line in f]
        except FileNotFoundError:
            return []

    def settle(self):
        """Wait until the lock is free and every command has ended, and return the whole report."""
        wait_for(lambda: not is_bound(address(self.lock)), f"{self.lock} is free")
        return self.reported()

    def was_hit(self):
        """Whether the fault was there: strace marks it."""
        with open(self.trace, encoding="utf-8", errors="replace") as f:
            return any("(INJECTED)" in line for line in f)

    def calls(self):
        """The program's own system calls of a traced run, in order: {pid: [(Call, seconds)]}; the first pid is the program's."""
        calls, counts = collections.defaultdict(list), collections.Counter()
        took = re.compile(r"<([0-9.]+)>$")
        with open(self.trace, encoding="utf-8", errors="replace") as f:
            for i, line in enumerate(f):
                m = re.match(r"(\d+) +(?:<\.\.\. )?(\w+)(\(| resumed>)", line)
                if i == 0 or not m:  # the first is strace's own execve of the program
                    continue
                pid, name, begins = int(m[1]), m[2], m[3] == "("
                seconds = took.search(line)
                if begins:
                    counts[pid, name] += 1
                    calls[pid].append([Call(name, counts[pid, name]), float(seconds[1]) if seconds else 0.0])
                elif seconds:
                    calls[pid][-1][1] = float(seconds[1])
        return calls


def all_calls(calls, which=None):
    """Every call that a process made, the highest number of any of them standing for all, in the order of the trace."""
    found = dict.fromkeys(call for pid in calls for call, _ in calls[pid] if which is None or pid in which)
    return [c for c in found if is_ours(c)]


def many(work, items, at_once=4):
    """work(item) for each item, several at a time: most of a run is waiting. Fails with the complaints of all."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        complaints = [f"{item}: {problem}" for item, problems in zip(items, pool.map(work, items)) for problem in problems]
    assert not complaints, "\n".join(["", *complaints])


def faults(calls):
    return [f"{c.name}:error={e}:when={c.number}" for c in calls for e in ERRORS.get(c.name, OTHERS)]


def interruptions(calls):
    return [f"{c.name}:error=EINTR:when={c.number}" for c in calls if c.name in INTERRUPTIBLE]


def wrong_report(report):
    """What must never be seen, whatever happened."""
    starts = [pid for pid, word in report if word == "started"]
    if len(starts) > 1:
        yield f"the command was started {len(starts)} times"
    for pid, word in report:
        if word not in ("started", "held"):
            yield f"the command ran without the lock: {report}"


def wrong_run(run, may_be_silent=False):
    """What is wrong with a run of a free lock in which one call failed: a generator of complaints."""
    yield from wrong_report(run.report)
    words = [word for _, word in run.report]
    ours = [line for line in run.stderr if line.startswith("me-only: ")]
    if run.status is None:
        yield f"hung: {run.stderr}"
    elif len(ours) != len(run.stderr) or len(ours) > 1:
        yield f"status {run.status}, more than one clear line: {run.stderr}"
    elif run.status == STATUS:
        if words != ["started", "held"]:
            yield f"status {STATUS}, but the command did not run to its end: {run.report}"
    elif run.status not in (1, 3):
        yield f"status {run.status}: {run.stderr}"
    elif not ours and not may_be_silent:
        yield f"status {run.status} without a word"
    elif run.status == 3 and words:
        yield f"status 3 says that nothing was run: {run.report} {run.stderr}"


@pytest.fixture
def trial(tmp_path, lock, start):  # start: whatever is left over is ended
    trials = []

    def trial_():
        trials.append(Trial(str(tmp_path), lock))
        return trials[-1]

    yield trial_
    # A call that depends on the moment (one more poll, one more look) may not come again; but that none comes is a fault of ours.
    tried = [t for t in trials if t.injected and ":error=" in t.injected]
    assert sum(t.was_hit() for t in tried) >= 0.05 * len(tried), "hardly any fault has hit"


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def clean_calls(trial, options, **kw):
    """The calls of a run in which nothing fails."""
    t = trial()
    subprocess.run(t.argv(options, detached=False, **kw), stdin=subprocess.DEVNULL, check=False, timeout=HANG)
    assert [w for _, w in t.settle()] == ["started", "held"]
    calls = t.calls()
    assert sum(map(len, calls.values())) >= 5, "the trace shows no run"
    return calls


def test_each_call_fails(trial, form):
    """Of a run that gets a free lock and executes a short command."""

    def work(fault):
        t = trial()
        run = t.run(form, fault)
        run = run._replace(report=t.settle())
        return list(wrong_run(run, may_be_silent=fault.startswith("write")))

    many(work, faults(all_calls(clean_calls(trial, form))))


def test_each_call_is_interrupted(trial, form):
    """EINTR is no failure: the command runs and nobody says anything."""

    def work(fault):
        t = trial()
        run = t.run(form, fault)
        run = run._replace(report=t.settle())
        problems = list(wrong_run(run))
        if not problems and (run.status != STATUS or run.stderr):
            problems.append(f"status {run.status}: {run.stderr}")
        return problems

    many(work, interruptions(all_calls(clean_calls(trial, form))))


def unvisited(trace):
    """A trace of a run that nobody has asked who it is: --list, in another test, asks every lock of the host."""
    for _ in range(50):
        calls = trace()
        if not any(c.name == "accept4" for pid in calls for c, _ in calls[pid]):
            break
    return calls


@pytest.mark.parametrize("options", [[], ["-o"]], ids=["default", "close"])
def test_each_call_of_a_long_run_fails(trial, options):
    """What a run of more than a second does besides: the keeper's calls, and those that start and end it."""
    length = 1200
    short = set(all_calls(clean_calls(trial, options)))
    calls = unvisited(lambda: clean_calls(trial, options, milliseconds=length))
    program = next(iter(calls))
    keepers = [pid for pid in calls if pid != program and not any(c.name == "execve" for c, _ in calls[pid])]
    assert keepers, "no keeper in the trace"
    extra = [c for c in all_calls(calls, [program]) if c not in short] + all_calls(calls, keepers)

    def work(fault):
        t = trial()
        run = t.run(options, fault, milliseconds=length)
        run = run._replace(report=t.settle())
        return list(wrong_run(run, may_be_silent=fault.startswith("write")))

    many(work, faults(dict.fromkeys(extra)), at_once=16)


REFUSED = {"default": ([], []), "quiet": ([], ["-q"]), "other-status": ([], ["-E", "99"]), "wait": ([], ["-w", "0.05"]),
           "no-fork": ([], ["-F"]), "held-by-no-fork": (["-F"], []), "held-by-close": (["-o"], [])}


@pytest.mark.parametrize("holder, options", REFUSED.values(), ids=REFUSED.keys())
def test_each_call_of_a_refused_try_fails(trial, hold, holder, options):
    """Held, or cannot be tried; and the holder loses nothing."""
    first = trial()
    held = hold(first.lock, *holder)
    refused = 99 if "-E" in options else 4
    silent = "-q" in options

    def attempt():
        t = trial()
        t.lock = first.lock
        return t

    def wrong(t, run, may_be_silent):
        if run.report or t.reported():
            yield "the command was started"
        if run.status not in (refused, 3):
            yield f"status {run.status}: {run.stderr}"
        elif len(run.stderr) > 1 or not all(line.startswith("me-only: ") for line in run.stderr):
            yield f"status {run.status}, more than one clear line: {run.stderr}"
        elif not run.stderr and not may_be_silent and not (silent and run.status == refused):
            yield f"status {run.status} without a word"

    def work(fault):
        t = attempt()
        run = t.run(options, fault)
        return list(wrong(t, run, may_be_silent=fault.startswith("write")))

    t = attempt()
    clean = subprocess.run(t.argv(options, detached=False), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                           check=False, timeout=HANG)
    assert clean.returncode == refused
    calls = all_calls(t.calls())
    many(work, faults(calls) + interruptions(calls))
    assert is_bound(address(first.lock))
    assert release(held) == 0
    wait_for(lambda: not is_bound(address(first.lock)), "the lock is free")


class Waiter:
    """A process started with -v -w whose lines are read while it runs."""

    def __init__(self, trial, process):
        self.trial, self.process, self.said = trial, process, b""
        os.set_blocking(process.stderr.fileno(), False)

    def waits(self):
        """It says so, or has a place in the queue (a call that failed may have silenced it), or has ended."""
        self.said += self.process.stderr.read() or b""
        return b": waiting for " in self.said or is_listed(queue_of(self.trial.lock)) or self.process.poll() is not None

    def finish(self):
        """The outcome, with the last line only: -v has more than one."""
        os.set_blocking(self.process.stderr.fileno(), True)
        run = self.trial.finish(self.process)
        lines = (self.said.decode(errors="replace").splitlines() + run.stderr)
        return run._replace(stderr=[line for line in lines if line.startswith("me-only: ")][-1:])


WAIT = ["-v", "-w", "20"]


@pytest.mark.parametrize("holder", [[], ["-F"]], ids=["default", "no-fork"])
def test_each_call_of_a_waiter_fails(trial, hold, holder):
    """It gets the lock when its turn has come, or says why it cannot wait."""

    def wait_and_get(inject, detached=True):
        t = trial()
        held = hold(t.lock, *holder)
        waiter = Waiter(t, t.start(WAIT, inject, detached=detached))
        wait_for(waiter.waits, f"{inject}: the waiter waits or gives up")
        release(held)
        run = waiter.finish()
        return t, run._replace(report=t.settle())

    def work(fault):
        _, run = wait_and_get(fault)
        problems = list(wrong_run(run, may_be_silent=fault.startswith("write")))
        if not problems and ":error=EINTR:" in fault and run.status != STATUS:
            problems.append(f"status {run.status}: {run.stderr}")
        return problems

    t, run = wait_and_get(None, detached=False)
    assert [w for _, w in run.report] == ["started", "held"]
    calls = all_calls(t.calls())
    many(work, faults(calls) + interruptions(calls))


@pytest.mark.parametrize("victim", ["front", "second"])
def test_each_call_of_one_of_two_waiters_fails(trial, hold, victim):
    """The other one gets its turn in any case, and they never run at once."""

    def both(inject, detached=True):
        t = trial()
        held = hold(t.lock)

        def start_victim():
            return Waiter(t, t.start(WAIT, inject, milliseconds=1, detached=detached))

        def start_other():
            return Waiter(t, subprocess.Popen([ME_ONLY, *WAIT, t.lock, *t.command(1)], stdin=subprocess.DEVNULL,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))

        front = start_victim() if victim == "front" else start_other()
        wait_for(front.waits, f"{inject}: the front waits or gives up")
        second = start_other() if victim == "front" else start_victim()
        # The queue is there already, so that only the second's own word counts; without one, its place in the queue.
        wait_for(lambda: second.waits() and (b": waiting for " in second.said or waiters_of(t.lock) >= 2
                                             or second.process.poll() is not None), f"{inject}: the second waits")
        release(held)
        mine, theirs = (front, second) if victim == "front" else (second, front)
        run, other = mine.finish(), theirs.finish()
        return t, run._replace(report=t.settle()), other

    def work(fault):
        _, run, other = both(fault)
        problems = []
        if other.status != STATUS:
            problems.append(f"the other one: {other.status} {other.stderr}")
        if any(word not in ("started", "held") for _, word in run.report):
            problems.append(f"two at once, or one without the lock: {run.report}")
        # One whose runner lost sight of it may have run all the same.
        starts = sum(word == "started" for _, word in run.report)
        if starts > 2 or starts < 1 + (run.status == STATUS):
            problems.append(f"status {run.status}, {starts} starts")
        problems += wrong_run(run._replace(report=[["1", "started"], ["1", "held"]] if run.status == STATUS else []),
                              may_be_silent=fault.startswith("write"))
        return problems

    t, run, other = both(None, detached=False)
    assert other.status == STATUS and len(run.report) == 4
    calls = all_calls(t.calls())
    many(work, faults(calls) + interruptions(calls))


def until_it_sleeps(calls):
    """The program's own calls, in order, up to the one that waits for the command, which takes longest; and those after it."""
    own = [(c, seconds) for c, seconds in next(iter(calls.values())) if c.name not in LEFT_OUT]
    first = max(range(len(own)), key=lambda i: own[i][1])
    assert own[first][0].name == "poll"
    return [c for c, _ in own[: first + 1]], [c for c, _ in own[first + 1 :]]


def deaths(calls, deadly):
    return [f"{c.name}:signal={int(deadly)}:when={c.number}" for c in calls]


@pytest.mark.parametrize("options", [[], ["-o"], ["-w", "20"]], ids=["default", "close", "wait"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGRTMIN + 6], ids=["SIGTERM", "real-time"])
def test_a_deadly_signal_at_each_call(trial, options, number):
    """Before the command it ends us, during it it reaches the command, and we end by it; it is never lost."""
    before, after = until_it_sleeps(clean_calls(trial, options, all_processes=True, milliseconds=500))

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

    many(work, [(f, True) for f in deaths(before, number)] + [(f, False) for f in deaths(after, number)])


@pytest.mark.parametrize("options", [[], ["-o"], ["-w", "20"]], ids=["default", "close", "wait"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP], ids=["SIGINT", "SIGQUIT", "SIGHUP"])
def test_a_typed_signal_before_the_command(trial, options, number):
    """What strace sends comes from the kernel, as what is typed at a terminal does: a command that is not there yet has not got it."""
    own = [c for c, _ in next(iter(clean_calls(trial, options).values()))]
    # Signals are blocked by the very last call before the start. What is typed in that instant nobody can tell from what is
    # typed when the command is there.
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


@pytest.mark.parametrize("options, milliseconds", [([], 30), (["-F"], 30), (["-o"], 30), (["-w", "20"], 30), ([], 1200), (["-o"], 1200)],
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


@pytest.mark.parametrize("options", [[], ["-F"], ["-o"], ["-w", "20"]], ids=["default", "no-fork", "close", "wait"])
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
