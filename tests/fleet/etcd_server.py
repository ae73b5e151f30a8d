"""
Real etcd servers of one member each, on free ports of the loopback address, and a small client for
them.

All servers of a test run have their data in one directory in memory. Whatever ends the test run, a
janitor then removes that directory, and the kernel ends the servers with the process that started
them (setpriv --pdeathsig).
"""
import base64
import contextlib
import functools
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

PATIENCE = 60  # seconds in which a server must start or end; generous on purpose

# Servers and janitors: they outlive a test, whose end ends all other processes.
spared = set()


def until(predicate, what, timeout=PATIENCE):
    end = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > end:
            raise AssertionError(f"did not happen within {timeout} s: {what}")
        time.sleep(0.01)
    return value


# ---- the directory ----

JANITOR = """
trap '' INT TERM HUP
read end
for again in 1 2 3 4 5 6 7 8 9; do
    rm -rf "$0" && exit
    sleep 0.2
done 2>/dev/null
"""


class Workshop:
    """A directory that is removed when this process is gone, however it ends."""

    def __init__(self):
        memory = "/dev/shm"
        self.path = tempfile.mkdtemp(prefix="me-only-fleet-", dir=memory
                                     if os.access(memory, os.W_OK) else None)
        self.janitor = subprocess.Popen(["sh", "-c", JANITOR, self.path], stdin=subprocess.PIPE,
                                        start_new_session=True,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        spared.add(self.janitor.pid)

    def directory(self, prefix):
        return tempfile.mkdtemp(prefix=prefix, dir=self.path)

    def close(self):
        self.janitor.stdin.close()
        self.janitor.wait(PATIENCE)
        spared.discard(self.janitor.pid)


# ---- certificates ----

class Authority:
    """A certificate authority: .ca and files that it has signed."""

    def __init__(self, directory, name="fleet"):
        self.directory, self.name = directory, name
        self.ca, self.ca_key = self._path("ca.crt"), self._path("ca.key")
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-days", "30", "-subj",
                      f"/O={name} authority", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                      "-keyout", self.ca_key, "-out", self.ca)

    def _path(self, file):
        return os.path.join(self.directory, f"{self.name}-{file}")

    def _openssl(self, *argv):
        subprocess.run(["openssl", *argv], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def sign(self, who, subject, usage, names="IP:127.0.0.1,DNS:localhost"):
        """The paths of a certificate and its key."""
        crt, key, csr, ext = (self._path(f"{who}.{end}") for end in ("crt", "key", "csr", "ext"))
        with open(ext, "w", encoding="ascii") as f:
            # Python 3.13 requires the authority's key identifier.
            f.write(f"basicConstraints=CA:FALSE\nextendedKeyUsage={usage}\nsubjectAltName={names}\n"
                    "authorityKeyIdentifier=keyid\n")
        self._openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-subj", subject,
                      "-keyout", key, "-out", csr)
        self._openssl("x509", "-req", "-in", csr, "-CA", self.ca, "-CAkey", self.ca_key,
                      "-CAcreateserial", "-days", "20",
                      "-extfile", ext, "-out", crt)
        return crt, key


class Certificates:
    """What a server with client certificates needs, and certificates that are wrong."""

    def __init__(self, directory):
        ours, others = Authority(directory), Authority(directory, "other")
        self.ca, self.wrong_ca = ours.ca, others.ca
        # The gateway calls its own server with the server's certificate: it must also be valid for
        # clients.
        self.server = ours.sign("server", "/CN=etcd", "serverAuth,clientAuth")
        self.elsewhere = ours.sign("elsewhere", "/CN=elsewhere", "serverAuth,clientAuth",
                                   "DNS:elsewhere.invalid")
        self.client = ours.sign("client", "/O=fleet", "clientAuth")
        self.named_client = ours.sign("named", "/O=fleet/CN=mo", "clientAuth")
        self.wrong_client = others.sign("client", "/O=fleet", "clientAuth")


# ---- a client ----

class Refused(Exception):
    """The server returned an error: .code is gRPC's."""

    def __init__(self, status, answer):
        super().__init__(f"HTTP {status}: {answer}")
        self.status = status
        error = answer.get("error")
        self.code = answer.get("code") or (error.get("grpc_code", error.get("code"))
                                           if isinstance(error, dict) else None)


