"""What holds for every lock, whatever it is made of: one suite for all engines and shapes.

A shape defines how a lock is named, held and asked for, and what it does not promise. What concerns
one engine alone has a file of its own.
"""
import dataclasses
import os
import re
import shutil
import signal
import sys
import tempfile
import time

import pytest

from conftest import (COPIED_MEMORY, DEADLINE, HAND_DOWN, ME_ONLY, NO_KEEPER, NO_PROOF,
                      NO_SOCKET_TABLE, REAL_TIME_SIGNALS, children_of, forms, has_children,
                      name_of, process_state, program, read_line, release, user, wait_for,
                      waiters_of)

# What a shape may not promise.
# -s: they start together
ORDER = "waiters start in the order in which they came"
# file: the order is the kernel's
ORDER_AFTER_KILLS = "the others keep their order when some are killed"
# file: no holder can be asked, it is the age of the process
EXACT_TIME = "the time is that of the lock"
REPLACEMENT = "the holder can be replaced"                                     # -j: which of them?

OF_FILES = frozenset({ORDER_AFTER_KILLS, EXACT_TIME})


@dataclasses.dataclass(frozen=True)
class Shape:
    engine: str = "host"
    holds: tuple = ()  # options of the holder
    asks: tuple = ()  # options of all others
    slots: int = 1
    # the other slot is taken "before" or "after" the holder has taken its own
    filled: str = ""
    queue: int = 0  # the number of waiters: all give --queue
    unpromised: frozenset = frozenset()


SHAPES = {
    "host": Shape(),
    "host -j1": Shape(holds=("-j1",), asks=("-j1",)),
    "host -j1, asked for plainly": Shape(holds=("-j1",)),
    "host -j2": Shape(holds=("-j2",), asks=("-j2",), slots=2, filled="after",
                      unpromised=frozenset({REPLACEMENT})),
    "host -j2, second slot": Shape(holds=("-j2",), asks=("-j2",), slots=2, filled="before",
                                   unpromised=frozenset({REPLACEMENT})),
    "host --queue": Shape(queue=3),
    "file": Shape("file", unpromised=OF_FILES),
    "file, asked for -s": Shape("file", asks=("-s",), unpromised=OF_FILES | {ORDER}),
    "file, held -s": Shape("file", holds=("-s",), unpromised=OF_FILES),
    "file --queue": Shape("file", queue=3, unpromised=OF_FILES),
}

# A job that prints its PID and ends with its standard input; and one that first closes what it has
# inherited.
JOB = ("sh", "-c", "echo $$; exec cat >/dev/null")
CLOSING_JOB = (program("caller"), "-C", "3", *JOB)
LEAVE_A_CHILD = ("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")

forking = pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
inheriting = pytest.mark.parametrize("form", [(), ("-F",)], ids=["default", "no-fork"])


