"""
Every system call of each path fails in turn, with every errno that its manual page lists
(errnos.py).

The calls come from a trace of a run without faults, so that none is forgotten when the program
changes. Whatever fails: the command is never started twice and never without the lock, nothing
hangs and no lock is left, and the status and one line tell what happened, even with -q: it silences
that the lock is held, not that it cannot be taken. The command is tests/programs/under-lock.c,
which proves that; tests/programs/inject.c makes calls fail. ME_ONLY_ERRNOS=all tries every errno of
every call of every path. Without it, one errno stands for all that the sources do not mention, and
some paths try only some errnos, where others try the rest.
Rows for a table go to $ME_ONLY_ERRNO_ROWS.
"""
import re
import os
import subprocess
import time

import pytest

from conftest import DEADLINE, ME_ONLY, is_listed, queue_of, wait_for, waiters_of
from injection import (FEW, HANG, INTERRUPTIBLE, STATUS, UNDER_LOCK, Run, Trial, each_fault,
                       environment, release, wrong_refusal, wrong_run)

pytestmark = pytest.mark.static  # there is no loader, only the program's own calls

# --- a free lock ---

FREE = {
    "default": [], "no-fork": ["-F"], "close": ["-o"], "wait": ["-w", "20"], "slots": ["-j3"],
    "slots-wait": ["-j3", "-w", "20"],
    "queue": ["-w", "20", "--queue=2"], "queue-slots": ["-j2", "-w", "20", "--queue=2"],
    "replace": ["--replace", "-w", "20"],
    "file": ["file"], "file-there": ["file", "there"], "file-shared": ["file", "-s"],
    "file-no-fork": ["file", "-F"], "file-close": ["file", "-o"],
    "file-wait": ["file", "-w", "20"], "file-queue": ["file", "-w", "20", "--queue=2"],
    "file-replace": ["file", "--replace", "-w", "20"],
    "etcd": ["etcd"], "etcd-close": ["etcd", "-o"],
}


def shape(trial, options):
    """The kind of the trial's lock; returns the options without it."""
    if options[:1] == ["file"]:
        trial.use_file("there" in options)
    if options[:1] == ["etcd"]:
        trial.lock, trial.looks_at = "etcd:free", "-"
    if "-j3" in options or "-j2" in options or "-s" in options:
        trial.looks_at = "-"
    trial.walks = "file" in options and ("--queue=2" in options or "--replace" in options)
    return [o for o in options if o not in ("file", "there", "etcd")]


@pytest.mark.parametrize("path", FREE)
def test_each_call_of_a_run(each_fault, path):
    def scenario(trial):
        options = shape(trial, FREE[path])
        env = environment(trial) if trial.lock.startswith("etcd:") else None
        return trial.finish(trial.start("-q", *options, trial.lock, *trial.command(), env=env))

    def wrong(run, fault):
        # A helper that cannot be heard has lost the lock.
        return wrong_run(run, fault, may_be_lost=path.startswith("etcd"))

    each_fault(path, scenario, lambda run: run.status == STATUS and len(run.report) == 2, wrong)


# --- a held lock ---

# The kind of holder, and of the caller that asks.
REFUSED = {
    "held": ([], []), "held-quiet": ([], ["-q"]), "held-status": ([], ["-E", "99"]),
    "held-wait": ([], ["-w", "0.05"]),
    "held-no-fork": ([], ["-F"]), "held-slots": (["-j2"], ["-j2"]), "held-by-no-fork": (["-F"], []),
    "held-by-close": (["-o"], []),
    "held-old": ([], ["--complain-after=1ms"]),
    "file-held": (["file"], []), "file-held-shared": (["file"], ["-s"]),
    "file-held-quiet": (["file"], ["-q"]), "file-held-wait": (["file"], ["-w", "0.05"]),
    "etcd-held": (["etcd"], []), "etcd-held-quiet": (["etcd"], ["-q"]),
}