def to64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def from64(text):
    return base64.b64decode(text)


def end_of(prefix):
    """The first key after all those that begin with PREFIX."""
    prefix = prefix if isinstance(prefix, bytes) else prefix.encode()
    return prefix[:-1] + bytes([prefix[-1] + 1])


class Entry:
    """A key of the store."""

    def __init__(self, kv):
        self.key, self.value = from64(kv["key"]).decode(), from64(kv.get("value", ""))
        self.created, self.modified = int(kv["create_revision"]), int(kv["mod_revision"])
        self.lease = int(kv.get("lease", 0))

    def json(self):
        return json.loads(self.value)

    def __repr__(self):
        return f"<{self.key} {self.created} {self.modified} {self.lease:x} {self.value!r}>"


class Client:
    """What tests ask of a server, each in one request of its own."""

    def __init__(self, port, context=None, login=None):
        self.port, self.context, self.token = port, context, None
        self.login = login  # (a user, the password)

    def _connection(self, timeout):
        if self.context:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout,
                                               context=self.context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def fetch(self, path, timeout=PATIENCE):
        with contextlib.closing(self._connection(timeout)) as c:
            c.request("GET", path)
            return json.loads(c.getresponse().read())

    def post(self, path, timeout=PATIENCE, **body):
        while True:
            if self.login and not self.token:
                name, password = self.login
                self.token = self.post_once("auth/authenticate", name=name,
                                            password=password)["token"]
            try:
                return self.post_once(path, timeout, **body)
            except Refused as e:
                if not self.login or e.code != 16:  # it has expired
                    raise
                self.token = None

    def post_once(self, path, timeout=PATIENCE, **body):
        with contextlib.closing(self._connection(timeout)) as c:
            c.request("POST", "/v3/" + path, json.dumps(body), {"Authorization": self.token}
                      if self.token else {})
            r = c.getresponse()
            text = r.read()
            answer = json.loads(text)
            if r.status != 200 or "error" in answer:
                raise Refused(r.status, answer)
            return answer

    def healthy(self):
        try:
            return self.fetch("/health", timeout=5).get("health") in ("true", True)
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def entries(self, prefix):
        """All keys that begin with PREFIX, the oldest first."""
        answer = self.post("kv/range", key=to64(prefix), range_end=to64(end_of(prefix)),
                           sort_order="ASCEND", sort_target="CREATE")
        return [Entry(kv) for kv in answer.get("kvs", [])]

    def put(self, key, value="", lease=0):
        return int(self.post("kv/put", key=to64(key), value=to64(value),
                             lease=str(lease))["header"]["revision"])

    def delete(self, key):
        return int(self.post("kv/deleterange", key=to64(key)).get("deleted", 0))

    def revision(self):
        return int(self.post("kv/range", key=to64("x"))["header"]["revision"])

    def compact(self, revision):
        self.post("kv/compaction", revision=str(revision), physical=True)

    def grant(self, ttl):
        return int(self.post("lease/grant", TTL=str(ttl))["ID"])

    def revoke(self, lease):
        self.post("lease/revoke", ID=str(lease))

    def keepalive(self, lease):
        """The seconds that it has again; 0: it is gone."""
        return int(self.post("lease/keepalive", ID=str(lease))["result"].get("TTL", 0))

    def time_left(self, lease):
        """Its seconds; -1: it is gone."""
        return int(self.post("lease/timetolive", ID=str(lease)).get("TTL", 0))

    def leases(self):
        return {int(entry["ID"]) for entry in self.post("lease/leases").get("leases", [])}


# ---- the server ----

def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port():
    """
    Not a port that the kernel assigns to connections: a restarted server must find its own free.
    """
    while True:
        port = random.randrange(12000, 32000)
        if is_free(port):
            return port


def states_of_threads(pid):
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", "rb") as f:
            yield f.read().rsplit(b")", 1)[1].split()[0].decode()


USER, PASSWORD = "mo", "the password: %41"  # with characters that need escaping somewhere
ALLOWED = "allowed/"                        # what USER may write


@functools.cache
def etcds():
    """{(3, 4): the path of etcd 3.4, ...} for each etcd on PATH."""
    found = {}
    for directory in os.environ["PATH"].split(":"):
        path = os.path.join(directory, "etcd")
        if os.access(path, os.X_OK):
            said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True)
            version = re.match(r"etcd Version: (\d+)\.(\d+)\.", said.stdout)
            found.setdefault((int(version[1]), int(version[2])), path)
    return found


