"""
A command that runs under an etcd: lock: its status, its environment, what it inherits, and that the
lock is free afterwards.
"""
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from fleet import DEADLINE, ME_ONLY, environment, helper_of, is_alive, program, read_line, \
    release, said, wait_for

forms = pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])

LOOK = """
import json, os, signal, sys
fds = {}
for n in os.listdir("/proc/self/fd"):
    try:
        fds[n] = os.readlink("/proc/self/fd/" + n)
    except OSError:
        pass
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({"fds": fds, "env": dict(os.environ), "cwd": os.getcwd(), "umask": os.umask(0),
                  "session": os.getsid(0), "group": os.getpgid(0),
                  "blocked": status["SigBlk"].strip(), "ignored": status["SigIgn"].strip(),
                  "stdin": sys.stdin.read(),
                  "limits": [l for l in open("/proc/self/limits")], "priority": os.nice(0)}))
"""
LOOK = (sys.executable, "-ISc", LOOK)


def seen(c, *options, **kw):
    """What a job sees of itself."""
    r = c.run(*options, c.lock, *LOOK, **kw)
    assert r.returncode == 0, r
    assert said(r) == ""
    return json.loads(r.stdout)


def seen_without(call, **kw):
    """What it would see without me-only."""
    kw.setdefault("env", environment())
    return json.loads(call(*LOOK, **kw).stdout)


# ---- statuses ----

@pytest.mark.parametrize("first", range(0, 256, 64))
def test_the_commands_status_passes_through(c, first):
    wanted = range(first, first + 64)
    assert [c.run(c.lock, "sh", "-c", f"exit {n}").returncode for n in wanted] == list(wanted)


@forms
def test_the_signal_that_ended_the_command_ends_us(c, store, prefix, form):
    for n in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGABRT, signal.SIGKILL,
              signal.SIGSEGV, signal.SIGPIPE, signal.SIGTERM,
              signal.SIGUSR1, 34, 64):
        assert c.run(*form, c.lock, program("die"), str(n)).returncode == -n
        assert store.entries(prefix) == []


@forms
def test_a_command_that_cannot_be_found_leaves_the_lock_free(c, store, prefix, form):
    r = c.run(*form, c.lock, "me-only-no-such-command")
    assert (r.returncode, r.stdout, said(r)) == (1, b"",
                                                 "me-only: me-only-no-such-command: not found\n")
    assert store.entries(prefix) == []


def test_a_command_that_cannot_be_run(c, store, prefix, tmp_path):
    (tmp_path / "file").write_text("x")
    r = c.run(c.lock, str(tmp_path / "file"))
    assert r.returncode == 1 and "Permission denied" in said(r)
    assert c.run("--exit-base=90", c.lock, str(tmp_path / "file")).returncode == 91
    assert store.entries(prefix) == []


@forms
def test_the_lock_is_free_when_me_only_has_ended(c, store, prefix, form):
    """A caller that starts again at once does not meet its own lock."""
    for n in range(30):
        r = c.run(*form, c.lock, "echo", str(n))
        assert (r.returncode, r.stdout) == (0, b"%d\n" % n), r
        assert store.entries(prefix) == []


def test_its_lease_is_left_to_lapse(c, store, prefix):
    """
    Waiters ask for it: so they know that the run has ended well. Not renewed, it ends by itself.
    """
    holder = c.hold("--ttl", "10")
    lease = store.entries(prefix)[0].lease
    assert release(holder) == 0
    assert store.entries(prefix) == []
    left = store.time_left(lease)
    assert 0 <= left <= 10
    wait_for(lambda: store.time_left(lease) == -1, "the lease has ended")


@forms
def test_nobody_is_left_when_it_has_ended(c, form):
    holder = c.hold(*form)
    helper = helper_of(holder)
    assert release(holder) == 0
    wait_for(lambda: not is_alive(helper), "the helper has ended")


# ---- the environment ----

