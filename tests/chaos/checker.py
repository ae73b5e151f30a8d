"""Judges a run by what the jobs themselves wrote down, on the one clock they share.

usage: checker.py DIRECTORY      judges the logs that scripts/chaos --keep DIRECTORY has left

What must hold, each a function below:

 1. exclusion   an exclusive run overlaps none, shared ones only shared ones, of K slots never more than K are taken
 2. tokens      those of exclusive runs increase in the order of their starts; none is there twice
 3. register    of the store that refuses older tokens: never a lower token, never a write of a run that was superseded
 4. loss        a run that lost its lock ended within a lifetime of the last possible renewal; exit status 5 and a reason.
                Who cannot have renewed since when is known by the faults: nothing of his reached the cluster, or came back
 5. liveness    when the faults have stopped everybody who waits gets his turn in time, and nothing is left in the store
 6. order       exclusive runs start in the order in which their keys were made
 7. (a checker that finds nothing proves nothing: test_checker.py and the bad rules of model.py)

A run is the time from its job's first tick to the last of any of its processes. While everything that could end a job is
stopped together with it or is dead (Fault.excuses) its ticks are nobody's failure, and only the register is in their way: they
are counted as late, and the register must have refused what they wrote.

One thing more no client can prevent: servers before 3.4.31 (etcd's issue 15247) let a leader that comes back from a stuck disk or
a stop end leases that live. A holder that hears of it ends its job in time; one that is deaf just then, because it is cut off or
its helper is stopped, does so at its deadline, which is later. Such overlaps are counted apart.
"""
import json
import os
import re
import sys
from bisect import bisect_right
from dataclasses import asdict, dataclass, field

from clock import SECOND

THAW = SECOND  # what the scheduler may take to let the first of several thawed processes run
GONE = SECOND  # ... and to let a killed one die
FOREVER = 1 << 62


@dataclass
class Run:
    """One call of the program: what was asked, what its job wrote, how it ended. Times are in ns."""

    id: str
    lock: str
    mode: str  # x, s or n
    contender: int
    slots: int = 0
    seconds: float = 0.0
    stubborn: bool = False  # ignores SIGTERM
    escapes: bool = False  # has a child in another session
    launched: int = 0
    exited: int = FOREVER
    status: int = None  # negative: the signal
    message: str = ""
    token: int = None
    key: str = None
    ticks: dict = field(default_factory=dict)  # who: times
    ended: list = field(default_factory=list)  # who came to his own end

    @property
    def start(self):
        return min((t[0] for t in self.ticks.values() if t), default=None)

    @property
    def end(self):
        return max((t[-1] for t in self.ticks.values() if t), default=None)


@dataclass
class Fault:
    """What was done to whom, and since when it was in force until it began to be undone."""

    kind: str
    began: int  # before the first of it was done
    complete: int = FOREVER  # all of it was done
    ended: int = FOREVER  # the undoing began
    over: int = FOREVER  # it was undone
    contender: int = None  # None: the cluster
    run: str = None  # None: all runs of the contender, or of all
    cuts: bool = False  # no renewal between complete and ended can succeed
    kills: str = None  # "main": the job dies with its parent; "helper": the job is ended as soon as that is seen
    excuses: str = None  # "window": until it is over; "rest": for ever
    note: str = ""

    def touches(self, run):
        return self.contender in (None, run.contender) and self.run in (None, run.id)


@dataclass
class Write:
    """One line of the register's log."""

    lock: str
    time: int
    token: int
    run: str
    accepted: bool


@dataclass
class History:
    """All that is known of a run of the harness."""

    ttl: int
    kill_after: int
    rule: str = "me-only"
    revokes_early: bool = False  # the server is one of those that end leases that live
    runs: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    writes: list = field(default_factory=list)
    created: dict = field(default_factory=dict)  # key: its create_revision
    came_back: list = field(default_factory=list)  # keys made again after their run
    unserved: list = field(default_factory=list)  # runs that did not get their turn after the faults had stopped
    left: list = field(default_factory=list)  # keys and leases that stayed


@dataclass
class Violation:
    property: str
    text: str
    runs: list = field(default_factory=list)


# --- what is derived from the logs ---


def excused(history, run):
    """The times for which ticks of the run are nobody's failure."""
    windows = []
    for fault in history.faults:
        if fault.excuses and fault.touches(run):
            windows.append((fault.began, FOREVER if fault.excuses == "rest" else min(fault.over + THAW, FOREVER)))
    return windows


def effective_end(history, run):
    """The last tick that somebody has to answer for."""
    windows = excused(history, run)
    if not windows:
        return run.end
    return max((t for ticks in run.ticks.values() for t in ticks if not any(a <= t <= b for a, b in windows)), default=run.start)