class Contract:
    """A lock of one shape, and what can be done with it."""

    def __init__(self, shape, name, run, me_only):
        self.shape, self.name, self.run, self.me_only = shape, name, run, me_only
        self.filler = None

    def promises(self, what):
        return what not in self.shape.unpromised

    def queue(self, duration):
        return ("-w", duration, f"--queue={self.shape.queue}") if self.shape.queue else ()

    # --- holding it ---

    def to_hold(self, form=()):
        return (*self.shape.holds, *self.queue("inf"), *form, self.name)

    def fill(self, when):
        """Take the other slot, if there is one and this is the moment."""
        if self.shape.filled == when and not self.filler:
            self.filler = self.me_only("-j2", self.name, *JOB, stdin=-1)
            self.filler.job = int(read_line(self.filler.stdout))

    def begin(self, form, *command, **kw):
        """Start a holder whose command first prints a PID: .job."""
        self.fill("before")
        p = self.me_only(*self.to_hold(form), *command, stdin=-1, **kw)
        line = read_line(p.stdout)
        assert line, p.stderr.read()
        p.job = int(line.split()[-1])
        self.fill("after")
        # A holder that could have waited starts its command first, and then leaves the line.
        wait_for(lambda: not self.waiting(), "the line is empty")
        return p

    def hold(self, *form):
        p = self.begin(form, *JOB)
        wait_for(lambda: name_of(p.job) == "cat", "the job is what it will be")
        return p

    def run_job(self, form, *command, **kw):
        """Hold it for as long as the command runs."""
        self.fill("before")
        r = self.run(*self.to_hold(form), *command, **kw)
        self.fill("after")
        return r

    # --- asking for it ---

    def to_ask(self):
        return (*self.shape.asks, *self.queue("0.1"))

    def to_wait(self, duration):
        return (*self.shape.asks, *(self.queue(duration) or ("-w", duration)))

    def ask(self, *options, command=("echo", "ran")):
        return self.run(*self.to_ask(), *options, self.name, *command)

    def refusal(self, *options):
        """Ask for it while it is held: the message."""
        r = self.ask(*options)
        assert (r.returncode, r.stdout) == (4, b""), r
        return r.stderr.decode()

    def is_free(self):
        """Asks by taking the lock for an instant; no other process may be about to do so."""
        return self.run("-q", *self.shape.asks, self.name, "true").returncode == 0

    def wait(self, duration, *options, command=("echo", "mine"), **kw):
        return self.me_only(*self.to_wait(duration), *options, self.name, *command, **kw)

    def waiting(self):
        """How many processes wait for it."""
        if self.shape.engine == "file":
            path = self.name.removeprefix("file:")
            return os.path.exists(path) and waiters_of_file(path)
        return waiters_of(self.name, self.shape.slots)

    def waiter(self, *args, **kw):
        """A waiter."""
        before = self.waiting()
        p = self.wait(*args, **kw)
        wait_for(lambda: self.waiting() > before, "it waits")
        wait_for(lambda: process_state(p.pid) == "S", "it sleeps")
        return p

    # --- messages ---

    def held_by(self, pid, command, *, gave_up=None, time=None):
        """The message of a refused caller, as a pattern; with two holders either may be named."""
        beginning = "me-only: " + re.escape(self.name) + ": "
        gave_up = gave_up or ("100ms" if self.shape.queue else None)
        if gave_up:
            beginning += f"gave up after {gave_up}: "
        if self.shape.slots > 1:
            beginning += r"all 2 slots are in use, slot [01] "
        if self.filler:
            pid, time = f"({pid}|{self.filler.job})", r"(at most )?\d\S*"
        time = time or (r"\d\S*" if self.promises(EXACT_TIME) else r"at most \d\S*")
        return beginning + rf"held by pid {pid} \({re.escape(user())}\) for {time}: {command}\n"

    def assert_held_by(self, pid, command, **kw):
        message = self.refusal()
        assert re.fullmatch(self.held_by(pid, command, **kw), message), message

    def assert_names(self, pid, *options):
        """Or the other one, if there are two."""
        message = self.refusal(*options)
        assert any(f"held by pid {p} (" in message for p in ([pid, self.filler.job] if self.filler
                                                             else [pid])), message


def waiters_of_file(path):
    """
    The kernel's table has a line with an arrow for each, or two if others have changed the table
    meanwhile.
    """
    end = b":%d 0 EOF" % os.stat(path).st_ino
    with open("/proc/locks", "rb") as f:
        return len({line.split()[5] for line in f if b" -> FLOCK " in line
                    and line.rstrip().endswith(end)})


@pytest.fixture(params=SHAPES.values(), ids=SHAPES.keys())
def shape(request):
    return request.param


@pytest.fixture
def c(shape, lock, tmp_path, run, me_only):
    """The lock of this test."""
    if shape.engine == "file":
        # No other user can open it: otherwise --held denies a job of -F (test_file_proof.py).
        os.close(os.open(tmp_path / "the lock", os.O_CREAT, 0o600))
    return Contract(shape, f"file:{tmp_path}/the lock" if shape.engine == "file" else lock,
                    run, me_only)


def kill_wrapper(p):
    os.kill(p.pid, signal.SIGKILL)
    assert p.wait(DEADLINE) == -signal.SIGKILL


def keeper_of(wrapper):
    """The keeper that the me-only process has started; waits until there is one."""
    return wait_for(lambda: next((p for p in children_of(wrapper)
                                  if name_of(p) == "me-only keeper"), None), "a keeper")


def has_ended(pid):
    return process_state(pid) in ("Z", None)


def become_free(c):
    wait_for(c.is_free, "the lock is free")


# ---- statuses ----

