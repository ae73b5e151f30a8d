"""
The tests of etcd: locks: real servers, scripted gateways, and processes that never outlive the
test.

As in tests/behaviour, the program is $ME_ONLY, and tests wait for events with wait_for(), never for
time. Tests that do not disturb their worker's server share it; each has its own locks.
"""
import os
import subprocess
import uuid

import pytest

from etcd_server import ALLOWED, Certificates, Server, Workshop, etcds
from fleet import DEADLINE, Caller, behaviour, end_all
from gateway import Gateway, Proxy

# ---- what a pass runs ----

def pytest_configure(config):
    behaviour.pytest_configure(config)
    config.addinivalue_line("markers", "etcd: talks to a real server (found by its fixtures)")
    config.addinivalue_line("markers", "local: the version of the server cannot matter")
    config.addinivalue_line("markers", "upgrade: needs two versions of etcd on PATH")


def pytest_report_header(config):
    return [behaviour.pytest_report_header(config), f"etcd: {etcds()}, the first on PATH is used"]


def pytest_collection_modifyitems(config, items):
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        # The workshop has all real servers.
        if ("workshop" in item.fixturenames or params.get("place") == "etcd") \
                and not item.get_closest_marker("local"):
            item.add_marker("etcd")
    behaviour.pytest_collection_modifyitems(config, items)
    if len(etcds()) < 2:
        unfit = [item for item in items if item.get_closest_marker("upgrade")]
        config.hook.pytest_deselected(items=unfit)
        items[:] = [item for item in items if item not in unfit]


# ---- servers ----

@pytest.fixture(scope="session")
def workshop():
    """The directory of all servers."""
    w = Workshop()
    yield w
    w.close()


def serve(workshop, **kw):
    server = Server(workshop, **kw)
    yield server
    server.close()


@pytest.fixture(scope="session")
def etcd(workshop):
    """The server that tests share: plain, without users."""
    yield from serve(workshop)


@pytest.fixture
def own_etcd(workshop):
    """A server that a test may stop, kill or compact."""
    yield from serve(workshop)


@pytest.fixture(scope="session")
def certificates(workshop):
    return Certificates(workshop.directory("certificates-"))


@pytest.fixture(scope="session")
def tls_etcd(workshop, certificates):
    """A server that requires client certificates."""
    yield from serve(workshop, certificates=certificates)


@pytest.fixture(scope="session")
def auth_etcd(workshop):
    """A server with users; its tokens live two seconds."""
    yield from serve(workshop, auth=True, options=["--auth-token-ttl", "2"])


@pytest.fixture
def gateway(request):
    """A scripted server; parametrize it with a version, or with the arguments of Gateway."""
    given = getattr(request, "param", {})
    g = Gateway(**({"version": given} if isinstance(given, str) else given))
    yield g
    g.close()


@pytest.fixture
def proxy():
    """proxy(SERVER) puts a proxy in front of it."""
    made = []

    def proxy_(server):
        made.append(Proxy(server.port))
        return made[-1]

    yield proxy_
    for p in made:
        p.close()


# ---- callers ----

@pytest.fixture
def lock():
    """A lock name that no other test has."""
    return "etcd:t" + uuid.uuid4().hex[:12]


@pytest.fixture
def name(lock):
    """The same, as the cluster knows it."""
    return lock.removeprefix("etcd:")


@pytest.fixture
def prefix(name):
    """The prefix of the lock's keys."""
    return name + "/"


@pytest.fixture
def start():
    """
    start(PROGRAM, ARGUMENT...) starts any program; at the end of the test it and all its
    descendants are ended, but not the servers.
    """
    with behaviour.processes(end_all) as start_:
        yield start_


@pytest.fixture
def call(start):
    """
    call(PROGRAM, ARGUMENT...) runs any program to its end. That of tests/behaviour would also end
    the servers.
    """

    def call_(*argv, input=None, **kw):  # pylint: disable=redefined-builtin
        if input is not None:
            kw["stdin"] = subprocess.PIPE
        p = start(*argv, **kw)
        out, err = p.communicate(input, timeout=DEADLINE)
        return subprocess.CompletedProcess(p.args, p.returncode, out, err)

    return call_


@pytest.fixture
def callers(start, lock):
    """callers(SERVER OR GATEWAY OR VARIABLES) creates a Caller of it."""
    return lambda server: Caller(start, server if isinstance(server, dict) else server.env, lock)


@pytest.fixture
def c(callers, etcd):
    """A caller of the shared server; c.lock is this test's lock."""
    return callers(etcd)


@pytest.fixture
def store(etcd):
    """The shared server's client."""
    return etcd.client()


@pytest.fixture
def allowed(lock):
    """The lock, where its user may have it in the server with users."""
    return "etcd:" + ALLOWED + lock.removeprefix("etcd:")


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch):
    """Tests set the cluster themselves."""
    for key in list(os.environ):
        if key.startswith(("ETCDCTL_", "ETCD_")):
            monkeypatch.delenv(key)


@pytest.fixture
def new_etcd(workshop):
    """new_etcd(OPTIONS OF Server) creates a server for one test."""
    made = []

    def new_etcd_(**kw):
        made.append(Server(workshop, **kw))
        return made[-1]

    yield new_etcd_
    for server in made:
        server.close()


@pytest.fixture
def new_gateway():
    """new_gateway(OPTIONS OF Gateway) creates one more."""
    made = []

    def new_gateway_(**kw):
        made.append(Gateway(**kw))
        return made[-1]

    yield new_gateway_
    for g in made:
        g.close()
