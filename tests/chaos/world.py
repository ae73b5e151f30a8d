"""A cluster, and trials on it: those who want its locks, what goes wrong, and the history that the checker judges."""
import os
import shutil
import sys
import threading
import time

import checker
from clock import SECOND, now
from cluster import Cluster
from contenders import Contender, Programs
from etcd import EtcdError, unb64
from faults import CLUSTER, CONTENDERS, NEED_HELPER, Lane

LOCK_DELAY = 3  # of the program, in seconds
ELECTION = 5    # the longest that the members need for a leader, on a busy machine
POLL = 0.25
LANES = 3  # of faults of contenders


class World:
    """The cluster, for one trial or several at a time."""

    def __init__(self, directory, token_ttl=0):
        self.directory = directory
        self.cluster = Cluster(directory, token_ttl)
        self.revokes_early = self.cluster.revokes_early()
        self.created = {}  # keys and their first and last create_revision, of all trials
        self.trials = self.contenders = 0
        threading.Thread(target=self._observe, daemon=True).start()

    def _observe(self):
        """When each key was made, from whoever answers. A key lives for as long as a job, which is longer than a look takes."""
        client = self.cluster.client()
        while True:
            try:
                for entry in client.entries("chaos/", serializable=True, keys_only=True):
                    key, created = unb64(entry["key"]), int(entry["create_revision"])
                    self.created[key] = (self.created.get(key, (created,))[0], created)
            except EtcdError:
                pass
            time.sleep(POLL)