@pytest.mark.parametrize("path", REFUSED)
def test_each_call_of_a_refused_try(each_fault, path, tmp_path, lock):
    """Held, or failed, even with -q; and the holder loses nothing."""
    holds, asks = REFUSED[path]
    refused = 99 if "-E" in asks else 4
    first = Trial(str(tmp_path), lock, None)
    options = shape(first, holds)
    holders = []
    if first.lock == "etcd:free":
        first.lock = "etcd:busy"
    else:
        holders = [first.hold(*options) for _ in range(2 if "-j2" in options else 1)]

    def scenario(trial):
        trial.lock = first.lock
        trial.walks = trial.lock.startswith("file:")
        return trial.finish(trial.start(*asks, trial.lock, *trial.command(),
                                        env=environment(trial)))

    each_fault(path, scenario, lambda run: run.status == refused and not run.report,
               lambda run, fault: wrong_refusal(run, fault, [refused], "-q" in asks))
    assert [release(holder) for holder in holders] == [0] * len(holders)
    first.settle()


STRANGER = """
me_only=$1 lock=$2
shift 2
setpriv --reuid=65534 --regid=65534 --clear-groups "$me_only" -q -w inf "$lock" sleep 1000 &
while "$me_only" -q "$lock" true; do :; done 2>/dev/null
"$@"
exit $?
"""


@pytest.mark.root
@pytest.mark.parametrize("path", ["strangers", "file-strangers"])
def test_each_call_of_a_try_for_a_strangers_lock(each_fault, path, public_me_only):
    """Whatever fails, -q does not hide that a stranger holds the lock."""
    def scenario(trial):
        if path.startswith("file"):
            trial.lock = "file:" + os.path.join(os.path.dirname(public_me_only),
                                                f"lock-{next(trial.numbers)}")
            with open(trial.lock[5:], "w", encoding="ascii"):
                os.chmod(trial.lock[5:], 0o666)
        trial.walks = True
        return trial.finish(trial.popen([FEW, "sh", "-c", STRANGER, "sh", public_me_only,
                                         trial.lock, *trial.injected(), "-q",
                                         trial.lock, *trial.command()]))

    each_fault(path, scenario, lambda run: run.status == 4
               and run.stderr, lambda run, fault: wrong_refusal(run, fault, [4]))


def test_each_call_of_a_try_with_a_full_queue(each_fault):
    def scenario(trial):
        holder = trial.hold()
        waiter = trial.popen([ME_ONLY, "-w", "inf", "--queue=1", trial.lock, "true"])
        wait_for(lambda: is_listed(queue_of(trial.lock)), "it waits")
        run = trial.finish(trial.start("-w", "0.05", "--queue=1", trial.lock, *trial.command()))
        assert (release(holder), waiter.wait(DEADLINE)) == (0, 0)
        trial.settle()
        return run

    each_fault("queue-full", scenario, lambda run: run.status == 4 and not run.report,
               lambda run, fault: wrong_refusal(run, fault, [4]))


NESTED = {"nested": [], "nested-wait": ["-w", "0.05"], "nested-queue": ["-w", "0.05", "--queue=1"],
          "file-nested": ["file"],
          "file-nested-wait": ["file", "-w", "0.05"], "held-yes": ["--held"],
          "held-yes-no-fork": ["-F", "--held"],
          "file-held-yes": ["file", "--held"], "etcd-nested": ["etcd"],
          "etcd-held-yes": ["etcd", "--held"]}


@pytest.mark.parametrize("path", NESTED)
def test_each_call_of_a_question_under_the_lock(each_fault, path):
    """
    A job that asks for its own lock is refused, if only because it is held; --held confirms it, or
    denies it where there is no proof.
    """
    asks = "--held" in NESTED[path]

    def scenario(trial):
        options = shape(trial, NESTED[path])
        trial.walks = trial.lock.startswith("file:")
        if trial.lock == "etcd:free":
            trial.lock = "etcd:mine"
            command = [] if asks else trial.command()
            return trial.finish(trial.start(*options, trial.lock, *command, env=environment(trial)))
        inner = [*trial.injected(), *(["--held", trial.lock] if asks
                                      else [*options, trial.lock, *trial.command()])]
        outer = [o for o in options if o == "-F"]
        run = trial.finish(trial.popen([*trial.few(), ME_ONLY, *outer, trial.lock, "sh", "-c",
                                        '"$@"; exit $?', "sh", *inner]))
        return run

    def wrong(run, fault):
        yield from wrong_refusal(run, fault, [0, 1] if asks else [4])

    each_fault(path, scenario, lambda run: run.status == (0 if asks else 4) and not run.report,
               wrong)


