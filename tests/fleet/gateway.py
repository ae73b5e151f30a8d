"""An etcd server that does what a test tells it to: real ones do most of it only when broken.

It keeps keys, leases and users in memory, and speaks gRPC. Tests see requests and answers as values
like those of etcd's JSON gateway (protobuf.py), and name calls by its paths, such as "kv/txn".

A test puts hooks on paths. A hook is called with each Exchange and answers it (and returns true),
or leaves it to the next one.

    g.on("lease/keepalive", once(late(2)))
    g.on("kv/txn", after(1, hang))

Proxy stands between a client and a server, and delays, cuts or resets the traffic.
"""
import base64
import contextlib
import json
import random
import socket
import threading
import time
import traceback
import urllib.parse

import protobuf
from http2 import Gone, Listener

PATHS = {"/etcdserverpb." + method[0]: path for path, method in protobuf.METHODS.items()}


class Failure(Exception):
    """An answer with a gRPC error code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


def number(value):
    return int(value or 0)


def bytes_of(text):
    return base64.b64decode(text or "")


def text_of(data):
    return base64.b64encode(data).decode()


def without_zeros(fields):
    """As protobuf encodes it: zero is omitted; 64 bits are a string."""
    return {k: str(v) if isinstance(v, int) and not isinstance(v, bool) else v
            for k, v in fields.items() if v not in (0, "", False, None, [])}


# ---- the store ----

class Key:
    def __init__(self, key, value, lease, created, modified, version):
        self.key, self.value, self.lease = key, value, lease
        self.created, self.modified, self.version = created, modified, version

    def shown(self, keys_only=False):
        return without_zeros({"key": text_of(self.key), "create_revision": self.created,
                              "mod_revision": self.modified,
                              "version": self.version, "value": "" if keys_only
                              else text_of(self.value), "lease": self.lease})


class Lease:
    def __init__(self, ttl):
        self.ttl = ttl
        self.renew()

    def renew(self):
        self.end = time.monotonic() + self.ttl

    def left(self):
        return max(0, int(self.end - time.monotonic()))


def in_range(key, start, end):
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


class Store:
    """Keys and leases, as etcd keeps them. Every call is made with .changed held."""

    def __init__(self):
        self.changed = threading.Condition(threading.RLock())
        self.revision = 1
        self.keys, self.leases = {}, {}
        self.events = []     # (revision, "PUT" or "DELETE", Key, the Key before or None)
        self.compacted = 0
        self.term = 2
        # this many of the next deletions are not sent to watchers; -1: none ever
        self.drop_deletes = 0
        self.drop_puts = 0  # the same for puts

    # --- writing ---

    def put(self, r, revision):
        key, lease = bytes_of(r.get("key")), number(r.get("lease"))
        if not key:
            raise Failure(3, "etcdserver: key is not provided")
        before = self.keys.get(key)
        value = bytes_of(r.get("value"))
        if (r.get("ignore_lease") or r.get("ignore_value")) and not before:
            raise Failure(3, "etcdserver: key not found")
        if r.get("ignore_lease"):
            lease = before.lease
        if r.get("ignore_value"):
            value = before.value
        if lease and lease not in self.leases:
            raise Failure(5, "etcdserver: requested lease not found")
        new = Key(key, value, lease, before.created if before else revision, revision,
                  before.version + 1 if before else 1)
        self.keys[key] = new
        if self.drop_puts:
            self.drop_puts -= self.drop_puts > 0
        else:
            self.events.append((revision, "PUT", new, before))
        return {"prev_kv": before.shown()} if before and r.get("prev_kv") else {}

    def delete(self, r, revision):
        start, end = bytes_of(r.get("key")), bytes_of(r.get("range_end"))
        gone = [self.keys.pop(k) for k in sorted(self.keys) if in_range(k, start, end)]
        for old in gone:
            self.remember_deletion(old, revision)
        return without_zeros({"deleted": len(gone), "prev_kvs": [old.shown() for old in gone]
                              if r.get("prev_kv") else []})

    def remember_deletion(self, old, revision):
        if self.drop_deletes:
            self.drop_deletes -= self.drop_deletes > 0
            return
        self.events.append((revision, "DELETE", Key(old.key, b"", 0, 0, revision, 0), old))

    def end_lease(self, lease):
        """Its keys go with it, in one revision."""
        self.leases.pop(lease)
        mine = [k for k in sorted(self.keys) if self.keys[k].lease == lease]
        if mine:
            self.revision += 1
        for k in mine:
            self.remember_deletion(self.keys.pop(k), self.revision)
        self.changed.notify_all()

    def expire(self):
        now = time.monotonic()
        for lease in [n for n, entry in self.leases.items() if entry.end <= now]:
            self.end_lease(lease)

    # --- reading ---

    def range(self, r):
        if number(r.get("revision")) > self.revision:
            raise Failure(11, "etcdserver: mvcc: required revision is a future revision")
        start, end = bytes_of(r.get("key")), bytes_of(r.get("range_end"))
        if not start:
            raise Failure(3, "etcdserver: key is not provided")
        found = [self.keys[k] for k in sorted(self.keys) if in_range(k, start, end)]
        count = len(found)
        for field, value in (("create", "created"), ("mod", "modified")):
            least, most = number(r.get(f"min_{field}_revision")), \
                number(r.get(f"max_{field}_revision"))
            found = [k for k in found if getattr(k, value) >= least
                     and (not most or getattr(k, value) <= most)]
        target = {"KEY": "key", "VERSION": "version", "CREATE": "created", "MOD": "modified",
                  "VALUE": "value"}[r.get("sort_target") or "KEY"]
        if r.get("sort_order", "NONE") in ("ASCEND", "DESCEND"):
            found.sort(key=lambda k: getattr(k, target), reverse=r["sort_order"] == "DESCEND")
        limit = number(r.get("limit"))
        more = bool(limit and len(found) > limit)
        found = [] if r.get("count_only") else found[:limit] if limit else found
        return without_zeros({"kvs": [k.shown(r.get("keys_only")) for k in found], "more": more,
                              "count": count})

    def holds(self, c):
        """Whether a comparison of a txn is true."""
        start, end = bytes_of(c.get("key")), bytes_of(c.get("range_end"))
        found = [self.keys[k] for k in self.keys if in_range(k, start, end)] \
            or [Key(start, None, 0, 0, 0, 0)]
        target = c.get("target") or "VERSION"
        read = {"VERSION": lambda k: k.version, "CREATE": lambda k: k.created,
                "MOD": lambda k: k.modified, "LEASE": lambda k: k.lease,
                "VALUE": lambda k: k.value}[target]
        if target == "VALUE":
            wanted = bytes_of(c.get("value"))
        else:
            wanted = number(c.get({"VERSION": "version", "CREATE": "create_revision",
                                   "MOD": "mod_revision", "LEASE": "lease"}[target]))
        test = {"EQUAL": lambda v: v == wanted, "GREATER": lambda v: v > wanted,
                "LESS": lambda v: v < wanted,
                "NOT_EQUAL": lambda v: v != wanted}[c.get("result") or "EQUAL"]
        return all(read(k) is not None and test(read(k)) for k in found)

    def txn(self, r):
        """All of it or nothing: a copy shows first what cannot be done."""
        saved = dict(self.keys), len(self.events), self.drop_deletes, self.drop_puts
        try:
            revision = self.revision + 1
            answer, wrote = self._txn(r, revision)
        except Failure:
            self.keys, _, self.drop_deletes, self.drop_puts = saved
            del self.events[saved[1]:]
            raise
        if wrote:
            self.revision = revision
            self.changed.notify_all()
        return answer

    def _txn(self, r, revision, wrote=False):
        """(answer, whether anything has been written so far)"""
        good = all(self.holds(c) for c in r.get("compare", []))
        responses = []
        for op in r.get("success" if good else "failure", []):
            (kind, request), = op.items()
            if kind == "request_range":
                now = revision if wrote else self.revision
                responses.append({"response_range": {"header": {"revision": str(now)},
                                                     **self.range(request)}})
                continue
            if kind == "request_put":
                done, changes = self.put(request, revision), True
            elif kind == "request_delete_range":
                done = self.delete(request, revision)
                changes = "deleted" in done
            else:
                done, changes = self._txn(request, revision, wrote)
            wrote = wrote or changes
            header = {} if kind == "request_txn" else {"revision": str(revision)}
            responses.append({kind.replace("request", "response"): {"header": header, **done}})
        return without_zeros({"succeeded": good, "responses": responses}), wrote


# ---- one request ----

class Exchange:
    """
    A request and what can be done with it. .count: its number among those of its path, from 1.
    .body: its messages as JSON, to look for words in it.
    """

    def __init__(self, gateway, stream, path, count):
        self.gateway, self.stream, self.path, self.count = gateway, stream, path, count
        kind = protobuf.METHODS[path][1] if path in protobuf.METHODS else None
        self.messages = [protobuf.decode(kind, m) for m in protobuf.messages_of(stream.data)[0]] \
            if kind else []
        self.body = "\n".join(json.dumps(m, separators=(",", ":")) for m in self.messages).encode()
        self.headers = stream.headers
        self.time = time.monotonic()
        self.answered = None   # the values of the answer, or bytes, or None

    @property
    def message(self):
        return self.messages[0] if self.messages else {}

    def normal(self):
        """(0, values) as a healthy server would answer now, or (the gRPC code, a message)."""
        try:
            return 0, self.gateway.answer(self)
        except Failure as e:
            return e.code, e.message

    def data(self):
        """The messages of normal()'s answer; none if it is an error."""
        status, values = self.normal()
        return b"" if status else b"".join(self.framed(v) for v in values)

    def framed(self, value):
        return protobuf.framed(protobuf.encode(protobuf.METHODS[self.path][2], value))

    def start(self, status=200, kind="application/grpc", **more):
        self.stream.start({":status": status, "content-type": kind, **more})

    def finish(self, code=0, message=""):
        """End an answer that was started."""
        self.stream.start({"grpc-status": code, "grpc-message": message}, end=True)

    def reply(self, status, values):
        """Send a whole answer: what normal() has returned."""
        if status:
            return self.fail(status, values)
        data = b"".join(self.framed(v) for v in values)
        self.start()
        self.stream.send(data)
        # Set once the client has all of it.
        self.answered = values
        self.finish()
        return True

    def send(self, status, body, kind="text/plain"):
        """Send any HTTP answer."""
        self.answered = body if isinstance(body, bytes) else body.encode()
        self.start(status, kind)
        self.stream.send(self.answered, end=True)
        return True

    def fail(self, code, message):
        self.answered = message
        self.stream.start({":status": 200, "content-type": "application/grpc", "grpc-status": code,
                           "grpc-message": urllib.parse.quote(message, safe=" /:,;()=\"'")},
                          end=True)
        return True

    def wait(self, seconds=None):
        """
        Wait until SECONDS have passed, the client has gone or the gateway ends; the last two end
        the call.
        """
        end = seconds and time.monotonic() + seconds
        connection = self.stream.connection
        while not self.gateway.closing.is_set():
            left = 0.05 if end is None else min(0.05, end - time.monotonic())
            if left <= 0:
                return
            with connection.lock:
                if self.stream.gone:
                    raise Gone
                connection.changed.wait(left)
        raise Gone


