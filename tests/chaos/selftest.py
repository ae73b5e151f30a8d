"""Shows that the checker finds what bad rules do, on the same cluster, by faults that provoke it every time.

Two short scenes, each with a lock of its own. In the first the holder of a long job is cut off for longer than its lease lives;
in the second all leases of the queue end at once, as 3.4's stuck leader ends them. The naive rule fails the first, the
receive-time rule with its acquisition by a read fails the second, and the right rule passes both.
"""
import threading
import time

import checker
from cluster import contender_rules
from clock import SECOND, now
from contenders import Contender
from etcd import EtcdError

TTL = 5
SMALLEST = 10  # of the program
SCENES = {
    "holder cut off": (("naive", {"exclusion", "loss"}), ("right", set())),
    "all leases end": (("receive", {"exclusion", "tokens", "register"}), ("right", set())),
}


def wait_for(predicate, what, seconds=40):
    end = time.monotonic() + seconds
    while not predicate():
        if time.monotonic() > end:
            raise RuntimeError("never happened: " + what)
        time.sleep(0.02)


def begin(world, number, contender, seconds):
    """A call in a thread of its own, whose key is in the queue behind those before."""
    run = contender.make_run(seconds)
    thread = threading.Thread(target=contender.call, args=(run,), daemon=True)
    thread.start()
    wait_for(lambda: len(world.cluster.client().entries(contender.lock + "/")) >= number, "a key in the queue")
    return run, thread


def queue(world, lock, seconds):
    """One contender after another asks for the lock; returns their runs when the first has it."""
    calls = []
    for number, length in enumerate(seconds):
        contender = Contender(number, lock, "x", world)
        world.contenders.append(contender)
        calls.append(begin(world, number + 1, contender, length))
    wait_for(world.contenders[0].holds, "the first run")
    return calls


def holder_cut_off(world, lock):
    ttl = world.programs.ttl
    calls = queue(world, lock, (3 * ttl, 1))
    fault = checker.Fault("contender cut off", began=now(), contender=0, run=calls[0][0].id, cuts=True)
    world.history.faults.append(fault)
    world.cluster.network.cut("holder", contender_rules(world.contenders[0].uid, "both"))
    fault.complete = now()
    calls[1][1].join(4 * ttl)
    time.sleep(max(0, ttl + 1 - (now() - fault.complete) / SECOND))
    fault.ended = now()
    world.cluster.network.heal("holder")
    fault.over = now()
    return calls


def all_leases_end(world, lock):
    calls = queue(world, lock, (3, 2, 2, 2))
    fault = checker.Fault("all leases end", began=now())
    world.history.faults.append(fault)
    client = world.cluster.client()
    for entry in reversed(client.entries(lock + "/")):  # the holder's is the last
        client.call("/v3/lease/revoke", {"ID": entry["lease"]})
    fault.complete = fault.ended = fault.over = now()
    return calls


def play(world, scene, rule):
    """One scene under one rule; returns the history and what the checker found."""
    history = world.begin(rule, SMALLEST if rule == "me-only" else TTL, 2)
    lock = f"chaos/{rule}-{scene.replace(' ', '-')}"
    calls = {"holder cut off": holder_cut_off, "all leases end": all_leases_end}[scene](world, lock)
    for _, thread in calls:
        thread.join(6 * world.programs.ttl)
    for run, thread in calls:
        if thread.is_alive():
            history.unserved.append(run)
    world.collect()
    return history, checker.check(history)


def run(world, report, program):
    """Plays all scenes, with the program too if wanted; report(name, passed, why) is told of each."""
    for scene, rules in SCENES.items():
        for rule, expected in rules + ((("me-only", set()),) if program else ()):
            try:
                history, violations = play(world, scene, rule)
            except (RuntimeError, EtcdError) as e:
                report(f"{scene}, {rule} rule", False, str(e))
                continue
            found = {v.property for v in violations}
            good = expected <= found if expected else not found
            report(f"{scene}, {rule} rule: {'found ' + ', '.join(sorted(expected)) if expected else 'nothing to find'}", good,
                   checker.describe_all(history, violations) or "nothing was found")
