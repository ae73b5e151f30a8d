"""A held lock: what callers that do not wait are told."""
import json
import os
import re
import signal

import pytest

from fleet import DEADLINE, read_line, release, said, user, wait_for

HOST = os.uname().nodename


def held_by(lock, pid, command="sh", beginning="", time=r"\d\S*"):
    return (rf"me-only: {re.escape(lock)}: {beginning}held by pid {pid} \({re.escape(user())}\) on "
            rf"{re.escape(HOST)} for {time}: {command}\n")


def refusal(c, *options):
    """Ask for it while it is held: the message."""
    r = c.run(*options, c.lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b""), r
    return said(r)


@pytest.mark.parametrize("form", [(), ("-o",), ("-n",), ("-w", "0")], ids=" ".join)
def test_refusal_names_the_holder(c, form):
    holder = c.hold()
    message = refusal(c, *form)
    assert re.fullmatch(held_by(c.lock, holder.pid), message), message


def test_the_pid_is_one_to_which_signals_can_be_sent(c):
    """SIGTERM to that PID reaches the command as a request to exit."""
    holder = c.hold("-q")
    pid = int(re.search(r"held by pid (\d+)", refusal(c))[1])
    os.kill(pid, signal.SIGTERM)
    assert holder.wait(DEADLINE) == -signal.SIGTERM
    assert c.run("-q", c.lock, "true").returncode == 0


def test_the_time_is_that_of_the_lock(c):
    c.hold("-q")
    wait_for(lambda: re.fullmatch(held_by(c.lock, r"\d+", time=r"[1-9](\.\d)?s"), refusal(c)),
             "a second has passed")


def test_only_the_name_of_the_command_is_shown(c):
    c.hold("-q", command=("sh", "-c", "echo $$; exec cat", "--password=secret"))
    assert "secret" not in refusal(c)


def test_the_name_of_the_command_is_made_harmless(c, tmp_path):
    evil = tmp_path / "a\nb\x1b[31mc"
    evil.symlink_to("/bin/sh")
    c.hold("-q", command=(str(evil), "-c", "echo $$; exec cat"))
    message = refusal(c)
    assert message.count("\n") == 1 and "\x1b" not in message and "a" in message


def test_the_status_of_a_refusal_can_be_chosen(c):
    c.hold("-q")
    for options, status in ((("-E", "75"), 75), (("-E", "0"), 0), (("--exit-base=90",), 94),
                            (("--exit-base=90", "-E", "7"), 7)):
        r = c.run(*options, c.lock, "echo", "ran")
        assert (r.returncode, r.stdout) == (status, b"") and " held by pid " in said(r), r


def test_quiet_says_nothing(c):
    c.hold("-q")
    r = c.run("-q", c.lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (4, b"", b"")


def test_complain_after(c):
    c.hold("-q")
    assert "held by pid " in refusal(c, "--complain-after=0")
    assert refusal(c, "--complain-after=1h") == ""
    assert refusal(c, "--complain-after=inf") == ""
    wait_for(lambda: "held by pid " in refusal(c, "--complain-after=500ms"),
             "it has been held for half a second")


def test_verbose_names_the_holder(c):
    holder = c.hold("-q")
    message = refusal(c, "-v")
    assert f"held by pid {holder.pid} (" in message


def test_a_refusal_leaves_nothing(c, store, prefix):
    c.hold("-q")
    before = store.entries(prefix)
    for _ in range(5):
        assert c.run("-q", c.lock, "true").returncode == 4
    after = store.entries(prefix)
    assert [(e.key, e.modified) for e in after] == [(e.key, e.modified) for e in before]


def test_leases_of_refused_attempts_do_not_pile_up(callers, own_etcd):
    c = callers(own_etcd)
    c.lock = "etcd:x"
    c.hold("-q", "--ttl", "10")
    for _ in range(5):
        assert c.run("-q", "--ttl", "10", "etcd:x", "true").returncode == 4
    wait_for(lambda: len(own_etcd.client().leases()) == 1, "only the holder's lease is left")


@pytest.mark.parametrize("value", [b"", b"x", b"{", b"[]", b"null", b'{"v":2}', b'{"v":1}',
                                   b"\xff\xfe", b'{"v":1,"m":"x","st":"held","pid":"x"}',
                                   b"x" * 100000,
                                   b'{"v":1,"m":"x","st":"held","cmd":"\\u0000","host":1,"user":[],'
                                   b'"pid":-1,"since":1e300}',
                                   b"[" * 10000, b'{"v":1,"m":"?","k":-1,"q":"x","slot":"y"}'],
                         ids=["empty", "x", "brace", "list", "null", "v2", "v1", "binary",
                              "bad-pid", "big", "wrong-types", "deep", "odd-mode"])
def test_a_holder_that_is_no_me_only(c, store, prefix, value):
    """
    Whatever another program has written: the lock is held, and me-only does not stumble over it.
    """
    lease = store.grant(60)
    store.put(f"{prefix}{lease:x}", value, lease)
    message = refusal(c)
    assert re.fullmatch(rf"me-only: {c.lock}: held\b[^\n]+\n", message), message
    if value in (b"", b"x", b"{", b"[]", b"null", b"\xff\xfe"):
        assert f"held by another program (etcdctl lock?) with the lease {lease:x}" in message
    assert "\x00" not in message
    assert c.run("-q", "-w", "0.2", c.lock, "true").returncode == 4
    assert c.run("-q", "-s", c.lock, "true").returncode == 4
    assert c.run("-q", "-j2", c.lock, "true").returncode == 4
    store.revoke(lease)
    assert c.run("-q", c.lock, "true").returncode == 0


def test_a_key_without_a_lease_blocks_the_lock(c, store, prefix):
    store.put(prefix + "forgotten")
    message = refusal(c)
    assert "held by another program" in message, message
    store.delete(prefix + "forgotten")
    assert c.run("-q", c.lock, "true").returncode == 0


def test_the_holder_of_another_user_is_named_always(c, store, prefix):
    """Whoever it is: a name that is neither this user's nor root's."""
    holder = c.hold("-q")
    entry, = store.entries(prefix)
    value = entry.value.replace(b'"user":"' + user().encode() + b'"', b'"user":"mallory"')
    assert value != entry.value
    store.put(entry.key, value, entry.lease)
    message = refusal(c, "-q")
    assert f"held by pid {holder.pid} (mallory, neither this user nor root) on {HOST} for " in \
        message


def test_several_times_at_once(c, store, prefix):
    """Of ten that start together one runs, and none runs beside it."""
    started = [c.start("-q", c.lock, "sh", "-c", "echo ran; exec cat", stdin=-1) for _ in range(10)]
    wait_for(lambda: sum(p.poll() is not None for p in started) == 9, "nine have given up")
    running, = [p for p in started if p.poll() is None]
    assert read_line(running.stdout) == b"ran\n"
    assert len(store.entries(prefix)) == 1
    assert release(running) == 0
    assert sorted(p.wait(DEADLINE) for p in started) == [0] + [4] * 9


def test_a_holder_cannot_make_himself_trusted(c, store, prefix):
    """Its value is one line in the helper's messages, whatever it contains."""
    lease = store.grant(60)
    evil = "\ntrusted 1"
    store.put(f"{prefix}{lease:x}", json.dumps({"v": 1, "m": "x", "st": "held", "host": "h" + evil,
                                                "user": "mallory" + evil, "cmd": "c" + evil,
                                                "pid": 7,
                                                "since": 1}), lease)
    message = refusal(c, "-q")
    assert "mallory" in message and "neither this user nor root" in message \
        and message.count("\n") == 1
    store.revoke(lease)