@forms
def test_the_commands_status_passes_through(c, form):
    assert [c.run_job(form, "sh", "-c", f"exit {n}").returncode
            for n in (0, 1, 4, 77, 255)] == [0, 1, 4, 77, 255]


@pytest.mark.native(REAL_TIME_SIGNALS)
@forms
def test_the_signal_that_ended_the_command_ends_us(c, form):
    for n in (signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, 34):
        assert c.run_job(form, program("die"), str(n)).returncode == -n
        assert c.is_free()


@pytest.mark.native(COPIED_MEMORY, form=())
@forms
def test_a_command_that_cannot_be_found_leaves_the_lock_free(c, form):
    r = c.run_job(form, "me-only-no-such-command")
    assert (r.returncode, r.stdout) == (1, b"")
    assert r.stderr == b"me-only: me-only-no-such-command: not found\n"
    assert c.is_free()


@forms
def test_the_lock_is_free_when_the_command_has_ended(c, form):
    holder = c.hold(*form)
    assert release(holder) == 0
    assert c.is_free()


# ---- refused ----

@forms
def test_refusal_names_the_holder(c, form):
    holder = c.hold(*form)
    # With -F nobody can report for how long.
    c.assert_held_by(holder.job, "cat", time=r"at most \d\S*" if form == ("-F",) else None)
    assert release(holder) == 0


def test_the_form_of_the_refused_one_does_not_matter(c):
    holder = c.hold()
    for form in ("-F", "-o"):
        c.assert_names(holder.job, form)


def test_the_status_of_a_refusal_can_be_chosen(c):
    c.hold()
    for options, status in ((("-E", "75"), 75), (("-E", "0"), 0), (("--exit-base=90",), 94),
                            (("--exit-base=90", "-E", "7"), 7)):
        r = c.ask(*options)
        assert (r.returncode, r.stdout) == (status, b"") and b" held by pid " in r.stderr, r


def test_quiet_says_nothing(c):
    c.hold()
    assert c.refusal("-q") == ""
    assert c.refusal("--complain-after=1h") == ""


def test_a_holder_older_than_complain_after_is_named(c):
    holder = c.hold()
    assert "held by pid " in c.refusal("--complain-after=0")
    assert release(holder) == 0


# ---- survival ----

@forking
def test_killing_me_only_leaves_the_lock_with_the_job(c, form):
    p = c.begin(form, *JOB)
    kill_wrapper(p)
    assert not c.is_free()
    c.assert_names(p.job)
    p.stdin.close()
    become_free(c)


@forking
def test_a_job_that_closes_every_descriptor_keeps_the_lock(c, form):
    p = c.begin(form, *CLOSING_JOB)
    c.assert_names(p.job)
    assert release(p) == 0
    assert c.is_free()


@pytest.mark.native(NO_KEEPER)
@forking
def test_killing_me_only_of_such_a_job_leaves_the_lock_with_the_keeper(c, form):
    p = c.begin(form, *CLOSING_JOB)
    keeper = keeper_of(p.pid)
    kill_wrapper(p)
    assert not c.is_free()
    c.assert_names(p.job)
    p.stdin.close()
    become_free(c)
    wait_for(lambda: has_ended(keeper), "the keeper ends with the job")


@pytest.mark.native(NO_KEEPER)
@forking
def test_killing_both_at_once_frees_the_lock(c, form):
    """The keeper lets go once the job has ended."""
    p = c.begin(form, *JOB)
    keeper = keeper_of(p.pid)
    os.kill(p.pid, signal.SIGKILL)
    os.kill(p.job, signal.SIGKILL)
    assert p.wait(DEADLINE) == -signal.SIGKILL
    become_free(c)
    wait_for(lambda: has_ended(keeper), "the keeper has ended")


@forms
def test_killing_the_job_frees_the_lock_at_once(c, form):
    p = c.begin(form, *JOB)
    os.kill(p.job, signal.SIGKILL)
    assert p.wait(DEADLINE) == -signal.SIGKILL
    assert c.is_free()


@pytest.mark.native(NO_SOCKET_TABLE)
@inheriting
def test_a_child_in_the_background_keeps_the_lock_and_is_named(c, form):
    r = c.run_job(form, *LEAVE_A_CHILD)
    child = int(r.stdout)
    assert r.returncode == 0
    wait_for(lambda: name_of(child) == "sleep", "the child is what it will be")
    message = c.refusal()
    if not (c.filler and f" {c.filler.job} " in message):
        assert re.search(
            rf"held by pid {child} \({re.escape(user())}\), left running by a command that has "
            rf"ended, for at most \d\S*: "
            r"sleep 1000 \(with -o the lock ends with the command\)\n$", message), message
    os.kill(child, signal.SIGKILL)
    become_free(c)


