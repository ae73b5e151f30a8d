"""Shows that the checker finds what bad rules do, on the same cluster, by faults that provoke it every time.

Two short scenes, each with a lock of its own, at the same time. In the first the holder of a long job is cut off for longer than
its lease lives; in the second all leases of the queue end at once, as 3.4's stuck leader ends them. The naive rule fails the
first, the receive-time rule with its acquisition by a read fails the second, and the right rule passes both; so must the program.
"""
import threading
import time

import checker
from cluster import contender_rules
from clock import SECOND, now
from etcd import EtcdError
from world import Trial

TTL = 5
SMALLEST = 10  # of the program
MOST_TRIES = 3


def wait_for(predicate, what, seconds=40):
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            raise RuntimeError("never happened: " + what)
        time.sleep(0.02)


def begin(trial, number, contender, seconds):
    """A call in a thread of its own, whose key is in the queue behind those before."""
    run = contender.make_run(seconds)
    thread = threading.Thread(target=contender.call, args=(run,), daemon=True)
    thread.start()
    wait_for(lambda: len(trial.cluster.client().entries(contender.lock + "/")) >= number, "a key in the queue")
    return run, thread


def queue(trial, lock, seconds):
    """One contender after another asks for the lock; returns their runs when the first has it."""
    calls = []
    for number, length in enumerate(seconds):
        calls.append(begin(trial, number + 1, trial.add(lock, "x"), length))
    wait_for(trial.contenders[0].holds, "the first run")
    return calls


def holder_cut_off(trial, lock):
    ttl = trial.programs.ttl
    calls = queue(trial, lock, (3 * ttl, 1))
    fault = checker.Fault("contender cut off", began=now(), contender=trial.contenders[0].number, run=calls[0][0].id, cuts=True)
    trial.history.faults.append(fault)
    trial.cluster.network.cut(lock, contender_rules(trial.contenders[0].uid, "both"))
    fault.complete = now()
    calls[1][1].join(4 * ttl)
    time.sleep(max(0, ttl + 1 - (now() - fault.complete) / SECOND))
    fault.ended = now()
    trial.cluster.network.heal(lock)
    fault.over = now()
    return calls


def all_leases_end(trial, lock):
    calls = queue(trial, lock, (12, 2, 2, 2))  # the first is there until all are, on a slow machine too
    fault = checker.Fault("all leases end", began=now())
    trial.history.faults.append(fault)
    client = trial.cluster.client()
    for entry in reversed(client.entries(lock + "/")):  # the holder's is the last
        client.call("/v3/lease/revoke", {"ID": entry["lease"]})
    fault.complete = fault.ended = fault.over = now()
    return calls


def play(trial, scene, rule, attempt):
    """One scene under one rule; returns the history and what the checker found."""
    calls = SCENES[scene][0](trial, f"chaos/{rule}-{scene.replace(' ', '-')}-{attempt}")
    for run, thread in calls:
        thread.join(6 * trial.programs.ttl)
        if thread.is_alive():
            trial.history.unserved.append(run)
    history = trial.collect()
    return history, checker.check(history)


SCENES = {
    "holder cut off": (holder_cut_off, ("naive", {"exclusion", "loss"})),
    "all leases end": (all_leases_end, ("receive", {"exclusion", "tokens", "register"})),
}


def judge(world, scene, rule, expected, report):
    """A bad rule that is lucky, on a machine that is busy just then, is tried again: it has to be found. A good one is played once."""
    for attempt in range(MOST_TRIES if expected else 1):
        trial = Trial(world, rule, 0, SMALLEST if rule == "me-only" else TTL, 2, quiet=True)
        try:
            history, violations = play(trial, scene, rule, attempt)
        except (RuntimeError, EtcdError) as e:
            report(f"{scene}, {rule} rule", False, f"{e}\n{trial.messages()}")
            return
        found = {v.property for v in violations}
        good = expected <= found if expected else not found
        if good:
            break
    report(f"{scene}, {rule} rule: {'found ' + ', '.join(sorted(expected)) if expected else 'nothing to find'}", good,
           checker.describe_all(history, violations) or "nothing was found")


def run(world, report, program):
    """Plays all scenes at once, with the program too if wanted; report(name, passed, why) is told of each."""
    plays = []
    for scene, (_, bad) in SCENES.items():
        for rule, expected in [bad, ("right", set())] + [("me-only", set())] * program:
            plays.append(threading.Thread(target=judge, args=(world, scene, rule, expected, report)))
            plays[-1].start()
    for thread in plays:
        thread.join()
