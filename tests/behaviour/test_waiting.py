"""
Waiting: first come, first served, whatever happens to the waiters; at no cost; ended by time or by
a signal.
"""
import ctypes
import fcntl
import hashlib
import os
import random
import re
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from conftest import (DEADLINE, ME_ONLY, PROGRAMS, address, children_of, is_bound, is_listed,
                      name_of, process_state, processor_time, sleeps, queue_of, read_line, release,
                      sockets_named, wait_for, waiters_of)

WITNESS = os.path.join(PROGRAMS, "witness")
# A sanitized program takes some more megabytes and milliseconds for each.
DYNAMIC = bool(os.environ.get("ME_ONLY_DYNAMIC"))
MANY = 300 if DYNAMIC else 500
FORMS = [[], ["-F"], ["-o"]]
CLONE_NEWNET = 0x40000000


def open_files(pid):
    """The link targets of PID's descriptors."""
    directory = f"/proc/{pid}/fd/".encode()
    found = []
    for number in os.listdir(directory):
        try:
            found.append(os.readlink(directory + number))
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def queue_socket(lock):
    """
    The socket that the front and its successors have, as a link in /proc shows it; None if no
    process waits.
    """
    shown = b" " + queue_of(lock).replace(b"\0", b"@") + b"\n"
    with open("/proc/net/unix", "rb") as f:
        sockets = [line.split() for line in f if line.endswith(shown)]
    listening = [s[6] for s in sockets if int(s[3], 16) & 0x10000]
    return b"socket:[%s]" % listening[0] if listening else None


class Crowd:
    """
    Waiters in a known order. Each job writes its number to one pipe, and fails if it does not run
    alone.
    """

    def __init__(self, lock, scratch):
        self.lock = lock
        self.scratch = str(scratch)
        self.reader, self.writer = os.pipe()
        # Smaller than the kernel makes it for a user who has many: no process may wait for room.
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(self.reader, False)
        self.waiters = []
        self.queue = None
        self.got = b""

    def join(self, count, wait="inf", options=(), stays=False):
        """
        Start more of them; each has its position before the next one starts. One that stays runs
        until let_go().
        """
        for _ in range(count):
            number = len(self.waiters)
            argv = [ME_ONLY, *options, "-w", wait, self.lock, WITNESS, self.scratch, "-" if stays
                    else "0", str(number)]
            self.waiters.append(subprocess.Popen(argv, stdin=subprocess.PIPE if stays
                                                 else subprocess.DEVNULL,
                                                 stdout=self.writer))
            wait_for(lambda: waiters_of(self.lock) > number, f"waiter {number} has its place")

    def let_go(self, number):
        self.waiters[number].stdin.close()

    def end(self, number, how=signal.SIGKILL):
        self.waiters[number].send_signal(how)
        return self.waiters[number].wait(DEADLINE)

    def stop(self, *numbers):
        for n in numbers:
            self.waiters[n].send_signal(signal.SIGSTOP)
        for n in numbers:
            wait_for(lambda: process_state(self.waiters[n].pid) == "T", f"waiter {n} is stopped")

    def resume(self, *numbers):
        for n in numbers:
            self.waiters[n].send_signal(signal.SIGCONT)

    def take_in(self):
        """Make room in the pipe."""
        try:
            while True:
                self.got += os.read(self.reader, 65536)
        except BlockingIOError:
            pass

    def read(self):
        """The numbers that have been written so far."""
        self.take_in()
        return [int(n) for n in self.got.split(b"\n")[:-1]]

    def wait_for_second(self, number):
        """Wait until this one is the second: then it has a copy of the queue's socket."""
        # It is the same socket unless the line has been lost.
        self.queue = self.queue or queue_socket(self.lock)
        wait_for(lambda: self.queue in open_files(self.waiters[number].pid),
                 f"waiter {number} is the second")

    def wait_for(self, count):
        """The numbers, once there are COUNT of them."""
        wait_for(lambda: len(self.read()) >= count, f"{count} waiters have run")
        return self.read()

    def status(self, number):
        """How a waiter ended, once it has."""
        def ended():
            self.take_in()
            return self.waiters[number].poll() is not None
        wait_for(ended, f"waiter {number} has ended")
        return self.waiters[number].returncode

    def statuses(self, numbers=None):
        return {self.status(n) for n in (range(len(self.waiters)) if numbers is None else numbers)}

    def close(self):
        for w in self.waiters:
            if w.poll() is None:
                w.kill()
        for w in self.waiters:
            w.wait()
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def crowd(lock, tmp_path, start):  # start: it ends the jobs that outlive their waiters
    c = Crowd(lock, tmp_path / "witness")
    yield c
    c.close()