@pytest.mark.native(NO_KEEPER)
def test_with_o_the_lock_ends_with_the_command(c):
    r = c.run_job(("-o",), *LEAVE_A_CHILD)
    assert r.returncode == 0
    assert c.is_free()
    assert not has_ended(int(r.stdout))


def test_with_F_the_command_is_all_there_is(c):
    p = c.begin(("-F",), *JOB)
    assert p.job == p.pid
    assert children_of(p.pid) == []
    assert not c.is_free()
    assert release(p) == 0
    assert c.is_free()
    if c.filler:
        assert release(c.filler) == 0
    assert not has_children()


# ---- waiting ----

@forms
def test_waiter_gets_the_lock_after_the_holder(c, form):
    holder = c.hold()
    p = c.waiter("inf", *form)
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE) == (b"mine\n", b"") and p.returncode == 0
    assert c.is_free()


def test_a_free_lock_is_not_waited_for(c):
    p = c.wait("inf", "-v")
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (0, b"mine\n")
    assert b"waiting" not in err and re.search(rb": got the lock(, slot 0,|) after ", err)


def test_waiter_gives_up_at_its_limit(c):
    holder = c.hold()
    began = time.monotonic()
    p = c.wait("0.3")
    out, err = p.communicate(timeout=DEADLINE)
    assert time.monotonic() - began >= 0.3
    assert (p.returncode, out) == (4, b"")
    assert re.fullmatch(c.held_by(holder.job, "cat", gave_up="300ms"), err.decode()), err
    assert not c.waiting()
    assert release(holder) == 0
    assert c.is_free()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL,
                                    signal.SIGRTMAX])
def test_a_signal_ends_a_waiter_at_once(c, number):
    holder = c.hold()
    p = c.waiter("inf")
    p.send_signal(number)
    assert p.communicate(timeout=DEADLINE) == (b"", b"") and p.returncode == -number
    wait_for(lambda: not c.waiting(), "nobody waits any more")
    assert release(holder) == 0
    assert c.is_free()


def test_a_signal_that_ends_nobody_does_not_end_a_waiter(c):
    holder = c.hold()
    p = c.waiter("inf")
    for number in (signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH):
        p.send_signal(number)
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


def test_what_the_caller_ignores_does_not_end_a_waiter(c, start):
    holder = c.hold()
    p = start("sh", "-c", "trap '' INT HUP TERM; exec \"$@\"", "sh", ME_ONLY, *c.to_wait("inf"),
              c.name, "echo", "mine")
    wait_for(c.waiting, "it waits")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        p.send_signal(number)
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


def test_a_waiter_that_was_stopped_for_a_while_gets_its_turn(c):
    holder = c.hold()
    p = c.waiter("inf")
    p.send_signal(signal.SIGSTOP)
    wait_for(lambda: process_state(p.pid) == "T", "it is stopped")
    p.send_signal(signal.SIGCONT)
    wait_for(lambda: process_state(p.pid) == "S", "it sleeps")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


def test_behind_a_command_without_a_me_only(c):
    holder = c.hold("-F")
    p = c.waiter("inf")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


@forking
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_behind_a_me_only_that_is_killed(c, form, when):
    holder = c.hold(*form)
    if when == "before":
        kill_wrapper(holder)
    p = c.waiter("inf", "-q")
    if when == "meanwhile":
        kill_wrapper(holder)
    # Long enough to run beside the job, if it started.
    assert c.ask("-q", "-E", "9").returncode == 9
    assert p.poll() is None
    holder.stdin.close()
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


@inheriting
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_behind_a_child_that_has_inherited_the_lock(c, form, when):
    holder = c.begin(form, "sh", "-c",
                     "exec 3<&0; sleep 1000 >/dev/null 2>&1 & echo $!; read line <&3")
    child = holder.job
    if when == "before":
        assert release(holder) == 1
    p = c.waiter("inf", "-q")
    if when == "meanwhile":
        assert release(holder) == 1
    assert c.ask("-q", "-E", "9").returncode == 9
    assert p.poll() is None
    os.kill(child, signal.SIGKILL)
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