def test_the_environment_of_the_command(c, store, prefix):
    """
    The token is the revision of the write that took the lock; that is the revision of the key.
    """
    p = c.start(c.lock, "sh", "-c", "echo $$; read line; env -0", stdin=-1,
                env={"MINE": "a\nb", "ME_ONLY_TOKEN": "1", "ME_ONLY_SLOT": "7"})
    read_line(p.stdout)
    entry, = store.entries(prefix)
    out, _ = p.communicate(b"\n", timeout=DEADLINE)
    env = dict(v.split("=", 1) for v in out.decode().split("\0")[:-1])
    assert env["ME_ONLY_LOCK"] == c.lock and env["MINE"] == "a\nb"
    assert env["ME_ONLY_TOKEN"] == env["ETCD_LOCK_REV"] == str(entry.modified)
    assert env["ETCD_LOCK_KEY"] == entry.key == f"{prefix}{entry.lease:x}"
    assert "ME_ONLY_SLOT" not in env


def test_nothing_else_is_in_the_environment_of_the_command(c):
    before = environment(c.env, MINE="x", PWD=os.getcwd(), ME_ONLY_TOKEN="old", ETCD_LOCK_KEY="old",
                         ETCD_LOCK_REV="old")
    r = c.run(c.lock, "env", "-0", env=before)
    now = [v.split("=", 1)[0] for v in r.stdout.decode().split("\0")[:-1]]
    assert len(now) == len(set(now))
    assert set(now) == set(before) | {"ME_ONLY_LOCK", "ME_ONLY_TOKEN"}


def test_a_stale_token_is_not_passed_on(c, call):
    """A token is of this lock or of none: a host lock has none."""
    r = call(ME_ONLY, "t" + c.lock[6:], "env", env=environment(ME_ONLY_TOKEN="77"))
    assert r.returncode == 0 and b"ME_ONLY_TOKEN" not in r.stdout


def test_tokens_grow(c):
    tokens = [int(c.run(c.lock, "sh", "-c", "echo $ME_ONLY_TOKEN").stdout) for _ in range(5)]
    assert tokens == sorted(set(tokens))


def test_credentials_are_not_passed_on(callers, auth_etcd, allowed):
    c = callers(auth_etcd)
    out = c.run(allowed, "env").stdout
    assert b"ME_ONLY_TOKEN=" in out
    assert b"ETCDCTL_USER" not in out and b"ETCDCTL_PASSWORD" not in out \
        and b"the password" not in out


def test_credentials_are_not_passed_on_if_nobody_asks_for_them(c):
    out = c.run(c.lock, "env", env={"ETCDCTL_USER": "mo:the password"}).stdout
    assert b"ETCDCTL_ENDPOINTS=" in out and b"ETCDCTL_USER" not in out \
        and b"the password" not in out


def test_a_lock_inside_a_lock_has_a_token_of_its_own(c):
    r = c.run(c.lock, ME_ONLY, "-q", c.lock + "-inner", "sh", "-c",
              "echo $ME_ONLY_LOCK $ME_ONLY_TOKEN $ETCD_LOCK_REV")
    other, token, revision = r.stdout.decode().split()
    assert other == c.lock + "-inner" and token == revision
    # A host lock inside it has none.
    r = c.run(c.lock, ME_ONLY, c.lock[5:], "sh", "-c", "echo $ME_ONLY_LOCK $ME_ONLY_TOKEN")
    assert r.stdout.decode().split() == [c.lock[5:]]


# ---- what it inherits ----

@forms
@pytest.mark.parametrize("pipes", [True, False], ids=["pipes", "null"])
def test_descriptors(c, call, form, pipes):
    """
    Those of the caller, and the lock's pipe unless -o: no connection, no socket of the helper's.
    """
    kw = {"stdout": -1, "stderr": -1}
    now = seen(c, *form, **({"input": b"x"} if pipes else {}), **kw)["fds"]
    usual = seen_without(call, **({"input": b"x"} if pipes else {}))["fds"]
    more = {n: what for n, what in now.items() if n not in usual}
    assert set(usual) <= set(now)
    assert not [w for w in now.values() if w.startswith(("socket:", "anon_inode:"))]
    if form:
        assert more == {}
    else:
        assert len(more) == 1 and all(w.startswith("pipe:") for w in more.values()) \
            and all(int(n) > 2 for n in more), now