class Trial:
    """One program under one rule, with contenders, a history and logs of its own."""

    def __init__(self, world, rule, seed, ttl, kill_after, quiet=False):
        self.world, self.cluster, self.seed, self.quiet = world, world.cluster, seed, quiet
        self.long_jobs = not quiet  # a bounded run waits for them at its end
        self.short_jobs = False
        world.trials += 1
        self.logs = os.path.join(world.directory, f"logs-{world.trials}")
        os.mkdir(self.logs)
        os.chmod(self.logs, 0o777)  # not sticky: the kernel would keep users from opening each other's files there
        self.programs = Programs(world.directory, rule, ttl, kill_after)
        self.history = checker.History(ttl=ttl, kill_after=kill_after, rule=rule, revokes_early=world.revokes_early)
        self.contenders = []
        self.choosing = threading.Lock()  # of victims
        self.closing, self.faults_end = threading.Event(), threading.Event()
        self.began = time.monotonic()

    def say(self, text):
        if not self.quiet:
            print(f"{time.monotonic() - self.began:7.1f} s  {text}", flush=True)

    def register(self, lock):
        """The store of a lock; it exists before the first of several users opens it."""
        path = os.path.join(self.logs, "register-" + lock.replace("/", "-"))
        for name in (path, path + ".log"):
            if not os.path.exists(name):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
                os.chmod(name, 0o666)
        return path

    def messages(self):
        """What all calls have said."""
        words = []
        for name in sorted(os.listdir(self.logs)):
            if name.endswith(".err"):
                with open(os.path.join(self.logs, name), errors="replace") as file:
                    words += [f"{name}: {line}" for line in file.read().splitlines()]
        return "\n".join(words)

    def add(self, lock, mode, slots=0):
        """One more contender, with a number and a user id that no other trial has."""
        self.register(lock)
        contender = Contender(self.world.contenders, lock, mode, self, slots)
        self.world.contenders += 1
        self.contenders.append(contender)
        return contender

    # --- the phases ---

    def contend(self):
        """One lock for exclusive runs, one for all shapes."""
        shapes = [("chaos/x", "x", 0)] * 4 + [("chaos/shapes", "x", 0), ("chaos/shapes", "s", 0), ("chaos/shapes", "s", 0),
                                              ("chaos/shapes", "n", 2), ("chaos/shapes", "n", 2), ("chaos/shapes", "n", 2)]
        for shape in shapes:
            contender = self.add(*shape)
            contender.start()
            while contender is self.contenders[0] and not self.short_jobs and not contender.holds():
                time.sleep(0.02)

    def afflict(self, seconds, only=None, calm=10, in_order=0):
        """Faults for so long: one lane for the cluster, some for contenders; calm is the longest time between two of a lane."""
        def wanted(kinds):
            kinds = [k for k in kinds if only is None or k.__name__.replace("_", "-") in only]
            return kinds if self.programs.rule == "me-only" else [k for k in kinds if k not in NEED_HELPER]

        kinds = wanted(CONTENDERS)
        lanes = [Lane("cluster", self, wanted(CLUSTER), calm, in_order)]
        lanes += [Lane(f"contenders {n}", self, kinds[n::LANES], calm, in_order * (n + 1)) for n in range(LANES)]
        lanes = [lane for lane in lanes if lane.kinds]
        for lane in lanes:
            lane.start()
        end = time.monotonic() + seconds
        while not self.faults_end.wait(min(10, max(0, end - time.monotonic()))) and time.monotonic() < end:
            self.progress()
        self.faults_end.set()
        for lane in lanes:
            lane.join()
        for lane in lanes:
            if lane.failed:
                raise RuntimeError(f"the lane {lane.name} failed:\n{lane.failed}")

    def progress(self):
        runs = self.history.runs
        done = [r for r in runs if r.status is not None]
        self.say(f"{len(runs)} calls, {len(self.history.faults)} faults; exit statuses " + statuses(done))

    def settle(self):
        """Everything works again: whoever waits must get his turn, and then nothing may be left."""
        self.closing.set()
        self.cluster.heal()
        self.say("the faults have stopped")
        healed = time.monotonic()
        to_run = {c: self._still_to_run(c) for c in self.contenders}
        for contender in self.contenders:
            others = sum(seconds for c, seconds in to_run.items() if c.lock == contender.lock)
            contender.join(max(0, healed + self.longest_wait() + others - time.monotonic()))
            run = contender.run_now
            if contender.is_alive() and run:
                self.history.unserved.append(run)
        self.history.left = self._left(2 * self.programs.ttl)

    def longest_wait(self):
        """For a lock whose holder was lost, from the moment at which everything works again.

        The leader that is elected then gives all leases their whole lifetime once more, and who was not told of the end of one
        sees it with its next renewal, half a lifetime later.
        """
        return ELECTION + self.programs.ttl * 3 / 2 + LOCK_DELAY + 5

    def _still_to_run(self, contender):
        """For how long jobs of this contender can still hold the lock: of the call that is there, and what left earlier ones."""
        runs = [r for r in self.history.runs if r.contender == contender.number and (r.status is None or r.escapes)]
        left = [(run, contender.remaining(run)) for run in runs]
        return sum(run.seconds if seconds is None and run.status is None else seconds or 0 for run, seconds in left)

    def _left(self, seconds):
        """The keys and leases that are still there after so long."""
        client, end = self.cluster.client(), time.monotonic() + seconds
        while True:
            try:
                left = [f"key {unb64(e['key'])}" for e in client.entries("chaos/")] + \
                       [f"lease {lease:x}" for lease in client.leases()]
            except EtcdError as e:
                left = [str(e)]
            if not left or time.monotonic() > end:
                return left
            time.sleep(0.5)

    def collect(self):
        """The jobs' logs and the registers become part of the history."""
        history = self.history
        for run in history.runs:
            checker.read_job(run, os.path.join(self.logs, run.id + ".log"))
        tokens = {run.key: run.token for run in history.runs}
        for key, (first, last) in list(self.world.created.items()):
            # A key made after the lock was taken under it: a write that had been under way for long has made it again.
            if tokens.get(key) and last > tokens[key]:
                history.came_back.append(key)
            if not tokens.get(key) or first <= tokens[key]:
                history.created[key] = first
        for lock in checker.locks(history):
            history.writes += checker.read_register(lock, self.register(lock) + ".log")
        return history

    def keep(self, directory):
        """The logs stay, for checker.py and the eye."""
        os.makedirs(directory, exist_ok=True)
        checker.save(self.history, directory)
        shutil.copytree(self.logs, os.path.join(directory, "logs"), dirs_exist_ok=True)
        for member in self.cluster.members:
            shutil.copy(member.log.name, directory)


def statuses(runs):
    counts = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    return ", ".join(f"{s}: {n}" for s, n in sorted(counts.items(), key=str)) or "none yet"


def table(history, violations, out=sys.stdout):
    """What there was, at the end."""
    kinds = {}
    for fault in history.faults:
        count, seconds = kinds.get(fault.kind, (0, 0.0))
        kinds[fault.kind] = (count + 1, seconds + (min(fault.over, now()) - fault.began) / SECOND)
    print("\nfault                           times  seconds", file=out)
    for kind, (count, seconds) in sorted(kinds.items()):
        print(f"  {kind:28} {count:6} {seconds:8.1f}", file=out)
    print(f"  {'all':28} {sum(c for c, _ in kinds.values()):6}", file=out)
    print("\nexit statuses                 " + statuses(history.runs), file=out)
    for name, value in checker.figures(history).items():
        print(f"{name:29} {value}", file=out)
    print(f"violations                    {len(violations)}", file=out, flush=True)
