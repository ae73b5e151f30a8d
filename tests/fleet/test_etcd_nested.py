"""A job that asks for the lock under which it runs, and --held."""
import os
import re
import sys

import pytest

from fleet import DEADLINE, HAND_DOWN, ME_ONLY, environment, environment_of, read_line, release, \
    said, wait_for

pytestmark = pytest.mark.local

forms = pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])

# How the inner me-only is started by the job.
WAYS = {
    "direct": ['exec "$@"'],
    "through a shell": ['sh -c \'"$@"; exit $?\' sh "$@"; exit $?'],
    "own session": ['exec setsid --wait "$@"'],
    "environment emptied but for the cluster": [
        'exec env -i ETCDCTL_ENDPOINTS="$ETCDCTL_ENDPOINTS" "$@"'],
    "environment lies": [
        'ME_ONLY_LOCK=other ETCD_LOCK_KEY=other/1 ETCD_LOCK_REV=1 ME_ONLY_TOKEN=1 exec "$@"'],
    "without the variables": [
        'unset ME_ONLY_LOCK ETCD_LOCK_KEY ETCD_LOCK_REV ME_ONLY_TOKEN; exec "$@"'],
    "with descriptors closed": [
        'for n in /proc/$$/fd/*; do n=${n##*/}; [ "$n" -lt 3 ] || [ "$n" -gt 200 ] || eval "exec '
        '$n>&-"; done; exec "$@"'],
}
ROOTS_WAYS = {
    "sudo": ['exec sudo -n ETCDCTL_ENDPOINTS="$ETCDCTL_ENDPOINTS" "$@"'],
    "sudo as nobody": ['exec sudo -n -u nobody ETCDCTL_ENDPOINTS="$ETCDCTL_ENDPOINTS" "$@"'],
    "su": ['exec su -s /bin/sh -c \'exec "$0" "$@"\' root -- "$@"'],
    "setpriv as nobody": ['exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"'],
    "mount namespace": ['exec unshare --mount "$@"'],
}
ways = pytest.mark.parametrize("way", [w[0] for w in WAYS.values()], ids=WAYS.keys())
roots_ways = pytest.mark.parametrize("way", [w[0] for w in ROOTS_WAYS.values()],
                                     ids=ROOTS_WAYS.keys())


def ask_inside(c, form, way, *argv, shape=()):
    """The answer of a me-only that a job under the lock has started."""
    # The prefix of the script is for bash: dash knows no descriptors above 9.
    return c.run("-q", *form, *shape, c.lock, "bash", "-c", way, "bash", ME_ONLY, *argv)


def assert_told_so(c, r, status=4):
    assert (r.returncode, r.stdout) == (status, b""), r
    assert re.fullmatch(rf"me-only: {c.lock}: this job already holds it: held by pid \d+ [^\n]*\n",
                        said(r)), said(r)


@forms
@ways
@pytest.mark.parametrize("asks", [(), ("-w", "inf")], ids=["now", "waiting"])
def test_a_job_that_asks_for_its_own_lock_is_told_so_at_once(c, form, way, asks):
    assert_told_so(c, ask_inside(c, form, way, *asks, c.lock, "echo", "ran"))


@pytest.mark.root
@forms
@roots_ways
def test_also_as_another_user(c, form, way):
    assert_told_so(c, ask_inside(c, form, way, "-w", "inf", c.lock, "echo", "ran"))


@forms
@ways
def test_a_job_is_told_that_it_runs_under_the_lock(c, form, way):
    r = ask_inside(c, form, way, "--held", c.lock)
    assert (r.returncode, r.stdout, said(r)) == (0, b"", "")


@pytest.mark.root
@forms
@roots_ways
def test_also_by_another_user(c, form, way):
    """Everybody believes that of root's locks."""
    r = ask_inside(c, form, way, "--held", c.lock)
    assert (r.returncode, r.stdout, said(r)) == (0, b"", "")


@pytest.mark.parametrize("options", [("-E", "9"), ("-E", "0"), ("-E", "9", "-w", "inf")],
                         ids=" ".join)
def test_no_status_can_be_chosen_for_that(c, options):
    assert_told_so(c, ask_inside(c, (), 'exec "$@"', *options, c.lock, "echo", "ran"))


def test_also_while_others_wait(c, store, prefix):
    """They come first, so it would wait for itself for ever."""
    p = c.start("-q", c.lock, "sh", "-c", 'echo $$; read line; exec "$@"', "sh", ME_ONLY, "-w",
                "inf", c.lock, "echo", "ran", stdin=-1)
    read_line(p.stdout)
    other = c.start("-q", "-w", "inf", c.lock, "echo", "mine")
    wait_for(lambda: len(store.entries(prefix)) == 2, "it waits")
    out, err = p.communicate(b"\n", timeout=DEADLINE)
    assert (p.returncode, out) == (4, b"") and b"this job already holds it" in err
    assert other.communicate(timeout=DEADLINE)[0] == b"mine\n"


