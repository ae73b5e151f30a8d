"""
What the helper tells me-only (src/helper/PROTOCOL.md), and does by itself: here the test is
me-only.
"""
import ctypes
import math
import os
import re
import socket

import pytest

import gateway as g
from fleet import BUILD, DEADLINE, Ticks, boottime, environment, wait_for

HELPER = os.path.join(BUILD, "libexec", "me-only", "etcd")
TTL = 10
# The part of the server's time that is not used.
MARGIN = 1 + TTL / 50
# Others stand back for this long, and half a second is for the end of the command.
ENDED_BY = 2.5


class Helper:
    """
    A helper that was asked to take a lock. .lines: its messages, as (word, {key: value}). PARENT:
    its me-only.
    """

    def __init__(self, start, env, name, *arguments, parent=("sleep", "1000"), timer=None):
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(DEADLINE)
        reader, writer = os.pipe()
        # Processes that have the pipe, and all descendants of its me-only, belong to the command:
        # they are ended with the lock.
        self.parent = start(*parent, pass_fds=[writer])
        fds = [reader] if timer is None else [reader, timer]
        redirections = " ".join(f"{n}<&{fd}" for n, fd in enumerate(fds, 3))
        self.process = start("bash", "-c", f'exec "$@" {redirections}', "bash", HELPER, "1", "take",
                             name, f"pid={self.parent.pid}",
                             "command=c", f"ttl={TTL * 10**9}", "kill-after=2000000000", *arguments,
                             env=environment(env), stdin=control,
                             stdout=control, pass_fds=fds)
        control.close()
        os.close(reader)
        os.close(writer)
        self.lines = []

    def hear(self):
        """The next line, or None: it has ended."""
        word, *rest = (self.control.recv(65536).decode() or "\n").split("\n")
        if not word:
            return None
        self.lines.append((word, dict(line.split(" ", 1) for line in rest)))
        return self.lines[-1]

    def hear_of(self, wanted):
        end = boottime() + DEADLINE
        while boottime() < end and (line := self.hear()):
            if line[0] == wanted:
                return line[1]
        raise AssertionError(f"it has not said {wanted}: {self.lines}")

    def let_go(self):
        """
        The command has ended, and no process has the lock any more. Returns the messages that
        follow, but for those of earlier renewals.
        """
        before = len(self.lines)
        self.parent.kill()
        self.parent.wait(DEADLINE)
        self.control.send(b"done")
        while self.hear():
            pass
        return [(word, said) for word, said in self.lines[before:] if word != "until"]


@pytest.fixture
def take(start, gateway, name):
    """take(ARGUMENT...) starts a helper."""
    made = []

    def take_(*arguments, **kw):
        made.append(Helper(start, {**gateway.env, "ETCDCTL_COMMAND_TIMEOUT": "20s"}, name,
                           *arguments, **kw))
        return made[-1]

    yield take_
    for helper in made:
        helper.control.close()


def seconds(said, key="until"):
    return int(said[key]) / 1e9


def test_a_run(take, gateway, name):
    helper = take()
    held = helper.hear_of("held")
    key, = gateway.keys()
    assert held["token"] == str(gateway.store.revision) and key.startswith(name.encode() + b"/")
    assert helper.let_go() == [("released", {})]
    assert gateway.keys() == []


@pytest.mark.parametrize("path, word", [("lease/grant", "held"), ("lease/keepalive", "until")])
def test_the_time_counts_from_the_question(take, gateway, path, word):
    """
    Not from its answer, and a part of it is not used: for clocks at different rates, and for being
    late.
    """
    asked = []

    def slow(x):
        asked.append(boottime())
        return g.late(0.7)(x)
    gateway.on(path, slow)
    helper = take()
    for _ in range(1 if word == "held" else 3):
        said = helper.hear_of(word)
        heard = boottime()
        last = asked[0] if word == "held" else max(when for when in asked
                                                   if when < (seconds(said, "at") if "at" in said
                                                              else heard))
        assert 0 < seconds(said) <= last + TTL - MARGIN


def test_the_time_counts_from_the_first_question(take, gateway):
    """Its answer is lost; the answer to the second one is that the lease already exists."""
    asked = []
    gateway.on("lease/grant", lambda x: asked.append(boottime())).on(
        "lease/grant", g.once(g.hang_after))
    # A key with that lease would prove that the lease exists. The write is sent twice, since its
    # connection is closed.
    gateway.on("kv/txn", g.times(2, g.drop))
    assert seconds(take().hear_of("held")) <= asked[0] + TTL - MARGIN and len(asked) > 1


@pytest.mark.parametrize("path, word", [("lease/grant", "held"), ("lease/keepalive", "until")])
def test_more_time_than_was_asked_for_is_not_used(take, gateway, path, word):
    gateway.on(path, g.changes(lambda value: value.update(TTL="60")))
    assert seconds(take().hear_of(word)) <= boottime() + TTL - MARGIN