@pytest.mark.parametrize("path", ["held-no", "file-held-no", "etcd-held-no"])
def test_each_call_of_a_question_outside(each_fault, path):
    """--held never says yes to a process that does not run under the lock."""
    def scenario(trial):
        shape(trial, path.split("-")[:1])
        trial.walks = trial.lock.startswith("file:")
        if trial.lock.startswith("etcd:"):
            return trial.finish(trial.start("--held", trial.lock, env=environment(trial)))
        holder = trial.hold()
        run = trial.finish(trial.start("--held", trial.lock))
        assert release(holder) == 0
        return run

    def wrong(run, fault):
        if run.status != 1 or run.stderr:
            yield from wrong_refusal(run, fault, [])

    each_fault(path, scenario, lambda run: run.status == 1, wrong)


# --- waiting ---

WAITING = {"waiter": ([], []), "waiter-no-fork": (["-F"], []), "waiter-slots": (["-j2"], ["-j2"]),
           "waiter-queue": ([], ["--queue=2"]),
           "file-waiter": (["file"], []), "file-waiter-no-fork": (["file", "-F"], [])}


class Waiter:
    """A process started with -v -w whose lines are read while it runs."""

    def __init__(self, trial, process):
        self.trial, self.process, self.said = trial, process, b""
        self.hit_at = None
        os.set_blocking(process.stderr.fileno(), False)

    def waits(self):
        """
        It reports that it waits, or has a place in the queue (a call that failed may have silenced
        it), or has ended.
        """
        self.said += self.process.stderr.read() or b""
        if b": waiting for " in self.said or self.process.poll() is not None:
            return True
        if not self.trial.lock.startswith("file:"):
            slots = b"\x002" if "-j2" in self.process.args else b""
            return is_listed(queue_of(self.trial.lock) + slots)
        return self.has_been_silenced()

    def has_been_silenced(self):
        """The fault happened, and long ago."""
        if self.hit_at is None and os.path.exists(self.trial.trace) and self.trial.was_hit():
            self.hit_at = time.monotonic()
        return self.hit_at is not None and time.monotonic() > self.hit_at + 1

    def finish(self):
        """The outcome, with the last line only: -v prints more than one."""
        os.set_blocking(self.process.stderr.fileno(), True)
        run = self.trial.finish(self.process, self.said)
        return run._replace(stderr=[line for line in run.stderr
                                    if line.startswith("me-only: ")][-1:])


WAIT = ["-v", "-w", "60"]


def wrong_wait(run, fault):
    """
    It has taken the lock, or reports why it could not wait. (Its trace has several lines, so one
    about EINTR means nothing.)
    """
    stderr = run.stderr if run.status != STATUS else []
    if fault.errno == "EINTR" and fault.call in INTERRUPTIBLE and run.status != STATUS:
        yield f"interrupted: status {run.status} {run.stderr}"
    yield from wrong_run(run._replace(stderr=stderr), fault)


@pytest.mark.parametrize("path", WAITING)
def test_each_call_of_a_waiter(each_fault, path):
    """It takes the lock when its turn has come, or reports why it cannot wait."""
    holds, asks = WAITING[path]

    def scenario(trial):
        options = shape(trial, holds)
        trial.walks = trial.lock.startswith("file:")
        holders = [trial.hold(*options) for _ in range(2 if "-j2" in options else 1)]
        waiter = Waiter(trial, trial.start(*WAIT, *asks, trial.lock, *trial.command()))
        wait_for(waiter.waits, f"{trial.fault}: it waits or gives up")
        for holder in holders:
            release(holder)
        run = waiter.finish()
        trial.settle()
        return run

    each_fault(path, scenario, lambda run: run.status == STATUS and len(run.report) == 2,
               wrong_wait)


