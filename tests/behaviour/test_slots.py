"""-j N: at most N at once, each with its own slot; waiters are served in order across all slots.

The job itself proves it: slot-witness takes a record lock on the byte of its slot, of which there
are N, and never waits.
"""
import os
import pwd
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from conftest import (DEADLINE, ME_ONLY, address, children_of, forms, is_bound, is_listed, name_of,
                      processor_time, program, queue_of, read_line, refusal, release, user,
                      wait_for, waiters_of)
from test_races import overlaps
from test_waiting import Crowd, open_files

WITNESS = program("slot-witness")
DYNAMIC = bool(os.environ.get("ME_ONLY_DYNAMIC"))
# A sanitized program takes some more megabytes and milliseconds for each.
WAITERS = 60 if DYNAMIC else 200
JOBS = 100 if DYNAMIC else 500
MOST = 1024
DAEMON = pwd.getpwnam("daemon").pw_uid

with open(os.path.join(os.path.dirname(__file__), "stranger.py"), encoding="utf-8") as source:
    STRANGER = source.read()


def slot_address(name, slot):
    """The address of a slot of the host lock NAME."""
    return address(name, b"\0slot\0%d" % slot) if slot else address(name)


def queue_of_slots(name, slots):
    """The address of the queue in which this user waits for one of SLOTS slots of NAME."""
    return queue_of(name) + (b"\0%d" % slots if slots > 1 else b"")


def queue_socket(name, slots):
    """The socket that the front and its successors have, as a link in /proc shows it."""
    shown = b" " + queue_of_slots(name, slots).replace(b"\0", b"@") + b"\n"
    with open("/proc/net/unix", "rb") as f:
        sockets = [line.split() for line in f if line.endswith(shown)]
    return [b"socket:[%s]" % s[6] for s in sockets if int(s[3], 16) & 0x10000][0]


def slots_in_use(name, slots):
    """The slots that the kernel lists."""
    return [n for n in range(slots) if is_listed(slot_address(name, n))]


def nothing_is_left(name, slots):
    return not any(is_bound(slot_address(name, n)) for n in range(slots)) \
        and not is_bound(queue_of_slots(name, slots))


def slot_of(holder):
    """ME_ONLY_SLOT of the job of hold(), as text; None if it has none."""

    def entries():
        with open(f"/proc/{holder.job}/environ", encoding="utf-8") as f:
            return f.read().split("\0")

    # Until the job's exec is complete, it has its name but no environment.
    wait_for(lambda: len(entries()) > 1, "the job has an environment")
    found = [entry.partition("=")[2] for entry in entries() if entry.startswith("ME_ONLY_SLOT=")]
    assert len(found) <= 1
    return found[0] if found else None


def all_slots(hold, lock, slots, *options):
    """Holders of all slots, by their numbers."""
    holders = [hold(lock, *options, f"-j{slots}") for _ in range(slots)]
    assert [slot_of(h) for h in holders] == [str(n) for n in range(slots)]
    return holders


class SlotCrowd(Crowd):
    """
    Waiters in a known order for one of SLOTS slots. Each job fails if it has no slot of its own.
    """

    def __init__(self, lock, scratch, slots):
        super().__init__(lock, scratch)
        self.slots = slots
        self.env = dict(os.environ, SLOTS=str(slots))

    def join(self, count, wait="inf", options=(), stays=False):
        for _ in range(count):
            # One reading may have omitted a waiter.
            before = max(waiters_of(self.lock, self.slots) for _ in range(3))
            argv = [ME_ONLY, *options, "-w", wait, f"-j{self.slots}", self.lock, WITNESS,
                    self.scratch, "-" if stays else "0",
                    str(len(self.waiters))]
            self.waiters.append(subprocess.Popen(argv, stdin=subprocess.PIPE if stays
                                                 else subprocess.DEVNULL, stdout=self.writer,
                                                 env=self.env))
            wait_for(lambda: waiters_of(self.lock, self.slots) > before,
                     f"waiter {len(self.waiters) - 1} has its place")

    def wait_for_second(self, number):
        queue = queue_socket(self.lock, self.slots)
        wait_for(lambda: queue in open_files(self.waiters[number].pid),
                 f"waiter {number} is the second")

    def close(self):
        super().close()
        for w in self.waiters:
            if w.stdin:
                w.stdin.close()


@pytest.fixture
def crowd_of(lock, tmp_path, start):  # start: it ends the jobs that outlive their waiters
    """crowd_of(SLOTS) is a crowd that waits for one of SLOTS slots."""
    made = []

    def crowd_of_(slots):
        made.append(SlotCrowd(lock, tmp_path / "witness", slots))
        return made[-1]

    yield crowd_of_
    for c in made:
        c.close()
        assert overlaps(tmp_path / "witness") == []


@pytest.fixture
def for_everybody():
    """
    A directory with copies of the programs that every user may run, and in which everybody may
    write.
    """
    path = tempfile.mkdtemp(prefix="me-only-test-")
    os.chmod(path, 0o777)
    for each in (ME_ONLY, WITNESS):
        shutil.copy(each, path)
    yield path
    shutil.rmtree(path)


def by(name):
    """Arguments to start a process as another user, in a directory that everybody may enter."""
    return {"user": name, "group": name, "extra_groups": [], "cwd": "/"}


# ---- how many ----