def test_a_time_that_has_passed_is_final(take, gateway):
    """Even if the renewal was requested in time, and its answer is good."""
    until = math.inf

    def read(x):
        if not any(op in x.body.decode() for op in ("request_put", "request_delete_range")):
            while boottime() <= until < math.inf:
                x.wait(0.01)
    gateway.on("lease/keepalive", lambda x: None if boottime() > until - 0.7
               else x.fail(14, "etcdserver: no leader"))
    gateway.on("kv/txn", read)
    helper = take()
    until = seconds(helper.hear_of("held"))
    wait_for(lambda: boottime() > until + 0.5, "the time has passed")
    gateway.off()
    helper.let_go()
    assert all(seconds(said) <= until for word, said in helper.lines if word == "until")


def test_a_lock_that_was_got_late_is_renewed_first(take, gateway):
    """A command that is started has more time than it takes to end it."""
    asked = []
    # The grant and the write go out together: either can be the first to arrive.
    gateway.on("lease/grant", lambda x: asked.append(boottime()))
    gateway.on("kv/txn", lambda x: x.fail(14, "etcdserver: no leader") if not asked
               or boottime() < asked[0] + 7.5 else None)
    helper = take()
    assert seconds(helper.hear_of("held")) - boottime() > 2


def test_a_command_that_is_not_started(take, gateway):
    """me-only is stopped: nothing may wait for that for ever."""
    helper = take()
    helper.hear_of("held")
    assert "not started" in helper.hear_of("lost")["text"]
    wait_for(lambda: gateway.keys() == [], "the lock is free")


@pytest.mark.parametrize("options", [(), ("stubborn", "daemon")], ids=["plain", "stubborn"])
def test_a_command_of_which_nothing_was_said(take, gateway, tmp_path, options):
    """
    me-only can be stopped after it has started the command: that runs. It is ended before the lock
    is released.
    """
    ticks, given_back = Ticks(tmp_path / "ticks"), []
    # A busy machine can take longer than what is left of the lease.
    gateway.store.expire = lambda: None
    gateway.on("lease/revoke", lambda x: given_back.append(ticks.living()))
    helper = take(parent=("sh", "-c", '"$@" & wait; sleep 1000', "sh", *ticks.job(*options)))
    helper.hear_of("held")
    ticks.wait_for("job", *options[1:])
    assert "not started" in helper.hear_of("lost")["text"]
    wait_for(lambda: gateway.keys() == [], "the lock is free")
    assert given_back == [set()]


def test_a_loss_of_which_the_stream_has_not_told(take, gateway):
    """Others may stand back since the last renewal: the time is counted from that."""
    proofs = []
    gateway.store.drop_deletes = -1

    def read(x):
        if gateway.keys() and not any(op in x.body.decode()
                                      for op in ("request_put", "request_delete_range")):
            proofs.append(boottime())
    gateway.on("kv/txn", read)
    helper = take("kill-after=5000000000")
    helper.hear_of("until")
    gateway.delete(gateway.keys()[0])
    assert seconds(helper.hear_of("lost")) <= proofs[-1] + ENDED_BY


# ---- the timer ----

def new_timer():
    """A timer of CLOCK_BOOTTIME, as me-only creates it."""
    fd = ctypes.CDLL(None, use_errno=True).timerfd_create(7, os.O_CLOEXEC)
    assert fd >= 0
    return fd


def time_of(fd):
    """When the timer is due, in seconds of boottime(); None: it is off."""
    with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as f:
        left = [int(n) for n in re.search(r"it_value: \((\d+), (\d+)\)", f.read()).groups()]
    return boottime() + left[0] + left[1] / 1e9 if any(left) else None


def test_the_time_is_on_the_timer_too(take):
    """A message to a stopped me-only is dropped when there is no room for it any more."""
    timer = new_timer()
    helper = take(timer=timer)
    for word in ("held", "until"):
        until = seconds(helper.hear_of(word))
        wait_for(lambda: (time_of(timer) or 0) >= until - 0.1, "the timer is set to that")
    assert helper.let_go() == [("released", {})]
    os.close(timer)


def test_a_lock_that_is_lost_is_not_on_the_timer(take, gateway):
    timer = new_timer()
    helper = take(timer=timer)
    helper.hear_of("held")
    gateway.delete(gateway.keys()[0])
    helper.hear_of("lost")
    assert time_of(timer) is None
    os.close(timer)


