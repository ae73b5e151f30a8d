"""
The tests' own tools: servers that leave nothing behind, a gateway that etcdctl accepts, a proxy
that cuts.
"""
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import gateway as g
import http2
import protobuf
from etcd_server import ALLOWED, PASSWORD, USER, Client, Refused, end_of, from64, to64
from fleet import HERE, DEADLINE, environment, is_alive, read_line, wait_for


# ---- servers ----

def test_etcdctl_holds_a_lock(c, store, prefix, name):
    p = c.etcdctl("lock", name, "--", "sh", "-c", "echo up; sleep 1000")
    assert read_line(p.stdout) == b"up\n"
    entry, = store.entries(prefix)
    assert entry.key == f"{prefix}{entry.lease:x}" and entry.value == b"" \
        and entry.created == entry.modified
    assert 0 < store.time_left(entry.lease) <= 60
    store.revoke(entry.lease)
    assert store.entries(prefix) == [] and store.time_left(entry.lease) == -1 \
        and store.keepalive(entry.lease) == 0


def test_a_server_is_killed_and_started_again(own_etcd):
    client = own_etcd.client()
    lease = client.grant(10)
    client.put("a/b", "c", lease)
    own_etcd.kill()
    with pytest.raises(OSError):
        client.entries("a/")
    own_etcd.start()
    entry, = client.entries("a/")
    assert (entry.key, entry.value, entry.lease) == ("a/b", b"c", lease)


def test_a_server_is_stopped_for_a_while(own_etcd):
    client = own_etcd.client()
    own_etcd.pause()
    with pytest.raises(OSError):
        client.post("kv/range", timeout=0.2, key=to64("x"))
    own_etcd.resume()
    assert client.revision() >= 1


def test_users(auth_etcd):
    client = Client(auth_etcd.port)
    with pytest.raises(Refused) as refused:
        client.put(ALLOWED + "x")
    assert refused.value.code == 3
    client = Client(auth_etcd.port, login=(USER, PASSWORD))
    client.put(ALLOWED + "x")
    with pytest.raises(Refused) as refused:
        client.put("elsewhere/x")
    assert refused.value.code == 7
    # It forgets tokens that nobody uses.
    client.login = None

    def expired():
        time.sleep(3)
        try:
            client.put(ALLOWED + "x")
        except Refused as e:
            return e.code == 16
        return False
    wait_for(expired, "the token has expired")


def test_certificates(tls_etcd, c):
    tls_etcd.client().put("x", "y")
    r = subprocess.run(["etcdctl", "get", "x"], env=environment(tls_etcd.env, ETCDCTL_API="3"),
                       capture_output=True, timeout=DEADLINE,
                       check=True)
    assert r.stdout == b"x\ny\n"