@pytest.fixture
def small_backlog(start):  # start: what it ends is ended before
    """The maximum number of connections in a backlog, in the test's own network namespace."""
    libc, size = ctypes.CDLL(None, use_errno=True), 8
    with open("/proc/thread-self/ns/net", "rb") as before:
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        with open("/proc/sys/net/core/somaxconn", "w", encoding="ascii") as f:
            f.write(str(size))
        yield size
        assert libc.setns(before.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def nothing_is_left(lock):
    return not is_bound(address(lock)) and not is_bound(queue_of(lock))


# ---- the order ----


def test_many_waiters_pass_in_the_order_in_which_they_came(hold, lock, crowd):
    holder = hold(lock)
    for n in range(MANY):
        crowd.join(1, options=FORMS[n % 3])
    assert crowd.read() == []
    release(holder)
    assert crowd.statuses() == {0}
    assert crowd.read() == list(range(MANY))
    assert nothing_is_left(lock)


def test_the_order_holds_when_a_third_of_many_waiters_is_lost(hold, lock, crowd):
    """
    Of nine, one is killed in line, one when it is the front, one is stopped and one runs out of
    time.
    """
    holder = hold(lock)
    killed, killed_in_front, stopped, timed_out = (set(range(n, MANY - 1, 9)) for n in (4, 5, 7, 8))
    for n in range(MANY):
        crowd.join(1, options=FORMS[n % 3], wait="500ms" if n in timed_out else "inf",
                   stays=n + 2 in killed_in_front)
    crowd.stop(*stopped)
    for n in killed:
        crowd.end(n)
    assert crowd.statuses(timed_out) == {4}
    release(holder)
    for n in sorted(killed_in_front):
        wait_for(lambda: n - 2 in crowd.read(), f"{n - 2} runs, {n} is the front")
        crowd.wait_for_second(n + 1)
        if n + 4 < MANY:
            crowd.wait_for_second(n + 4)  # the third: those in between are stopped or gone
        crowd.end(n)
        crowd.let_go(n - 2)
    left = [n for n in range(MANY) if n not in killed | killed_in_front | stopped | timed_out]
    assert crowd.statuses(left) == {0}
    assert crowd.read() == left
    crowd.resume(*stopped)
    assert crowd.statuses(stopped) == {0}
    assert sorted(crowd.read()[len(left):]) == sorted(stopped)
    assert nothing_is_left(lock)


def test_the_front_is_killed_again_and_again(hold, lock, crowd):
    holder = hold(lock)
    crowd.join(40)
    for n in range(20):
        crowd.wait_for_second(n + 1)
        # The third has it as well: the front has finished appointing. A waiter that is being
        # appointed would lose its position.
        crowd.wait_for_second(n + 2)
        crowd.end(n)
    release(holder)
    assert crowd.statuses(range(20, 40)) == {0}
    assert crowd.read() == list(range(20, 40))


def test_the_front_is_killed_while_the_next_one_is_far_behind(hold, lock, crowd):
    """The successor that the front had chosen has gone as well, so it chooses again."""
    holder = hold(lock)
    crowd.join(40)
    for n in range(1, 19):
        crowd.end(n)
    crowd.wait_for_second(19)
    crowd.end(0)
    release(holder)
    assert crowd.statuses(range(19, 40)) == {0}
    assert crowd.read() == list(range(19, 40))


def test_a_front_that_is_killed_at_any_moment_takes_nobodys_place(hold, lock, crowd):
    """
    The line moves as fast as it can: each victim has just become the front, or is about to, or runs
    already.
    """
    holder = hold(lock)
    count = 150 if DYNAMIC else 1000
    for n in range(count):
        crowd.join(1, options=FORMS[n % 3])
    release(holder)
    victims = set(range(5, count, 9))
    struck = set()
    while len(struck | set(crowd.read())) < count:
        if not select.select([crowd.reader], [], [], DEADLINE)[0]:
            lost = {n: crowd.waiters[n].poll() for n in set(range(count)) - struck
                    - set(crowd.read())}
            pytest.fail(f"these have not run, but have a status of {lost}")
        near = max(crowd.read(), default=0) + 3
        for n in [n for n in victims - struck if n <= near]:
            crowd.waiters[n].kill()
            struck.add(n)
    ran = crowd.read()
    assert struck and set(ran) >= set(range(count)) - struck
    assert ran == sorted(ran)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
@pytest.mark.parametrize("count", [2, 3], ids=["two", "three"])
def test_nobody_is_lost_when_those_next_in_line_go_at_once(hold, lock, crowd, by, count):
    holder = hold(lock)
    crowd.join(24)
    for n in range(0, 12, count):
        # While stopped, none of them can react to the others.
        gone = range(n, n + count)
        crowd.stop(*gone)
        for each in gone:
            crowd.waiters[each].send_signal(by)
        crowd.resume(*gone)
        assert crowd.statuses(gone) == {-by}
    release(holder)
    assert crowd.statuses(range(12, 24)) == {0}
    assert sorted(crowd.read()) == list(range(12, 24))
    assert nothing_is_left(lock)


def test_the_front_runs_out_of_time_and_the_next_one_follows(hold, lock, crowd):
    holder = hold(lock)
    crowd.join(1, wait="2s")
    crowd.join(1, wait="10m")
    crowd.join(3)
    assert crowd.waiters[0].wait(DEADLINE) == 4
    release(holder)
    assert crowd.statuses(range(1, 5)) == {0}
    assert crowd.read() == [1, 2, 3, 4]


@pytest.mark.parametrize("who", [(0,), (1,), (0, 1), (1, 2, 4)], ids=str)
def test_a_stopped_waiter_holds_nobody_up_for_long(hold, lock, crowd, who):
    holder = hold(lock)
    crowd.join(6)
    crowd.stop(*who)
    release(holder)
    others = [n for n in range(6) if n not in who]
    assert sorted(crowd.wait_for(len(others))) == others
    assert crowd.statuses(others) == {0}
    assert not is_bound(address(lock))
    crowd.resume(*who)
    assert crowd.statuses(who) == {0}
    assert nothing_is_left(lock)


@pytest.mark.parametrize("count", [1, 2], ids=["front", "front and second"])
def test_the_order_holds_when_a_front_that_was_passed_over_goes_on(hold, lock, crowd, count):
    """
    As with Ctrl-Z and fg: it has lost its turn, joins again as the last, and does not appoint
    successors beside the waiter that passed it.
    """
    holder = hold(lock)
    crowd.join(count)
    crowd.join(1, stays=True)
    crowd.join(5)
    for n in (1, 2):
        crowd.wait_for_second(n)
    queue = queue_socket(lock)
    crowd.stop(*range(count))
    release(holder)
    wait_for(lambda: crowd.read() == [count], "the stopped ones were passed over")
    for n in reversed(range(count)):
        crowd.resume(n)
        wait_for(lambda: queue not in open_files(crowd.waiters[n].pid),
                 f"waiter {n} has left its place")
    crowd.let_go(count)
    assert crowd.statuses() == {0}
    assert [n for n in crowd.read() if n >= count] == list(range(count, count + 6))
    assert nothing_is_left(lock)


@pytest.mark.parametrize("first", [(0, 2), (0, 1)], ids=["front and third", "front and second"])
def test_the_line_keeps_a_leader_though_more_and_more_of_it_are_stopped(hold, lock, crowd, first):
    """
    The last of the first three that still moves leads the line, before it can be stopped as well.
    """
    holder = hold(lock)
    crowd.join(8)
    for n in (1, 2):
        crowd.wait_for_second(n)
    left = ({0, 1, 2} - set(first)).pop()
    crowd.stop(*first)
    for n in (3, 4):
        crowd.wait_for_second(n)  # the last that moves leads the line, and has appointed them
    crowd.stop(left)
    release(holder)
    assert crowd.wait_for(5) == [3, 4, 5, 6, 7]
    crowd.resume(0, 1, 2)
    assert crowd.statuses() == {0}
    assert nothing_is_left(lock)


@pytest.mark.parametrize("count", [1, 2], ids=["front", "front and second"])
def test_the_order_holds_while_a_front_stays_stopped(hold, lock, crowd, count):
    holder = hold(lock)
    crowd.join(count + 8)
    for n in (1, 2):
        crowd.wait_for_second(n)
    crowd.stop(*range(count))
    release(holder)
    assert crowd.wait_for(8) == list(range(count, count + 8))
    crowd.resume(*range(count))
    assert crowd.statuses() == {0}
    assert nothing_is_left(lock)


def test_a_waiter_that_was_stopped_for_a_while_still_gets_its_turn(hold, lock, crowd):
    holder = hold(lock)
    crowd.join(4)
    crowd.stop(0, 1, 2, 3)
    crowd.resume(0, 1, 2, 3)
    release(holder)
    assert crowd.statuses() == {0}
    assert sorted(crowd.read()) == [0, 1, 2, 3]


def test_newcomers_do_not_overtake_waiters(hold, lock, crowd):
    """An attempt without -w may meet a free instant, a waiter must not."""
    holder = hold(lock)
    crowd.join(30)
    release(holder)
    crowd.wait_for(1)
    late = len(crowd.waiters)
    for _ in range(10):
        argv = [ME_ONLY, "-w", "inf", lock, WITNESS, crowd.scratch, "0", str(len(crowd.waiters))]
        crowd.waiters.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=crowd.writer))
    assert crowd.statuses() == {0}
    ran = crowd.read()
    assert sorted(ran) == list(range(40))
    assert [n for n in ran if n < late] == list(range(late))