class Server:
    """An etcd of one member. .env: what a client needs to know, as etcdctl's variables."""

    def __init__(self, workshop, *, certificates=None, auth=False, options=(), program="etcd"):
        self.directory, self.program = workshop.directory("etcd-"), program
        self.certificates, self.options = certificates, list(options)
        self.process = None
        self.root = None    # once there are users
        for _ in range(20):
            self.port, self.peer_port = free_port(), free_port()
            if self.port == self.peer_port:
                continue
            self.launch()
            if self.ready():
                break
            shutil.rmtree(os.path.join(self.directory, "data"), ignore_errors=True)
        else:
            raise AssertionError(f"etcd does not start: {self.log()}")
        self.env = {"ETCDCTL_ENDPOINTS": self.endpoint}
        if certificates:
            self.env |= {"ETCDCTL_ENDPOINTS": "https://" + self.endpoint,
                         "ETCDCTL_CACERT": certificates.ca,
                         "ETCDCTL_CERT": certificates.client[0],
                         "ETCDCTL_KEY": certificates.client[1]}
        if auth:
            self.with_users()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def client(self):
        context = None
        if self.certificates:
            context = ssl.create_default_context(cafile=self.certificates.ca)
            context.check_hostname = False
            context.load_cert_chain(*self.certificates.client)
        return Client(self.port, context, self.root)

    def log(self):
        with open(os.path.join(self.directory, "log"), encoding="utf-8") as f:
            return f.read()[-3000:]

    def launch(self):
        """Start it, without waiting for it."""
        scheme = "https" if self.certificates else "http"
        url, peer = f"{scheme}://{self.endpoint}", f"http://127.0.0.1:{self.peer_port}"
        argv = ["setpriv", "--pdeathsig", "KILL", self.program, "--data-dir",
                os.path.join(self.directory, "data"), "--name", "one",
                "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls",
                peer,
                "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}",
                "--unsafe-no-fsync", "--bcrypt-cost", "4",
                "--heartbeat-interval", "20", "--election-timeout", "200", "--logger", "zap",
                "--log-level", "warn"]
        if self.certificates:
            argv += ["--cert-file", self.certificates.server[0], "--key-file",
                     self.certificates.server[1],
                     "--client-cert-auth", "--trusted-ca-file", self.certificates.ca]
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ETCD_", "ETCDCTL_"))}
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(argv + self.options, stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=env,
                                            start_new_session=True)
        spared.add(self.pid)

    def ready(self):
        """Wait until it serves; False: it has ended."""
        try:
            return until(lambda: self.client().healthy() or self.process.poll() is not None
                         and "ended", "etcd serves") is True
        finally:
            if self.process.poll() is not None:
                spared.discard(self.pid)

    def start(self):
        """Restart it, on its ports and with its data."""
        for _ in range(20):
            self.launch()
            if self.ready():
                return
            time.sleep(0.1)
        raise AssertionError(f"etcd does not start again: {self.log()}")

    def end(self, number=signal.SIGTERM):
        """End it by a signal, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(PATIENCE)
        spared.discard(self.pid)

    def kill(self):
        self.end(signal.SIGKILL)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        until(lambda: set(states_of_threads(self.pid)) == {"T"}, "all of it is stopped")

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        """Stop it for good."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def with_users(self):
        """Enable authentication: root, and USER, who may do everything below ALLOWED."""
        c = self.client()
        c.post("auth/user/add", name="root", password="root's")
        c.post("auth/user/add", name=USER, password=PASSWORD)
        c.post("auth/role/add", name="root")
        c.post("auth/role/add", name="locks")
        c.post("auth/role/grant", name="locks", perm={"permType": "READWRITE", "key": to64(ALLOWED),
                                                      "range_end": to64(end_of(ALLOWED))})
        c.post("auth/user/grant", user="root", role="root")
        c.post("auth/user/grant", user=USER, role="locks")
        c.post("auth/enable")
        self.root = "root", "root's"
        self.env |= {"ETCDCTL_USER": USER, "ETCDCTL_PASSWORD": PASSWORD}
