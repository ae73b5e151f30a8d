"""The stores that refuse an old token, written to by jobs of me-only: its tokens are what they need, and who comes too late is refused."""
import os
import shlex
import signal

import pytest

from conftest import DEADLINE, EXAMPLES, ME_ONLY, wait_for

WRITTEN, REFUSED, LOST = 0, 10, 5
FILE, SQLITE, ETCD = (os.path.join(EXAMPLES, f"fenced-{name}.sh") for name in ("file", "sqlite", "etcd"))


@pytest.fixture
def run(etcd, start):
    """run(LOCK, COMMAND, ..., data=b""): a job under the lock; returns its status and what it has printed."""
    def run_it(lock, *command, data=b""):
        p = start(ME_ONLY, "-q", lock, *command, env=etcd.environment())
        out, err = p.communicate(data, timeout=DEADLINE)
        return p.returncode, out.decode(), err.decode()
    return run_it


@pytest.fixture
def lock(tmp_path):
    return f"etcd:test/{tmp_path.parent.name}/{tmp_path.name}"


def test_a_file(run, lock, tmp_path):
    path = tmp_path / "report"
    for text in (b"one", b"two"):
        assert run(lock, FILE, path, data=text) == (WRITTEN, "", "")
        assert path.read_bytes() == text
    token = int((tmp_path / "report.token").read_text())
    status, out, _ = run(lock, "printenv", "ME_ONLY_TOKEN")
    assert status == 0 and int(out) > token


def test_a_database(run, lock, tmp_path):
    path = tmp_path / "shop.db"
    assert run(lock, SQLITE, path, data=b"CREATE TABLE t(a); INSERT INTO t VALUES (1);") == (WRITTEN, "", "")
    assert run(lock, SQLITE, path, data=b"SELECT a, lock, token > 1 FROM t, me_only_fence;") == (WRITTEN, f"1|{lock}|1\n", "")


def test_a_key_in_etcd(run, lock, etcd):
    key = f"value of {lock}"
    for options in ([], ["-j2"], ["-s"]):
        words = [*options, lock, ETCD, key, f"value {options}"]
        assert run(*words) == (WRITTEN, "", "")
        assert etcd.run("get", "--print-value-only", key).stdout == f"value {options}\n"


def test_a_key_in_etcd_after_the_lock_is_lost(run, lock, etcd, tmp_path):
    """The job is asked to end and writes nevertheless: its write is refused."""
    key, said = f"value of {lock}", tmp_path / "status"
    # etcdctl does not ignore SIGTERM, so it has to have come before.
    job = f"""trap 'asked=1' TERM
        etcdctl del "$ETCD_LOCK_KEY" >/dev/null
        until [ "$asked" ]; do sleep 0.05; done
        {ETCD} {shlex.quote(key)} late
        echo $? >{said}"""
    status, _, err = run("-k5s", lock, "sh", "-c", job)
    assert status == LOST and "refused: the lock with token" in err and ": lost at " in err
    assert said.read_text() == f"{REFUSED}\n" and etcd.run("get", key).stdout == ""


# A process that the job leaves behind, which nobody can find: in a session of its own, without the lock's descriptor, with an
# environment in which nothing is left but what its store asks for. It writes when it is told to, and says with which status.
LEFT_BEHIND = """
for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -lt 3 ] || eval "exec $fd>&-"; done
env -i PATH="$PATH" ME_ONLY_LOCK="$ME_ONLY_LOCK" ME_ONLY_TOKEN="$ME_ONLY_TOKEN" HERE="$HERE" STORE="$STORE" setsid sh -c '
    : >"$HERE/ready"
    while [ ! -e "$HERE/go" ]; do sleep 0.01; done
    RC=0
    printf "%s" "$ME_ONLY_TOKEN" | $STORE || RC=$?
    echo "$RC" >"$HERE/status.new"
    mv "$HERE/status.new" "$HERE/status"' </dev/null >/dev/null 2>&1 &
sleep 60
"""


@pytest.mark.parametrize("name", ["file", "sqlite"])
def test_who_was_left_behind_by_a_killed_job(name, lock, start, etcd, tmp_path, request):
    """What no lock can prevent (me-only was killed, and a process of the job has hidden from its helper), the store refuses."""
    store = {"file": f"{FILE} {tmp_path}/store", "sqlite": f"{SQLITE} {tmp_path}/store"}[name]
    # Whatever fails, it does not wait for ever.
    request.addfinalizer((tmp_path / "go").touch)
    p = start(ME_ONLY, "-q", lock, "bash", "-c", LEFT_BEHIND, env={**etcd.environment(), "HERE": str(tmp_path), "STORE": store})
    wait_for((tmp_path / "ready").exists, "it is there")
    p.send_signal(signal.SIGKILL)
    p.wait(timeout=DEADLINE)
    data = b"new" if name == "file" else b"CREATE TABLE t(a);"
    p = start(ME_ONLY, "-q", "-w", "inf", lock, *store.split(), env=etcd.environment())
    assert p.communicate(data, timeout=DEADLINE) == (b"", b"") and p.returncode == WRITTEN, "its successor has the lock, and writes"
    (tmp_path / "go").touch()
    wait_for((tmp_path / "status").exists, "it has tried")
    assert (tmp_path / "status").read_text() == f"{REFUSED}\n"
    if name == "file":
        assert (tmp_path / "store").read_bytes() == b"new"