def fill_with_the_gone(name):
    """Fills the backlog with connections of those that have given up."""
    for _ in range(1 << 20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as s:
            try:
                s.connect(name)
            except BlockingIOError:
                return
    pytest.fail("the queue has no end")


def join_full_queue(crowd, count):
    """In the queue they are not visible, but they sleep: anywhere else they have no reason to."""
    for _ in range(count):
        argv = [ME_ONLY, "-q", "-w", "inf", crowd.lock, WITNESS, crowd.scratch, "0",
                str(len(crowd.waiters))]
        crowd.waiters.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=crowd.writer))
        pid = crowd.waiters[-1].pid
        wait_for(lambda: name_of(pid) == "me-only" and process_state(pid) == "S", "it sleeps")


def test_nobody_overtakes_where_those_who_gave_up_fill_the_queue(hold, lock, crowd, run):
    """
    The successors live, and take nothing out of the queue: a newcomer waits for a position, and not
    for the lock alone.
    """
    holder = hold(lock)
    crowd.join(3)
    for n in (1, 2):
        crowd.wait_for_second(n)
    fill_with_the_gone(queue_of(lock))
    join_full_queue(crowd, 6)
    # nor does any of them give up the queue meanwhile
    assert run("-q", "-w", "2s", lock, "true").returncode == 4
    crowd.stop(0, 1, 2)  # one that waits alone, for the lock's name, does not check them
    release(holder)
    crowd.resume(0, 1, 2)
    assert crowd.statuses() == {0}
    assert crowd.read()[:3] == [0, 1, 2] and sorted(crowd.read()) == list(range(9))
    assert nothing_is_left(lock)


def test_waiter_outside_the_queue_times_out_and_ends_by_a_signal(hold, lock, crowd, run, me_only):
    holder = hold(lock)
    crowd.join(3)
    for n in (1, 2):
        crowd.wait_for_second(n)
    fill_with_the_gone(queue_of(lock))
    assert run("-q", "-w", "100ms", lock, "true").returncode == 4
    join_full_queue(crowd, 1)
    assert crowd.end(3, signal.SIGTERM) == -signal.SIGTERM
    release(holder)
    assert crowd.statuses(range(3)) == {0}
    assert crowd.read() == [0, 1, 2]


def test_waiter_outside_the_queue_gets_the_lock_if_the_line_does_not_move(hold, lock, crowd):
    holder = hold(lock)
    crowd.join(3)
    for n in (1, 2):
        crowd.wait_for_second(n)
    fill_with_the_gone(queue_of(lock))
    join_full_queue(crowd, 2)
    crowd.stop(0, 1, 2)
    release(holder)
    assert sorted(crowd.wait_for(2)) == [3, 4]
    crowd.resume(0, 1, 2)
    assert crowd.statuses() == {0}
    assert nothing_is_left(lock)


