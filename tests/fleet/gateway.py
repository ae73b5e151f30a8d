"""A gateway of etcd that does what a test tells it to: real servers do most of it only when broken.

It keeps keys, leases and users in memory, and answers like the JSON gateway, in the style of a
version:

    "3.4"     etcd 3.4, and 3.5 as its authors build it
    "debian"  etcd 3.5 of Debian (grpc-gateway v2)
    "3.6"     etcd 3.6: as before, with white space at random

A test puts hooks on paths. A hook is called with each Exchange and answers it (and returns true),
or leaves it to the next one.

    g.on("lease/keepalive", once(late(2)))
    g.on("kv/txn", after(1, hang))

Proxy stands between a client and a server, and delays, cuts or resets the traffic.
"""
import base64
import contextlib
import http.server
import json
import random
import re
import select
import socket
import socketserver
import threading
import time

# gRPC code: HTTP status in 3.4, in grpc-gateway v2
STATUS = {1: (408, 499), 2: (500, 500), 3: (400, 400), 4: (504, 504), 5: (404, 404), 7: (403, 403),
          8: (429, 429), 9: (412, 400), 11: (400, 400),
          14: (503, 503), 16: (401, 401)}
STREAMS = {"watch", "lease/keepalive"}


class Failure(Exception):
    """An answer with a code of gRPC."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.message = code, message


class Gone(Exception):
    """The connection must not be used any more."""


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
    """

    def __init__(self, gateway, handler, path, body, count):
        self.gateway, self.handler, self.path, self.count = gateway, handler, path, count
        self.body, self.messages = body, list(parse(body))
        self.headers = dict(handler.headers)
        self.time = time.monotonic()
        self.answered = None   # the bytes of the answer's body, or None

    @property
    def message(self):
        return self.messages[0] if self.messages else {}

    def normal(self):
        """
        (HTTP status, JSON values) as a healthy server would answer now. For a watch: its beginning,
        then its end.
        """
        try:
            return 200, self.gateway.answer(self)
        except Failure as e:
            return self.gateway.refusal(e.code, e.message, self.path in STREAMS)

    def written(self, values):
        """Values as the body of an answer: one line for each if the path is a stream."""
        end = "\n" if self.path in STREAMS else ""
        return "".join(self.gateway.dump(v) + end for v in values).encode()

    def send(self, status, body, kind="application/json", length=None):
        """A whole answer. LENGTH: the length that it claims for its body."""
        body = body if isinstance(body, bytes) else body.encode()
        self.answered = body
        h = self.handler
        h.send_response(status)
        h.send_header("Content-Type", kind)
        h.send_header("Content-Length", str(len(body) if length is None else length))
        h.end_headers()
        h.wfile.write(body)
        h.wfile.flush()
        return True

    def send_normal(self):
        status, values = self.normal()
        return self.send(status, self.written(values))

    def fail(self, code, message):
        status, values = self.gateway.refusal(code, message, self.path in STREAMS)
        return self.send(status, self.written(values))

    def wait(self, seconds=None):
        """
        Wait until SECONDS have passed, the client has gone or the gateway ends; the last two end
        the connection.
        """
        end = seconds and time.monotonic() + seconds
        while not self.gateway.closing.is_set():
            left = 0.05 if end is None else min(0.05, end - time.monotonic())
            if left <= 0:
                return
            if select.select([self.handler.connection], [], [], left)[0]:
                try:
                    if not self.handler.connection.recv(1, socket.MSG_PEEK):
                        raise Gone
                except OSError as e:
                    raise Gone from e
                self.gateway.closing.wait(left)
        raise Gone


def parse(body):
    """The JSON values of a body, one after another."""
    decoder, text = json.JSONDecoder(), body.decode().strip()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].strip()


# ---- hooks ----

def hang(x):
    """Never answer."""
    x.wait()
    return True


def drop(x):
    """Close the connection without an answer, as if the request had never arrived."""
    raise Gone


def drop_after(x):
    """Execute it, and close the connection without an answer."""
    x.normal()
    raise Gone


def hang_after(x):
    """Execute it, and never answer."""
    x.normal()
    x.wait()
    return True