@pytest.mark.parametrize("victim", ["front", "second"])
def test_each_call_of_one_of_two_waiters(each_fault, victim):
    """The other one gets its turn in any case, and they never run at once."""
    def scenario(trial):
        holder = trial.hold()

        def start_victim():
            return Waiter(trial, trial.start(*WAIT, trial.lock, *trial.command(1)))

        def start_other():
            return Waiter(trial, trial.popen([ME_ONLY, *WAIT, trial.lock, *trial.command(1)]))

        front = start_victim() if victim == "front" else start_other()
        wait_for(front.waits, f"{trial.fault}: the front waits or gives up")
        second = start_other() if victim == "front" else start_victim()
        # The queue exists already, so only the second one's own report counts; without one, its
        # position in the queue.
        wait_for(lambda: second.waits() and (b": waiting for " in second.said
                                             or waiters_of(trial.lock) >= 2
                                             or second.process.poll() is not None),
                 f"{trial.fault}: the second waits")
        release(holder)
        mine, theirs = (front, second) if victim == "front" else (second, front)
        run, other = mine.finish(), theirs.finish()
        trial.settle()
        return Run((run.status, other.status), run.stderr, trial.reported())

    def wrong(both, fault):
        (status, other), report = both.status, both.report
        if other != STATUS:
            yield f"the other one: {other}"
        if any(word not in ("started", "held") for _, word in report):
            yield f"two at once, or one without the lock: {report}"
        # A command may have run all the same if its runner lost sight of it.
        starts = sum(word == "started" for _, word in report)
        if starts > 2 or starts < 1 + (status == STATUS):
            yield f"status {status}, {starts} starts"
        own = [["1", "started"], ["1", "held"]] if status == STATUS else []
        yield from wrong_wait(both._replace(status=status, report=own), fault)

    each_fault(victim, scenario, lambda both: both.status == (STATUS, STATUS)
               and len(both.report) == 4, wrong)


# --- replacing ---

# In a PID namespace, so that looking for the holder's processes is short. $0 has the output of the
# holder's command once it runs.
REPLACE = """
report=$1 me_only=$2 lock=$3 form=$4 looks_at=$5 under=$6
shift 6
"$me_only" $form "$lock" "$under" "$report" "$looks_at" 0 100000 &
holder=$!
until grep -q started "$report" 2>/dev/null; do sleep 0.001; done
"$@"
status=$?
kill $holder 2>/dev/null
exit $status
"""


@pytest.mark.parametrize("path", ["replace-default", "replace-no-fork", "replace-close",
                                  "file-replaced"])
def test_each_call_of_a_replacement(each_fault, path):
    """
    The holder is ended and then the command started, or the holder stays and a line reports why;
    there are never two.
    """
    form = {"replace-no-fork": "-F", "replace-close": "-o"}.get(path, "")

    def scenario(trial):
        shape(trial, path.split("-")[:1])
        # With a limited wait: a holder that cannot be seen cannot be replaced.
        argv = [FEW, "sh", "-c", REPLACE, "sh", trial.report, ME_ONLY, trial.lock, form,
                trial.looks_at, UNDER_LOCK,
                *trial.injected(), "--replace", "-w", "1", "-k", "0.2", trial.lock,
                *trial.command()]
        trial.walks = True
        return trial.finish(trial.popen(argv))

    def wrong(run, fault):
        holder, *rest = run.report
        assert holder[1] == "started"
        own = [[pid, word] for pid, word in rest if pid != holder[0]]
        # Both sides may report the replacement, whatever fails later.
        run = run._replace(stderr=[line for line in run.stderr if not re.search(
            ": (ended|replaced by) pid [0-9]+( |$)", line)])
        if any(word in ("free", "overlap") for _, word in run.report):
            yield f"two at once: {run.report}"
        if run.status == 4:
            yield from wrong_refusal(run._replace(report=own), fault, [4])
        else:
            yield from wrong_run(run._replace(report=own), fault)

    each_fault(path, scenario, lambda run: run.status == STATUS and len(run.report) == 3, wrong)


# --- a run of more than a second, and one that others ask ---

@pytest.mark.parametrize("path", ["default", "close"])
def test_each_call_of_a_long_run(each_fault, path):
    """
    What a run of more than a second adds: the keeper's calls, and those that start and end it.
    """
    options = {"default": [], "close": ["-o"]}[path]
    def scenario(trial):
        run = trial.finish(trial.start(*options, trial.lock, *trial.command(1200)))
        trial.settle()
        return run

    each_fault(f"{path}-long", scenario, lambda run: run.status == STATUS, wrong_run, at_once=32)


def test_each_call_of_a_holder_that_is_asked(each_fault):
    """Callers are answered, or not: the command runs to its end, and they are refused."""
    def scenario(trial):
        holder = trial.start(trial.lock, "sh", "-c", 'echo up; cat >/dev/null; exec "$@"', "sh",
                             *trial.command(), stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
        if holder.stdout.readline() == b"up\n":
            for _ in range(3):
                rival = subprocess.run([ME_ONLY, trial.lock, "true"], stdin=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, check=False,
                                       timeout=HANG)
                assert rival.returncode == 4, rival
        run = trial.finish(holder)
        trial.settle()
        return run

    each_fault("asked", scenario, lambda run: run.status == STATUS and len(run.report) == 2,
               wrong_run)
