#!/usr/bin/env python3
"""Compares the simulator's store with a real etcd server.

usage: conform.py SIM ETCD [SEED [REQUESTS]]

Starts ETCD with an empty database, asks it and SIM (as "SIM --answer") the same random requests, of the kinds that me-only
makes and mixtures of them, and compares the answers. Last line: N requests, M answered differently.
"""
import base64
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../fleet"))
import protobuf  # noqa: E402 pylint: disable=wrong-import-position

PREFIX = "lock/"
KEYS = [PREFIX + letter for letter in "abcdef"]
LEASES = [str(1000 + i) for i in range(1, 5)]


def encode(text):
    return base64.b64encode(text.encode()).decode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A real etcd of one member, which ends with this process."""

    def __init__(self, program):
        self.directory = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.port, peer = free_port(), free_port()
        url, peers = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer}"
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", program, "--data-dir", self.directory, "--listen-client-urls", url, "--advertise-client-urls", url,
             "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", f"default={peers}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        end = time.monotonic() + 60
        while True:
            try:
                if self.ask("/v3/kv/range", {"key": encode("x")}).get("header"):
                    return
            except OSError:
                self.connection.close()
            if time.monotonic() > end or self.process.poll() is not None:
                raise SystemExit(f"{program} does not start")
            time.sleep(0.05)

    def ask(self, path, body):
        self.connection.request("POST", path, json.dumps(body))
        return json.load(self.connection.getresponse())

    def watch(self, create, revision):
        """All events until REVISION, which a last one has."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/v3/watch", json.dumps({"create_request": create}))
        answer, events = connection.getresponse(), []
        while not events or int(events[-1]["kv"]["mod_revision"]) < revision:
            events += json.loads(answer.readline())["result"].get("events", [])
        connection.close()
        return events

    def end(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.directory)


def without_zeros(value):
    """As JSON has it: an enumeration's first name is left out."""
    if isinstance(value, list):
        return [without_zeros(v) for v in value]
    if not isinstance(value, dict):
        return value
    return {k: without_zeros(v) for k, v in value.items() if v not in (False, "PUT")}