def test_waits_count_the_time_for_which_the_machine_sleeps(take):
    """A wait is ended by a timer of CLOCK_BOOTTIME, among the descriptors that are polled."""
    helper = take()
    helper.hear_of("until")
    directory = f"/proc/{helper.process.pid}"

    def polled():
        with open(directory + "/syscall", encoding="ascii") as f:
            words = f.read().split()
        if len(words) < 3 or words[0] in ("-1", "running"):
            return None
        with open(directory + "/mem", "rb") as f:
            f.seek(int(words[1], 16))
            entries = f.read(8 * int(words[2], 16))
        return [int.from_bytes(entries[n:n + 4], "little") for n in range(0, len(entries), 8)]

    def timers():
        for fd in polled() or []:
            with open(f"{directory}/fdinfo/{fd}", encoding="ascii") as f:
                info = f.read()
            # 7: CLOCK_BOOTTIME
            if "clockid: 7" in info and "it_value: (0, 0)" not in info:
                return True
        return False
    wait_for(timers, "it polls such a timer")


def test_a_renewal_moves_the_time(take):
    helper = take()
    until = seconds(helper.hear_of("held"))
    assert seconds(helper.hear_of("until")) > until
    assert helper.let_go() == [("released", {})]


def test_a_key_that_was_gone_when_the_command_ended(take, gateway):
    """It is not reported as released: another may have had the lock."""
    helper = take()
    helper.hear_of("held")
    key, = gateway.keys()
    # Not reported to anyone, and not looked for before the end.
    gateway.store.drop_deletes = -1
    gateway.delete(key)
    said = helper.let_go()
    assert [word for word, _ in said] == ["lost"] and "gone" in said[0][1]["text"]


def test_what_stops_a_renewal_is_not_why_it_failed(take, gateway):
    """The command's end does. The reason of a loss is what etcd did, or did not."""
    helper = take()
    helper.hear_of("held")
    gateway.on("lease/keepalive", g.hang)
    helper.hear_of("trouble")
    gateway.wait_for("lease/keepalive", len(gateway.seen("lease/keepalive")) + 1)
    helper.parent.kill()
    assert "does not answer" in helper.hear_of("trouble")["text"]


TOO_MANY = g.fails(8, "etcdserver: too many requests")
FULL = g.fails(8, "etcdserver: mvcc: database space exceeded")
DENIED = g.fails(7, "etcdserver: permission denied")


def is_releasing(x):
    return "request_delete_range" in x.body.decode()


@pytest.mark.parametrize("hook", [g.hang_after, g.half, g.times(3, TOO_MANY)],
                         ids=["hang after", "half", "too many requests"])
def test_a_release_whose_answer_is_lost(take, gateway, hook):
    """The request is repeated. If it then finds nothing, that is not a loss."""
    helper = take()
    helper.hear_of("held")
    once = hook if hook not in (g.hang_after, g.half) else g.once(hook)
    gateway.on("kv/txn", g.only(is_releasing, once))
    assert helper.let_go()[-1] == ("released",
                                   {}) and "lost" not in [word for word, _ in helper.lines]
    assert gateway.keys() == []


@pytest.mark.parametrize("hook, why", [(DENIED, "etcd denies user"),
                                       (TOO_MANY, "(is overloaded|does not answer)")],
                         ids=["denied", "too many requests"])
def test_a_release_that_is_refused(take, gateway, hook, why):
    """
    Nobody is told that others can have the lock. The last of several attempts gives the reason, and
    on a busy machine it may not be answered in its time.
    """
    helper = take()
    helper.hear_of("held")
    gateway.on("kv/txn", g.only(is_releasing, hook))
    (word, said), = helper.let_go()
    assert word == "unreleased" and re.fullmatch(
        rf"cannot confirm that the lock was released: .*{why}.* "
        r"\(otherwise it lapses in about \d s\)", said["text"])
    assert len(gateway.keys()) == 1


@pytest.mark.parametrize("path", ["lease/grant", "kv/txn"])
def test_a_lock_that_cannot_be_kept(take, gateway, path):
    """It is not released then: it lasts for as long as its own lease."""
    helper = take(f"hold-for={60 * 10**9}")
    helper.hear_of("held")
    # Meanwhile renewals continue.
    gateway.on(path, g.only(lambda x: "request_range" not in x.body.decode(), FULL))
    (word, said), = helper.let_go()
    assert word == "unreleased" and re.fullmatch(
        r"cannot confirm that --hold-for keeps the lock: .* its database is full .*"
        r"\(otherwise it lapses in about \d s\)", said["text"])
    assert len(gateway.keys()) == 1


def test_a_place_that_cannot_be_given_back(take, gateway, name):
    """Those behind it have to wait until it lapses."""
    gateway.put(f"{name}/4d".encode())
    gateway.on("kv/txn", g.only(is_releasing, DENIED))
    helper = take("wait=1000000000")
    helper.hear_of("waiting")
    said = helper.hear_of("note")["text"]
    assert said.startswith("cannot leave the queue: etcd denies user") and "lapses in about" in said
    helper.hear_of("busy")
