"""What goes wrong: one function for each kind, as a step of a lane.

A lane is a thread that does one fault after another. Each function stamps a checker.Fault: when it began, when all of it was in
force, when the undoing began, when it was over; the checker's limits count from these.
"""
import contextlib
import random
import signal
import threading
import traceback

from checker import FOREVER, Fault
from clock import now
from cluster import contender_rules, member_rules
from contenders import send, wake
from etcd import EtcdError


PATIENCE = 80  # tenths of a second to wait for somebody whom a fault hits hard


class Lane(threading.Thread):
    """Does one fault after another, in rounds: each has all kinds of the lane, in a new order.

    If in_order is not 0 it is the time of the first, and their order is that of the list.
    """

    def __init__(self, name, trial, kinds, calm, in_order):
        super().__init__(daemon=True, name=name)
        self.trial, self.kinds, self.calm, self.in_order = trial, kinds, calm, in_order
        self.random = random.Random(f"{trial.seed}/{name}")
        self.failed = None

    def run(self):
        first = self.in_order
        try:
            while True:
                kinds = list(self.kinds)
                if not self.in_order:
                    self.random.shuffle(kinds)
                for kind in kinds:
                    self.pause(first or self.random.uniform(0.5, self.calm))
                    first = 0
                    self.trial.say(f"{self.name}: {kind.__name__.replace('_', '-')}")
                    kind(self)
        except Stopped:
            pass
        except Exception:  # pylint: disable=broad-except
            self.failed = traceback.format_exc()
            self.trial.faults_end.set()

    def pause(self, seconds):
        """Ends the lane when the time of faults is over; what is being done is then undone first."""
        if self.trial.faults_end.wait(seconds):
            raise Stopped

    def longer_than_ttl(self):
        return self.trial.programs.ttl + self.random.uniform(1.5, 3 if self.in_order else 5)

    def shorter_than_ttl(self):
        return self.trial.programs.ttl * self.random.uniform(0.1, 0.6)

    @contextlib.contextmanager
    def fault(self, kind, **more):
        """Between its two halves the fault is in force; what undoes it comes after done()."""
        fault = Fault(kind, began=now(), **more)
        self.trial.history.faults.append(fault)
        try:
            yield fault
        finally:
            if fault.ended == FOREVER:
                fault.ended = now()
            fault.over = now()

    def victim(self, wanted=lambda c: True, long=False):
        """A contender that no other fault is at work on; mostly one whose job would go on for long, if one comes soon.

        The longer the jobs, the more there is to see of what outlives its lock; but who waits can be hit, too.
        """
        lengths = [1.6] * PATIENCE * long + [0.5] * PATIENCE + [0] * (PATIENCE // 4)
        if self.trial.short_jobs or (self.random.random() < 0.3 and not long):
            lengths = [None]
        for length in lengths:
            with self.trial.choosing:
                free = [c for c in self.trial.contenders if not c.busy and c.run_now and wanted(c)]
                if length is not None:
                    free = [c for c in free if c.holds(at_least=length * self.trial.programs.ttl)]
                if free:
                    chosen = self.random.choice(free)
                    chosen.busy = True
                    return chosen
            self.pause(0.1)
        return None


class Stopped(Exception):
    """The time of faults is over."""


def in_force(fault):
    fault.complete = now()


def undoing(fault):
    fault.ended = now()


# --- the cluster ---


def leader_killed(lane):
    cluster = lane.trial.cluster
    with lane.fault("leader killed") as fault:
        leader = cluster.leader()
        leader.kill()
        in_force(fault)
        try:
            lane.pause(lane.random.uniform(0.5, 5))
        finally:
            undoing(fault)
            cluster.start(leader)
            cluster.wait_ready()


def leader_stopped(lane):
    cluster = lane.trial.cluster
    with lane.fault("leader stopped") as fault:
        leader = cluster.leader()
        leader.send(signal.SIGSTOP)
        in_force(fault)
        try:
            lane.pause(lane.longer_than_ttl())
        finally:
            undoing(fault)
            leader.send(signal.SIGCONT)
            cluster.wait_ready()


def leader_isolated(lane):
    isolate(lane, "leader isolated", lane.trial.cluster.leader())


def member_isolated(lane):
    isolate(lane, "member isolated", lane.random.choice(lane.trial.cluster.members))


def isolate(lane, kind, member):
    cluster = lane.trial.cluster
    with lane.fault(kind, note=member.name) as fault:
        cluster.network.cut(member.name, member_rules(member))
        in_force(fault)
        try:
            lane.pause(lane.longer_than_ttl())
        finally:
            undoing(fault)
            cluster.network.heal(member.name)
            cluster.wait_ready()


def leader_disk_stuck(lane):
    stick(lane, "leader's disk stuck", lane.trial.cluster.leader())


def member_disk_stuck(lane):
    leader = lane.trial.cluster.leader()
    stick(lane, "member's disk stuck", lane.random.choice([m for m in lane.trial.cluster.members if m is not leader]))


def stick(lane, kind, member):
    cluster, seconds = lane.trial.cluster, int(lane.trial.programs.ttl * 1.2) + 1
    with lane.fault(kind, note=member.name) as fault:
        cluster.stick_disk(member, seconds)
        in_force(fault)
        try:
            lane.pause(seconds + 2)
        finally:
            undoing(fault)
            cluster.free_disk()
            cluster.wait_ready()


def cluster_down(lane, kind, seconds, number):
    cluster = lane.trial.cluster
    with lane.fault(kind, cuts=True) as fault:
        for member in cluster.members:
            member.kill(number)
        in_force(fault)
        try:
            lane.pause(seconds)
        finally:
            undoing(fault)
            for member in cluster.members:
                cluster.start(member)
            cluster.wait_ready()


def cluster_down_short(lane):
    cluster_down(lane, "cluster down, short", lane.shorter_than_ttl() / 2, signal.SIGKILL)


def cluster_down_long(lane):
    cluster_down(lane, "cluster down, long", lane.longer_than_ttl(), lane.random.choice((signal.SIGKILL, signal.SIGTERM)))


def rolling_restart(lane):
    cluster = lane.trial.cluster
    with lane.fault("rolling restart") as fault:
        in_force(fault)
        for member in lane.random.sample(cluster.members, 3):
            member.kill(signal.SIGTERM)
            cluster.start(member)
            cluster.wait_ready()
            lane.pause(0.5)


def compaction(lane):
    """At the newest revision, again and again, while the others come and go."""
    client = lane.trial.cluster.client()
    with lane.fault("compaction") as fault:
        in_force(fault)
        for _ in range(6):
            try:
                revision = client.call("/v3/kv/range", {"key": "AA=="})["header"]["revision"]
                client.call("/v3/kv/compaction", {"revision": revision, "physical": True})
            except EtcdError:
                pass
            lane.pause(0.4)


# --- the contenders ---


def cut_off(lane, kind, direction, seconds):
    contender, network = lane.victim(), lane.trial.cluster.network
    if contender is None:
        return
    try:
        with lane.fault(kind, contender=contender.number, cuts=True) as fault:
            network.cut(contender.name, contender_rules(contender.uid, direction))
            in_force(fault)
            try:
                lane.pause(seconds)
            finally:
                undoing(fault)
                network.heal(contender.name)
    finally:
        contender.busy = False


def contender_cut_off(lane):
    cut_off(lane, "contender cut off", "both", lane.longer_than_ttl())


def contender_cut_off_out(lane):
    cut_off(lane, "contender cut off, sending", "out", lane.longer_than_ttl())


def contender_cut_off_in(lane):
    cut_off(lane, "contender cut off, receiving", "in", lane.longer_than_ttl())


def contender_cut_off_short(lane):
    cut_off(lane, "contender cut off, short", lane.random.choice(("both", "in", "out")), lane.shorter_than_ttl() / 2)


def halves(contender):
    """Both processes of the program; a model has one."""
    main, helper = contender.parts()
    return [main, helper] if contender.trial.programs.rule == "me-only" else [main]


def main_alone(contender):
    """The program, if it has its helper."""
    main, helper = contender.parts()
    return [main if helper else None]


def helper_alone(contender):
    return [contender.parts()[1]]


def stay_stopped(lane, fault, pids, seconds):
    in_force(fault)
    try:
        lane.pause(seconds)
    finally:
        undoing(fault)
        wake(pids, lane.random)


def stop(lane, kind, choose, seconds, long=False, **more):
    """SIGSTOP to what choose(contender) names, SIGCONT later."""
    contender = lane.victim(lambda c: all(choose(c)), long)
    if contender is None:
        return
    try:
        run, pids = contender.run_now, choose(contender)
        if run is None or not all(pids):
            return
        with lane.fault(kind, contender=contender.number, run=run.id, **more) as fault:
            send(pids, signal.SIGSTOP)
            stay_stopped(lane, fault, pids, seconds)
    finally:
        contender.busy = False


def me_only_stopped(lane):
    stop(lane, "me-only stopped", main_alone, lane.longer_than_ttl())


def helper_stopped(lane):
    stop(lane, "helper stopped", helper_alone, lane.longer_than_ttl(), cuts=True)


def both_stopped(lane):
    """Nobody can end the job: long enough for the next holder to write first, which is what the register is for."""
    seconds = lane.longer_than_ttl() + 0.4 * lane.trial.programs.ttl
    stop(lane, "both stopped", halves, seconds, long=True, cuts=True, excuses="window")


def freeze(lane, kind, seconds):
    """All of a contender at once: the program, its helper, the job and the job's children."""
    contender = lane.victim()
    if contender is None:
        return
    try:
        with lane.fault(kind, contender=contender.number, cuts=True, excuses="window") as fault:
            # Until nobody is found who was not stopped: a process can start another just before it is stopped.
            pids = set()
            while set(contender.everything()) - pids:
                new = set(contender.everything()) - pids
                send(new, signal.SIGSTOP)
                pids |= new
            stay_stopped(lane, fault, pids, seconds)
    finally:
        contender.busy = False


def frozen(lane):
    freeze(lane, "frozen", lane.longer_than_ttl())


def frozen_short(lane):
    freeze(lane, "frozen, short", lane.shorter_than_ttl())


def kill(lane, kind, choose, kills, excuses=None):
    """All at once: stopped first, so that none sees the other end."""
    contender = lane.victim(lambda c: all(choose(c)))
    if contender is None:
        return
    try:
        run, pids = contender.run_now, choose(contender)
        if run is None or not all(pids):
            return
        with lane.fault(kind, contender=contender.number, run=run.id, kills=kills, excuses=excuses) as fault:
            if len(pids) > 1:
                send(pids, signal.SIGSTOP)
            send(pids, signal.SIGKILL)
            in_force(fault)
            fault.ended = FOREVER - 1  # nobody undoes this
    finally:
        contender.busy = False


def me_only_killed(lane):
    kill(lane, "killed me-only", main_alone, "main")


def helper_killed(lane):
    kill(lane, "killed helper", helper_alone, "helper")


def both_killed(lane):
    """The job's own process dies with its parent. For what has left it for another session only the token is left."""
    kill(lane, "killed both", halves, "main", excuses="rest")


# In the order of the bounded run: leases lapse before the first leader goes (a new one lets them live anew), and what may not fit
# comes last.
CLUSTER = [compaction, member_disk_stuck, leader_killed, leader_disk_stuck, rolling_restart, cluster_down_long, leader_isolated,
           cluster_down_short, leader_stopped, member_isolated]
CONTENDERS = [both_stopped, contender_cut_off, frozen,
              me_only_killed, helper_killed, both_killed,
              contender_cut_off_in, helper_stopped, me_only_stopped,
              frozen_short, contender_cut_off_short, contender_cut_off_out]
NEED_HELPER = [me_only_stopped, helper_stopped, me_only_killed, helper_killed]
KINDS = {kind.__name__.replace("_", "-"): kind for kind in CLUSTER + CONTENDERS}