# ---- hooks ----

def hang(x):
    """Never answer."""
    x.wait()
    return True


def drop(x):
    """Close the connection without an answer, as if the request had never arrived."""
    x.stream.connection.hang_up()
    raise Gone


def drop_after(x):
    """Execute it, and close the connection without an answer."""
    x.normal()
    return drop(x)


def reset(x):
    """Execute it, and reset the call; the connection stays open."""
    x.normal()
    x.stream.reset()
    return True


def unread(x):
    """Reset the call, and report that it was not processed."""
    x.stream.reset(7)
    return True


def go_away(x):
    """Answer it, and accept no more calls on this connection."""
    x.stream.connection.go_away()


def hang_after(x):
    """Execute it, and never answer."""
    x.normal()
    x.wait()
    return True


def half(x):
    """Execute it, and close the connection in the middle of the answer."""
    data = x.data()
    x.start()
    x.stream.send(data[:len(data) // 2])
    return drop(x)


def half_and_hang(x):
    data = x.data()
    x.start()
    x.stream.send(data[:len(data) // 2])
    x.wait()
    return True


def late(seconds):
    """Execute it at once, and answer late."""
    def hook(x):
        status, values = x.normal()
        x.wait(seconds)
        return x.reply(status, values)
    return hook


def says(body, status=200, kind="text/plain"):
    """Answer with anything over HTTP."""
    return lambda x: x.send(status, body, kind)


def says_bytes(*messages, compressed=0, code=0):
    """Answer with any bytes as gRPC messages."""
    def hook(x):
        x.start()
        x.stream.send(b"".join(protobuf.framed(m, compressed) for m in messages))
        x.answered = messages
        x.finish(code)
        return True
    return hook


def fails(code, message):
    """Answer with a gRPC error code."""
    return lambda x: x.fail(code, message)


def changes(change):
    """Execute it, and let change(VALUE) edit the answer's value before it is sent."""
    def hook(x):
        status, values = x.normal()
        for value in values if not status else []:
            change(value)
        return x.reply(status, values)
    return hook


def one_byte_at_a_time(x):
    """In as many packets as there are bytes."""
    status, values = x.normal()
    if status:
        return x.fail(status, values)
    x.start()
    for byte in b"".join(x.framed(v) for v in values):
        x.stream.send(bytes([byte]))
    x.answered = values
    x.finish()
    return True


def once(hook):
    return times(1, hook)


def times(n, hook):
    """For the first N times only."""
    left = [n]

    def hook_(x):
        if left[0] <= 0:
            return None
        left[0] -= 1
        return hook(x)
    return hook_


def after(n, hook):
    """From the one after the first N on."""
    seen = [0]

    def hook_(x):
        seen[0] += 1
        return hook(x) if seen[0] > n else None
    return hook_


def only(test, hook):
    """Where test(EXCHANGE) is true."""
    return lambda x: hook(x) if test(x) else None


# ---- the gateway ----

class Gateway:
    """
    One server. .store: its contents; .requests: every Exchange so far; .errors: errors in this
    file.
    """

    def __init__(self, version="3.5.30", cluster=4711, store=None):
        self.version, self.cluster = version, cluster
        self.member = random.randrange(1, 1 << 63)
        self.store = store or Store()
        self.hooks, self.requests, self.errors = {}, [], []
        self.users, self.tokens, self.token_count = {}, {}, 0
        self.old_tokens = set()
        self.closing = threading.Event()
        self.port = 0
        self.up()
        self.clock = threading.Thread(target=self.tick, daemon=True)
        self.clock.start()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    @property
    def env(self):
        return {"ETCDCTL_ENDPOINTS": self.endpoint}

    # --- the network ---

    def up(self):
        """Listen; after down() on the same port as before."""
        self.listener = Listener(self, self.port)
        self.port = self.listener.port

    def down(self):
        """Nothing listens any more, and all connections are closed; the store stays."""
        self.listener.close()

    @property
    def connections(self):
        return self.listener.connections

    def disconnect(self):
        self.listener.disconnect()

    def close(self):
        self.closing.set()
        self.down()
        with self.store.changed:
            self.store.changed.notify_all()
        assert not self.errors, self.errors[0]

    def tick(self):
        while not self.closing.wait(0.05):
            with self.store.changed:
                self.store.expire()

    # --- what tests do ---

    def on(self, path, hook):
        """
        Hooks of a path (without "/v3/") are called in the order in which they were added. "*": all
        paths.
        """
        assert not path.startswith("/v3/"), path
        self.hooks.setdefault(path, []).append(hook)
        return self

    def off(self, path=None):
        """Remove all hooks."""
        self.hooks = {} if path is None else {p: h for p, h in self.hooks.items() if p != path}

    def seen(self, path):
        return [x for x in list(self.requests) if x.path == path]

    def wait_for(self, path, count=1, timeout=60):
        """The requests of a path, once there are COUNT of them."""
        with self.store.changed:
            assert self.store.changed.wait_for(lambda: len(self.seen(path)) >= count, timeout), \
                f"no {count} requests of {path}"
        return self.seen(path)

    def keys(self):
        with self.store.changed:
            return sorted(self.store.keys)

    def wait_for_line(self, n):
        """
        Until there are N keys, and each of their owners has asked for its events: then it knows
        that it has entered.
        """
        with self.store.changed:
            assert self.store.changed.wait_for(lambda: len(self.store.keys) == n and all(
                any(base64.b64encode(key) in x.body for x in self.seen("watch"))
                for key in self.store.keys), 60), f"no line of {n}"

    def delete(self, key):
        with self.store.changed:
            self.store.revision += 1
            self.store.delete({"key": text_of(key)}, self.store.revision)
            self.store.changed.notify_all()

    def put(self, key, value=b"", lease=0):
        with self.store.changed:
            self.store.revision += 1
            self.store.put({"key": text_of(key), "value": text_of(value), "lease": lease},
                           self.store.revision)
            self.store.changed.notify_all()

    def end_lease(self, lease):
        with self.store.changed:
            self.store.end_lease(lease)

    def expire_tokens(self):
        self.tokens.clear()

    def change_users(self):
        """With JWT, a token has the revision of users and roles."""
        self.old_tokens |= set(self.tokens)

    # --- answers ---

    def header(self):
        return without_zeros({"cluster_id": self.cluster, "member_id": self.member,
                              "revision": self.store.revision,
                              "raft_term": self.store.term})

    def is_whole(self, stream):
        """Whether the whole request has arrived. A stream's request has no end."""
        if not stream.path.endswith("/Watch"):
            return stream.ended
        return protobuf.messages_of(stream.data) != ([], stream.data)

    def serve(self, stream):
        try:
            self.take(stream)
        except (Failure, ValueError, KeyError, TypeError, AttributeError, IndexError):
            self.errors.append(traceback.format_exc())

    def take(self, stream):
        path = PATHS.get(stream.path, stream.path)
        with self.store.changed:
            x = Exchange(self, stream, path, len(self.seen(path)) + 1)
            self.requests.append(x)
            self.store.changed.notify_all()
        for hook in [*self.hooks.get(path, []), *self.hooks.get("*", [])]:
            if hook(x):
                return
        if path == "watch":
            self.watch(x)
        elif path not in protobuf.METHODS:
            x.fail(12, f"unknown method {path}")
        else:
            x.reply(*x.normal())

    def check_token(self, x):
        if not self.users or x.path in ("auth/authenticate", "maintenance/status"):
            return
        token = x.headers.get("token")
        if not token:
            raise Failure(3, "etcdserver: user name is empty")
        if token in self.old_tokens:
            raise Failure(3, "etcdserver: revision of auth store is old")
        if token not in self.tokens:
            raise Failure(16, "etcdserver: invalid auth token")

    def answer(self, x):
        with self.store.changed:
            self.store.expire()
            self.check_token(x)
            return getattr(self, "do_" + x.path.replace("/", "_"))(x)

    def do_auth_authenticate(self, x):
        if not self.users:
            raise Failure(9, "etcdserver: authentication is not enabled")
        if self.users.get(x.message.get("name")) != x.message.get("password"):
            raise Failure(3, "etcdserver: authentication failed, invalid user ID or password")
        self.token_count += 1
        token = f"token.{self.token_count}"
        self.tokens[token] = x.message["name"]
        return [{"header": self.header(), "token": token}]

    def do_watch(self, _x):
        return [{"header": self.header(), "created": True}]

    def do_maintenance_status(self, _x):
        return [without_zeros({"header": self.header(), "version": self.version, "dbSize": 20480,
                               "leader": self.member,
                               "raftIndex": 7 + self.store.revision, "raftTerm": self.store.term,
                               "raftAppliedIndex": 7 + self.store.revision, "dbSizeInUse": 16384})]

    def do_lease_grant(self, x):
        lease, ttl = number(x.message.get("ID")) or random.randrange(1, 1 << 63), \
            number(x.message.get("TTL"))
        if lease in self.store.leases:
            raise Failure(9, "etcdserver: lease already exists")
        self.store.leases[lease] = Lease(max(ttl, 2))
        return [{"header": self.header(), "ID": str(lease), "TTL": str(max(ttl, 2))}]

    def do_lease_keepalive(self, x):
        values = []
        for message in x.messages:
            lease = self.store.leases.get(number(message.get("ID")))
            if lease:
                lease.renew()
            values.append(without_zeros({"header": self.header(), "ID": number(message.get("ID")),
                                         "TTL": lease.ttl if lease else 0}))
        return values

    def do_lease_timetolive(self, x):
        n = number(x.message.get("ID"))
        lease = self.store.leases.get(n)
        if not lease:
            return [{"header": self.header(), "ID": str(n), "TTL": "-1"}]
        keys = [text_of(k) for k in sorted(self.store.keys)
                if self.store.keys[k].lease == n] if x.message.get("keys") else []
        return [without_zeros({"header": self.header(), "ID": n, "TTL": lease.left(),
                               "grantedTTL": lease.ttl, "keys": keys})]

    def do_lease_leases(self, x):
        return [without_zeros({"header": self.header(),
                               "leases": [{"ID": str(n)} for n in self.store.leases]})]

    def do_lease_revoke(self, x):
        lease = number(x.message.get("ID"))
        if lease not in self.store.leases:
            raise Failure(5, "etcdserver: requested lease not found")
        self.store.end_lease(lease)
        return [{"header": self.header()}]

    def do_kv_range(self, x):
        return [{"header": self.header(), **self.store.range(x.message)}]

    def do_kv_put(self, x):
        done = self.store.put(x.message, self.store.revision + 1)
        self.store.revision += 1
        self.store.changed.notify_all()
        return [{"header": self.header(), **done}]

    def do_kv_deleterange(self, x):
        done = self.store.delete(x.message, self.store.revision + 1)
        if "deleted" in done:
            self.store.revision += 1
            self.store.changed.notify_all()
        return [{"header": self.header(), **done}]

    def do_kv_txn(self, x):
        done = self.store.txn(x.message)
        return [{"header": self.header(), **done}]

    def do_kv_compaction(self, x):
        self.store.compacted = number(x.message.get("revision"))
        return [{"header": self.header()}]

    # --- watches ---

    def watch(self, x):
        """
        The stream: until the client leaves, the gateway closes, or a test sets x.end_watch =
        (code, message).
        """
        x.end_watch = None
        x.lines = []
        x.start()
        watches, opened = [], 0
        while not self.closing.is_set():
            with x.stream.connection.lock:
                messages = protobuf.messages_of(x.stream.data)[0]
            with self.store.changed:
                for n in range(opened, len(messages)):
                    request = protobuf.decode("Watch", messages[n]).get("create_request", {})
                    self.open_watch(x, n, request, watches)
                opened = len(messages)
                values = [v for w in watches for v in self.news(w)]
                end = x.end_watch
                if not values and end is None:
                    self.store.changed.wait(0.05)
            for value in values:
                self.line(x, value)
            if end is not None:
                x.finish(*end)
                return
            x.wait(0.001)

    def line(self, x, value):
        x.lines.append(value)
        x.stream.send(x.framed(value))

    def open_watch(self, x, n, request, watches):
        try:
            self.check_token(x)
        except Failure as e:
            code = {3: "InvalidArgument", 16: "Unauthenticated", 7: "PermissionDenied"}[e.code]
            self.line(x, {"header": self.header(), "watch_id": "-1", "created": True,
                          "canceled": True,
                          "cancel_reason": f"rpc error: code = {code} desc = {e.message}"})
            return
        self.line(x, without_zeros({"header": self.header(), "watch_id": n, "created": True}))
        start = number(request.get("start_revision")) or self.store.revision + 1
        if start < self.store.compacted:
            self.line(x, without_zeros({"header": {k: v for k, v in self.header().items()
                                                   if k != "revision"}, "watch_id": n,
                                        "canceled": True,
                                        "compact_revision": self.store.compacted}))
            return
        watches.append({"id": n, "next": start, "start": bytes_of(request.get("key")),
                        "end": bytes_of(request.get("range_end")),
                        "without": {f[2:] for f in request.get("filters", [])},
                        "prev": request.get("prev_kv")})

    def news(self, w):
        """The answer for what has happened since the last, if anything has."""
        events = []
        for revision, kind, key, before in self.store.events:
            if revision >= w["next"] and in_range(key.key, w["start"],
                                                  w["end"]) and kind not in w["without"]:
                events.append(without_zeros({"type": "" if kind == "PUT" else kind,
                                             "kv": key.shown(),
                                             "prev_kv": before.shown() if before and w["prev"]
                                             else None}))
        w["next"] = max(w["next"], self.store.revision + 1)
        return [without_zeros({"header": self.header(), "watch_id": w["id"],
                               "events": events})] if events else []


# ---- a proxy ----

class Proxy:
    """
    Passes bytes between clients and a server's port. .delay: seconds that each piece takes; .cut:
    what does not arrive any more, "up" (to the server), "down" or "both". Neither side is told, as
    with a broken wire.
    """

    def __init__(self, port):
        self.target, self.delay, self.cut = port, 0, ""
        self.sockets, self.closing = set(), False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    @property
    def env(self):
        return {"ETCDCTL_ENDPOINTS": self.endpoint}

    def accept(self):
        while True:
            try:
                client = self.listener.accept()[0]
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self.sockets |= {client, server}
            for source, sink, way in ((client, server, "up"), (server, client, "down")):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.copy, args=(source, sink, way), daemon=True).start()

    def copy(self, source, sink, way):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                if self.cut not in (way, "both"):
                    sink.sendall(data)
            while self.cut in (way, "both") and not self.closing:
                time.sleep(0.05)
        for s in (source, sink):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def reset(self):
        """End all connections."""
        for s in list(self.sockets):
            with contextlib.suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                s.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.closing = True
        # accept() in another thread does not notice close() alone.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.reset()
        for s in self.sockets:
            s.close()