class Crowd:
    """
    Waiters in a known order. Each job writes its number to one pipe; unless the lock is shared, it
    must run alone.
    """

    def __init__(self, c, scratch):
        self.c = c
        self.reader, self.writer = os.pipe()
        self.waiters = []
        for n in range(c.shape.queue or 20):
            command = (program("witness"), scratch, "0",
                       str(n)) if "-s" not in c.shape.asks else ("echo", str(n))
            # Each has its position before the next one starts.
            self.waiters.append(c.waiter("inf", "-q", command=command, stdout=self.writer))

    def ran(self):
        """The numbers of all, once they have ended."""
        os.close(self.writer)
        with open(self.reader, encoding="ascii") as f:
            return [int(line) for line in f]


def test_first_come_first_served(c, tmp_path):
    holder = c.hold()
    crowd = Crowd(c, tmp_path / "witness")
    assert release(holder) == 0
    assert {p.wait(DEADLINE) for p in crowd.waiters} == {0}
    ran = crowd.ran()
    assert (ran if c.promises(ORDER) else sorted(ran)) == list(range(len(crowd.waiters)))
    assert c.is_free()


def test_when_some_waiters_are_killed_the_others_have_their_turns(c, tmp_path):
    """Each runs alone, and none is lost."""
    holder = c.hold()
    crowd = Crowd(c, tmp_path / "witness")
    killed = [n for n in range(len(crowd.waiters)) if n % 5 == 1]
    for n in killed:
        crowd.waiters[n].kill()
        crowd.waiters[n].wait(DEADLINE)
    left = [n for n in range(len(crowd.waiters)) if n not in killed]
    assert release(holder) == 0
    assert {crowd.waiters[n].wait(DEADLINE) for n in left} == {0}
    ran = crowd.ran()
    assert (ran if c.promises(ORDER) and c.promises(ORDER_AFTER_KILLS) else sorted(ran)) == left
    assert c.is_free()