def half(x):
    """Execute it, and close the connection in the middle of the answer."""
    status, values = x.normal()
    body = x.written(values)
    x.send(status, body[:len(body) // 2], length=len(body))
    raise Gone


def half_and_hang(x):
    status, values = x.normal()
    body = x.written(values)
    x.send(status, body[:len(body) // 2], length=len(body))
    x.wait()
    return True


def late(seconds):
    """Execute it at once, and answer late."""
    def hook(x):
        status, values = x.normal()
        x.wait(seconds)
        return x.send(status, x.written(values))
    return hook


def says(body, status=200, kind="application/json"):
    """Answer with any text."""
    return lambda x: x.send(status, body, kind)


def fails(code, message):
    """Answer with a code of gRPC, in the style of the version."""
    return lambda x: x.fail(code, message)


def changes(change):
    """Execute it, and let change(VALUE) edit the answer's JSON value before it is sent."""
    def hook(x):
        status, values = x.normal()
        for value in values:
            change(value)
        return x.send(status, x.written(values))
    return hook


def unterminated(x):
    """A stream's last line without its line feed."""
    status, values = x.normal()
    return x.send(status, x.written(values).rstrip(b"\n"))


def one_byte_at_a_time(x):
    """In as many packets as there are bytes."""
    status, values = x.normal()
    body = x.written(values)
    x.handler.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    x.send(status, b"", length=len(body))
    for n in range(len(body)):
        x.handler.wfile.write(body[n:n + 1])
        x.handler.wfile.flush()
    x.answered = body
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

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gateway", ""
    disable_nagle_algorithm = True

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass

    def setup(self):
        super().setup()
        self.server.gateway.connections.add(self.connection)

    def handle(self):
        with contextlib.suppress(Gone, ConnectionError, TimeoutError, ValueError):
            super().handle()

    def finish(self):
        with contextlib.suppress(OSError):
            super().finish()
        self.server.gateway.connections.discard(self.connection)

    def read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def do_GET(self):
        self.server.gateway.serve(self, b"")

    def do_POST(self):
        self.server.gateway.serve(self, self.read_body())


class Listener(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        if self.gateway.errors is not None:
            import traceback
            self.gateway.errors.append(traceback.format_exc())


class Gateway:
    """
    One server. .store: its contents; .requests: every Exchange so far; .errors: errors in this
    file.
    """

    def __init__(self, style="3.4", version=None, cluster=4711, store=None):
        self.style, self.cluster, self.member = style, cluster, random.randrange(1, 1 << 63)
        self.version = version or {"3.4": "3.4.43", "debian": "3.5.30", "3.6": "3.6.14"}[style]
        self.store = store or Store()
        self.hooks, self.requests, self.errors, self.connections = {}, [], [], set()
        self.users, self.tokens, self.token_count = {}, {}, 0
        self.old_tokens = set()
        self.space = random.Random(4711)
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
        Listener.allow_reuse_address = True
        self.listener = Listener(("127.0.0.1", self.port), Handler)
        self.listener.gateway = self
        self.port = self.listener.server_address[1]
        threading.Thread(target=self.listener.serve_forever, kwargs={"poll_interval": 0.05},
                         daemon=True).start()

    def down(self):
        """Nothing listens any more, and all connections are closed; the store stays."""
        self.listener.shutdown()
        self.listener.server_close()
        self.disconnect()

    def disconnect(self):
        for s in list(self.connections):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

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

    def dump(self, value):
        if self.style == "3.4":
            return json.dumps(value, separators=(",", ":"))
        if self.style == "debian":
            return json.dumps(value, separators=(", ", ":"))
        # Not in strings: a value has none of these characters outside of its quotes.
        parts = re.findall(r'"(?:[^"\\]|\\.)*"|[^"]', json.dumps(value, separators=(",", ":")))
        return "".join(p + self.space.choice(["", "", " "]) if p in ",:{[" else p for p in parts)

    def refusal(self, code, message, stream=False):
        status = STATUS.get(code, (500, 500))[self.style != "3.4"]
        if self.style == "3.4":
            if stream:
                return 200 if code == 14 else status, \
                    [{"error": {"grpc_code": code, "http_code": status, "message": message,
                                "http_status": "Service Unavailable"}}]
            return status, [{"error": message, "message": message, "code": code}]
        return status, [{"error": {"code": code, "message": message}} if stream
                        else {"code": code, "message": message}]

    def header(self):
        return without_zeros({"cluster_id": self.cluster, "member_id": self.member,
                              "revision": self.store.revision,
                              "raft_term": self.store.term})

    def serve(self, handler, body):
        path = handler.path
        path = path.removeprefix("/v3/").removeprefix("kv/") if path.startswith(
            "/v3/kv/lease/") else path.removeprefix("/v3/")
        with self.store.changed:
            x = Exchange(self, handler, path, body, len(self.seen(path)) + 1)
            self.requests.append(x)
            self.store.changed.notify_all()
        for hook in [*self.hooks.get(path, []), *self.hooks.get("*", [])]:
            if hook(x):
                return
        if path == "watch":
            self.watch(x)
        elif path == "/version":
            x.send(200, json.dumps({"etcdserver": self.version,
                                    "etcdcluster": self.version.rpartition(".")[0] + ".0"}))
        elif path == "/health":
            x.send(200, '{"health":"true"}')
        elif not hasattr(self, "do_" + path.replace("/", "_")):
            x.send(404, "404 page not found\n" if self.style == "3.4"
                   else '{"code":5, "message":"Not Found"}', "text/plain")
        else:
            x.send_normal()

    def check_token(self, x):
        if not self.users or x.path in ("auth/authenticate", "maintenance/status"):
            return
        token = x.headers.get("Authorization") or x.headers.get("Grpc-Metadata-Token")
        if not token:
            raise Failure(3, "etcdserver: user name is empty")
        if token not in self.tokens:
            raise Failure(16, "etcdserver: invalid auth token")
        if token in self.old_tokens:
            raise Failure(3, "etcdserver: revision of auth store is old")

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
        return [{"result": {"header": self.header(), "created": True}}]

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
            values.append({"result": without_zeros({"header": self.header(),
                                                    "ID": number(message.get("ID")),
                                                    "TTL": lease.ttl if lease else 0})})
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
        [VALUE...].
        """
        x.end_watch = None
        x.lines = []
        h = x.handler
        h.send_response(200)
        h.send_header("Content-Type", "application/json")
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        h.wfile.flush()
        watches = []
        with self.store.changed:
            for n, message in enumerate(x.messages):
                self.open_watch(x, n, message.get("create_request", {}), watches)
        while not self.closing.is_set():
            with self.store.changed:
                values = [v for w in watches for v in self.news(w)]
                end = x.end_watch
                if not values and end is None:
                    self.store.changed.wait(0.1)
            for value in [*values, *(end or [])]:
                self.line(x, value)
            if end is not None:
                h.wfile.write(b"0\r\n\r\n")
                return
            x.wait(0.001)

    def line(self, x, value, end="\n"):
        data = (value if isinstance(value, str) else self.dump(value) + end).encode()
        x.lines.append(data)
        x.handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        x.handler.wfile.flush()

    def open_watch(self, x, n, request, watches):
        try:
            self.check_token(x)
        except Failure as e:
            code = {3: "InvalidArgument", 16: "Unauthenticated", 7: "PermissionDenied"}[e.code]
            self.line(x, {"result": {"header": self.header(), "watch_id": "-1", "created": True,
                                     "canceled": True,
                                     "cancel_reason": f"rpc error: code = {code} desc = "
                                                      f"{e.message}"}})
            return
        self.line(x, {"result": without_zeros({"header": self.header(), "watch_id": n,
                                               "created": True})})
        start = number(request.get("start_revision")) or self.store.revision + 1
        if start < self.store.compacted:
            self.line(x,
                      {"result": without_zeros({"header": {k: v for k, v in self.header().items()
                                                           if k != "revision"}, "watch_id": n,
                                                "canceled": True,
                                                "compact_revision": self.store.compacted})})
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
        return [{"result": without_zeros({"header": self.header(), "watch_id": w["id"],
                                          "events": events})}] if events else []


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