def test_the_callers_own_descriptors_are_passed_on(c):
    reader, writer = os.pipe()
    r = c.run(c.lock, "bash", "-c", f"echo through >&{writer}", pass_fds=[writer])
    os.close(writer)
    assert r.returncode == 0
    with open(reader, "rb") as f:
        assert f.read() == b"through\n"


@forms
@pytest.mark.parametrize("closed", ["", "0", "1", "2", "01", "12", "012"])
def test_closed_standard_descriptors_stay_closed(c, start, tmp_path, closed, form):
    report, closing = tmp_path / "report", [program("caller"),
                                            *(word for n in closed for word in ("-c", n))]
    p = start(*closing, ME_ONLY, "-q", *form, c.lock, program("state"), report,
              env=environment(c.env))
    assert p.wait(DEADLINE) == 0
    found = re.findall(r"^descriptor (\d+): (.*)$", report.read_text(), re.MULTILINE)
    assert {int(n) for n, _ in found} & {0, 1, 2} == {0, 1, 2} - {int(n) for n in closed}
    more = [(int(n), what) for n, what in found if int(n) > 2]
    assert len(more) == (0 if form else 1) and all(n >= 10 and what.startswith("pipe:")
                                                   for n, what in more), found


def test_standard_input_and_output_belong_to_the_command(c):
    data = os.urandom(300000)
    r = c.run("-q", c.lock, "cat", input=data)
    assert r.stdout == data and r.stderr == b""
    r = c.run("-q", c.lock, "sh", "-c", "echo err >&2")
    assert (r.stdout, r.stderr) == (b"", b"err\n")


def test_signals_working_directory_and_the_rest(c, start, call, tmp_path):
    def prepare():
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2, signal.SIGALRM})
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.umask(0o027)
        os.nice(3)

    kw = {"preexec_fn": prepare, "cwd": tmp_path}
    now, usual = seen(c, **kw), seen_without(call, **kw)
    for what in ("blocked", "ignored", "cwd", "umask", "limits", "priority", "session", "group"):
        assert now[what] == usual[what], what


@forms
def test_a_signal_sent_to_me_only_reaches_the_job_once(c, store, prefix, form):
    p = c.start("-q", *form, c.lock, program("hears"), stdin=-1)
    assert read_line(p.stdout).startswith(b"pid ")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        p.send_signal(number)
        assert read_line(p.stdout) == b"%d\n" % number
    p.send_signal(signal.SIGRTMAX)
    assert p.communicate(timeout=DEADLINE) == (b"", b"") and p.returncode == 0
    assert store.entries(prefix) == []


def test_the_arguments_of_the_job_are_not_in_the_cluster(c, store, prefix):
    c.hold("-q", command=("sh", "-c", "echo $$ # a secret\ncat"))
    entry, = store.entries(prefix)
    assert b"secret" not in entry.value and entry.json()["cmd"] == "sh"


def test_what_is_written_about_the_holder(c, store, prefix):
    holder = c.hold("-q")
    entry, = store.entries(prefix)
    value = entry.json()
    assert (value["v"], value["m"], value["st"], value["cmd"], value["pid"],
            value["host"]) == (1, "x", "held", "sh", holder.pid, os.uname().nodename)
    assert len(entry.value) <= 1024
    assert entry.lease > 0 and 20 < store.time_left(entry.lease) <= 30


@pytest.mark.parametrize("ttl", ["10s", "1m", "300"])
def test_the_time_to_live_can_be_chosen(c, store, prefix, ttl):
    seconds = {"10s": 10, "1m": 60, "300": 300}[ttl]
    c.hold("-q", "--ttl", ttl)
    lease = store.entries(prefix)[0].lease
    assert int(store.post("lease/timetolive", ID=str(lease))["grantedTTL"]) == seconds


