"""etcd for the fleet part of the benchmark: a server of its own, near or far away, and questions to it."""
import base64
import contextlib
import ctypes
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

DEADLINE = 60  # seconds after which something that ought to happen has failed


class Unavailable(Exception):
    """Why this part cannot be measured here."""


def die_with_us():
    """In a process just forked: nothing of ours outlives the benchmark, however that ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def set_subreaper(on):
    """Whether we become the parent of orphans: helpers end a moment after the me-only that has started them."""
    ctypes.CDLL(None).prctl(36, int(on), 0, 0, 0)


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]


def make_certificates(folder):
    """Creates a CA, and a certificate for 127.0.0.1. Returns the files of the CA, the certificate and its key."""
    ca, ca_key, cert, key, request, names = (os.path.join(folder, name) for name in ("ca", "ca.key", "cert", "key", "request", "names"))
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    with open(names, "w", encoding="ascii") as f:
        f.write("subjectAltName=IP:127.0.0.1\n")
    for argv in (["req", "-x509", *new_key, "-subj", "/CN=bench", "-days", "2", "-keyout", ca_key, "-out", ca],
                 ["req", *new_key, "-subj", "/CN=etcd", "-keyout", key, "-out", request],
                 ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", names, "-out", cert]):
        subprocess.run(["openssl", *argv], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return ca, cert, key


JANITOR = """
trap '' INT TERM HUP
read end
for again in 1 2 3 4 5 6 7 8 9; do
    rm -rf "$0" && exit
    sleep 0.2
done
"""


class Server:
    """An etcd server of one member, with a folder of its own, until the end of the `with` block, or until the benchmark is killed."""

    def __init__(self, data):
        self.data = data

    def __enter__(self):
        self.port, tls_port, peer_port = free_ports(3)
        self.folder = tempfile.mkdtemp(prefix="me-only-bench-etcd-", dir=self.data)
        # What is in memory would stay there until the next start of the machine.
        self.janitor = subprocess.Popen(["sh", "-c", JANITOR, self.folder], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        client, tls, peer = f"http://127.0.0.1:{self.port}", f"https://127.0.0.1:{tls_port}", f"http://127.0.0.1:{peer_port}"
        ca, cert, key = make_certificates(self.folder)
        self.variables = {"ETCDCTL_ENDPOINTS": f"127.0.0.1:{self.port}"}
        self.tls_variables = {"ETCDCTL_ENDPOINTS": tls, "ETCDCTL_CACERT": ca}
        self.log = os.path.join(self.folder, "log")
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["etcd", "--data-dir", os.path.join(self.folder, "data"), "--listen-client-urls", f"{client},{tls}",
                 "--cert-file", cert, "--key-file", key, "--advertise-client-urls", client,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                 "--logger", "zap", "--log-level", "warn"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_us)
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.janitor.communicate()

    def wait_until_ready(self):
        end = time.monotonic() + DEADLINE
        while True:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                if "header" in self.ask("/v3/kv/range", {"key": encoded("x")}):
                    return
            if self.process.poll() is not None or time.monotonic() > end:
                with open(self.log, encoding="utf-8", errors="replace") as log:
                    raise Unavailable(f"etcd does not start: {log.read()[-300:].strip()}")
            time.sleep(0.02)

    def ask(self, path, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("POST", path, json.dumps(body))
            return json.load(connection.getresponse())
        finally:
            connection.close()

    def entries(self, name):
        """The leases of those who hold or wait for a lock."""
        answer = self.ask("/v3/kv/range", {"key": encoded(f"{name}/"), "range_end": encoded(f"{name}0"), "keys_only": True})
        return [int(base64.b64decode(kv["key"]).decode().rsplit("/", 1)[1], 16) for kv in answer.get("kvs", ())]

    def seconds_left(self, lease):
        return int(self.ask("/v3/lease/timetolive", {"ID": str(lease)}).get("TTL", 0))


class Distance:
    """The same server, farther away, until the end of the `with` block: distance.c. Questions of the benchmark's own take the short way."""

    def __init__(self, bench, server, milliseconds):
        self.argv = [bench.program("distance"), str(server.port), str(milliseconds * 1000 // 2)]
        self.entries = server.entries

    def __enter__(self):
        self.process = subprocess.Popen(self.argv, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_us)
        self.variables = {"ETCDCTL_ENDPOINTS": f"127.0.0.1:{int(self.process.stdout.readline())}"}
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def encoded(text):
    return base64.b64encode(text.encode()).decode()


def processor_time(pids):
    """Seconds for which these processes have had a processor, all threads together."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
    return total / 1e9


def wait_for(look, what, process=None):
    """Waits until it is true, while the process (if any) lives."""
    end = time.monotonic() + DEADLINE
    while not look():
        if time.monotonic() > end or (process and process.poll() is not None):
            raise SystemExit(f"bench: did not happen: {what}")
        time.sleep(0.002)


def versions():
    """Of the server and of etcdctl, or why there are none."""
    for program in ("etcd", "etcdctl", "openssl"):
        if not shutil.which(program):
            raise Unavailable(f"{program} is not installed (Debian: etcd-server, etcd-client, openssl)")
    done = subprocess.run(["etcd", "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.split("\n", 1)[0].rsplit(" ", 1)[-1]


def place(data):
    """Where the servers have their data: the folder, and what it is on."""
    if data is None:
        data = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
    done = subprocess.run(["stat", "-f", "-c", "%T", data], stdout=subprocess.PIPE, text=True, check=False)
    return data, done.stdout.strip() or "unknown"
