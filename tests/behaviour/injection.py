"""
Runs in which one system call fails, by tests/programs/inject.c: for test_errnos.py, which defines
what must then be seen.
"""
import collections
import concurrent.futures
import contextlib
import errno
import itertools
import os
import shutil
import signal
import subprocess

import pytest

from conftest import DEADLINE, ME_ONLY, PROGRAMS, address, children_of, is_bound, wait_for
from errnos import FILTERED, NEVER, WORDS, errnos_of, mentioned

FEW, INJECT, JOB, STUB, UNDER_LOCK = (os.path.join(PROGRAMS, name) for name in (
    "few", "inject", "job", "stub-helper", "under-lock"))
STATUS = 7  # the command's own
# seconds after which a run counts as hanging; each takes milliseconds, or what it may wait
HANG = 2 * DEADLINE
AT_ONCE = 8

# "Held" is not a failure: it is the kernel that reports it. musl's threads use it for a lock of
# their own.
MEANS_HELD = {("bind", "EADDRINUSE"), ("flock", "EWOULDBLOCK")}

# An interrupted call is retried: nothing may notice.
INTERRUPTIBLE = {"accept4", "connect", "poll", "ppoll", "read", "recvfrom", "recvmsg", "sendmsg",
                 "sendto", "wait4", "waitid", "write",
                 "writev", "open", "openat", "flock"}

# The paths of which each call fails with each of its errnos. The calls of other paths, and calls
# that are made more often, are the same functions of the program again: each fails with some errnos
# only, in turn.
WHOLE = {"default", "file", "held", "waiter"}
MANY = 8
SOME = 2

MENTIONED = mentioned(os.path.join(os.path.dirname(__file__), "..", "..", "src"))

Call = collections.namedtuple("Call", "name number")
Fault = collections.namedtuple("Fault", "call number errno")
Run = collections.namedtuple("Run", "status stderr report")


def injecting(trace, fault=None):
    """The program, of which a call fails, or all are listed."""
    plan = f"{fault.call}:{fault.number}:{getattr(errno, fault.errno)}" if fault else "list"
    return [INJECT, trace, plan, ME_ONLY]


