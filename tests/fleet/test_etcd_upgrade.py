"""etcd is upgraded, keeping its data, while one caller holds a lock and one waits for it."""
import pytest

from etcd_server import etcds
from fleet import DEADLINE, environment_of, is_alive, release
from test_etcd_wait import Line, wait_renewed


@pytest.mark.upgrade
def test_an_upgrade_under_a_holder_and_a_waiter(callers, new_etcd):
    (_, older), (version, newer), *_ = sorted(etcds().items())
    server = new_etcd(program=older)
    c, store = callers(server), server.client()
    holder = c.hold("-q", "--ttl", "20")
    token = int(environment_of(holder.job)["ME_ONLY_TOKEN"])
    line = Line(c, store)
    waiter = line.wait("-q", command=("printenv", "ME_ONLY_TOKEN"))
    before = line.entries()

    server.end()
    server.program = newer
    server.start()

    assert store.fetch("/version")["etcdserver"].startswith("%d.%d." % version)
    wait_renewed(store, before[0].lease)
    assert [e.key for e in line.entries()] == [e.key for e in before]
    assert is_alive(holder.job) and waiter.poll() is None
    assert release(holder) == 0 and holder.stderr.read() == b""
    out, err = waiter.communicate(timeout=DEADLINE)
    assert (waiter.returncode, err) == (0, b"") and int(out) > token
    assert line.entries() == []