def started(history, lock=None, modes="xsn"):
    """The runs whose job has started, by their start."""
    runs = [r for r in history.runs if r.start is not None and r.mode in modes and lock in (None, r.lock)]
    return sorted(runs, key=lambda r: r.start)


def locks(history):
    return sorted({run.lock for run in history.runs})


def late_ticks(run, since):
    return sum(len(ticks) - bisect_right(ticks, since) for ticks in run.ticks.values())


def together(a, b):
    """Whether two runs of a lock may overlap."""
    return a.mode == b.mode and a.mode != "x"


# --- the properties ---


def revoked_early(history, first, second):
    """Whether the server can have ended the lease of the first, which lived but was deaf, so that the second could start."""
    def returned(fault):
        return fault.kind in ("leader's disk stuck", "leader stopped") and \
            fault.began <= second.start <= fault.over + 2 * history.ttl * SECOND

    def deafened(fault):
        return fault.cuts and fault.touches(first) and fault.began <= second.start <= fault.over and \
            first.end <= fault.complete + history.ttl * SECOND

    return history.revokes_early and any(map(returned, history.faults)) and any(map(deafened, history.faults))


def exclusion(history):
    """Overlaps that are somebody's failure."""
    return [v for v in overlaps(history) if not (len(v.runs) == 2 and revoked_early(history, *v.runs))]


def overlaps(history):
    found = []
    for lock in locks(history):
        runs = started(history, lock)
        ends = {run.id: effective_end(history, run) for run in runs}
        for i, first in enumerate(runs):
            for second in runs[i + 1:]:
                if second.start >= ends[first.id]:
                    break
                overlap = min(ends[first.id], ends[second.id]) - second.start
                if not together(first, second):
                    found.append(Violation("exclusion", f"{lock}: {first.id} ({first.mode}) and {second.id} ({second.mode}) ran "
                                           f"together for {overlap / SECOND:.3f} s", [first, second]))
        beside = []
        for run in (r for r in runs if r.mode == "n"):
            beside = [r for r in beside if run.start <= ends[r.id]] + [run]
            slots = min(r.slots for r in beside)
            if len(beside) > slots:
                found.append(Violation("exclusion", f"{lock}: {len(beside)} runs in {slots} slots", beside))
    return found


def tokens(history):
    found, seen = [], {}
    for run in started(history):
        if not run.token:
            found.append(Violation("tokens", f"{run.id} has no token", [run]))
        elif run.token in seen:
            found.append(Violation("tokens", f"{run.id} and {seen[run.token].id} have the same token {run.token}",
                                   [seen[run.token], run]))
        seen[run.token] = run
    for lock in locks(history):
        runs = started(history, lock, "x")
        for before, run in zip(runs, runs[1:]):
            if run.token < before.token:
                found.append(Violation("tokens", f"{lock}: {run.id} started after {before.id}, but its token {run.token} is not "
                                       f"higher than {before.token}", [before, run]))
    return found


def register(history):
    found, by_id = [], {run.id: run for run in history.runs}
    for lock in locks(history):
        highest, newest, seen = 0, None, set()
        for write in (w for w in history.writes if w.lock == lock and w.accepted):
            run = by_id.get(write.run)
            if write.token < highest:
                found.append(Violation("register", f"{lock}: {write.run} wrote with token {write.token} after {highest}",
                                       [run] if run else []))
            highest = max(highest, write.token)
            if run is None or run.start is None:
                continue
            if newest and run.start < newest.start and (run.id, newest.id) not in seen:
                seen.add((run.id, newest.id))
                found.append(Violation("register", f"{lock}: a write of {run.id} was accepted after {newest.id} had superseded "
                                       "it", [run, newest]))
            if newest is None or run.start >= newest.start:
                newest = run
    return found


def last_allowed(history, fault, who):
    """The latest time for a tick of a run that the fault has struck, or None; who is "main" or "child"."""
    if fault.kills == "main" and who == "main":
        return fault.complete + GONE
    if fault.kills == "helper":
        return fault.complete + history.kill_after * SECOND + GONE
    if (fault.cuts or fault.kills) and fault.ended - fault.complete >= history.ttl * SECOND:
        return fault.complete + history.ttl * SECOND
    return None


def struck(history):
    """Every fault with the runs whose jobs ran when it came."""
    for fault in history.faults:
        for run in history.runs:
            if run.start is not None and fault.touches(run) and run.start <= fault.began <= run.end:
                yield fault, run


def loss(history):
    found = []
    for fault, run in struck(history):
        windows = excused(history, run)
        for who, ticks in run.ticks.items():
            limit = last_allowed(history, fault, who)
            late = [t for t in ticks if limit is not None and t > limit and not any(a <= t <= b for a, b in windows)]
            if late:
                found.append(Violation("loss", f"{run.id} ({who}) ran for {(late[-1] - limit) / SECOND:.3f} s longer than it may "
                                       f"after {fault.kind}", [run]))
    for run in history.runs:
        found += judge_status(history, run)
    return found