def time_of_all_threads(pid):
    """Seconds for which PID has had a processor."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def test_waiting_takes_no_processor_time(c):
    holder = c.hold()
    waiters = [c.waiter("inf", "-q") for _ in range(2)]
    pids = [holder.pid, *(p.pid for p in waiters)]
    before = [time_of_all_threads(p) for p in pids]
    # The measured time is this one's waiting.
    assert c.wait("1", "-q").wait(DEADLINE) == 4
    slow = 10 if os.environ.get("ME_ONLY_DYNAMIC") else 1
    assert max(time_of_all_threads(p) - b for p, b in zip(pids, before)) < 0.02 * slow
    assert release(holder) == 0
    assert [p.wait(DEADLINE) for p in waiters] == [0, 0]


def test_a_long_wait_says_for_whom(c):
    """After a second, in one line."""
    holder = c.hold()
    began = time.monotonic()
    p = c.waiter("inf")
    line = read_line(p.stderr).decode()
    assert time.monotonic() - began >= 1
    assert line.startswith(f"me-only: {c.name}: waiting for pid ")
    assert re.search(r"pid \d+ \([^)]+\), (at most )?\d[^ \n]*: cat\n$", line), line
    assert any(f"pid {p.job} " in line for p in (holder, c.filler) if p)
    assert release(holder) == 0
    assert (p.wait(DEADLINE), p.stdout.read(), p.stderr.read()) == (0, b"mine\n", b"")


# ---- a job that asks for its own lock ----

WAYS = {
    "direct": ('exec "$@"',),
    "through a shell": ('sh -c \'"$@"; exit $?\' sh "$@"; exit $?',),
    "emptied environment": ('exec env -i "$@"',),
    "own session": ('exec setsid --wait "$@"',),
}


@pytest.fixture
def ask_inside(c, start):
    """
    ask_inside(FORM, WAY, ARGUMENT...) runs me-only from a job under the lock and returns (status,
    stdout, stderr).
    """

    def ask_inside_(form, way, *argv):
        p = c.begin(form, "sh", "-c", f"echo $$; read line; {WAYS[way][0]}", "sh", ME_ONLY, *argv)
        out, err = p.communicate(b"\n", timeout=DEADLINE)
        return p.returncode, out, err.decode()

    return ask_inside_


@forms
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("waits", [False, True], ids=["now", "waiting"])
def test_a_job_that_asks_for_its_own_lock_is_told_so_at_once(c, ask_inside, form, way, waits):
    """However long it would wait, and whatever status it would return."""
    status, out, err = ask_inside(form, way, "-E", "9",
                                  *(c.to_wait("inf") if waits else c.to_ask()), c.name,
                                  "echo", "ran")
    assert (status, out) == (4, b""), err
    assert re.fullmatch("me-only: " + re.escape(c.name)
                        + r": this job already holds it: [^\n]*held by pid \d+ [^\n]*\n", err), err
    assert c.is_free()


@forms
@pytest.mark.parametrize("way", WAYS)
def test_a_job_is_told_that_it_runs_under_the_lock(c, ask_inside, form, way):
    assert ask_inside(form, way, "--held", c.name) == (0, b"", "")


@forking
@pytest.mark.parametrize("question", ["wait", "held"])
def test_a_job_whose_me_only_was_killed_is_still_told_so(c, start, form, question):
    argv = ("--held", c.name) if question == "held" else (*c.to_wait("20"), c.name, "echo", "ran")
    p = c.begin(form, "sh", "-c", 'echo $$; read line; "$@"; echo $?', "sh", ME_ONLY, *argv)
    kill_wrapper(p)
    p.stdin.write(b"\n")
    p.stdin.close()
    answer = b"4\n" if question == "wait" else b"0\n"
    assert p.stdout.read() == answer
    assert (b": this job already holds it: " in p.stderr.read()) == (question == "wait")


def test_others_are_not_under_the_lock(c):
    assert c.run("--held", c.name).returncode == 1
    holder = c.hold()
    r = c.run("--held", c.name)
    assert (r.returncode, r.stdout, r.stderr) == (1, b"", b"")
    assert release(holder) == 0
    assert c.run("--held", c.name).returncode == 1


def test_the_variable_alone_proves_nothing(c):
    env = {**os.environ, "ME_ONLY_LOCK": c.name}
    assert c.run("--held", c.name, env=env).returncode == 1
    holder = c.hold()
    assert c.run("--held", c.name, env=env).returncode == 1
    r = c.run(*c.to_ask(), c.name, "true", env=env)
    assert r.returncode == 4 and b"already holds" not in r.stderr
    assert release(holder) == 0


# ---- what the job is given ----

@forms
def test_the_environment_is_the_callers_and_the_variables_of_the_lock(c, form):
    env = {**os.environb, b"MINE": b"a\nb", b"ME_ONLY_LOCK": b"another", b"ME_ONLY_SLOT": b"7"}
    found = c.run_job(form, "env", "-0", env=env).stdout.split(b"\0")[:-1]
    ours = [entry for entry in found if entry.startswith(b"ME_ONLY_LOCK=")
            or entry.startswith(b"ME_ONLY_SLOT=")]
    expected = [b"ME_ONLY_LOCK=" + c.name.encode()]
    if any(option.startswith("-j") for option in c.shape.holds):
        expected += [b"ME_ONLY_SLOT=1" if c.shape.filled == "before" else b"ME_ONLY_SLOT=0"]
    assert ours == expected
    others = sorted(b"%s=%s" % (k, v) for k, v in env.items()
                    if k not in (b"ME_ONLY_LOCK", b"ME_ONLY_SLOT"))
    assert sorted(e for e in found if e not in ours) == others


@forms
def test_the_job_has_one_descriptor_more_and_none_with_o(c, call, form):
    look = (sys.executable, "-ISc",
            "import os; print(*[n for n in range(1024) if os.path.exists(f'/proc/self/fd/{n}')])")
    usual = {int(n) for n in call(*look).stdout.split()}
    found = {int(n) for n in c.run_job(form, *look).stdout.split()}
    assert usual <= found
    more = found - usual
    assert len(more) == (0 if form == ("-o",) else 1)
    assert all(n >= 60 for n in more)


@pytest.mark.native(REAL_TIME_SIGNALS)
@forking
def test_a_signal_sent_to_me_only_reaches_the_job_once(c, form):
    p = c.begin(form, program("hears"))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        p.send_signal(number)
        assert read_line(p.stdout) == b"%d\n" % number
    p.send_signal(signal.SIGRTMAX)
    assert p.communicate(timeout=DEADLINE) == (b"", b"") and p.returncode == 0
    assert c.is_free()


# ---- --replace ----

@pytest.mark.native(NO_PROOF)
@forms
def test_replace_ends_the_holder_and_starts_after_it(c, form):
    holder = c.hold(*form)
    r = c.run("--replace", *c.shape.asks, *c.queue("inf"), c.name, "echo", "ran")
    if not c.promises(REPLACEMENT):
        assert (r.returncode, r.stdout) == (2, b"")
        assert b"--replace and -j do not go together" in r.stderr
        assert holder.poll() is None
        return
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r
    assert holder.wait(DEADLINE) == -signal.SIGTERM
    assert c.is_free()


@pytest.mark.native(NO_PROOF)
@forms
def test_replace_uses_force_against_one_that_does_not_end(c, form):
    if not c.promises(REPLACEMENT):
        return
    holder = c.begin(form, "sh", "-c", "trap '' TERM; echo $$; exec sleep 1000")
    r = c.run("--replace", "-k", "0.2", *c.shape.asks, *c.queue("inf"), c.name, "echo", "ran")
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r
    assert holder.wait(DEADLINE) == -signal.SIGKILL


# ---- strangers ----

@pytest.fixture
def for_everybody(c):
    """The program, and the lock if it is a file, in a directory that every user can reach."""
    directory = tempfile.mkdtemp(prefix="me-only-test-")
    os.chmod(directory, 0o777)
    if c.shape.engine == "file":
        c.name = f"file:{directory}/the lock"
    yield shutil.copy(ME_ONLY, directory)
    shutil.rmtree(directory)


DAEMON = {"user": "daemon", "group": "daemon", "extra_groups": [], "cwd": "/"}


@pytest.mark.root
@forms
@pytest.mark.parametrize("options", [(), ("-q",), ("--complain-after=1h",), ("-q", "-w", "0.2")],
                         ids=" ".join)
def test_a_holder_of_another_user_is_always_named(c, start, for_everybody, form, options):
    c.fill("before")
    holder = start(for_everybody, *c.to_hold(form), "sh", "-c", "echo $$; exec sleep 1000",
                   **DAEMON)
    job = int(read_line(holder.stdout))
    c.fill("after")
    message = c.refusal(*options)
    # Of several holders, the stranger is named.
    assert f"held by pid {job} (daemon, neither this user nor root) for " in message
    assert message.count("\n") == 1
    assert c.run("--held", c.name).returncode == 1


@pytest.mark.root
@forms
def test_a_lock_of_root_is_no_strangers(c, start, for_everybody, form):
    holder = c.hold(*form)
    for options, told in ((("-q",), False), ((), True)):
        p = start(for_everybody, *c.to_ask(), *options, c.name, "echo", "ran", **DAEMON)
        out, err = p.communicate(timeout=DEADLINE)
        assert (p.returncode, out) == (4, b""), err
        assert ((b" (root) for " in err) if told else err == b""), err
    assert release(holder) == 0


@pytest.mark.root
@pytest.mark.parametrize("owner, status", [(0, 0), (1, 1)], ids=["root's", "a stranger's"])
def test_a_stranger_cannot_hand_his_lock_down(c, start, for_everybody, owner, status):
    """
    A script that is told that it runs under the lock does run, so only locks of this user and root
    count. For a refusal, all count.
    """
    if c.shape.engine == "file" and owner == 0:
        os.close(os.open(c.name.removeprefix("file:"), os.O_CREAT, 0o600))
    c.fill("before")
    for argv, said in (("--held", c.name), status), ((*c.to_wait("inf"), c.name, "echo", "ran"), 4):
        job = ("sh", "-c", "echo up; read line; exec 9>&-; exec sleep 1000")
        p = start(sys.executable, "-ISc", HAND_DOWN, str(owner), for_everybody, "-F", *c.to_hold(),
                  *job, "--ask", for_everybody, *argv,
                  stdin=-1)
        assert read_line(p.stdout) == b"up\n"
        c.fill("after")
        p.stdin.write(b"\n")
        p.stdin.flush()
        assert read_line(p.stdout) == b"%d\n" % said
        p.kill()
        assert p.wait(DEADLINE) == -signal.SIGKILL
        become_free(c)