class Model:
    def __init__(self, program):
        self.process = subprocess.Popen([program, "--answer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, path, body):
        method, asked, answered = protobuf.METHODS[path.removeprefix("/v3/")]
        self.process.stdin.write(f"/etcdserverpb.{method} {protobuf.encode(asked, body).hex()}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer.startswith("error "):
            return {"code": int(answer.split()[1])}
        return without_zeros(protobuf.decode(answered, bytes.fromhex(answer), strict=True))

    def watch(self, create):
        return self.ask("/v3/watch", {"create_request": create}).get("events", [])


class Requests:
    """Random requests, near the revision that the server has come to."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.revision = 1
        self.grants = list(LEASES)

    def near(self, most):
        return str(max(1, self.revision - self.random.randint(0, most)))

    def span(self):
        key = self.random.choice(KEYS)
        end = encode(PREFIX[:-1] + "0")
        return self.random.choice([{"key": encode(key)}, {"key": encode(PREFIX), "range_end": end},
                                   {"key": encode(PREFIX), "range_end": encode(key)}, {"key": encode(key + "\0"), "range_end": end}])

    def range(self):
        body = self.span()
        if self.random.random() < .7:
            body.update(sort_order=self.random.choice(["ASCEND", "DESCEND"]), sort_target="CREATE")
        if self.random.random() < .4:
            body["limit"] = str(self.random.randint(1, 3))
        if self.random.random() < .3:
            body["max_create_revision"] = self.near(6)
        if self.random.random() < .2:
            body["min_create_revision"] = self.near(6)
        if self.random.random() < .1:
            body["keys_only"] = True
        return body

    def compare(self):
        if self.random.random() < .3:
            return {"target": "MOD", "result": "EQUAL", "mod_revision": str(max(0, self.revision - self.random.randint(0, 5))),
                    "key": encode(self.random.choice(KEYS))}
        return {"target": "CREATE", "result": self.random.choice(["EQUAL", "GREATER"]),
                "create_revision": self.random.choice(["0", self.near(6)]), **self.span()}

    def put(self, key):
        body = {"key": encode(key), "value": encode(str(self.random.random()))}
        body.update(self.random.choice([{"lease": self.random.choice(LEASES)}, {}, {}, {"ignore_lease": True}]))
        return {"request_put": body}

    def operations(self, depth, free):
        result = []
        for _ in range(self.random.randint(0, 3)):
            chance = self.random.random()
            if chance < .35 and free:
                result.append(self.put(free.pop()))
            elif chance < .5 and free:
                result.append({"request_delete_range": {"key": encode(free.pop())}})
            elif chance < .65 and depth:
                inner = [free.pop() for _ in range(len(free) // 2)]
                result.append({"request_txn": self.transaction(depth - 1, inner)})
            else:
                result.append({"request_range": self.range()})
        return result

    def transaction(self, depth, free):
        # No key is written twice: etcd refuses that, and me-only never asks for it.
        half = len(free) // 2
        first, second = free[:half], free[half:]
        return {"compare": [self.compare() for _ in range(self.random.randint(0, 2))], "success": self.operations(depth, first),
                "failure": self.operations(depth, second)}

    def next(self):
        chance = self.random.random()
        if self.grants:
            return "/v3/lease/grant", {"TTL": "600", "ID": self.grants.pop()}
        if chance < .05:
            lease = self.random.choice(LEASES)
            self.grants = [lease] if self.random.random() < .7 else []
            return "/v3/lease/revoke", {"ID": lease}
        if chance < .12:
            return self.random.choice(["/v3/lease/grant", "/v3/lease/keepalive", "/v3/lease/timetolive"]), \
                {"TTL": "600", "ID": self.random.choice(LEASES)}
        if chance < .3:
            return "/v3/kv/range", self.range()
        free = KEYS[:]
        self.random.shuffle(free)
        return "/v3/kv/txn", self.transaction(2, free)


def essence(value):
    """Without headers, texts of errors, and the time that a lease has left."""
    if isinstance(value, list):
        return [essence(v) for v in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("error"), dict):
        return {"code": value["error"].get("code", value["error"].get("grpc_code"))}
    if "code" in value:
        return {"code": value["code"]}
    # A stream's answers are wrapped in JSON.
    if isinstance(value.get("result"), dict):
        value = value["result"]
    result = {k: essence(v) for k, v in value.items() if k not in ("header", "message")}
    if "grantedTTL" in result:
        result["TTL"] = "some"
    return result


def main():
    simulator, program = sys.argv[1:3]
    seed, count = (int(n) for n in (sys.argv[3:] + ["1", "1500"][len(sys.argv[3:]):]))
    server, model, requests = Server(program), Model(simulator), Requests(seed)
    asked = different = 0

    def compare(what, wanted, got):
        nonlocal asked, different
        asked += 1
        if wanted != got:
            different += 1
            if different < 6:
                if isinstance(wanted, list):
                    wanted, got = next(((w, g) for w, g in zip(wanted, got) if w != g), (len(wanted), len(got)))
                print(f"DIFFERENT {what}", f"  etcd      {json.dumps(wanted, sort_keys=True):.1000}",
                      f"  simulator {json.dumps(got, sort_keys=True):.1000}", sep="\n")

    try:
        while asked < count:
            path, body = requests.next()
            answer = server.ask(path, body)
            requests.revision = max(requests.revision, int(answer.get("header", {}).get("revision", 0)))
            compare(f"{path} {json.dumps(body)}", essence(answer), essence(model.ask(path, body)))
        last = {"success": [{"request_put": {"key": encode(PREFIX + "last"), "value": encode("last")}}]}
        revision = int(server.ask("/v3/kv/txn", last)["header"]["revision"])
        model.ask("/v3/kv/txn", last)
        for start in range(1, revision, max(1, revision // 20)):
            create = {"key": encode(PREFIX), "range_end": encode("lock0"), "start_revision": str(max(2, start)),
                      "prev_kv": requests.random.random() < .5, "filters": ["NOPUT"] if requests.random.random() < .2 else []}
            if not create["filters"]:
                compare(f"watch {json.dumps(create)}", server.watch(create, revision), model.watch(create))
    finally:
        server.end()
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
    print(f"etcd {version}: {asked} requests, {different} answered differently")
    sys.exit(different > 0)


main()