class Trial:
    """
    One run of the program with its own lock and report. FAULT None: nothing fails, and every call
    is listed.
    """

    numbers = itertools.count()

    def __init__(self, directory, lock, fault):
        n = next(self.numbers)
        self.fault = fault
        self.directory = directory
        self.lock = f"{lock}/{n}"
        self.report = os.path.join(directory, f"report-{n}")
        self.trace = os.path.join(directory, f"trace-{n}")
        self.looks_at = self.lock
        self.processes = []
        self.walks = False

    def use_file(self, there=False):
        path = self.report + ".lock"
        if there:
            open(path, "w", encoding="ascii").close()
        self.lock = self.looks_at = "file:" + path

    def command(self, milliseconds=0):
        return [UNDER_LOCK, self.report, self.looks_at, str(STATUS), str(milliseconds)]

    def injected(self):
        return injecting(self.trace, self.fault)

    def popen(self, argv, **kw):
        # Where a shell can do no harm if it is given a program to read (ENOEXEC).
        p = subprocess.Popen(argv, cwd=self.directory, **{"stdin": subprocess.DEVNULL,
                                                       "stdout": subprocess.DEVNULL,
                                                       "stderr": subprocess.PIPE, **kw})
        self.processes.append(p)
        return p

    def start(self, *argv, **kw):
        return self.popen([*self.few(), *self.injected(), *argv], **kw)

    def few(self):
        """
        Runs the rest of a command line where there are few processes, so that a walk through /proc
        is short.
        """
        return [FEW] if self.walks else []

    def hold(self, *options, **kw):
        """A holder without faults; release() ends it."""
        holder = self.popen([ME_ONLY, *options, self.lock, JOB], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, **kw)
        assert holder.stdout.readline(), holder.stderr.read()
        return holder

    def finish(self, process, said=b""):
        """The outcome: status None for a run that hung."""
        try:
            _, stderr = process.communicate(timeout=HANG)
            status = process.returncode
        except subprocess.TimeoutExpired:
            for pid in [process.pid, *children_of(process.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            _, stderr = process.communicate()
            status = None
        return Run(status, (said + stderr).decode(errors="replace").splitlines(), self.reported())

    def reported(self):
        """What the commands reported, as a list of [pid, word]."""
        try:
            with open(self.report, encoding="ascii") as f:
                return [line.split() for line in f]
        except FileNotFoundError:
            return []

    def settle(self):
        """Wait until the lock is free and every command has ended."""
        if not self.lock.startswith(("file:", "etcd:")):
            wait_for(lambda: not is_bound(address(self.lock)), f"{self.lock} is free")

    def traced(self):
        """The trace as a list of [word, pid, call]."""
        with open(self.trace, encoding="ascii") as f:
            return [line.split() for line in f]

    def was_hit(self):
        return any(line[0] == "hit" for line in self.traced())

    def wait_for_all(self):
        """
        Wait until all processes that the program has started are gone. Their tracer then ends, and
        its children come to this process.
        """
        beside = [int(pid) for word, pid, *_ in self.traced() if word == "beside"]
        if self.walks:
            return  # all have ended with the first of their namespace
        wait_for(lambda: os.waitpid(beside[0], os.WNOHANG)[0], "all processes have ended")

    def clean_up(self):
        for p in self.processes:
            for stream in (p.stdin, p.stdout, p.stderr):
                if stream:
                    stream.close()
            if p.poll() is None:
                p.kill()
            p.wait()
        for path in (self.report, self.trace, self.report + ".lock"):
            if os.path.exists(path):
                os.unlink(path)


def release(holder):
    holder.stdin.close()
    holder.stdin = None
    return holder.wait(DEADLINE)


def calls_of(trace):
    """
    Every call that a process made, in order; the highest number of any of them stands for all.
    """
    counts, found = collections.Counter(), {}
    for word, pid, *name in trace:
        if word != "call":
            continue
        name = name[0]
        counts[pid, name] += 1
        # The C library's functions set signal masks, which cannot fail, and ignore the result; the
        # first is the program's own.
        if name not in NEVER and (name != "rt_sigprocmask" or counts[pid, name] == 1):
            found[Call(name, counts[pid, name])] = None
    return list(found)


def told_apart(call):
    """The errnos of a call that the program or its tests tell apart, and one of all others."""
    names = errnos_of(call.name)
    alike = [name for name in names if name not in {*MENTIONED, *WORDS, *FILTERED}]
    return [name for name in names if name not in alike] + (
        [alike[call.number % len(alike)]] if alike else [])


def faults_of(calls, few):
    """
    Each call with each errno that the program tells apart, and with one of all others, in turn.
    With FEW, or for calls that are made very often, only with some of them, in turn.
    """
    often = collections.Counter(call.name for call in calls)
    whole = os.environ.get("ME_ONLY_ERRNOS") == "all"
    for call in calls:
        names = errnos_of(call.name) if whole else told_apart(call)
        # For a loop over processes or slots: the first rounds, and then fewer and fewer.
        if call.number > MANY and call.number & (call.number - 1) and not whole:
            continue
        # A file to be opened may not exist: that is tried for each.
        if (few or often[call.name] > MANY) and not whole:
            names = dict.fromkeys([names[(call.number * SOME + i) % len(names)]
                                   for i in range(min(SOME, len(names)))] +
                                  ["ENOENT"] * call.name.startswith("open"))
        for name in names:
            yield Fault(call.name, call.number, name)


def ours(run):
    return [line for line in run.stderr if line.startswith("me-only: ")]


def wrong_report(report):
    """What must never happen, whatever failed."""
    starts = [pid for pid, word in report if word == "started"]
    if len(starts) > 1:
        yield f"the command was started {len(starts)} times"
    for pid, word in report:
        if word not in ("started", "held"):
            yield f"the command ran without the lock: {report}"


def wrong_words(run, fault):
    """At most one line, from me-only; and none only if it could not be written."""
    if run.status is None:
        yield f"hung: {run.stderr}"
    elif len(ours(run)) != len(run.stderr) or len(run.stderr) > 1:
        yield f"status {run.status}, more than one clear line: {run.stderr}"
    elif run.status in (1, 3) and not run.stderr and not fault.call.startswith("write"):
        yield f"status {run.status} without a word"


def wrong_run(run, fault, may_be_lost=False):
    """What is wrong with a run of a lock that is granted if nothing fails."""
    yield from wrong_report(run.report)
    if fault.errno == "ENOEXEC":
        return  # the shell reads what is not a program
    yield from wrong_words(run, fault)
    words = [word for _, word in run.report]
    if fault.errno == "EINTR" and fault.call in INTERRUPTIBLE and (run.status != STATUS
                                                                   or run.stderr) \
            and not may_be_lost:
        yield f"interrupted: status {run.status} {run.stderr}"
    if run.status == STATUS:
        if words != ["started", "held"]:
            yield f"status {STATUS}, but the command did not run to its end: {run.report}"
    elif run.status == 4 and (fault.call, fault.errno) in MEANS_HELD:
        if words:
            yield f"status 4, but the command ran: {run.report}"
    elif run.status == 5 and may_be_lost:
        if words != ["started", "held"] and (words or "nothing was run" not in run.stderr[0]):
            yield f"status 5, but the command did not run: {run.report} {run.stderr}"
    elif run.status is not None and run.status not in (1, 3):
        yield f"status {run.status}: {run.stderr}"
    elif run.status == 3 and words and not any("how cannot be known" in line
                                               for line in run.stderr):
        yield f"status 3 says that nothing was run: {run.report} {run.stderr}"


def wrong_refusal(run, fault, statuses, may_be_silent=False):
    """What is wrong with an attempt that does not get the lock, whatever fails."""
    # With --held, 1 means no.
    yield from wrong_words(run._replace(status=0) if 1 in statuses and run.status == 1 else run,
                           fault)
    if run.report:
        yield f"the command was started: {run.report}"
    if run.status not in (*statuses, 3):
        yield f"status {run.status}: {run.stderr}"
    elif not may_be_silent and run.status == 4 and not run.stderr \
            and not fault.call.startswith("write"):
        yield "status 4 without a word"


@pytest.fixture
def each_fault(request, tmp_path, lock, start):  # start: whatever is left over is ended
    """
    each_fault(PATH, SCENARIO, WRONG): SCENARIO(TRIAL) makes a run and returns its outcome, first
    without a fault and then with each; WRONG(RUN, FAULT) generates complaints. CLEAN(RUN) tells
    whether the run without faults was as it should be.
    """

    def attempt(scenario, fault):
        trial = Trial(str(tmp_path), lock, fault)
        try:
            run = scenario(trial)
            trial.wait_for_all()
            return run._replace(report=trial.reported()), trial.traced()
        finally:
            trial.clean_up()

    def each_fault_(path, scenario, clean, wrong, at_once=AT_ONCE):
        run, trace = attempt(scenario, None)
        assert clean(run), run
        faults = list(faults_of(calls_of(trace), path not in WHOLE))
        assert faults, "the trace shows no run"

        def work(fault):
            run, trace = attempt(scenario, fault)
            return run, any(word == "hit" for word, *_ in trace), list(wrong(run, fault))

        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            results = list(zip(faults, pool.map(work, faults)))
        if os.environ.get("ME_ONLY_ERRNO_ROWS"):
            with open(os.environ["ME_ONLY_ERRNO_ROWS"], "a", encoding="ascii") as f:
                f.write("".join(f"{path} {call} {number} {name} {run.status}\n".replace(", ", ",")
                                for (call, number, name), (run, hit, _) in results if hit))
        complaints = [f"{':'.join(map(str, fault))}: {text}" for fault, (_, _, texts) in results
                      for text in texts]
        assert not complaints, f"{len(complaints)} of {len(faults)}:\n" + "\n".join(complaints[:30])
        # A call that depends on the moment (one more poll, one more look) may not happen again; but
        # most do.
        assert sum(hit for _, (_, hit, _) in results) >= 0.1 * len(faults), "few faults have hit"

    return each_fault_


def environment(trial):
    """Where the list helper is the one for etcd: locks."""
    directory = os.path.join(trial.directory, "helpers")
    if not os.path.exists(directory):
        os.makedirs(directory, 0o755, exist_ok=True)
        shutil.copy(STUB, os.path.join(directory, "etcd.new"))
        os.rename(os.path.join(directory, "etcd.new"), os.path.join(directory, "etcd"))
    return dict(os.environ, ME_ONLY_EXEC_PATH=directory)