@pytest.fixture
def fill(me_only, lock, tmp_path):
    """
    fill(SLOTS, OPTION...) starts SLOTS cheap holders at once, and returns them by their slots; the
    end of .stdin ends each.
    """

    def fill_(slots, *options):
        env = dict(os.environ, SLOTS=str(slots))
        holders = []
        for _ in range(slots):
            holders.append(me_only(*options, f"-j{slots}", lock, WITNESS, str(tmp_path / "witness"),
                                   "-", "slot", stdin=subprocess.PIPE,
                                   stderr=None, env=env))
        for h in holders:
            h.slot = int(read_line(h.stdout))
            h.stdout.close()
        return {h.slot: h for h in holders}

    return fill_


@pytest.mark.parametrize("slots", [1, 2, 4, 64])
@forms
def test_so_many_run_at_once_and_no_more(fill, run, lock, tmp_path, slots, form):
    """They start together; each has its own slot, from 0 on."""
    holders = fill(slots, *form)
    assert sorted(holders) == list(range(slots))
    for _ in range(3):
        assert "held by" in refusal(run, f"-j{slots}", lock)
    for h in holders.values():
        assert release(h) == 0
    assert run(f"-j{slots}", lock, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"0\n"
    assert overlaps(tmp_path / "witness") == []
    assert nothing_is_left(lock, slots)


@pytest.mark.parametrize("argument", ["0", "1025", "-1", "x", "", "4x", " 4", "0x4", "4.0",
                                      "99999999999999999999"])
@pytest.mark.parametrize("form", [["-j{}"], ["-j", "{}"], ["--slots={}"], ["--slots", "{}"]],
                         ids=" ".join)
def test_what_is_no_number_of_slots_is_wrong_usage(run, lock, argument, form):
    if form == ["-j{}"] and argument == "":
        form = ["-j", "{}"]     # else the lock would be the argument
    r = run(*[word.format(argument) for word in form], lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")
    assert r.stderr.decode() == \
        (f"me-only: {form[0].removesuffix('={}').removesuffix('{}')}: not a number from 1 to 1024: "
         f"'{argument}'; try 'me-only --help'\n")


@pytest.mark.parametrize("form", [["-j1024"], ["-j", "1024"], ["--slots=1024"], ["--slots", "1024"],
                                  ["-nj1024"]], ids=" ".join)
def test_the_ways_to_write_it(run, lock, form):
    assert run(*form, lock, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"0\n"


def test_the_last_of_the_options_counts(hold, run, lock):
    hold(lock)
    assert refusal(run, "-j4", "-j1", lock)
    assert run("-j1", "-j4", lock, "echo", "ran").stdout == b"ran\n"


def test_a_file_has_no_slots(run, tmp_path):
    path = tmp_path / "file"
    r = run("-j2", f"file:{path}", "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")
    assert r.stderr.decode() == \
        (f"me-only: -j is for host and etcd locks: write NAME, host:NAME or etcd:NAME "
         f"instead of "
         f"'file:{path}'; try 'me-only --help'\n")
    assert not path.exists()


def test_a_storm_of_tries_never_gets_more_slots_than_there_are(start, run, lock, tmp_path):
    """All start in the same instant, again and again; each one that runs has its own slot."""
    script = (
        'while read round; do for i in 1 2 3 4 5 6 7 8; do "$0" -q -j3 "$1" "$2" "$3" 1 & done; '
        'wait; done; :')
    p = start("sh", "-c", script, ME_ONLY, lock, WITNESS, str(tmp_path / "witness"),
              stdin=subprocess.PIPE,
              env=dict(os.environ, SLOTS="3"))
    p.communicate(b"\n" * (20 if DYNAMIC else 100), timeout=DEADLINE * 5)
    assert p.returncode == 0
    assert overlaps(tmp_path / "witness") == []
    assert nothing_is_left(lock, 3)


# ---- ME_ONLY_SLOT ----


@forms
@pytest.mark.parametrize("options", [("-j1",), ("-j3",), ("-j3", "-w", "inf")], ids=" ".join)
def test_the_job_sees_its_slot(run, lock, form, options):
    assert run(*form, *options, lock, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"0\n"


@forms
def test_a_job_without_slots_does_not_see_any(run, lock, form):
    assert run(*form, lock, "sh", "-c", "echo ${ME_ONLY_SLOT-none}").stdout == b"none\n"


@forms
@pytest.mark.parametrize("options, seen", [((), b"none\n"), (("-j1",), b"0\n"), (("-j2",), b"0\n")],
                         ids=["plain", "-j1", "-j2"])
def test_a_slot_is_never_inherited(run, hold, lock, form, options, seen):
    """Neither from the caller nor from an outer lock."""
    look = ("sh", "-c", 'echo "${ME_ONLY_SLOT-none}"; env | grep -c ME_ONLY_SLOT= >&2')
    count = b"0\n" if seen == b"none\n" else b"1\n"
    r = run(*form, *options, lock, *look, env=dict(os.environ, ME_ONLY_SLOT="7"))
    assert (r.stdout, r.stderr) == (seen, count)
    hold(lock, "-j3")
    r = run("-j3", lock, "sh", "-c", 'echo $ME_ONLY_SLOT; exec "$@"', "sh", ME_ONLY, *form,
            *options, lock + "/inner", *look)
    assert (r.stdout, r.stderr) == (b"1\n" + seen, count)


@forms
def test_a_try_takes_the_lowest_slot_that_is_free(hold, run, lock, form):
    holders = all_slots(hold, lock, 5, *form)
    for free in ({3}, {0, 2}, {4, 1}, {0}, {4}, {1, 2, 3}):
        for n in free:
            assert release(holders[n]) == 0
        assert slots_in_use(lock, 5) == [n for n in range(5) if n not in free]
        for n in sorted(free):
            holders[n] = hold(lock, *form, "-j5")
            assert slot_of(holders[n]) == str(n)
        assert "all 5 slots are in use" in refusal(run, "-j5", lock)


def test_waiter_gets_the_slot_that_became_free(hold, me_only, lock):
    holders = all_slots(hold, lock, 3)
    for free in (2, 0, 1):
        p = me_only("-w", "inf", "-j3", lock, "sh", "-c", "echo $ME_ONLY_SLOT")
        wait_for(lambda: is_listed(queue_of_slots(lock, 3)), "it waits")
        assert release(holders[free]) == 0
        assert p.communicate(timeout=DEADLINE)[0] == b"%d\n" % free
        holders[free] = hold(lock, "-j3")


@forms
def test_a_name_too_long_for_an_address_has_slots_too(hold, run, lock, form):
    """Names that differ only after the end of the address do not share them."""
    name, other = (lock + "/long" * 1000 + end for end in "12")
    holders = all_slots(hold, name, 3, *form)
    assert "all 3 slots are in use" in refusal(run, "-j3", name)
    assert run("-j3", other, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"0\n"
    assert release(holders[2]) == 0
    assert run("-j3", name, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"2\n"


def test_a_name_like_that_of_a_slot_is_another_lock(hold, run, lock):
    all_slots(hold, lock, 2)
    for name in (lock + "slot1", lock + "1", lock + "\\0slot\\01"):
        assert run("-j2", name, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"0\n"


# ---- several numbers on one name (rule 11) ----


@forms
def test_a_plain_call_is_refused_if_and_only_if_slot_0_is_held(hold, run, lock, form):
    holders = [hold(lock, *form, "-j4") for _ in range(3)]
    assert "held by pid" in refusal(run, lock)
    assert "held by pid" in refusal(run, "-j1", lock)
    assert release(holders[0]) == 0
    assert run(lock, "echo", "ran").stdout == b"ran\n"
    plain = hold(lock, *form)
    assert slot_of(plain) is None
    assert slots_in_use(lock, 4) == [0, 1, 2]
    assert f"held by pid {plain.job} (" in refusal(run, lock)


@forms
def test_calls_with_slots_run_beside_a_plain_one(hold, run, lock, form):
    plain = hold(lock, *form)
    beside = [hold(lock, "-j4") for _ in range(3)]
    assert [slot_of(h) for h in beside] == ["1", "2", "3"]
    assert "all 4 slots are in use" in refusal(run, "-j4", lock)
    assert release(plain) == 0
    assert run("-j4", lock, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"0\n"


@forms
def test_a_call_sees_only_the_slots_that_it_asks_for(hold, run, lock, form):
    holders = all_slots(hold, lock, 4, *form)
    assert "all 2 slots are in use" in refusal(run, "-j2", lock)
    assert release(holders[3]) == 0
    assert "all 2 slots are in use" in refusal(run, "-j2", lock)
    assert run("-j4", lock, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"3\n"
    assert release(holders[0]) == 0 and release(holders[1]) == 0
    pair = [hold(lock, "-j2") for _ in range(2)]
    assert [slot_of(h) for h in pair] == ["0", "1"]
    assert "all 2 slots are in use" in refusal(run, "-j2", lock)
    assert slots_in_use(lock, 4) == [0, 1, 2]


def test_waiters_for_different_numbers_of_slots_all_get_through(hold, start, lock, tmp_path):
    holders = all_slots(hold, lock, 4)
    waiters = []
    for n in (1, 2, 3, 4, 2, 1):
        options = [f"-j{n}"] if n > 1 else []
        waiters.append(start(ME_ONLY, "-w", "inf", *options, lock, WITNESS,
                             str(tmp_path / "witness"), "5",
                             env=dict(os.environ, SLOTS=str(n))))
    for n in range(1, 5):
        wait_for(lambda: is_listed(queue_of_slots(lock, n)), f"somebody waits for one of {n}")
    for h in holders:
        assert release(h) == 0
    assert [w.wait(DEADLINE) for w in waiters] == [0] * 6
    assert overlaps(tmp_path / "witness") == []
    assert all(nothing_is_left(lock, n) for n in range(1, 5))


def test_waiter_for_fewer_slots_gets_no_others(hold, me_only, lock):
    holders = all_slots(hold, lock, 4)
    p = me_only("-w", "inf", "-j2", lock, "sh", "-c", "echo $ME_ONLY_SLOT")
    wait_for(lambda: is_listed(queue_of_slots(lock, 2)), "it waits")
    assert release(holders[3]) == 0 and release(holders[2]) == 0
    # It tries all of its own when its time is over, as this one does.
    assert me_only("-w", "1.5", "-j2", lock, "true").wait(DEADLINE) == 4
    assert p.poll() is None
    assert release(holders[1]) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"1\n"


# ---- the order ----


def next_ones(crowd, running, expected):
    """Wait until the expected ones run, in this order; adds them to those that run."""
    for number in expected:
        ran = crowd.wait_for(len(running.seen) + 1)
        assert ran[len(running.seen)] == number
        running.seen.append(number)
        running.now.append(number)


class Running:
    def __init__(self):
        self.seen, self.now = [], []


def test_many_waiters_pass_in_the_order_in_which_they_came(hold, lock, crowd_of):
    """Each slot that becomes free goes to the one that has waited longest, whichever slot it is."""
    holders = all_slots(hold, lock, 4)
    crowd = crowd_of(4)
    for n in range(WAITERS):
        crowd.join(1, options=[[], ["-F"], ["-o"]][n % 3], stays=True)
    running = Running()
    random.shuffle(holders)
    for n, h in enumerate(holders):
        assert release(h) == 0
        next_ones(crowd, running, [n])
    for n in range(4, WAITERS):
        crowd.let_go(running.now.pop(random.randrange(4)))
        next_ones(crowd, running, [n])
    for n in running.now:
        crowd.let_go(n)
    assert crowd.statuses() == {0}
    assert nothing_is_left(lock, 4)


def test_the_order_holds_when_a_third_of_the_waiters_is_lost(hold, lock, crowd_of):
    """Of nine, one is killed in line, one is stopped and one runs out of time."""
    holders = all_slots(hold, lock, 3)
    crowd = crowd_of(3)
    killed, stopped, timed_out = (set(range(n, WAITERS, 9)) for n in (4, 6, 8))
    for n in range(WAITERS):
        crowd.join(1, options=[[], ["-F"], ["-o"]][n % 3], wait="500ms" if n in timed_out
                   else "inf", stays=True)
    crowd.stop(*stopped)
    for n in killed:
        crowd.end(n)
    assert crowd.statuses(timed_out) == {4}
    left = [n for n in range(WAITERS) if n not in killed | stopped | timed_out]
    running = Running()
    for h, n in zip(holders, left):
        assert release(h) == 0
        next_ones(crowd, running, [n])
    for n in left[3:]:
        crowd.let_go(running.now.pop(random.randrange(3)))
        next_ones(crowd, running, [n])
    for n in running.now:
        crowd.let_go(n)
    assert crowd.statuses(left) == {0}
    for n in stopped:
        crowd.let_go(n)
    crowd.resume(*stopped)
    assert crowd.statuses(stopped) == {0}
    assert sorted(crowd.read()[len(left):]) == sorted(stopped)
    assert nothing_is_left(lock, 3)


def test_many_short_jobs_pass_through_few_slots(hold, lock, crowd_of):
    """As fast as they can: none is lost, and none runs twice."""
    holders = all_slots(hold, lock, 4)
    crowd = crowd_of(4)
    crowd.join(WAITERS)
    for h in holders:
        assert release(h) == 0
    assert crowd.statuses() == {0}
    assert sorted(crowd.read()) == list(range(WAITERS))
    assert nothing_is_left(lock, 4)


@pytest.mark.parametrize("slot", [0, 1, 2, 3])
def test_the_front_is_killed_and_the_second_gets_the_slot(hold, lock, crowd_of, slot):
    holders = all_slots(hold, lock, 4)
    crowd = crowd_of(4)
    crowd.join(4, stays=True)
    crowd.wait_for_second(1)
    crowd.wait_for_second(2)
    crowd.end(0)
    assert release(holders[slot]) == 0
    running = Running()
    for n in (1, 2, 3):
        next_ones(crowd, running, [n])
        assert slots_in_use(lock, 4) == [0, 1, 2, 3]
        crowd.let_go(n)
    assert crowd.statuses([1, 2, 3]) == {0}
    assert not is_bound(slot_address(lock, slot))


@pytest.mark.parametrize("who", [(0,), (1,), (0, 1), (1, 2, 4)], ids=str)
def test_a_stopped_waiter_holds_nobody_up_for_long(hold, lock, crowd_of, who):
    holders = all_slots(hold, lock, 2)
    crowd = crowd_of(2)
    crowd.join(6)
    crowd.stop(*who)
    assert release(holders[1]) == 0
    others = [n for n in range(6) if n not in who]
    assert sorted(crowd.wait_for(len(others))) == others
    assert crowd.statuses(others) == {0}
    crowd.resume(*who)
    assert crowd.statuses(who) == {0}
    assert release(holders[0]) == 0
    assert nothing_is_left(lock, 2)


def test_the_front_that_runs_out_of_time_takes_no_slot(hold, run, lock):
    holders = all_slots(hold, lock, 3)
    r = run("-w", "0.3", "-j3", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"")
    said = re.fullmatch(
        rf"me-only: {lock}: gave up after 300ms: all 3 slots are in use, slot (\d) held by pid "
        rf"(\d+) \([^\n]*\n",
        r.stderr.decode())
    assert holders[int(said[1])].job == int(said[2])
    assert not is_bound(queue_of_slots(lock, 3))


def test_those_who_wait_cost_no_processor_time(hold, me_only, lock, crowd_of):
    holders = all_slots(hold, lock, 4)
    crowd = crowd_of(4)
    crowd.join(100)
    pids = [h.pid for h in holders] + [w.pid for w in crowd.waiters]
    before = [processor_time(p) for p in pids]
    # The measured time is this one's waiting, behind all others.
    assert me_only("-w", "4s", "-j4", lock, "true").wait(DEADLINE) == 4
    used = [processor_time(p) - b for p, b in zip(pids, before)]
    slow = 10 if DYNAMIC else 1
    assert max(used) < 0.02 * slow
    assert sum(used) < 0.1 * slow


# ---- kills ----


def wait_in(me_only, lock, slots, *options):
    """A waiter for one of SLOTS slots, once it has its position."""
    before = waiters_of(lock, slots)
    p = me_only("-w", "inf", f"-j{slots}", *options, lock, "sh", "-c", "echo $ME_ONLY_SLOT")
    wait_for(lambda: waiters_of(lock, slots) > before, "it waits")
    return p


@forms
@pytest.mark.parametrize("slot", [0, 1, 2])
def test_a_job_that_is_killed_frees_its_slot(hold, me_only, lock, form, slot):
    holders = all_slots(hold, lock, 3, *form)
    p = wait_in(me_only, lock, 3)
    os.kill(holders[slot].job, signal.SIGKILL)
    assert p.communicate(timeout=DEADLINE)[0] == b"%d\n" % slot
    assert holders[slot].wait(DEADLINE) == -signal.SIGKILL
    assert slots_in_use(lock, 3) == [n for n in range(3) if n != slot]


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
@pytest.mark.parametrize("slot", [0, 1, 2])
def test_a_me_only_that_is_killed_frees_no_slot_while_its_job_runs(
        hold, me_only, run, lock, form, slot):
    holders = all_slots(hold, lock, 3, *form)
    p = wait_in(me_only, lock, 3)
    holders[slot].kill()
    holders[slot].wait()
    assert "all 3 slots are in use" in refusal(run, "-j3", lock)
    assert p.poll() is None
    assert slots_in_use(lock, 3) == [0, 1, 2]
    holders[slot].stdin.close()
    assert p.communicate(timeout=DEADLINE)[0] == b"%d\n" % slot


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
@pytest.mark.parametrize("slot", [0, 2])
def test_both_are_killed(hold, me_only, lock, form, slot):
    holders = all_slots(hold, lock, 3, *form)
    p = wait_in(me_only, lock, 3)
    holders[slot].kill()
    os.kill(holders[slot].job, signal.SIGKILL)
    assert p.communicate(timeout=DEADLINE)[0] == b"%d\n" % slot


def test_the_keeper_of_a_slot_keeps_it(hold, me_only, run, lock):
    """The job has closed its descriptors, and me-only is killed."""
    hold(lock, "-j2")
    p = me_only("-j2", lock, program("caller"), "-C", "3", "sh", "-c",
                "echo $ME_ONLY_SLOT; exec cat", stdin=subprocess.PIPE)
    assert read_line(p.stdout) == b"1\n"
    wait_for(lambda: any(name_of(pid) == "me-only keeper" for pid in children_of(p.pid)),
             "a keeper")
    p.kill()
    p.wait()
    assert "all 2 slots are in use" in refusal(run, "-j2", lock)
    p.stdin.close()
    wait_for(lambda: not is_listed(slot_address(lock, 1)), "the job has ended")


def test_a_child_left_running_keeps_its_slot_alone(hold, run, lock):
    left = int(run("-j2", lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").stdout)
    assert slots_in_use(lock, 2) == [0]
    second = hold(lock, "-j2")
    assert slot_of(second) == "1"
    os.kill(left, signal.SIGKILL)
    wait_for(lambda: not is_listed(slot_address(lock, 0)), "it has ended")
    assert run("-j2", lock, "sh", "-c", "echo $ME_ONLY_SLOT").stdout == b"0\n"


def test_a_loop_of_a_shell_runs_all_of_its_jobs_a_few_at_a_time(call, lock, tmp_path):
    script = 'for n in $(seq "$4"); do "$0" -w inf -j4 "$1" "$2" "$3" 2 "$n" & done; wait'
    r = call("sh", "-c", script, ME_ONLY, lock, WITNESS, str(tmp_path / "witness"), str(JOBS),
             env=dict(os.environ, SLOTS="4"),
             timeout=DEADLINE * 3)
    # Those that have waited for more than a second report it.
    assert [line for line in r.stderr.decode().splitlines() if ": waiting for " not in line] == []
    assert sorted(map(int, r.stdout.split())) == list(range(1, JOBS + 1))
    assert overlaps(tmp_path / "witness") == []
    assert nothing_is_left(lock, 4)


# ---- messages ----


def until_old(run, lock, slots):
    """
    Wait until the oldest holder is so old that a delayed answer cannot make another look older.
    """
    wait_for(lambda: re.search(r" for (at most )?([2-9]\.\ds|\d\ds|\d+m\d)",
                               refusal(run, f"-j{slots}", lock)), "the oldest is old enough")


def test_the_message_names_all_slots_and_the_oldest_holder(hold, run, lock):
    """Which is not the one with the lowest slot."""
    holders = all_slots(hold, lock, 3)
    until_old(run, lock, 3)
    for n in (0, 2):
        assert release(holders[n]) == 0
        holders[n] = hold(lock, "-j3")
    said = refusal(run, "-j3", lock)
    assert said.startswith(
        f"me-only: {lock}: all 3 slots are in use, slot 1 held by pid {holders[1].job} ({user()}) "
        f"for "), said
    assert said.endswith(": cat\n") and said.count("\n") == 1


def test_one_slot_is_a_plain_lock(hold, run, lock):
    holder = hold(lock, "-j1")
    for options in ((), ("-j1",)):
        assert re.fullmatch(
            rf"me-only: {lock}: held by pid {holder.job} \([^)]+\) for [^\n]+: cat\n",
            refusal(run, *options, lock))


@forms
def test_quiet_says_nothing(hold, run, lock, form):
    all_slots(hold, lock, 3, *form)
    assert refusal(run, "-q", "-j3", lock) == ""
    assert refusal(run, "-q", "-w", "0.2", "-j3", lock) == ""


def test_the_conflict_status(hold, run, lock):
    all_slots(hold, lock, 2)
    assert run("-E", "0", "-j2", lock, "false").returncode == 0
    assert run("-E", "75", "-w", "0.1", "-j2", lock, "false").returncode == 75
    assert run("--exit-base=90", "-j2", lock, "true").returncode == 94


def test_complain_after_is_about_the_oldest(hold, run, lock):
    first, old = all_slots(hold, lock, 2)
    until_old(run, lock, 2)
    assert release(first) == 0
    hold(lock, "-j2")
    assert f"slot 1 held by pid {old.job} (" in refusal(run, "--complain-after=1s", "-j2", lock)
    assert refusal(run, "--complain-after=1h", "-j2", lock) == ""


def test_verbose_says_for_whom_it_waits(hold, me_only, run, lock):
    first, old = all_slots(hold, lock, 2)
    until_old(run, lock, 2)
    assert release(first) == 0
    hold(lock, "-j2")
    p = me_only("-v", "-w", "inf", "-j2", lock, "true")
    assert f": waiting for pid {old.job} (" in read_line(p.stderr).decode()
    assert release(old) == 0
    assert p.wait(DEADLINE) == 0


@pytest.mark.static  # strace sees no loader there
def test_a_front_that_asks_who_holds_a_slot_hears_of_the_other(hold, start, run, lock, tmp_path):
    """
    The first slot's holder never answers. The front is stopped while it waits for that, until the
    other slot is free.
    """
    hold(lock, "-F", "-j2")
    other = hold(lock, "-j2")
    trace = tmp_path / "trace"

    def strace(*options, wait="1m"):
        return start("strace", "-q", "-D", *options, "-o", trace, ME_ONLY, "-v", "-w", wait, "-j2",
                     lock, "true")

    def polls():
        return [line for line in trace.read_text().splitlines() if line.startswith("poll(")]

    assert strace("-e", "trace=poll", wait="300ms").wait(DEADLINE) == 4
    asks = next(n for n, line in enumerate(polls(), 1)
                if re.search(r", (1\d\d|200)\) += 0 \(Timeout\)", line))
    trace.unlink()
    front = strace("-e", "trace=poll,restart_syscall", "-e",
                   f"inject=poll:signal=SIGSTOP:when={asks}")
    wait_for(lambda: trace.exists() and "--- stopped by SIGSTOP ---" in trace.read_text(),
             "the front waits for an answer, and is stopped")
    assert release(other) == 0
    front.send_signal(signal.SIGCONT)
    assert front.wait(DEADLINE) == 0
    said = trace.read_text()
    assert re.search(r"^restart_syscall\(.* = [1-9]$", said, re.M), said


# ---- 1,024 slots, and few descriptors ----

# Starts COUNT holders that end with its standard input; each prints its PID and slot.
MANY = """
exec 3<&0
for n in $(seq "$1"); do
    "$2" -F "-j$1" "$3" sh -c 'echo $$ $ME_ONLY_SLOT; exec "$@"' sh "$4" "$5" - <&3 &
done
wait
"""


def test_the_callers_ancestors_are_looked_at_once_for_all_slots(hold, call, lock, tmp_path):
    def looks(slots):
        trace, name = tmp_path / "trace", f"{lock}/{slots}"
        for _ in range(slots):
            hold(name, f"-j{slots}")
        r = call("strace", "-o", trace, "-e", "trace=open,openat", ME_ONLY, "-q", f"-j{slots}",
                 "-w", "0.01", name, "true")
        assert r.returncode == 4
        return trace.read_text().count('/stat"')

    assert looks(12) <= looks(2) + 2


def test_a_thousand_and_twenty_four_at_once(start, run, call, lock, tmp_path):
    """
    And the front, with the usual limit of 1,024 descriptors, gets whichever slot becomes free.
    """
    p = start("sh", "-c", MANY, "sh", str(MOST), ME_ONLY, lock, WITNESS, str(tmp_path / "witness"),
              stdin=subprocess.PIPE,
              env=dict(os.environ, SLOTS=str(MOST)))
    pids = dict(reversed(list(map(int, read_line(p.stdout).split()))) for _ in range(MOST))
    assert sorted(pids) == list(range(MOST))
    said = re.fullmatch(
        rf"me-only: {lock}: all 1024 slots are in use, slot (\d+) held by pid (\d+) \([^\n]*\n",
        refusal(run, "-j1024", lock))
    assert pids[int(said[1])] == int(said[2])
    usual = ("prlimit", "--nofile=1024:1024")
    assert call(*usual, ME_ONLY, "--who",
                lock).stdout.startswith(
                    f"{lock}: all 1024 slots are in use\n".encode())
    waiters = []
    for n in range(4):
        waiters.append(start(*usual, ME_ONLY, "-w", "inf", "-j1024", lock, "sh", "-c",
                             "echo $ME_ONLY_SLOT; read line",
                             stdin=subprocess.PIPE))
        wait_for(lambda: waiters_of(lock, MOST) > n, "it waits")
    for waiter, slot in zip(waiters, (1023, 0, 512, 1000)):
        assert all(w.poll() is None for w in waiters)
        os.kill(pids[slot], signal.SIGKILL)
        assert read_line(waiter.stdout) == b"%d\n" % slot
    for each in (p, *waiters):
        each.stdin.close()
    # status of "read" at the end of the input
    assert [w.wait(DEADLINE) for w in waiters] == [1] * 4
    assert p.wait(DEADLINE) == 0
    assert overlaps(tmp_path / "witness") == []
    assert nothing_is_left(lock, MOST)


@pytest.mark.static
@pytest.mark.parametrize("limit", [10, 16, 32])
@pytest.mark.parametrize("slot", [0, 3])
def test_a_front_with_few_descriptors_gets_the_slot_and_keeps_its_successors(
        hold, start, me_only, lock, limit, slot):
    holders = all_slots(hold, lock, 4)
    front = start("prlimit", f"--nofile={limit}:{limit}", ME_ONLY, "-w", "inf", "-j4", lock, "sh",
                  "-c", "echo $ME_ONLY_SLOT; read line",
                  stdin=subprocess.PIPE)
    wait_for(lambda: waiters_of(lock, 4) == 1, "it waits")
    waiters = [front]
    for n in range(1, 4):
        waiters.append(me_only("-w", "inf", "-j4", lock, "sh", "-c",
                               "echo $ME_ONLY_SLOT; read line", stdin=subprocess.PIPE))
        wait_for(lambda: waiters_of(lock, 4) > n, "it waits")
    queue = queue_socket(lock, 4)
    assert queue in open_files(front.pid)
    for successor in waiters[1:3]:
        wait_for(lambda: queue in open_files(successor.pid), "it is a successor")
    assert release(holders[slot]) == 0
    for n, w in enumerate(waiters):
        assert read_line(w.stdout) == b"%d\n" % slot
        assert all(later.poll() is None for later in waiters[n:])
        w.stdin.close()
        assert w.wait(DEADLINE) == 1  # status of "read" at the end of the input


@pytest.mark.static
@pytest.mark.parametrize("limit", [10, 16, 32])
def test_a_front_with_few_descriptors_does_not_spin(hold, start, me_only, lock, limit):
    all_slots(hold, lock, 4)
    front = start("prlimit", f"--nofile={limit}:{limit}", ME_ONLY, "-w", "inf", "-j4", lock, "true")
    wait_for(lambda: waiters_of(lock, 4) == 1, "it waits")
    before = processor_time(front.pid)
    # The measured time is this one's waiting.
    assert me_only("-w", "2s", "-j4", lock, "true").wait(DEADLINE) == 4
    assert processor_time(front.pid) - before < 0.1


# ---- nested ----

CLOSING = [program("caller"), "-C", "3"]
WAYS = {
    "direct": [],
    "sh": ["sh", "-c", '"$@"; exit $?', "sh"],
    "emptied environment": ["env", "-i"],
    "own session": ["setsid", "--wait"],
}
# With -F only the command has the lock, and may drop it by closing its descriptors.
CLOSING_WAYS = {"closed descriptors": CLOSING, "both": ["env", "-i", *CLOSING]}
# The command prefix that changes its user; some close the descriptors, and with CLOSING after them
# all do.
ROOTS_WAYS = {
    "sudo as nobody": ["sudo", "-n", "-u", "nobody"],
    "setpriv": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
}
NESTED = [(form, words) for form in ((), ("-F",), ("-o",)) for words in WAYS.values()] + \
         [(form, words) for form in ((), ("-o",)) for words in CLOSING_WAYS.values()]
NESTED_IDS = [f"{way}{''.join(form)}" for form in ((), ("-F",), ("-o",)) for way in WAYS] + \
             [f"{way}{''.join(form)}" for form in ((), ("-o",)) for way in CLOSING_WAYS]
nested = pytest.mark.parametrize("form, way", NESTED, ids=NESTED_IDS)


def assert_told_so(r, lock):
    assert (r.returncode, r.stdout) == (4, b""), r
    assert re.fullmatch(
        rf"me-only: {lock}: this job already holds it: all 3 slots are in use, slot \d held by "
        rf"[^\n]*\n", r.stderr.decode())


@nested
@pytest.mark.parametrize("ask", [(), ("-w", "inf"), ("-w", "inf", "-o")],
                         ids=["now", "waiting", "waiting, close"])
def test_a_job_in_any_slot_that_asks_for_one_more_is_told_so(hold, run, lock, form, way, ask):
    """If all are in use, it would also wait for itself."""
    for _ in range(2):
        hold(lock, "-j3")
    assert_told_so(run(*form, "-j3", lock, *way, ME_ONLY, *ask, "-j3", lock, "echo", "ran"), lock)
    assert slots_in_use(lock, 3) == [0, 1]


@pytest.mark.root
@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
@pytest.mark.parametrize("way", ROOTS_WAYS.values(), ids=ROOTS_WAYS.keys())
@pytest.mark.parametrize("closing", [[], CLOSING], ids=["", "closed descriptors"])
def test_so_is_one_by_way_of_another_user(hold, run, lock, public_me_only, form, way, closing):
    for _ in range(2):
        hold(lock, "-j3")
    closing = closing and [shutil.copy(closing[0], os.path.dirname(public_me_only)), *closing[1:]]
    assert_told_so(run(*form, "-j3", lock, *way, *closing, public_me_only, "-w", "inf", "-j3", lock,
                       "echo", "ran"), lock)
    assert run(*form, "-j3", lock, *way, *closing, public_me_only, "--held", lock).returncode == 0


@forms
def test_a_job_may_have_another_slot_that_is_free(run, lock, form):
    r = run(*form, "-j2", lock, ME_ONLY, "-j2", lock, "sh", "-c", "echo $ME_ONLY_SLOT")
    assert (r.returncode, r.stdout) == (0, b"1\n")
    assert nothing_is_left(lock, 2)


def test_a_job_that_holds_another_slot_waits_for_what_it_does_not_hold(hold, me_only, lock):
    """A job in slot 1 can wait for slot 0: another process holds it."""
    first = hold(lock, "-j2")
    p = me_only("-j2", lock, ME_ONLY, "-w", "inf", lock, "echo", "ran")
    wait_for(lambda: waiters_of(lock, 1), "it waits")
    assert release(first) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"ran\n"


@nested
@pytest.mark.parametrize("others", [0, 2])
def test_held_in_any_slot(hold, run, lock, form, way, others):
    for _ in range(others):
        hold(lock, "-j3")
    r = run(*form, "-j3", lock, *way, ME_ONLY, "--held", lock)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b"")


def test_not_held_by_us(hold, run, lock):
    all_slots(hold, lock, 3)
    assert run("--held", lock).returncode == 1
    assert run("-j4", lock + "/other", ME_ONLY, "--held", lock).returncode == 1


def test_held_in_the_highest_slot_there_can_be(start, lock):
    """All others may be free."""
    script = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(bytes.fromhex(sys.argv[1]))
s.listen()
s.set_inheritable(True)
os.execv(sys.argv[2], sys.argv[2:])
"""
    p = start(sys.executable, "-ISc", script, slot_address(lock, MOST - 1).hex(), ME_ONLY,
              "--held", lock)
    assert p.wait(DEADLINE) == 0
    p = start(sys.executable, "-ISc", script, slot_address(lock, MOST).hex(), ME_ONLY,
              "--held", lock)
    assert p.wait(DEADLINE) == 1


# ---- --replace ----


def test_which_of_several_holders_to_replace_is_not_guessed(hold, run, lock):
    holder = hold(lock, "-j2")
    r = run("--replace", "-j2", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")
    assert r.stderr.decode() == \
        ("me-only: --replace and -j do not go together: which of the holders would be meant?; try "
         "'me-only --help'\n")
    assert holder.poll() is None


def test_the_holder_of_the_only_slot_is_replaced(hold, run, lock):
    first, second = hold(lock, "-j2"), hold(lock, "-j2")
    r = run("--replace", "-j1", lock, "sh", "-c", "echo $ME_ONLY_SLOT")
    assert (r.returncode, r.stdout) == (0, b"0\n")
    assert first.wait(DEADLINE) == -signal.SIGTERM
    assert second.poll() is None


# ---- other users ----


def theirs(start, for_everybody, *argv, **kw):
    """Start me-only as the user daemon."""
    return start(os.path.join(for_everybody, os.path.basename(ME_ONLY)), *argv, **by("daemon"),
                 **kw)


@pytest.mark.root
@pytest.mark.parametrize("options", [(), ("-q",), ("--complain-after=1h",), ("-q", "-w", "0.2")],
                         ids=lambda o: " ".join(o) or "now")
@pytest.mark.parametrize("slot", [0, 1])
def test_a_stranger_in_any_slot_is_named(start, hold, run, lock, for_everybody, options, slot):
    """Before all others, however young."""
    if slot == 1:
        hold(lock, "-j2")
    stranger = theirs(start, for_everybody, "-j2", lock, "sh", "-c", "echo $$; exec sleep 1000")
    job = int(read_line(stranger.stdout))
    if slot == 0:
        hold(lock, "-j2")
    said = refusal(run, *options, "-j2", lock)
    assert (f"all 2 slots are in use, slot {slot} held by pid {job} (daemon, neither this user nor "
            f"root) for ") in said
    assert said.count("\n") == 1


@pytest.mark.root
@pytest.mark.parametrize("way", ["mute", "unheard", "full", "garbage"])
def test_a_queue_for_slots_that_a_stranger_made_up(start, hold, me_only, lock, way):
    holders = all_slots(hold, lock, 2)
    s = start(sys.executable, "-ISc", STRANGER, queue_of_slots(lock, 2).hex(), way, "",
              stdin=subprocess.PIPE, **by("daemon"))
    assert read_line(s.stdout).startswith(b"ready")
    waiters = [me_only("-w", "inf", "-j2", lock, "sh", "-c", "echo $ME_ONLY_SLOT")
               for _ in range(2)]
    assert me_only("-w", "0.4", "-j2", lock, "true").wait(DEADLINE) == 4
    assert all(w.poll() is None for w in waiters)
    assert release(holders[1]) == 0
    assert [w.communicate(timeout=DEADLINE)[0] for w in waiters] == [b"1\n"] * 2
    assert s.poll() is None


@pytest.mark.root
def test_two_users_who_wait_for_the_same_slots_both_get_them(start, hold, lock, for_everybody):
    holders = all_slots(hold, lock, 2)
    env = dict(os.environ, SLOTS="2")
    scratch = os.path.join(for_everybody, "scratch")
    words = ["-w", "inf", "-j2", lock, os.path.join(for_everybody, os.path.basename(WITNESS)),
             scratch, "2"]
    with open(scratch, "wb") as f:
        os.fchmod(f.fileno(), 0o666)
    waiters = []
    for _ in range(8):
        waiters += [start(ME_ONLY, *words, env=env), theirs(start, for_everybody, *words, env=env)]
    wait_for(lambda: is_listed(queue_of_slots(lock, 2))
             and is_listed(address(lock, b"\0queue\0%d\x002" % DAEMON)), "both wait")
    for h in holders:
        assert release(h) == 0
    assert [w.wait(DEADLINE) for w in waiters] == [0] * 16
    with open(scratch, "rb") as f:
        assert f.read() == b""
    assert nothing_is_left(lock, 2)
