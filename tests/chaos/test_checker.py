"""The checker on logs made by hand: what is as it must be passes, and each thing that is wrong is found."""
import os
import tempfile
import unittest

import checker
from checker import Fault, History, Run, Write
from clock import SECOND

TTL = 10
STEP = SECOND // 100


def ticks(begin, end):
    return list(range(int(begin * SECOND), int(end * SECOND), STEP))


def job(name, begin, end, token, **more):
    """A run that came to its own end, as the harness sees it; times in seconds."""
    run = Run(id=name, lock="l", mode="x", contender=more.pop("contender", 0), seconds=end - begin,
              launched=int((begin - 0.1) * SECOND), exited=int((end + 0.1) * SECOND), status=0, token=token, key="l/" + name,
              ticks={"main": ticks(begin, end)}, ended=["main"])
    for field, value in more.items():
        setattr(run, field, value)
    return run


def lost(name, begin, end, token, **more):
    """A run that was ended because its lock was lost."""
    return job(name, begin, end, token, ended=[], status=5, message="me-only: etcd:l: lost: not renewed\n", **more)


def fault(kind, begin, end, **more):
    begin, end = int(begin * SECOND), int(end * SECOND)
    return Fault(kind, began=begin, complete=begin, ended=end, over=end, **more)


def history(*runs, faults=(), **more):
    return History(ttl=TTL, kill_after=2, runs=list(runs), faults=list(faults),
                   created=more.pop("created", {run.key: run.token for run in runs if run.token}), **more)