@pytest.mark.parametrize("outer, inner", [(("-s",), ()), ((), ("-s",)), (("-j2",), ("-j1",)),
                                          (("-s",), ("-s",)), (("-j2",), ("-j2",))],
                         ids=lambda o: " ".join(o) or "plain")
def test_shapes(c, outer, inner):
    """As with other locks: a job that shares, or has a slot, asks for what it already holds."""
    r = c.run("-q", *outer, c.lock, ME_ONLY, "-w", "inf", *inner, c.lock, "echo", "ran")
    if outer == inner:
        # What file locks and slots of this host do: another hold beside the first one, or the
        # refusal.
        assert (r.returncode, r.stdout) in ((0, b"ran\n"), (4, b"")), r
    else:
        assert_told_so(c, r)


def test_others_are_not_under_the_lock(c):
    def answer(**env):
        r = c.run("--held", c.lock, env=env)
        assert (r.stdout, said(r)) == (b"", "")
        return r.returncode
    assert answer() == 1
    holder = c.hold("-q")
    assert answer() == 1
    # Variables are hints, never proof.
    env = {k: v for k, v in environment_of(holder.job).items()
           if k.startswith(("ETCD_LOCK", "ME_ONLY_"))}
    assert len(env) >= 3
    assert answer(**env) == 1
    r = c.run("-w", "0.2", c.lock, "true", env=env)
    assert r.returncode == 4 and "already holds" not in said(r)
    assert release(holder) == 0
    assert answer() == 1
    assert answer(**env) == 1


def test_the_first_line_of_a_script(c, tmp_path):
    """It becomes the only instance by restarting itself."""
    script = tmp_path / "script"
    script.write_text(
        f'#!/bin/sh\n{ME_ONLY} -q --held "$L" || exec {ME_ONLY} -q "$L" "$0" "$@"\necho "$1 runs"\n'
        f'{ME_ONLY} -q "$L" true\necho $?\n')
    script.chmod(0o755)
    p = c.start_(str(script), "it", env=environment(c.env, L=c.lock))
    out, err = p.communicate(timeout=DEADLINE)
    assert out == b"it runs\n4\n" and b": this job already holds it: " in err


def test_a_job_under_the_lock_of_another_name(c):
    r = c.run("-q", c.lock, ME_ONLY, "--held", c.lock + "-other")
    assert r.returncode == 1
    r = c.run("-q", c.lock, ME_ONLY, "-q", c.lock + "-other", ME_ONLY, "--held", c.lock)
    assert r.returncode == 0


def test_below_a_lock_in_the_middle(c):
    """A job under A takes B, and asks for A inside."""
    r = c.run("-q", c.lock, ME_ONLY, "-q", c.lock + "-other", ME_ONLY, "-w", "inf", c.lock, "true")
    assert_told_so(c, r)


def test_a_child_that_has_the_lock_of_a_command_that_has_ended(c, tmp_path):
    """It keeps the lock, and holds it: it is told so."""
    out = tmp_path / "out"
    script = (
        f'(read line <{tmp_path}/go; "$@"; echo $? >{out}.new; mv {out}.new {out}) >/dev/null 2>&1 '
        f'& echo up')
    os.mkfifo(tmp_path / "go")
    p = c.start("-q", c.lock, "sh", "-c", script, "sh", ME_ONLY, "-w", "inf", c.lock, "true")
    assert read_line(p.stdout) == b"up\n" and p.wait(DEADLINE) == 0
    with open(tmp_path / "go", "w", encoding="ascii") as f:
        f.write("\n")
    wait_for(out.exists, "it has an answer")
    assert out.read_text() == "4\n"


@pytest.mark.root
@pytest.mark.parametrize("owner, held", [(0, 0), (1, 1)], ids=["root's", "a stranger's"])
def test_a_stranger_cannot_hand_his_lock_down(c, owner, held):
    """
    A script that is told that it runs under the lock does run, so only locks of this user and root
    count. For a refusal, all count.
    """
    for argv, status in ((("--held", c.lock), held), (("-w", "inf", c.lock, "echo", "ran"), 4)):
        p = c.start_(sys.executable, "-ISc", HAND_DOWN, str(owner), ME_ONLY, "-q", c.lock, "sh",
                     "-c",
                     "echo up; read line; echo >&9; exec sleep 1000", "--ask", ME_ONLY, "-q", *argv,
                     stdin=-1, env=environment(c.env))
        assert read_line(p.stdout) == b"up\n"
        p.stdin.write(b"\n")
        p.stdin.flush()
        assert read_line(p.stdout) == b"%d\n" % status
        p.kill()
        p.wait(DEADLINE)
        wait_for(lambda: c.run("-q", c.lock, "true").returncode == 0, "it is free")


def test_asking_whether_it_is_held_needs_the_cluster(c):
    r = c.with_env(ETCDCTL_ENDPOINTS="127.0.0.1:1",
                   ETCDCTL_COMMAND_TIMEOUT="1s").run("--held", c.lock)
    assert r.returncode == 3 and said(r).startswith(f"me-only: {c.lock}: ")
