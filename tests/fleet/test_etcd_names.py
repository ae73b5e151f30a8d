"""
Endpoints by name, and a resolver that hangs: it may take minutes to fail, and nothing waits for
that.
"""
import contextlib
import os

import pytest

import gateway as g
from fleet import BUILD, LATE, Ticks, boottime, helper_of, is_alive, release, said, wait_for

QUICK = {"ETCDCTL_COMMAND_TIMEOUT": "3s", "ETCDCTL_DIAL_TIMEOUT": "500ms"}


@pytest.fixture
def silence(tmp_path):
    """The file that silences the resolver."""
    return tmp_path / "silence"


@pytest.fixture
def c(callers, gateway, silence):
    """A caller with a test resolver (tests/programs/resolver.c)."""
    sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    return callers({"LD_PRELOAD": os.path.join(BUILD, "tests", "programs", "resolver.so"),
                    "RESOLVER_HANGS": str(silence),
                    "ASAN_OPTIONS": sanitizer, **names(gateway, "etcd")})


def names(gateway, *hosts):
    return {"ETCDCTL_ENDPOINTS": ",".join(f"{host}.test:{gateway.port}" for host in hosts)}


def renewals(gateway):
    return len(gateway.seen("lease/keepalive"))


def test_a_name_is_resolved(c, gateway):
    r = c.run("-q", c.lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b""), r
    assert gateway.requests[0].headers[":authority"] == f"etcd.test:{gateway.port}"


def test_a_resolver_that_hangs_holds_up_no_renewal(c, gateway, silence):
    """Without a new answer of the resolver, the last known addresses are used."""
    holder = c.hold("-q", "--ttl", "10")
    gateway.wait_for("watch")
    silence.touch()
    gateway.disconnect()
    gateway.wait_for("lease/keepalive", renewals(gateway) + 3)
    helper = helper_of(holder)
    assert release(holder) == 0
    assert gateway.keys() == [] and holder.stderr.read() == b""
    wait_for(lambda: not is_alive(helper), "the helper has ended")


@pytest.mark.parametrize("hosts", [("hangs", "etcd"), ("etcd", "hangs"),
                                   ("hangs", "hangs", "etcd")])
def test_a_member_whose_name_is_not_resolved(c, gateway, hosts):
    """It counts as down: the others are asked, and nothing waits for it at the end."""
    c = c.with_env(**names(gateway, *hosts))
    holder = c.hold("-q", "--ttl", "10")
    helper = helper_of(holder)
    gateway.wait_for("lease/keepalive", renewals(gateway) + 2)
    assert release(holder) == 0
    assert gateway.keys() == [] and holder.stderr.read() == b""
    wait_for(lambda: not is_alive(helper), "the helper has ended")


def test_no_name_is_resolved(c, gateway):
    """Unreachable is neither held nor free."""
    r = c.run("-q", c.lock, "echo", "ran", env={**QUICK, **names(gateway, "hangs")})
    assert (r.returncode, r.stdout) == (3, b""), r
    assert said(r) == \
        f"me-only: {c.lock}: the name of http://hangs.test:{gateway.port} cannot be resolved " \
        "(endpoints from ETCDCTL_ENDPOINTS)\n"
    assert gateway.requests == []


def test_the_lock_is_lost_while_the_resolver_hangs(c, gateway, tmp_path):
    """
    The job has ended by the deadline, which is earlier than the lease time after the last answered
    renewal.
    """
    ticks = Ticks(tmp_path / "ticks")
    p = c.with_env(**names(gateway, "etcd", "hangs")).start("-q", "--ttl", "10", "-k", "2", c.lock,
                                                            *ticks.job())
    ticks.wait_for("job")
    helper = helper_of(p)
    gateway.wait_for("lease/keepalive", renewals(gateway) + 1)
    gateway.on("*", g.hang)
    gateway.disconnect()
    cut, threads = boottime(), []

    def has_ended():
        with contextlib.suppress(OSError):
            threads.append(len(os.listdir(f"/proc/{helper}/task")))
        return p.poll() is not None

    wait_for(has_ended, "it has ended")
    assert p.returncode == 5
    assert ticks.last() < cut + 10 + LATE
    assert max(threads) <= 4, "each try leaves a thread: but for the survey, the first and the stream"
    wait_for(lambda: not is_alive(helper), "the helper has ended")