# ---- names ----

@pytest.mark.parametrize("end", ["", "/with/slashes", " and spaces", "\tä€𝄞", "\x01\x7f",
                                 "x" * 2000, "=", "%41", "'\"\\"],
                         ids=["plain", "slashes", "spaces", "unicode", "control", "long", "equals",
                              "percent", "quotes"])
def test_any_name(c, store, prefix, end):
    lock = c.lock + end
    p = c.hold("-q", lock=lock)
    entry, = store.entries(prefix[:-1])
    assert entry.key == f"{lock.removeprefix('etcd:')}/{entry.lease:x}"
    assert c.run("-q", lock, "true").returncode == 4
    assert release(p) == 0
    assert c.run("-q", lock, "sh", "-c", 'printf %s "$ME_ONLY_LOCK"').stdout.decode() == lock


def test_a_name_that_is_too_long_for_the_cluster(c):
    r = c.run(c.lock + "x" * 5000, "echo", "ran")
    assert (r.returncode, r.stdout) in ((3, b""), (2, b""))
    assert "the name is longer than 2048 bytes" in said(r)


def test_a_name_that_is_no_utf_8(c, store, name):
    lock = b"etcd:" + name.encode() + b"\xff\x80x"
    r = c.run("-q", lock, "sh", "-c", 'printf %s "$ETCD_LOCK_KEY"')
    assert r.returncode == 0 and r.stdout.startswith(lock[5:] + b"/")


def test_other_names_are_other_locks(c):
    c.hold("-q")
    for other in (c.lock + "x", c.lock[:-1], c.lock.upper().replace("ETCD", "etcd"), c.lock + "0"):
        assert c.run("-q", other, "true").returncode == 0


def test_a_lock_waits_for_those_below_it_as_etcdctl_does(c):
    c.hold("-q", lock=c.lock + "/below")
    assert c.run("-q", c.lock, "true").returncode == 4
    assert c.run("-q", c.lock + "/beside", "true").returncode == 0


# ---- messages ----

def warned(c, lock, old):
    """What a run says: its command waits for a warning that is to come, but the run never does."""
    holder = c.hold(lock=lock)
    warning = read_line(holder.stderr) if old else b""
    assert release(holder) == 0
    return (warning + holder.stderr.read()).decode()


def test_the_server_is_too_old_to_be_trusted(c):
    """In one line, for each run without -q; Debian 12's is too old, Debian 13's is not."""
    version = re.search(r"etcd Version: (\S+)",
                        subprocess.check_output(["etcd", "--version"], text=True))[1]
    line = f"me-only: {c.lock}: the server runs etcd {version}, which has known lease bugs"
    is_old = version.startswith("3.4.23")
    err = warned(c, c.lock, is_old)
    assert re.fullmatch(re.escape(line) + r"[^\n]*\n" if is_old else "", err), err
    assert c.run("-q", c.lock, "true").stderr == b""


@pytest.mark.parametrize("gateway, old", [({"version": v}, old) for v, old in (
    ("3.4.30", True), ("3.4.31", False), ("3.4.100", False), ("3.5.12", True), ("3.5.13", False),
    ("3.6.0", False), ("3.3.27", True),
    ("4.0.0", False))], indirect=["gateway"])
def test_which_servers_are_too_old(callers, gateway, old):
    err = warned(callers(gateway), "etcd:x", old)
    assert (f"the server runs etcd {gateway.version}, which has known lease bugs" in err) == old
    assert old or err == ""


def test_verbose_says_what_happens(c, etcd):
    r = c.run("-v", c.lock, "echo", "ran")
    assert r.stdout == b"ran\n"
    lines = said(r).splitlines()
    assert lines and all(re.match(r"me-only: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line)
                         for line in lines), lines
    assert lines[0].endswith(f" {c.lock}: endpoints from ETCDCTL_ENDPOINTS: http://{etcd.endpoint}")