class Checker(unittest.TestCase):
    def expect(self, past, *properties):
        """Exactly these properties are violated; and the words for it can be made."""
        violations = checker.check(past)
        for violation in violations:
            checker.describe(past, violation)
        checker.figures(past)
        self.assertEqual(sorted({v.property for v in violations}), sorted(properties), [v.text for v in violations])

    # --- exclusion ---

    def test_one_after_another(self):
        self.expect(history(job("a", 1, 2, 5), job("b", 2, 3, 6)))

    def test_two_exclusive_together(self):
        self.expect(history(job("a", 1, 2, 5), job("b", 1.9, 3, 6)), "exclusion")

    def test_one_within_a_long_one(self):
        self.expect(history(job("a", 1, 9, 5), job("b", 2, 3, 6), job("c", 8, 9.5, 7)), "exclusion")

    def test_shared_together(self):
        self.expect(history(job("a", 1, 3, 5, mode="s"), job("b", 2, 4, 6, mode="s")))

    def test_shared_with_exclusive(self):
        self.expect(history(job("a", 1, 3, 5, mode="s"), job("b", 2, 4, 6)), "exclusion")

    def test_exclusive_with_shared(self):
        self.expect(history(job("a", 1, 3, 5), job("b", 2, 4, 6, mode="s")), "exclusion")

    def test_shared_with_slot(self):
        self.expect(history(job("a", 1, 3, 5, mode="s"), job("b", 2, 4, 6, mode="n", slots=2)), "exclusion")

    def test_two_of_two_slots(self):
        self.expect(history(*(job(f"n{i}", i, i + 1.9, i + 5, mode="n", slots=2) for i in range(1, 6))))

    def test_three_of_two_slots(self):
        self.expect(history(*(job(f"n{i}", i, i + 2.1, i + 5, mode="n", slots=2) for i in range(1, 6))), "exclusion")

    def test_other_locks(self):
        self.expect(history(job("a", 1, 3, 5), job("b", 1, 3, 6, lock="other")))

    def test_child_goes_on(self):
        run = job("a", 1, 2, 5, ticks={"main": ticks(1, 2), "child": ticks(1, 2.5)}, ended=["main", "child"])
        self.expect(history(run, job("b", 2.1, 3, 6)), "exclusion")

    # --- ticks that are excused ---

    def test_late_ticks_after_a_thaw(self):
        run = lost("a", 1, 3, 5, ticks={"main": ticks(1, 3) + ticks(20, 20.3)}, exited=21 * SECOND)
        frozen = fault("frozen", 3, 20, contender=0, cuts=True, excuses="window")
        self.expect(history(run, job("b", 15, 21, 6, contender=1), faults=[frozen]))

    def test_too_late_ticks_after_a_thaw(self):
        run = lost("a", 1, 3, 5, ticks={"main": ticks(1, 3) + ticks(20, 22)}, exited=23 * SECOND)
        frozen = fault("frozen", 3, 20, contender=0, cuts=True, excuses="window")
        self.expect(history(run, job("b", 15, 25, 6, contender=1), faults=[frozen]), "exclusion", "loss")

    def test_others_are_not_excused(self):
        frozen = fault("frozen", 0, 20, contender=7, excuses="window")
        self.expect(history(job("a", 1, 3, 5), job("b", 2, 4, 6), faults=[frozen]), "exclusion")

    # --- leases that the server ends early ---

    def test_lease_ended_early(self):
        stuck = fault("leader's disk stuck", 1, 4, contender=None)
        deaf = fault("helper stopped", 3, 20, contender=0, run="a", cuts=True)
        runs = lost("a", 1, 8, 5), job("b", 6, 9, 6, contender=1)
        both = history(*runs, faults=[stuck, deaf], revokes_early=True)
        self.expect(both)
        self.assertEqual(checker.figures(both)["overlaps, lease ended early"], 1)
        self.expect(history(*runs, faults=[stuck, deaf]), "exclusion")
        self.expect(history(*runs, faults=[deaf], revokes_early=True), "exclusion")
        self.expect(history(*runs, faults=[stuck], revokes_early=True), "exclusion")

    # --- tokens ---

    def test_token_twice(self):
        self.expect(history(job("a", 1, 2, 5), job("b", 2, 3, 5)), "tokens")

    def test_token_falls(self):
        self.expect(history(job("a", 1, 2, 6), job("b", 2, 3, 5), created={"l/a": 1, "l/b": 2}), "tokens")

    def test_no_token(self):
        self.expect(history(job("a", 1, 2, None)), "tokens")

    # --- the register ---

    def write(self, time, token, run, accepted=True):
        return Write("l", int(time * SECOND), token, run, accepted)

    def test_register(self):
        writes = [self.write(1, 5, "a"), self.write(2, 6, "b"), self.write(2.1, 5, "a", False), self.write(2.2, 6, "b")]
        self.expect(history(job("a", 1, 2, 5), job("b", 2, 3, 6), writes=writes))

    def test_older_token_accepted(self):
        writes = [self.write(2, 6, "b"), self.write(2.1, 5, "a")]
        self.expect(history(job("a", 1, 2, 5), job("b", 2, 3, 6), writes=writes), "register")

    def test_write_of_one_superseded(self):
        writes = [self.write(1, 5, "a"), self.write(2, 5, "b"), self.write(2.1, 5, "a")]
        self.expect(history(job("a", 1, 2, 5), job("b", 2, 3, 5), writes=writes), "register", "tokens")

    # --- loss ---

    def test_ended_in_time_when_cut_off(self):
        cut = fault("cut off", 2, 15, contender=0, cuts=True)
        self.expect(history(lost("a", 1, 11.9, 5), faults=[cut]))

    def test_ran_on_when_cut_off(self):
        cut = fault("cut off", 2, 15, contender=0, cuts=True)
        self.expect(history(lost("a", 1, 12.5, 5), faults=[cut]), "loss")

    def test_cut_off_for_less(self):
        cut = fault("cut off", 2, 11, contender=0, cuts=True)
        self.expect(history(job("a", 1, 14, 5), faults=[cut]))

    def test_job_dies_with_its_parent(self):
        killed = fault("killed me-only", 2, 99, contender=0, run="a", kills="main")
        child = {"main": ticks(1, 2.1), "child": ticks(1, 4)}
        self.expect(history(job("a", 1, 4, 5, ticks=child, ended=[], status=-9), faults=[killed]))

    def test_job_survives_its_parent(self):
        killed = fault("killed me-only", 2, 99, contender=0, run="a", kills="main")
        self.expect(history(job("a", 1, 4, 5, ended=[], status=-9), faults=[killed]), "loss")

    def test_job_survives_the_helper(self):
        killed = fault("killed helper", 2, 99, contender=0, run="a", kills="helper")
        self.expect(history(lost("a", 1, 4.9, 5), faults=[killed]))
        self.expect(history(lost("a", 1, 5.1, 5), faults=[killed]), "loss")

    def test_wrong_status(self):
        cut = fault("cut off", 2, 4, contender=0)
        for status in (1, 2, 70, -11, -9, None):
            self.expect(history(job("a", 1, 3, 5, status=status), faults=[cut]), "loss")

    def test_silent_loss(self):
        cut = fault("cut off", 2, 4, contender=0)
        self.expect(history(lost("a", 1, 3, 5), faults=[cut]))
        silent = lost("a", 1, 3, 5)
        silent.message = ""
        self.expect(history(silent, faults=[cut]), "loss")

    def test_loss_without_a_fault(self):
        self.expect(history(lost("a", 1, 3, 5)), "loss")

    def test_success_of_a_job_that_was_ended(self):
        self.expect(history(job("a", 1, 3, 5, ended=[])), "loss")

    def test_success_without_a_job(self):
        self.expect(history(job("a", 1, 3, None, ticks={}, key=None)), "loss")

    def test_complaint_with_success(self):
        self.expect(history(job("a", 1, 3, 5, message="me-only: etcd:l: what?\n")), "loss")

    def test_a_release_that_is_not_confirmed(self):
        run = job("a", 1, 3, 5, message="me-only: etcd:l: cannot confirm that the lock was released: no answer\n")
        self.expect(history(run), "loss")
        self.expect(history(run, faults=[fault("cut off", 1, 3)]))

    def test_unreachable(self):
        run = job("a", 1, 3, None, ticks={}, ended=[], status=3, message="me-only: etcd:l: no answer\n")
        self.expect(history(run), "loss")
        self.expect(history(run, faults=[fault("cut off", 1, 3)]))
        run.message = ""
        self.expect(history(run, faults=[fault("cut off", 1, 3)]), "loss")

    def test_gave_up_waiting(self):
        said = "me-only: etcd:l: waiting for pid 7 (root) on h, 1s: x\nme-only: etcd:l: no answer\n"
        run = job("a", 1, 3, None, ticks={}, ended=[], status=3, message=said)
        self.expect(history(run, faults=[fault("rolling restart", 1, 3)]), "loss")
        self.expect(history(run, faults=[fault("killed helper", 2, 99, contender=0, run="a", kills="helper")]))

    # --- liveness, order ---

    def test_unserved(self):
        self.expect(history(job("a", 1, 3, 5), unserved=[job("b", 4, 5, 6)]), "liveness")

    def test_something_left(self):
        self.expect(history(left=["key l/1"]), "liveness")

    def test_out_of_order(self):
        runs = job("a", 1, 2, 5), job("b", 2, 3, 6)
        self.expect(history(*runs, created={"l/a": 4, "l/b": 3}), "order")
        self.expect(history(*runs, created={"l/b": 3}))

    def test_shared_in_any_order(self):
        runs = job("a", 1, 2, 5, mode="s"), job("b", 1.5, 3, 6, mode="s")
        self.expect(history(*runs, created={"l/a": 4, "l/b": 3}))

    # --- logs ---

    def test_logs(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "a.log")
            with open(path, "w") as log:
                log.write("start 1000 7 l/abc\ntick 1100 main\ntick 1200 child\ntick 1300 main\nend 1400 main\n")
            with open(os.path.join(directory, "r.log"), "w") as log:
                log.write("1150 7 a accepted\n1350 6 b refused\n")
            run = Run(id="a", lock="l", mode="x", contender=0)
            checker.read_job(run, path)
            self.assertEqual((run.token, run.key, run.start, run.end, run.ended), (7, "l/abc", 1100, 1300, ["main"]))
            writes = checker.read_register("l", os.path.join(directory, "r.log"))
            self.assertEqual([(w.token, w.run, w.accepted) for w in writes], [(7, "a", True), (6, "b", False)])
            past = history(run, writes=writes, faults=[fault("frozen", 1, 2)])
            checker.save(past, directory)
            self.assertEqual(checker.load(directory), past)

    def test_no_logs(self):
        run = Run(id="a", lock="l", mode="x", contender=0)
        checker.read_job(run, "/nonexistent")
        self.assertIsNone(run.start)
        self.assertEqual(checker.read_register("l", "/nonexistent"), [])

    def test_figures(self):
        late = lost("a", 1, 3.5, 5)
        past = history(late, job("b", 3, 4, 6, contender=1), job("c", 6, 7, 7, launched=3 * SECOND),
                       faults=[fault("both stopped", 2, 3.4, contender=0, excuses="window")])
        told = checker.figures(past)
        self.assertEqual((told["runs"], told["lost"], told["overlaps"], told["late ticks excused"]), (3, 1, 0, 49))
        self.assertAlmostEqual(told["longest take-over, s"], 2.01)


if __name__ == "__main__":
    unittest.main(verbosity=0)