def test_a_holder_that_nobody_can_connect_to_is_followed_when_it_ends(hold, lock, crowd):
    """
    With -F nobody accepts those who were refused, so their connections fill the backlog, and no
    hang-up can be waited for.
    """
    holder = hold(lock, "-F")
    fill_with_the_gone(address(lock))
    crowd.join(2)
    wait_for(lambda: b"anon_inode:[pidfd]" in open_files(crowd.waiters[0].pid),
             "the front waits for the end of the holder's process")
    release(holder)
    assert crowd.statuses() == {0}
    assert crowd.read() == [0, 1]
    assert nothing_is_left(lock)


@pytest.mark.root
def test_those_in_line_come_first_where_more_wait_than_the_queue_has_room_for(
        hold, lock, crowd, small_backlog):
    holder = hold(lock)
    crowd.join(3)
    for n in (1, 2):
        crowd.wait_for_second(n)
    crowd.join(small_backlog + 1)
    in_line = len(crowd.waiters)
    join_full_queue(crowd, 30)
    release(holder)
    assert crowd.statuses() == {0}
    assert crowd.read()[:in_line] == list(range(in_line))
    assert sorted(crowd.read()) == list(range(in_line + 30))
    assert nothing_is_left(lock)


def test_the_queue_is_gone_when_the_last_waiter_has_the_lock(hold, me_only, lock):
    holder = hold(lock)
    p = me_only("-w", "inf", lock, "sh", "-c", "echo up; exec cat", stdin=subprocess.PIPE)
    wait_for(lambda: waiters_of(lock) == 1, "it waits")
    release(holder)
    assert read_line(p.stdout) == b"up\n"
    # It starts its command first, and then leaves the queue.
    wait_for(lambda: not is_listed(queue_of(lock)), "the queue is gone")
    assert is_listed(address(lock))
    p.stdin.close()
    assert p.wait(DEADLINE) == 0


def test_a_job_does_not_see_that_it_waited(hold, me_only, lock, run):
    """The job has neither the queue nor a connection of it, whatever became of the waiter."""
    look = ("sh", "-c", "ls -l /proc/$$/fd | grep -c socket")
    for options in FORMS:
        plain = run(*options, lock, *look).stdout
        holder = hold(lock)
        waiters = []
        for n in range(3):
            waiters.append(me_only(*options, "-w", "inf", lock, *look))
            wait_for(lambda: waiters_of(lock) > n, "it waits")
        release(holder)
        assert [w.communicate(timeout=DEADLINE)[0] for w in waiters] == [plain] * 3