def judge_status(history, run):
    """Whether the exit status and the words are those of what has happened."""
    said = [line for line in run.message.splitlines() if not re.search("known lease bugs|: waiting for ", line)]
    killed = any(f.kills == "main" and f.run == run.id for f in history.faults)
    lost = any(re.match(rf"me-only: etcd:{re.escape(run.lock)}: lost( at \S+)?: ", line) for line in said)
    wrong = None
    if run.status is None:
        wrong = "has not ended"
    elif run.status == -9:
        wrong = None if killed else "was killed, and not by us"
    elif run.status == 5:
        wrong = None if lost else "ended with 5 and does not say that the lock was lost"
    elif run.status == 3:
        if any(": waiting for " in line for line in run.message.splitlines()) and not helper_killed(history, run):
            wrong = "gave up waiting"
        elif not troubled(history, run):
            wrong = "ended with 3, though nothing was in its way"
        elif not any(line.startswith(f"me-only: etcd:{run.lock}: ") for line in said):
            wrong = "ended with 3 and gives no reason"
        elif run.start is not None:
            wrong = "ended with 3 after its job had started"
    elif run.status != 0:
        wrong = f"ended with {run.status}"
    elif run.start is None:
        wrong = "ended with 0, but its job never ran"
    elif "main" not in run.ended:
        wrong = "ended with 0, though its job was ended before its time"
    elif said and not (faults_before(history, run)
                       and all(": cannot confirm that the lock was released: " in line for line in said)):
        wrong = "ended with 0 and complained"
    if wrong is None and run.status == 5 and not faults_before(history, run):
        wrong = "lost its lock without any fault"
    return [Violation("loss", f"{run.id} {wrong}", [run])] if wrong else []


def helper_killed(history, run):
    return any(f.kills and f.run == run.id for f in history.faults)


def faults_before(history, run):
    """The faults that can have cost a run its lock: in force at some time in its last lifetime, or just before."""
    since = run.exited - (history.ttl + 8) * SECOND
    return [f for f in history.faults if f.contender in (None, run.contender) and f.began <= run.exited and f.over >= since]


def troubled(history, run):
    """Whether a fault was near when the run asked the cluster first."""
    return any(f.contender in (None, run.contender) and f.began <= run.exited and f.over + 8 * SECOND >= run.launched
               for f in history.faults)


def liveness(history):
    found = [Violation("liveness", f"{run.id} has not had its turn", [run]) for run in history.unserved]
    return found + [Violation("liveness", f"left in the store: {what}") for what in history.left]


def order(history):
    found = []
    for lock in locks(history):
        newest = {}  # of those that have started, by mode: the youngest key and its run
        for run in (r for r in started(history, lock) if r.key in history.created):
            created = history.created[run.key]
            for mode, (before_created, before) in newest.items():
                if created < before_created and "x" in (mode, run.mode):
                    found.append(Violation("order", f"{lock}: {before.id} started before {run.id}, whose key is older",
                                           [before, run]))
            newest[run.mode] = max(newest.get(run.mode, (0, None)), (created, run), key=lambda pair: pair[0])
    return found


PROPERTIES = (exclusion, tokens, register, loss, liveness, order)


def check(history):
    return [violation for judge in PROPERTIES for violation in judge(history)]


# --- figures for the table ---


def figures(history):
    """What there was, by name."""
    runs = started(history)
    late = superseded = 0
    for lock in locks(history):
        mine = started(history, lock)
        for i, run in enumerate(mine):
            later = next((r.start for r in mine[i + 1:] if not together(run, r)), FOREVER)
            ticks = late_ticks(run, later)
            late += ticks
            superseded += ticks > 0
    after_cut = [(effective_end(history, run) - fault.complete) / SECOND for fault, run in struck(history)
                 if fault.cuts and not fault.excuses and fault.ended - fault.complete >= history.ttl * SECOND]
    return {
        "runs": len(runs),
        "runs x/s/n": "/".join(str(sum(r.mode == m for r in runs)) for m in "xsn"),
        "calls": len(history.runs),
        "came to their own end": sum("main" in r.ended for r in runs),
        "lost": sum(r.status == 5 for r in history.runs),
        "lost to members' faults only": sum(bool(members_fault(history, r)) for r in runs),
        "overlaps": len(exclusion(history)),
        "overlaps, lease ended early": len(overlaps(history)) - len(exclusion(history)),
        "runs excused": len({run.id for fault, run in struck(history) if fault.excuses}),
        "late ticks excused": late,
        "runs with late ticks": superseded,
        "writes accepted": sum(w.accepted for w in history.writes),
        "late writes refused": sum(not w.accepted for w in history.writes),
        "keys that came back": len(history.came_back),
        "order known": sum(r.key in history.created for r in runs),
        "longest end after a cut, s": round(max(after_cut, default=0), 2),
        "longest take-over, s": round(longest_take_over(history), 2),
    }


