"""What the tests of the fenced stores use: the examples as programs, processes that never outlive the test, an etcd server.

The program is $ME_ONLY (default: build/me-only of this tree).
"""
import ctypes
import os
import signal
import socket
import subprocess
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXAMPLES = os.path.join(ROOT, "examples")
BUILD = os.environ.get("ME_ONLY_BUILD", os.path.join(ROOT, "build"))
ME_ONLY = os.path.abspath(os.environ.get("ME_ONLY", os.path.join(BUILD, "me-only")))
DEADLINE = 60  # seconds after which an event that did not happen fails the test; generous on purpose

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None, use_errno=True)


def pytest_collection_modifyitems(config, items):
    """The pass for another etcd (tests/fleet/conftest.py) runs only the tests that use etcd."""
    if os.environ.get("ME_ONLY_PASS") == "etcd":
        config.hook.pytest_deselected(items=[i for i in items if "etcd" not in i.fixturenames])
        items[:] = [i for i in items if "etcd" in i.fixturenames]


def die_with_us():
    """In a child: be killed when the process that runs the tests ends, however it ends."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def wait_for(predicate, what, timeout=DEADLINE):
    """Return predicate()'s first true value; fail the test if it does not come."""
    end = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"did not happen within {timeout} s: {what}")
        time.sleep(0.02)


@pytest.fixture
def start():
    """start(PROGRAM, ARGUMENT..., input=False, env=...): a process of a session of its own, killed when the test ends."""
    running = []

    def begin(*words, **options):
        p = subprocess.Popen([os.fspath(w) for w in words], stdin=options.pop("stdin", subprocess.PIPE), stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, preexec_fn=die_with_us, start_new_session=True, **options)
        running.append(p)
        return p

    yield begin
    for p in running:
        try:
            os.killpg(p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        p.communicate()


def free_ports(number):
    """That many port numbers that nobody has at this moment."""
    sockets = [socket.socket() for _ in range(number)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Etcd:
    """An etcd server with one member on loopback, and an etcdctl that speaks to it."""

    def __init__(self, directory):
        self.directory = directory
        self.server = None
        self.endpoint = None

    def up(self):
        # Somebody else can take a port before the server does: then it ends, and we try with others.
        for attempt in range(5):
            client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
            with open(self.directory / f"log-{attempt}", "wb") as log:
                self.server = subprocess.Popen(
                    ["etcd", "--data-dir", str(self.directory / f"data-{attempt}"), "--listen-client-urls", client,
                     "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                     "--initial-cluster", f"default={peer}"],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_us)
            self.endpoint = client.removeprefix("http://")
            if wait_for(self.answers, "etcd answers or ends") == "yes":
                return
        pytest.fail(f"etcd does not start: {(self.directory / 'log-4').read_text()}")

    def answers(self):
        if self.server.poll() is not None:
            return "no"
        return "yes" if self.run("endpoint", "health", check=False).returncode == 0 else None

    def environment(self):
        return {**{k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")},
                "ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": self.endpoint}

    def run(self, *words, check=True):
        return subprocess.run(["etcdctl", *words], env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, check=check,
                              timeout=DEADLINE, text=True)

    def down(self):
        if self.server:
            self.server.kill()
            self.server.wait()


@pytest.fixture(scope="session")
def etcd(tmp_path_factory):
    server = Etcd(tmp_path_factory.mktemp("etcd"))
    try:
        server.up()
        yield server
    finally:
        server.down()