START_AND_SAY = """
import sys
sys.path.insert(0, sys.argv[1])
from etcd_server import Server, Workshop
w = Workshop()
s = Server(w)
print(w.path, s.pid, w.janitor.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_of_a_test_run_that_is_killed(start, number):
    p = start(sys.executable, "-c", START_AND_SAY, HERE, stdin=subprocess.PIPE)
    path, server, janitor = read_line(p.stdout).decode().split()
    assert is_alive(server) and os.path.exists(path)
    os.kill(int(server), signal.SIGSTOP)
    p.send_signal(number)
    p.wait(DEADLINE)
    wait_for(lambda: not is_alive(server) and not is_alive(janitor), "nobody is left")
    assert not os.path.exists(path)


# ---- the gateway ----

def ask(port, path, timeout=DEADLINE, **body):
    """Make one call. Returns (the gRPC code, the value or the message)."""
    method, kind, answer = protobuf.METHODS[path]
    call = http2.Call(port, "/etcdserverpb." + method,
                      protobuf.framed(protobuf.encode(kind, body)), timeout)
    with contextlib.closing(call):
        while not call.ended:
            call.read()
    if call.headers[":status"] != "200" or int(call.headers["grpc-status"]):
        return int(call.headers.get("grpc-status", -1)), call.headers.get("grpc-message")
    message, = protobuf.messages_of(call.data)[0]
    return 0, protobuf.decode(answer, message)


def test_the_gateway_keeps_keys_and_leases(gateway):
    def done(path, **body):
        code, answer = ask(gateway.port, path, **body)
        assert code == 0, answer
        return answer

    def put(key, value="", lease=0):
        return int(done("kv/put", key=to64(key), value=to64(value),
                        lease=lease)["header"]["revision"])

    assert done("maintenance/status")["version"] == gateway.version
    lease = int(done("lease/grant", TTL=10)["ID"])
    assert (put("a/1", "x", lease), put("a/2"), put("a/1", "y", lease)) == (2, 3, 4)
    first, second = done("kv/range", key=to64("a/"), range_end=to64("a0"))["kvs"]
    assert first == {"key": to64("a/1"), "create_revision": "2", "mod_revision": "4",
                     "version": "2", "value": to64("y"), "lease": str(lease)}
    assert from64(second["key"]) == b"a/2"
    assert 8 <= int(done("lease/timetolive", ID=lease)["TTL"]) <= 10
    assert done("lease/keepalive", ID=lease)["TTL"] == "10"
    assert [done("kv/deleterange", key=to64("a/2")).get("deleted") for _ in range(2)] == ["1", None]
    done("lease/revoke", ID=lease)
    assert "kvs" not in done("kv/range", key=to64("a/"), range_end=to64("a0"))
    assert done("lease/timetolive", ID=lease)["TTL"] == "-1"
    assert "TTL" not in done("lease/keepalive", ID=lease)
    assert ask(gateway.port, "kv/put", key=to64("a/1"), lease=lease)[0] == 5
    assert ask(gateway.port, "kv/put")[0] == 3


QUESTIONS = [
    # The requests of a lock; the two must give the same answers.
    ("lease/grant", {"TTL": "10", "ID": "77"}),
    ("lease/grant", {"TTL": "10", "ID": "77"}),
    ("kv/txn", {"compare": [{"target": "CREATE", "key": to64("n/4d"), "result": "EQUAL",
                             "create_revision": "0"}],
                "success": [{"request_put": {"key": to64("n/4d"), "value": to64("v"),
                                             "lease": "77"}},
                            {"request_range": {"key": to64("n/"), "range_end": to64("n0"),
                                               "sort_order": "ASCEND", "sort_target": "CREATE",
                                               "limit": "1"}}],
                "failure": [{"request_range": {"key": to64("n/4d")}}]}),
    ("kv/put", {"key": to64("n/zz")}),
    ("kv/txn", {"compare": [{"target": "CREATE", "key": to64("n/4d"), "result": "EQUAL",
                             "create_revision": "0"}],
                "success": [], "failure": [{"request_range": {"key": to64("n/4d")}}]}),
    ("kv/range", {"key": to64("n/"), "range_end": to64("n0"), "sort_order": "DESCEND",
                  "sort_target": "CREATE", "limit": "1",
                  "max_create_revision": "2", "keys_only": True}),
    ("kv/range", {"key": to64("n/"), "range_end": to64("n0"), "count_only": True}),
    ("kv/txn", {"compare": [{"target": "CREATE", "key": to64("n/"), "range_end": to64("n0"),
                             "result": "GREATER", "create_revision": "1"},
                            {"target": "CREATE", "key": to64("m/"), "range_end": to64("m0"),
                             "result": "EQUAL", "create_revision": "0"}],
                "success": [{"request_put": {"key": to64("n/4d"), "value": to64("w"),
                                             "ignore_lease": True}},
                            {"request_txn": {"compare": [],
                                             "success": [
                                                 {"request_range": {"key": to64("n/4d")}}]}}]}),
    ("kv/txn", {"compare": [{"target": "CREATE", "key": to64("n/"), "range_end": to64("n0"),
                             "result": "GREATER", "create_revision": "2"}],
                "success": [],
                "failure": [{"request_delete_range": {"key": to64("n/zz"), "prev_kv": True}}]}),
    # An empty range compares like a key that was created at 0.
    ("kv/txn", {"compare": [{"target": "CREATE", "key": to64("m/"), "range_end": to64("m0"),
                             "result": "GREATER", "create_revision": "1"}],
                "success": [],
                "failure": [{"request_txn": {"compare": [],
                                             "success": [
                                                 {"request_range": {"key": to64("n/4d")}}]}}]}),
    ("kv/put", {"key": to64("n/5"), "ignore_lease": True}),
    ("kv/put", {"key": to64("n/5"), "lease": "99"}),
    ("lease/keepalive", {"ID": "77"}),
    ("lease/keepalive", {"ID": "99"}),
    ("lease/timetolive", {"ID": "99"}),
    ("lease/revoke", {"ID": "99"}),
    ("auth/authenticate", {"name": "x", "password": "y"}),
    ("kv/range", {"key": to64("n/4d"), "revision": "1000"}),
    ("lease/revoke", {"ID": "77"}),
    ("kv/range", {"key": to64("n/"), "range_end": to64("n0")}),
    ("maintenance/status", {}),
]


OWN = {"cluster_id", "member_id", "raft_term", "raftTerm", "version", "dbSize", "leader",
       "raftIndex", "raftAppliedIndex", "dbSizeInUse"}


def comparable(value):
    """VALUE without what differs between servers."""
    if isinstance(value, dict):
        return {k: None if k in OWN else comparable(v) for k, v in value.items()}
    return [comparable(v) for v in value] if isinstance(value, list) else value


def test_the_gateway_answers_as_etcd_does(gateway, own_etcd):
    for path, body in QUESTIONS:
        ours, theirs = (ask(server.port, path, **body) for server in (gateway, own_etcd))
        assert (ours[0], comparable(ours[1])) == (theirs[0], comparable(theirs[1])), (path, body)


class Watch:
    """A watch on a server; .next() returns the next answer."""

    def __init__(self, port, **request):
        body = protobuf.encode("Watch", {"create_request": request})
        self.call = http2.Call(port, "/etcdserverpb.Watch/Watch", protobuf.framed(body), DEADLINE)

    def next(self):
        while not (messages := protobuf.messages_of(self.call.data))[0]:
            self.call.read()
        self.call.data = self.call.data[5 + len(messages[0][0]):]
        return protobuf.decode("Watched", messages[0][0])


def test_watches_of_the_gateway_are_those_of_etcd(gateway, own_etcd):
    seen = []
    for server in (gateway, own_etcd):
        ask(server.port, "kv/put", key=to64("a/1"), value=to64("x"))
        lease = ask(server.port, "lease/grant", TTL=10)[1]["ID"]
        ask(server.port, "kv/put", key=to64("a/2"), value=to64("y"), lease=lease)
        w = Watch(server.port, key=to64("a/"), range_end=to64("a0"), start_revision="2",
                  prev_kv=True)
        deletions = Watch(server.port, key=to64("a/2"), filters=["NOPUT"])
        answers = [w.next(), deletions.next()]
        answers.append(w.next())
        ask(server.port, "kv/put", key=to64("a/1"), value=to64("z"))
        answers.append(w.next())
        ask(server.port, "lease/revoke", ID=lease)
        answers += [w.next(), deletions.next()]
        if server is gateway:
            server.store.compacted = server.store.revision
        else:
            server.client().compact(server.client().revision())
        late = Watch(server.port, key=to64("a/1"), start_revision="2")
        answers += [late.next(), late.next()]
        seen.append(json.dumps(comparable(answers)).replace(lease, "LEASE"))
    assert seen[0] == seen[1]


def test_leases_of_the_gateway_end(gateway):
    lease = ask(gateway.port, "lease/grant", TTL=2)[1]["ID"]
    ask(gateway.port, "kv/put", key=to64("a/1"), lease=lease)
    w = Watch(gateway.port, key=to64("a/1"))
    assert w.next()["created"]
    event, = w.next()["events"]
    assert event["type"] == "DELETE" and from64(event["kv"]["key"]) == b"a/1"
    assert not gateway.store.leases


def test_hooks(gateway):
    def put(timeout=DEADLINE):
        return ask(gateway.port, "kv/put", timeout, key=to64("a"))

    gateway.on("kv/put", g.once(g.drop)).on("kv/put", g.once(g.drop_after))
    gateway.on("kv/put", g.once(g.half)).on("kv/put", g.once(g.reset))
    for revision in (1, 2, 3, 4):
        with pytest.raises((http2.Gone, OSError)):
            put()
        assert gateway.store.revision == revision
    gateway.on("kv/put", g.once(g.hang_after))
    with pytest.raises(OSError):
        put(0.3)
    assert gateway.store.revision == 5
    gateway.on("kv/put", g.once(g.one_byte_at_a_time))
    gateway.on("kv/put", g.once(g.late(0.01)))
    gateway.on("kv/put", g.once(g.fails(14, "not now: 100 %")))
    assert [put()[0] for _ in range(2)] == [0, 0] and gateway.store.revision == 7
    assert put() == (14, "not now: 100 %25")
    gateway.down()
    with pytest.raises(OSError):
        put()
    gateway.up()
    assert put()[0] == 0
    assert len(gateway.seen("kv/put")) == 9


def test_the_proxy_cuts(own_etcd, proxy):
    p = proxy(own_etcd)
    client = Client(p.port)
    assert client.put("a") == 2
    p.cut = "down"
    with pytest.raises(OSError):
        client.post("kv/put", timeout=0.3, key=to64("a"))
    assert own_etcd.client().revision() == 3
    p.cut = "up"
    with pytest.raises(OSError):
        client.post("kv/put", timeout=0.3, key=to64("a"))
    assert own_etcd.client().revision() == 3
    p.cut = ""
    assert client.put("a") == 4
