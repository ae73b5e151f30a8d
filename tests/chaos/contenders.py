"""Those who want the locks: each calls the program again and again, under a user id and with a choice of jobs of its own."""
import os
import random
import signal
import subprocess
import threading

import checker
from clock import SECOND, now
from cluster import FIRST_CONTENDER_UID

UNREACHABLE = 3


class Programs:
    """Where the programs are, and how one is called under a rule."""

    def __init__(self, directory, rule, ttl, kill_after):
        self.directory, self.rule, self.ttl, self.kill_after = directory, rule, ttl, kill_after
        self.job = os.path.join(directory, "chaos-job")

    def command(self):
        if self.rule == "me-only":
            words = [os.path.join(self.directory, "me-only")]
        else:
            model = os.path.join(os.path.dirname(os.path.abspath(__file__)), "model.py")
            words = ["/usr/bin/python3", "-B", model, "--rule", {"right": "full"}.get(self.rule, self.rule)]
        return [*words, "--ttl", str(self.ttl), "-k", str(self.kill_after), "-w", "inf"]


class Contender(threading.Thread):
    """One user of one lock. The call that runs, if any, is in process and run."""

    def __init__(self, number, lock, mode, trial, slots=0):
        super().__init__(daemon=True, name=f"contender {number}")
        self.number, self.lock, self.mode, self.slots = number, lock, mode, slots
        self.trial = trial
        self.uid = FIRST_CONTENDER_UID + number
        self.random = random.Random(f"{trial.seed}/{number}")
        self.busy = False  # a fault is at work on this one; only the faults look at it
        self.process = self.run_now = None
        self.calls = 0

    def run(self):
        while not self.trial.closing.is_set():
            run = self.choose()
            self.call(run)
            self.trial.closing.wait(1 if run.status == UNREACHABLE else self.random.choice((0, 0, 0.05, 0.3)))

    def choose(self):
        """Mostly short jobs, some longer than the lifetime of a lease; some that are hard to end."""
        ttl = self.trial.programs.ttl
        if self.trial.short_jobs:
            return self.make_run(self.random.uniform(0.02, 0.15), escapes=self.random.random() < 0.1)
        if self.calls == 0 and self is self.trial.contenders[0]:
            return self.make_run(3 * ttl, stubborn=True)  # there is always one to hit at the beginning
        low, high = self.random.choice([(0.05, 0.3)] * 6 + [(0.5, 1.4)] * 3 + [(1.4, 2.2)] * self.trial.long_jobs)
        seconds = self.random.uniform(low, high) * ttl
        return self.make_run(seconds, stubborn=self.random.random() < 0.3, escapes=self.random.random() < 0.25)

    def make_run(self, seconds, stubborn=False, escapes=False):
        self.calls += 1
        return checker.Run(id=f"c{self.number}-{self.calls}", lock=self.lock, mode=self.mode, contender=self.number,
                           slots=self.slots, seconds=seconds, stubborn=stubborn, escapes=escapes)

    def log(self, run):
        return os.path.join(self.trial.logs, run.id + ".log")

    def environment(self):
        """The endpoints in an order of his own; a user and password where the cluster wants them."""
        cluster = self.trial.cluster
        first = self.number % len(cluster.endpoints)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
                       "ETCDCTL_ENDPOINTS": ",".join(cluster.endpoints[first:] + cluster.endpoints[:first])}
        if cluster.options:
            environment["ETCDCTL_USER"] = f"{cluster.USER}:{cluster.PASSWORD}"
        return environment

    def words(self, run):
        options = {"x": [], "s": ["-s"], "n": ["-j", str(self.slots)]}[self.mode]
        job = [self.trial.programs.job, *["-t"] * run.stubborn, *["-e"] * run.escapes, self.log(run),
               self.trial.register(self.lock) if self.mode == "x" else "-", run.id, f"{run.seconds:.3f}"]
        return [*self.trial.programs.command(), *options, "etcd:" + self.lock, *job]

    def call(self, run):
        """One call of the program, from beginning to end."""
        with open(os.path.join(self.trial.logs, run.id + ".err"), "w+b") as messages:
            run.launched = now()
            process = subprocess.Popen(self.words(run), env=self.environment(), cwd="/", user=self.uid, group=self.uid,
                                       extra_groups=[], start_new_session=True, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=messages)
            self.trial.history.runs.append(run)
            self.run_now, self.process = run, process
            status = process.wait()
            run.exited, run.status = now(), status
            self.run_now = self.process = None
            messages.seek(0)
            run.message = messages.read(65536).decode(errors="replace")

    def remaining(self, run):
        """For how many seconds the job of a run will go on; None if it has not started."""
        try:
            with open(self.log(run)) as log:
                began = int(log.readline().split()[1])
        except (OSError, IndexError):
            return None
        return max(0, run.seconds - (now() - began) / SECOND)

    def holds(self, at_least=0):
        """Whether a job runs now, and will for so many seconds."""
        run = self.run_now
        remaining = self.remaining(run) if run else None
        return remaining is not None and remaining >= at_least

    # --- processes ---

    def everything(self):
        """All processes of this contender, its earlier calls' too."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.stat("/proc/" + entry).st_uid == self.uid:
                    found.append(int(entry))
            except OSError:
                pass
        return found

    def parts(self):
        """The program and its helper, or None where there is none (now)."""
        process = self.process
        if process is None:
            return None, None
        try:
            children = open(f"/proc/{process.pid}/task/{process.pid}/children").read().split()
        except OSError:
            return None, None
        for child in children:
            try:
                if os.readlink(f"/proc/{child}/exe").endswith("/libexec/me-only/etcd"):
                    return process.pid, int(child)
            except OSError:
                pass
        return process.pid, None


def send(pids, number):
    """The signal to each of the processes that is still there; returns to how many."""
    sent = 0
    for pid in pids:
        try:
            os.kill(pid, number)
            sent += 1
        except (ProcessLookupError, TypeError):
            pass
    return sent


def wake(pids, rng):
    """In a random order: whoever wakes first must do the right thing."""
    pids = list(pids)
    rng.shuffle(pids)
    send(pids, signal.SIGCONT)