def members_fault(history, run):
    """The faults that cost a run its lock, if they were those of members and not all were down for long."""
    near = faults_before(history, run)
    if run.status != 5 or any(f.contender is not None or f.kind == "cluster down, long" for f in near):
        return []
    return near


def longest_take_over(history):
    """The longest time in which somebody waited for a lock and nobody ran under it."""
    longest = 0
    for lock in locks(history):
        end = None
        for run in started(history, lock):
            if end is not None and run.start - end > longest:
                waited = [r.launched for r in history.runs if r.lock == lock and r.launched <= run.start <= r.exited]
                longest = max(longest, run.start - max(end, min(waited, default=run.start)))
            end = max(end or 0, run.end)
    return longest / SECOND


# --- logs ---


def lines_of(path):
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return file.read().splitlines()


def read_job(run, path):
    """What the job of a run wrote, if there was one. The last line of a killed job is whole: a line is one write."""
    for line in lines_of(path):
        what, time, *rest = line.split()
        if what == "start":
            run.token, run.key = int(rest[0]), rest[1]
        elif what == "tick":
            run.ticks.setdefault(rest[0], []).append(int(time))
        elif what == "end":
            run.ended.append(rest[0])


def read_register(lock, path):
    writes = []
    for line in lines_of(path):
        time, token, run, verdict = line.split()
        writes.append(Write(lock, int(time), int(token), run, verdict == "accepted"))
    return writes


def save(history, directory):
    with open(os.path.join(directory, "history.json"), "w") as out:
        json.dump(asdict(history), out)


def load(directory):
    with open(os.path.join(directory, "history.json")) as file:
        raw = json.load(file)
    raw["runs"] = [Run(**run) for run in raw["runs"]]
    raw["faults"] = [Fault(**fault) for fault in raw["faults"]]
    raw["writes"] = [Write(**write) for write in raw["writes"]]
    raw["unserved"] = [Run(**run) for run in raw["unserved"]]
    return History(**raw)


# --- words ---

SHOWN = 4  # violations of each property that are described; one fault can cause many


def describe_all(history, violations):
    """Some of each property, and how many there were."""
    words, shown = [], {}
    for violation in violations:
        shown[violation.property] = shown.get(violation.property, 0) + 1
        if shown[violation.property] <= SHOWN:
            words.append(describe(history, violation))
    words += [f"{name}: {n} in all" for name, n in shown.items() if n > SHOWN]
    return "\n".join(words)


def describe(history, violation):
    """A violation with what the logs say about its runs; times are seconds since the first call."""
    zero = min((r.launched for r in history.runs), default=0)

    def at(time):
        return "-" if time is None or time >= FOREVER else f"{(time - zero) / SECOND:.3f}"

    lines = [f"{violation.property}: {violation.text}"]
    for run in violation.runs:
        what = run.mode + (str(run.slots) if run.slots else "") + " stubborn" * run.stubborn + " escapes" * run.escapes
        lines.append(f"    {run.id}: contender {run.contender}, {what}, {run.seconds:.1f} s; token {run.token}, key {run.key}, "
                     f"created {history.created.get(run.key)}; called {at(run.launched)}, exit {at(run.exited)} "
                     f"status {run.status}")
        for who, ticks in run.ticks.items():
            gap = max(((b - a, a) for a, b in zip(ticks, ticks[1:])), default=(0, ticks[0]))
            lines.append(f"        {who}: {len(ticks)} ticks from {at(ticks[0])} to {at(ticks[-1])}, the longest pause "
                         f"{gap[0] / SECOND:.3f} s at {at(gap[1])}{', own end' if who in run.ended else ''}")
        lines += [f"        > {line}" for line in run.message.splitlines()]
    if violation.runs:
        begin = min(r.start or r.launched for r in violation.runs) - history.ttl * SECOND
        end = max((r.end or r.exited) for r in violation.runs)
        for fault in history.faults:
            near = any(fault.contender in (None, run.contender) for run in violation.runs)
            if near and fault.began <= end and fault.over >= begin:
                words = [fault.kind, "" if fault.contender is None else f"contender {fault.contender}", fault.run, fault.note]
                lines.append(f"    fault {' '.join(filter(None, words))}: {at(fault.began)} to {at(fault.over)}")
    return "\n".join(lines)


def main():
    history = load(sys.argv[1])
    violations = check(history)
    print(describe_all(history, violations))
    for name, value in figures(history).items():
        print(f"{name:30} {value}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