@pytest.mark.parametrize("options", FORMS, ids=lambda o: " ".join(o) or "default")
def test_the_line_is_not_kept_by_a_command_that_is_being_executed(
        hold, start, me_only, lock, tmp_path, options):
    """
    Exec closes the remaining descriptors at its end, when the front has left the line: a newcomer
    in between would join a line without a leader.
    """
    program = shutil.copy(WITNESS, tmp_path / "command")
    holder = hold(lock)
    waiters = []
    for argv in ([*options, "-w", "inf", lock, program, tmp_path / "witness", "0"],
                 *[["-w", "inf", lock, "true"]] * 2):
        waiters.append(me_only(*argv))
        wait_for(lambda: waiters_of(lock) == len(waiters), "it waits")
    queue = queue_socket(lock)
    wait_for(lambda: all(queue in open_files(w.pid) for w in waiters), "all have the queue")
    # A process that opens the program has to wait until its lease is given back. The kernel sends a
    # signal, which ends the lease's owner.
    owner = start("sleep", "inf")
    with open(program, "r+b", buffering=0) as f:
        fcntl.fcntl(f, fcntl.F_SETOWN, owner.pid)
        fcntl.fcntl(f, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        holder.stdin.close()
        assert owner.wait(DEADLINE) == -signal.SIGIO
        me, *children = [pid for pid in [waiters[0].pid, *children_of(waiters[0].pid)]
                         if name_of(pid) == "me-only"]
        command = children[0] if children else me
        assert len(sockets_of(command)) == 1, "it has the lock alone"
    assert [w.wait(DEADLINE) for w in waiters] == [0] * 3


def test_a_name_too_long_for_an_address_has_a_line_too(hold, me_only, lock):
    """Names that differ only after the end of the address do not wait for each other."""
    name, other = (lock + "/long" * 1000 + end for end in ("1", "2"))
    queue = \
        (f"\0me-only#{name[:44]}#{hashlib.sha256(name.encode()).hexdigest()[:32]}"
         f"\0queue\0{os.geteuid()}").encode()

    def waiting():
        return sockets_named(queue)

    holder, hold_other = hold(name), hold(other)
    waiters = []
    for n in range(5):
        waiters.append(me_only("-w", "inf", name, "echo", "mine"))
        wait_for(lambda: waiting() > n, "it waits")
    release(holder)
    assert [p.communicate(timeout=DEADLINE)[0] for p in waiters] == [b"mine\n"] * 5
    assert hold_other.poll() is None


# ---- behind all kinds of holders ----


def gets_it_when(me_only, lock, free, options=("-w", "inf")):
    """
    A waiter waits, does not get the lock, and gets it once free() has been called; returns the
    waiter.
    """
    p = me_only(*options, lock, "echo", "mine")
    wait_for(lambda: waiters_of(lock), "it waits")
    wait_for(lambda: process_state(p.pid) == "S", "it sleeps")
    assert p.poll() is None
    free()
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert p.returncode == 0
    return p


@pytest.mark.parametrize("theirs", FORMS, ids=lambda o: " ".join(o) or "default")
@pytest.mark.parametrize("ours", FORMS, ids=lambda o: " ".join(o) or "default")
def test_behind_each_form(hold, me_only, lock, theirs, ours):
    holder = hold(lock, *theirs)
    gets_it_when(me_only, lock, lambda: release(holder), ["-w", "inf", *ours])


@pytest.mark.parametrize("options", [[], ["-o"]], ids=["default", "-o"])
def test_behind_a_wrapper_that_was_killed_before(hold, me_only, lock, options):
    holder = hold(lock, *options)
    holder.kill()
    holder.wait()
    gets_it_when(me_only, lock, holder.stdin.close)


@pytest.mark.parametrize("options", [[], ["-o"]], ids=["default", "-o"])
def test_behind_a_wrapper_that_is_killed_meanwhile(hold, me_only, lock, options):
    """
    The front's connection hangs up although the name stays bound: it keeps waiting, and does not
    spin.
    """
    holder = hold(lock, *options)
    p = me_only("-w", "inf", lock, "echo", "mine")
    wait_for(lambda: waiters_of(lock), "it waits")
    holder.kill()
    holder.wait()
    before = processor_time(p.pid)
    # The measured time is this one's waiting.
    assert me_only("-w", "2s", lock, "true").wait(DEADLINE) == 4
    assert processor_time(p.pid) - before < 0.05
    holder.stdin.close()
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert p.returncode == 0


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_behind_a_child_that_inherited_the_lock(me_only, lock, when):
    """The command ends, and what it left running keeps the lock."""
    end_of_child, opener = os.pipe()
    holder = me_only(lock, "bash", "-c", "cat <&$0 >/dev/null & echo up; read line; :",
                     str(end_of_child),
                     stdin=subprocess.PIPE, pass_fds=[end_of_child])
    os.close(end_of_child)
    assert read_line(holder.stdout) == b"up\n"

    def end_command():
        holder.stdin.close()
        assert holder.wait(DEADLINE) == 0

    def free():
        if when == "meanwhile":
            end_command()
        os.close(opener)

    if when == "before":
        end_command()
    gets_it_when(me_only, lock, free)


STRANGER = """import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(bytes.fromhex(sys.argv[1]))
if int(sys.argv[2]):
    s.listen()
print("bound", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("listens", [True, False], ids=["listening", "not listening"])
def test_behind_a_socket_of_a_stranger(me_only, start, lock, listens):
    stranger = start(sys.executable, "-c", STRANGER, address(lock).hex(), str(int(listens)),
                     stdin=subprocess.PIPE)
    assert read_line(stranger.stdout) == b"bound\n"
    gets_it_when(me_only, lock, stranger.stdin.close)


def test_behind_a_stopped_me_only(hold, me_only, lock):
    holder = hold(lock)
    os.kill(holder.pid, signal.SIGSTOP)
    wait_for(lambda: process_state(holder.pid) == "T", "the holder is stopped")

    def free():
        holder.stdin.close()
        wait_for(lambda: process_state(holder.job) in ("Z", None), "the job has ended")
        os.kill(holder.pid, signal.SIGCONT)

    gets_it_when(me_only, lock, free)


# ---- how long ----


@pytest.mark.parametrize("duration, shown, seconds", [
    ("0.3", "300ms", 0.3), ("300ms", "300ms", 0.3), ("0.3s", "300ms", 0.3),
    ("0.005m", "300ms", 0.3), (".3", "300ms", 0.3),
    ("1", "1.0s", 1), ("1.0s", "1.0s", 1)])
def test_a_time_limit(hold, run, lock, duration, shown, seconds):
    holder = hold(lock)
    began = time.monotonic()
    p = run("-w", duration, lock, "true")
    assert time.monotonic() - began >= seconds
    assert p.returncode == 4
    assert p.stderr.decode().startswith(
        f"me-only: {lock}: gave up after {shown}: held by pid {holder.job} (")
    assert p.stderr.count(b"\n") == 1


@pytest.mark.parametrize("form", [["-w0.2"], ["--wait=0.2"], ["--wait", "0.2"], ["-qw", "0.2"],
                                  ["-Fw0.2"],
                                  ["-ow", "200ms"]], ids=" ".join)
def test_the_ways_to_write_it(hold, run, lock, form):
    hold(lock)
    assert run(*form, lock, "true").returncode == 4


def test_no_time_at_all_is_a_try(hold, run, lock):
    assert run("-w", "0", lock, "echo", "ran").stdout == b"ran\n"
    hold(lock)
    assert run("-w", "0", lock, "true").returncode == 4


@pytest.mark.parametrize("duration", ["1m", "inf", "1.5h", "30d", "100000d"])
def test_a_long_wait_ends_with_the_lock(hold, me_only, lock, duration):
    """30 days are more milliseconds than an int has."""
    holder = hold(lock)
    p = gets_it_when(me_only, lock, lambda: release(holder), ["-w", duration])
    assert p.returncode == 0


@pytest.mark.parametrize("duration", ["", "x", "-1", "1x", "1 s", " 1", "1s ", "s", ".", "1..2",
                                      "nan", "Infinity", "+inf", "1h30",
                                      "-inf", "1,5", "0x10", "1sm", "1\n", "\u0661"])
def test_what_is_no_duration_is_wrong_usage(run, lock, duration):
    p = run("-w", duration, lock, "echo", "ran")
    assert (p.returncode, p.stdout) == (2, b"")
    assert p.stderr.startswith(b"me-only: ") and p.stderr.endswith(b"; try 'me-only --help'\n")


def test_the_argument_is_never_taken_for_the_lock(hold, run, lock):
    """As with flock: a wait of ten seconds for LOCK, not a lock called 10."""
    p = run("-w", "10", lock, "sh", "-c", "cat /proc/net/unix")
    assert p.returncode == 0
    shown = b" " + address(lock).replace(b"\0", b"@") + b"\n"
    assert shown in p.stdout
    assert b" @me-only:10\n" not in p.stdout
    assert run("-w", lock, "true").returncode == 2


def test_a_conflict_status_of_ones_own_after_waiting(hold, run, lock):
    hold(lock)
    assert run("-E", "75", "-w", "0.1", lock, "true").returncode == 75
    assert run("--exit-base=90", "-w", "0.1", lock, "true").returncode == 94


def test_a_free_lock_is_not_waited_for(run, lock):
    p = run("-w", "inf", "-v", lock, "echo", "ran")
    assert p.stdout == b"ran\n"
    assert b"waiting" not in p.stderr


# ---- interrupted ----

DEADLY = [getattr(signal, "SIG" + n) for n in
          # A sanitizer handles the signals of faults itself.
          ("HUP INT QUIT TRAP USR1 USR2 PIPE ALRM TERM XCPU XFSZ VTALRM PROF IO PWR SYS".split()
           + ([] if DYNAMIC else "ILL ABRT BUS FPE SEGV".split()))]
HARMLESS = [signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH]


@pytest.mark.parametrize("place", [0, 1, 2, 3], ids=["front", "second", "third", "behind"])
def test_each_signal_that_ends_a_process_ends_a_waiter_at_once(
        hold, me_only, start, lock, place, tmp_path):
    holder = hold(lock)
    ahead = []
    for n in range(place):
        ahead.append(me_only("-w", "inf", lock, "true"))
        wait_for(lambda: waiters_of(lock) > n, "it waits")
    for number in DEADLY + [34, 40, signal.SIGRTMAX]:
        before = waiters_of(lock)
        p = start("prlimit", "--core=0", ME_ONLY, "-w", "inf", lock, "echo", "ran", cwd=tmp_path)
        if place < 3:
            wait_for(lambda: queue_socket(lock) in open_files(p.pid),
                     "it waits as one of the first three")
        else:
            wait_for(lambda: waiters_of(lock) > before,
                     "it waits behind them, as those before it did")
        for harmless in HARMLESS:
            os.kill(p.pid, harmless)
        os.kill(p.pid, number)
        assert p.wait(DEADLINE) == -number
        assert p.stdout.read() == b""
    release(holder)
    assert [p.wait(DEADLINE) for p in ahead] == [0] * place


def test_harmless_signals_do_not_end_a_waiter(hold, me_only, lock):
    holder = hold(lock)

    def free():
        release(holder)

    p = me_only("-w", "inf", lock, "echo", "mine")
    wait_for(lambda: waiters_of(lock), "it waits")
    for _ in range(50):
        for number in HARMLESS:
            os.kill(p.pid, number)
    assert p.poll() is None
    free()
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"


def test_what_the_caller_ignores_does_not_end_a_waiter(start, hold, lock):
    holder = hold(lock)
    p = start("sh", "-c", "trap '' INT HUP TERM; exec \"$@\"", "sh", ME_ONLY, "-w", "inf", lock,
              "echo", "mine")
    wait_for(lambda: waiters_of(lock), "it waits")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        os.kill(p.pid, number)
    release(holder)
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n"
    assert p.returncode == 0


def test_a_signal_in_the_hand_over_never_leaves_the_lock_taken(hold, me_only, lock, run):
    """It ends the waiter or the job, and both end the waiter by the signal."""
    for _ in range(60):
        holder = hold(lock)
        p = me_only("-w", "inf", lock, "sleep", "1000")
        wait_for(lambda: waiters_of(lock), "it waits")
        release(holder)
        moment = time.monotonic() + random.random() * 0.002
        while time.monotonic() < moment:
            pass
        p.terminate()
        assert p.wait(DEADLINE) == -signal.SIGTERM
        assert not is_listed(address(lock)) and not is_listed(queue_of(lock))


def test_an_interrupt_at_the_terminal_ends_a_waiter(bash, hold, lock):
    hold(lock)
    bash.enter(f"{ME_ONLY} -w inf {lock} echo ran")
    bash.wait_for("waiting for pid")
    bash.type("\x03")
    bash.wait_for("ready> ")
    bash.enter("echo status $?")
    bash.wait_for("status 130")


def test_a_waiter_is_stopped_at_the_terminal_and_comes_back(bash, hold, lock):
    holder = hold(lock)
    bash.enter(f"{ME_ONLY} -w inf {lock} echo ran")
    bash.wait_for("waiting for pid")
    pid = children_of(bash.process.pid)[0]
    bash.type("\x1a")
    bash.wait_for("Stopped[^$]*ready> ")
    assert process_state(pid) == "T"
    bash.enter("fg")
    wait_for(lambda: process_state(pid) == "S", "it waits again")
    release(holder)
    bash.wait_for("[\n\r]ran")
    bash.wait_for("ready> ")


# ---- the cost ----


def test_two_hundred_waiters_take_no_processor_time(hold, me_only, lock, crowd):
    """They wake up as often as they must, and not for long; one moment counts for little."""
    holder = hold(lock)
    crowd.join(200)
    pids = [holder.pid] + [w.pid for w in crowd.waiters]
    before = [(processor_time(p), sleeps(p)) for p in pids]
    # The measured time is this one's waiting, behind all others.
    begun = time.monotonic()
    assert me_only("-w", "4s", lock, "true").wait(DEADLINE) == 4
    used = [processor_time(p) - b for p, (b, _) in zip(pids, before)]
    woken = [sleeps(p) - b for p, (_, b) in zip(pids, before)]
    seconds = time.monotonic() - begun
    assert woken[0] <= 4 * 200, "the holder, which each of them asks once"
    assert max(woken[1:4]) <= 4 + 2 * seconds, "the front and its successors"
    # Memory that must be read from disk again also makes one sleep.
    assert sorted(woken[4:])[-10] <= 3 + seconds / 4, "those that wait"
    assert sum(used) < (1 if DYNAMIC else 0.25), "none is busy"
    assert sorted(used)[len(used) // 2] < (0.005 if DYNAMIC else 0.0005)
    release(holder)
    assert crowd.statuses() == {0}


# ---- messages ----

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "


def waiting_line(lock, holder, time=""):
    """
    The job of hold() is a shell that becomes cat. On a busy machine the holder may answer too late:
    then its age is shown.
    """
    return (rf"me-only: {time}{lock}: waiting for pid {holder.job} \([^)]+\), "
            rf"(at most )?\d\S*: (cat|sh [^\n]*)")


def shown(t):
    """The terminal's line with the cursor, from the output since the last look."""
    return t.screen.decode().split("\n")[-1].rstrip("\r").split("\r")[-1].rstrip(" ")


def test_on_a_terminal_one_line_says_for_whom_and_goes_away(terminal, hold, lock):
    holder = hold(lock)
    t = terminal(ME_ONLY, "-w", "inf", lock, "echo", "ran")
    t.resize(24, 200)
    t.wait_for(waiting_line(lock, holder))
    # It is updated in place, without a new line.
    t.wait_for("\r *\r" + waiting_line(lock, holder))
    assert b"\n" not in t.screen
    release(holder)
    t.wait_for("\r *\rran\r\n")
    assert t.process.wait(DEADLINE) == 0


def test_the_line_on_a_terminal_follows_the_holder(terminal, hold, lock, me_only):
    holder = hold(lock)
    next_one = me_only("-w", "inf", lock, "sh", "-c", "echo $$; exec cat >/dev/null",
                       stdin=subprocess.PIPE)
    wait_for(lambda: waiters_of(lock), "it waits")
    t = terminal(ME_ONLY, "-w", "inf", lock, "echo", "ran")
    t.resize(24, 200)
    t.wait_for(waiting_line(lock, holder))
    release(holder)
    next_one.job = int(next_one.stdout.readline())
    t.wait_for("\r *\r" + waiting_line(lock, next_one))
    release(next_one)
    t.wait_for("\rran\r\n")


@pytest.mark.parametrize("columns", [20, 40, 79])
def test_the_line_on_a_terminal_fits_into_it(terminal, hold, lock, columns):
    lock += "\u4e2d\u6587" * 30
    holder = hold(lock)
    t = terminal("stty", "cols", str(columns))
    t.process.wait(DEADLINE)
    t = terminal("sh", "-c", 'stty cols $1; exec "$0" -w inf "$2" echo ran', ME_ONLY, str(columns),
                 lock)
    t.wait_for("me-only: ")
    t.wait_for("\rme-only: [^\r]*\r")
    release(holder)
    seen = t.wait_for("(?:[^\r]*\r)+ran\r\n")[0].decode()
    for text in seen.split("\r"):
        assert sum(2 if c >= "\u1100" else 1 for c in text) < columns
    assert columns < 40 or "..." in seen


def test_the_line_on_a_terminal_is_taken_away_before_the_last_message(terminal, hold, lock):
    hold(lock)
    t = terminal(ME_ONLY, "-w", "1.5", lock, "echo", "ran")
    t.resize(24, 200)
    t.wait_for("waiting for pid")
    t.wait_for(f"\r *\rme-only: {lock}: gave up after 1.5s: held by pid")
    assert t.process.wait(DEADLINE) == 4


@pytest.mark.parametrize("option", ["-q", "--complain-after=1h"])
def test_nothing_on_the_terminal_if_nothing_is_to_be_said(terminal, hold, lock, option):
    holder = hold(lock)
    t = terminal(ME_ONLY, option, "-w", "inf", lock, "echo", "ran")
    wait_for(lambda: waiters_of(lock), "it waits")
    release(holder)
    t.wait_for("^ran\r\n")


def test_waiter_with_a_full_standard_error_holds_up_no_other(hold, me_only, lock, full_pipe):
    holder = hold(lock)
    front = me_only("-w", "inf", lock, "true", stderr=full_pipe)
    wait_for(lambda: waiters_of(lock) == 1, "the first waits")
    second = me_only("-w", "inf", lock, "true")
    # It is reported after a second. The front had to report it before.
    assert re.fullmatch(waiting_line(lock, holder) + "\n", read_line(second.stderr).decode())
    release(holder)
    assert (front.wait(DEADLINE), second.wait(DEADLINE)) == (0, 0)


def test_in_the_background_it_does_not_write_over_what_is_typed(bash, hold, me_only, lock):
    holder = hold(lock)
    bash.enter(f"{ME_ONLY} -w inf {lock} echo ran &")
    bash.wait_for("ready> ")
    elsewhere = me_only("-w", "inf", lock, "true")
    read_line(elsewhere.stderr)     # a second has passed
    bash.enter("echo type'd'")
    assert "waiting" not in bash.wait_for("(?s).*typed\r\n")[0].decode()
    bash.enter("fg")
    bash.wait_for("waiting for pid")
    release(holder)
    bash.wait_for("[\r\n]ran\r\n")


def test_elsewhere_a_long_wait_is_one_plain_line(hold, me_only, lock):
    holder = hold(lock)
    p = me_only("-w", "inf", lock, "true")
    assert re.fullmatch(waiting_line(lock, holder) + "\n", read_line(p.stderr).decode())
    release(holder)
    assert (p.wait(DEADLINE), p.stderr.read()) == (0, b"")


def test_with_complain_after_the_line_comes_when_the_holder_is_old_enough(hold, me_only, lock):
    holder = hold(lock)
    p = me_only("--complain-after=2s", "-w", "inf", lock, "true")
    line = read_line(p.stderr).decode()
    assert re.fullmatch(waiting_line(lock, holder) + "\n", line)
    assert re.search(r", ([2-9]\.\d|\d\d+)s", line)
    release(holder)
    assert (p.wait(DEADLINE), p.stderr.read()) == (0, b"")


def test_verbose_says_for_whom_it_waits_and_when_it_has_the_lock(hold, me_only, lock):
    holder = hold(lock)
    p = me_only("-v", "-w", "inf", lock, "sh", "-c", "echo job >&2")
    first = read_line(p.stderr).decode()
    assert re.fullmatch(waiting_line(lock, holder, TIME), first.rstrip("\n"))
    release(holder)
    rest = p.communicate(timeout=DEADLINE)[1].decode().splitlines()
    assert p.returncode == 0
    before, after = rest[:rest.index("job")], rest[rest.index("job") + 1:]
    assert any(f"{lock}: got the lock after " in line for line in before)
    assert all(line.startswith("me-only: ") for line in before + after)


def test_the_one_behind_waits_for_the_holder_too(hold, me_only, lock, crowd):
    holder = hold(lock)
    crowd.join(2)
    p = me_only("-v", "-w", "inf", lock, "true")
    assert re.fullmatch(waiting_line(lock, holder, TIME), read_line(p.stderr).decode().rstrip("\n"))


def test_verbose_names_at_once_whom_a_command_has_left_behind(run, lock):
    """
    No holder can be asked. Without a terminal this is found out later: before the end of this wait
    there is no line.
    """
    left = int(run(lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!").stdout)
    lines = run("-v", "-w", "0.5", lock, "true").stderr.decode().splitlines()
    assert re.fullmatch(
        rf"me-only: {TIME}{lock}: waiting for pid {left} .*, left running by a command that has "
        rf"ended: .*", lines[0])
    assert f": gave up after 500ms: held by pid {left} " in lines[1]


def test_quiet_says_nothing_when_it_gives_up(hold, run, lock):
    hold(lock)
    p = run("-q", "-w", "0.1", lock, "true")
    assert (p.returncode, p.stderr) == (4, b"")


@pytest.mark.static
@pytest.mark.parametrize("limit", [5, 6, 7])
def test_a_front_without_descriptors_for_successors_does_not_spin(hold, me_only, lock, limit):
    holder = hold(lock)
    front = me_only("-w", "inf", lock, "true",
                    preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    wait_for(lambda: waiters_of(lock) >= 1, "the front waits")
    second = me_only("-w", "inf", lock, "true")
    wait_for(lambda: waiters_of(lock) >= 2, "the second waits")
    before = processor_time(front.pid)
    assert me_only("-w", "1s", lock, "true").wait(DEADLINE) == 4
    assert processor_time(front.pid) - before < 0.1
    assert release(holder) == 0
    assert second.wait(DEADLINE) == 0
    front.wait(DEADLINE)


@pytest.mark.static  # strace sees no loader there
def test_the_growing_pause_begins_with_the_shortest(run, call, lock, tmp_path):
    """
    For a name that refuses connections, the consecutive attempts that find out whether it is only
    being taken count as one.
    """
    trace = tmp_path / "trace"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.bind(address(lock))
        r = call("strace", "-q", "-e", "trace=poll,ppoll,connect", "-o", trace, ME_ONLY, "-q", "-w",
                 "100ms", lock, "true")
    assert r.returncode == 4, r.stderr
    calls = trace.read_text().splitlines()
    first = next(i for i, line in enumerate(calls) if "poll(" in line
                 and re.search(r"\b[1-9]\d*\) += 0 \(Timeout\)", line))
    rounds = sum("ECONNREFUSED" in line for line in calls[:first]) // 4
    assert rounds, "it has tried in a row"
    assert int(re.search(r"(\d+)\) +=", calls[first])[1]) <= 2 ** rounds, calls[first]


@pytest.mark.parametrize("who", [1, 2], ids=["second", "third"])
def test_a_successor_that_runs_out_of_time_leaves_the_others_in_order(hold, lock, crowd, who):
    holder = hold(lock)
    for n in range(6):
        crowd.join(1, wait="3s" if n == who else "inf")
    assert crowd.waiters[who].wait(DEADLINE) == 4
    release(holder)
    left = [n for n in range(6) if n != who]
    assert crowd.statuses(left) == {0}
    assert crowd.read() == left


def sockets_of(pid):
    """What /proc/PID/fd shows for the sockets that PID has open."""
    links = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
    return {link for link in links if link.startswith("socket:")}


def test_the_third_does_not_wait_for_a_second_that_is_stopped(hold, lock, crowd):
    """The front replaces a stopped second, and the third is told: the line does not stand still."""
    holder = hold(lock)
    crowd.join(5)
    front, fourth = crowd.waiters[0].pid, crowd.waiters[3].pid
    crowd.stop(1)
    # All successors have the front's queue socket; the fourth becomes one in the place of the
    # second.
    wait_for(lambda: sockets_of(front) & sockets_of(fourth), "the second was replaced")
    release(holder)
    left = [0, 2, 3, 4]
    assert crowd.statuses(left) == {0}
    assert crowd.read() == left
    crowd.resume(1)
    assert crowd.statuses([1]) == {0}
