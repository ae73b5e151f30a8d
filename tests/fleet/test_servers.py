"""
The tests' own tools: servers that leave nothing behind, a gateway that etcdctl accepts, a proxy
that cuts.
"""
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

import gateway as g
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
    client.token = client.post("auth/authenticate", name=USER, password=PASSWORD)["token"]
    client.put(ALLOWED + "x")
    with pytest.raises(Refused) as refused:
        client.put("elsewhere/x")
    assert refused.value.code == 7
    # It forgets tokens that nobody uses.

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

def ask(port, path, *bodies):
    """One request: (status, text)."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as s:
        body = "".join(json.dumps(b) for b in bodies).encode()
        s.sendall(b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
            path.encode(), len(body), body))
        r = http.client.HTTPResponse(s)
        r.begin()
        return r.status, r.read().decode()


@pytest.mark.parametrize("gateway", ["3.4", "debian", "3.6"], indirect=True)
def test_the_gateway_keeps_keys_and_leases(gateway):
    client = Client(gateway.port)
    assert client.fetch("/version")["etcdserver"] == gateway.version
    lease = client.grant(10)
    assert client.put("a/1", "x", lease) == 2 and client.put("a/2") == 3 \
        and client.put("a/1", "y", lease) == 4
    first, second = client.entries("a/")
    assert (first.key, first.created, first.modified, first.value,
            first.lease) == ("a/1", 2, 4, b"y", lease)
    assert second.key == "a/2"
    assert 8 <= client.time_left(lease) <= 10 and client.keepalive(lease) == 10 \
        and client.leases() == {lease}
    assert client.delete("a/2") == 1 and client.delete("a/2") == 0
    client.revoke(lease)
    assert client.entries("a/") == [] and client.time_left(lease) == -1 \
        and client.keepalive(lease) == 0
    with pytest.raises(Refused) as refused:
        client.put("a/1", "x", lease)
    assert (refused.value.status, refused.value.code) == (404, 5)
    with pytest.raises(Refused) as refused:
        client.put("")
    assert (refused.value.status, refused.value.code) == (400, 3)
    assert client.revision() == 6


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
    ("nothing/there", {}),
]


OWN = {"cluster_id", "member_id", "raft_term", "raftTerm", "version", "dbSize", "leader",
       "raftIndex", "raftAppliedIndex", "dbSizeInUse"}


def comparable(text):
    """
    Without what differs between servers, and without the second copy of a message, which ended with
    etcd 3.4.
    """
    def strip(value):
        if isinstance(value, dict):
            return {k: None if k in OWN else strip(v) for k, v in value.items()
                    if k != "error" or v != value.get("message")}
        return [strip(v) for v in value] if isinstance(value, list) else value
    try:
        return strip(json.loads(text))
    except ValueError:
        return text.strip().lower()


def test_the_gateway_answers_as_etcd_does(gateway, own_etcd):
    for path, body in QUESTIONS:
        ours, theirs = (ask(port, "/v3/" + path, body) for port in (gateway.port, own_etcd.port))
        if path == "nothing/there":
            assert ours[0] == theirs[0] == 404
            continue
        # A failed precondition is status 412 up to etcd 3.4, 400 since 3.5.
        assert ours[0] == theirs[0] or (ours[0], theirs[0]) == (412, 400), (path, body)
        assert comparable(ours[1]) == comparable(theirs[1]), (path, body)


class Watch:
    """A watch of a server; .next() is the next line."""

    def __init__(self, port, **request):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        body = json.dumps({"create_request": request}).encode()
        self.socket.sendall(
            b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (
                len(body), body))
        self.response = http.client.HTTPResponse(self.socket)
        self.response.begin()

    def next(self):
        return json.loads(self.response.readline())["result"]


def test_watches_of_the_gateway_are_those_of_etcd(gateway, own_etcd):
    seen = []
    for server in (gateway, own_etcd):
        client = Client(server.port)
        client.put("a/1", "x")
        lease = client.grant(10)
        client.put("a/2", "y", lease)
        w = Watch(server.port, key=to64("a/"), range_end=to64(end_of("a/")), start_revision="2",
                  prev_kv=True)
        deletions = Watch(server.port, key=to64("a/2"), filters=["NOPUT"])
        lines = [w.next(), deletions.next()]
        lines.append(w.next())
        client.put("a/1", "z")
        lines.append(w.next())
        client.revoke(lease)
        lines += [w.next(), deletions.next()]
        client.compact(client.revision())
        late = Watch(server.port, key=to64("a/1"), start_revision="2")
        lines += [late.next(), late.next()]
        text = json.dumps([comparable(json.dumps(line)) for line in lines])
        seen.append(text.replace(str(lease), "LEASE"))
    assert seen[0] == seen[1]


def test_leases_of_the_gateway_end(gateway):
    client = Client(gateway.port)
    lease = client.grant(2)
    client.put("a/1", "x", lease)
    w = Watch(gateway.port, key=to64("a/1"))
    assert w.next()["created"]
    event, = w.next()["events"]
    assert event["type"] == "DELETE" and from64(event["kv"]["key"]) == b"a/1"
    assert client.leases() == set()


@pytest.mark.parametrize("style, unary, stream", [
    ("3.4", '{"error":"text","message":"text","code":5}',
     '{"error":{"grpc_code":5,"http_code":404,"message":"text","http_status":'),
    ("debian", '{"code":5, "message":"text"}', '{"error":{"code":5, "message":"text"}}'),
])
def test_errors_in_the_style_of_each_version(style, unary, stream):
    server = g.Gateway(style)
    server.on("*", g.fails(5, "text"))
    assert ask(server.port, "/v3/kv/range", {}) == (404, unary)
    status, text = ask(server.port, "/v3/lease/keepalive", {})
    assert status == 404 and text.startswith(stream)
    server.close()


def test_hooks(gateway):
    client = Client(gateway.port)
    gateway.on("kv/put", g.once(g.drop)).on("kv/put",
                                            g.once(g.drop_after)).on("kv/put", g.once(g.half))
    for revision in (1, 2, 3):
        with pytest.raises((http.client.HTTPException, OSError)):
            client.put("a")
        assert client.revision() == revision
    gateway.on("kv/put", g.once(g.hang_after))
    with pytest.raises(OSError):
        client.post("kv/put", timeout=0.2, key=to64("a"))
    assert client.revision() == 4
    gateway.on("kv/put", g.once(g.one_byte_at_a_time))
    gateway.on("kv/put", g.once(g.late(0.01)))
    gateway.on("kv/put", g.once(g.says("no", 404, "text/plain")))
    assert (client.put("a"), client.put("a")) == (5, 6)
    assert ask(gateway.port, "/v3/kv/put", {"key": to64("a")}) == (404, "no")
    gateway.down()
    with pytest.raises(OSError):
        client.put("a")
    gateway.up()
    assert client.put("a") == 7
    assert len(gateway.seen("kv/put")) == 8


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
