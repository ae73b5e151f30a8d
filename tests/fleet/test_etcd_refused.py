"""
The cluster cannot be reached, or refuses requests: one clear line each, status 3, and nothing is
run.

That is never mistaken for held or free.
"""
import os
import re
import signal
import socket
import subprocess
import threading

import pytest

from etcd_server import PASSWORD, USER, Server
from fleet import DEADLINE, environment_of, helper_of, release, said, wait_for
from gateway import fails, hang, hang_after, only
from test_etcd_wait import wait_renewed

QUICK = {"ETCDCTL_COMMAND_TIMEOUT": "3s", "ETCDCTL_DIAL_TIMEOUT": "500ms"}
SECRETS = (PASSWORD, "a secret", "another secret", "root's")


def refused(c, lock=None, *, pattern=r"[^\n]+", **env):
    """Ask for a lock: the line that is printed."""
    r = c.run("-q", lock or c.lock, "echo", "ran", env={**QUICK, **env})
    text = said(r)
    assert (r.returncode, r.stdout) == (3, b""), r
    assert re.fullmatch(rf"me-only: {re.escape(lock or c.lock)}: {pattern}\n", text), text
    for secret in SECRETS:
        assert secret not in text
    return text


@pytest.fixture
def dead():
    """An endpoint where nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{s.getsockname()[1]}"


@pytest.fixture
def hung():
    """An endpoint that accepts connections and never sends anything."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(100)
        yield f"127.0.0.1:{s.getsockname()[1]}"


# ---- no server ----

def test_nobody_listens(c, dead):
    refused(c, ETCDCTL_ENDPOINTS=dead,
            pattern=rf"[^\n]*{re.escape(dead)}[^\n]*(refused|reached)[^\n]*")


def test_nobody_answers(c, hung):
    refused(c, ETCDCTL_ENDPOINTS=hung, pattern=rf"[^\n]*{re.escape(hung)}[^\n]*answer[^\n]*")


def test_the_server_is_stopped(callers, own_etcd):
    own_etcd.pause()
    refused(callers(own_etcd), pattern=rf"[^\n]*{re.escape(own_etcd.endpoint)}[^\n]*answer[^\n]*")
    own_etcd.resume()


def test_a_name_that_does_not_exist(c):
    refused(c, ETCDCTL_ENDPOINTS="no-such-host.invalid:2379",
            pattern=r"[^\n]*no-such-host\.invalid[^\n]*")


def test_waiting_does_not_help(c, dead):
    """A caller that has never been in line does not wait for ever."""
    r = c.run("-q", "-w", "inf", c.lock, "echo", "ran", env={**QUICK, "ETCDCTL_ENDPOINTS": dead})
    assert (r.returncode, r.stdout) == (3, b"")


def test_the_status_can_be_shifted(c, dead):
    r = c.run("--exit-base=90", "-E", "7", c.lock, "echo", "ran",
              env={**QUICK, "ETCDCTL_ENDPOINTS": dead})
    assert (r.returncode, r.stdout) == (93, b"")


@pytest.mark.parametrize("question", ["--who", "--list"])
def test_questions_are_refused_too(c, dead, question):
    r = c.run(question, c.lock, env={**QUICK, "ETCDCTL_ENDPOINTS": dead})
    assert (r.returncode, r.stdout) == (3, b"") and re.fullmatch(r"me-only: [^\n]+\n", said(r)), r


@pytest.mark.parametrize("endpoints", ["", ",", "ftp://127.0.0.1:2379",
                                       "http://mo:a secret@127.0.0.1:2379", "http://",
                                       "127.0.0.1:x", "127.0.0.1:99999",
                                       "unix:///tmp/x", "http://[::1", "127.0.0.1:1,,127.0.0.1:2"])
def test_what_is_no_endpoint(c, endpoints):
    r = c.run("-q", c.lock, "echo", "ran", env={**QUICK, "ETCDCTL_ENDPOINTS": endpoints})
    assert (r.returncode, r.stdout) == (3, b""), r
    assert re.fullmatch(rf"me-only: {c.lock}: [^\n]+\n", said(r)) and "a secret" not in said(r)


@pytest.mark.parametrize("name", ["ETCDCTL_DIAL_TIMEOUT", "ETCDCTL_COMMAND_TIMEOUT"])
@pytest.mark.parametrize("value", ["x", "-1s", "1 s"])
def test_what_is_no_duration(c, name, value):
    r = c.run("-q", c.lock, "echo", "ran", env={name: value})
    assert (r.returncode, r.stdout) == (3, b"") and name in said(r), r


@pytest.mark.parametrize("value", ["300ms", "2s", "1m", "1m30s", "1h0m0s"])
def test_durations_as_etcdctl_writes_them(c, value):
    r = c.run("-q", c.lock, "echo", "ran", env={"ETCDCTL_COMMAND_TIMEOUT": value,
                                                "ETCDCTL_DIAL_TIMEOUT": value})
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r


# ---- several endpoints ----

def test_a_dead_member_is_passed_by(c, etcd, dead):
    r = c.run("-q", c.lock, "echo", "ran", env={"ETCDCTL_ENDPOINTS": f"{dead},{etcd.endpoint}"})
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_a_hung_member_is_passed_by(c, etcd, hung):
    r = c.run("-q", c.lock, "echo", "ran",
              env={"ETCDCTL_ENDPOINTS": f"{hung},http://{etcd.endpoint}"})
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_many_dead_members_are_passed_by(c, etcd, dead):
    endpoints = ",".join([dead] * 9 + [f"http://{etcd.endpoint}/"])
    r = c.run("-q", c.lock, "echo", "ran", env={"ETCDCTL_ENDPOINTS": endpoints})
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_a_name_is_as_good_as_an_address(c, etcd):
    r = c.run("-q", c.lock, "echo", "ran", env={"ETCDCTL_ENDPOINTS": f"localhost:{etcd.port}"})
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_a_member_that_hangs_later_is_passed_by(callers, new_gateway):
    """Two members of one cluster; the job is not affected."""
    one = new_gateway()
    two = new_gateway(store=one.store)
    c = callers({"ETCDCTL_ENDPOINTS": f"{one.endpoint},{two.endpoint}"})
    holder = c.hold("-q", "--ttl", "10")
    assert not two.seen("kv/txn")
    one.on("*", hang)
    one.disconnect()
    two.wait_for("lease/keepalive", 2)
    assert release(holder) == 0
    assert two.keys() == []


def reads(hook):
    """HOOK, for requests that only read."""
    return only(lambda x: b"request_put" not in x.body and b"request_delete" not in x.body, hook)


def test_each_member_has_its_turn_when_a_leader_hangs(callers, new_gateway):
    """Its disk hangs: it keeps answering keepalives. The second elects another leader just then."""
    def elects(x):
        status, values = x.normal()
        values[0]["header"]["raft_term"] = "1000"
        return x.reply(status, values)

    one = new_gateway()
    two, three = new_gateway(store=one.store), new_gateway(store=one.store)
    c = callers({"ETCDCTL_ENDPOINTS": f"{one.endpoint},{two.endpoint},{three.endpoint}"})
    holder = c.hold("-q", "--ttl", "10")
    one.wait_for("watch")
    before = len(one.seen("lease/keepalive"))
    one.on("kv/txn", reads(hang))
    two.on("kv/txn", reads(elects))
    three.wait_for("lease/keepalive")
    assert (len(one.seen("lease/keepalive")) - before, len(two.seen("lease/keepalive"))) == (1, 1)
    assert release(holder) == 0


def test_a_member_that_hangs_during_a_start_is_not_asked_again(callers, new_gateway, tmp_path):
    """
    It has granted the lease; so the next one reports that it exists, and is the one to continue
    with.
    """
    one = new_gateway()
    two = new_gateway(store=one.store)
    one.on("lease/grant", hang_after)
    one.on("kv/txn", hang)
    c = callers({"ETCDCTL_ENDPOINTS": f"{one.endpoint},{two.endpoint}"})
    r = c.run("-q", c.lock, "touch", str(tmp_path / "ran"))
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b""), r
    assert (tmp_path / "ran").exists()
    assert (len(one.seen("lease/grant")), len(one.seen("kv/txn"))) == (1, 1)


def test_the_stream_moves_with_the_renewals(callers, new_gateway):
    """A member that hangs keeps connections open, and reports nothing any more."""
    one = new_gateway()
    two = new_gateway(store=one.store)
    c = callers({"ETCDCTL_ENDPOINTS": f"{one.endpoint},{two.endpoint}"})
    holder = c.hold("-q", "--ttl", "10")
    one.wait_for("watch")
    one.on("*", hang)
    two.wait_for("watch")
    # At once: a holder that waited for the next renewal would be deaf until then.
    assert len(two.seen("lease/keepalive")) == 1
    assert release(holder) == 0


@pytest.mark.parametrize("told", ["before", "after"])
def test_a_member_of_another_cluster(callers, new_gateway, told):
    """
    No lock is held in two places. The member does not know the lease, and an error does not tell
    its cluster: that is asked, and answered before the error or after it.
    """
    one, other = new_gateway(cluster=1), new_gateway(cluster=2)
    c = callers({"ETCDCTL_ENDPOINTS": f"{one.endpoint},{other.endpoint}"})
    told_now = threading.Event()

    def tell(x):
        x.reply(*x.normal())
        told_now.set()
        return True

    first, second = ("maintenance/status",
                     "kv/txn") if told == "before" else ("kv/txn", "maintenance/status")
    one.on("kv/txn", fails(14, "etcdserver: no leader"))
    other.on(first, tell)
    other.on(second, lambda x: told_now.wait(DEADLINE) and None)
    refused(c, pattern=r"[^\n]*another cluster[^\n]*")
    assert other.keys() == []


# ---- TLS ----

def test_certificates(callers, tls_etcd):
    c = callers(tls_etcd)
    holder = c.hold("-q")
    assert c.run("-q", c.lock, "true").returncode == 4
    p = c.start("-q", "-w", "inf", c.lock, "echo", "mine")
    wait_for(lambda: len(tls_etcd.client().entries(c.lock[5:] + "/")) == 2, "it waits")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE) == (b"mine\n", b"")
    assert c.run("-q", "--held", c.lock).returncode in (1, 2)


def test_an_endpoint_without_a_scheme_is_asked_by_tls_if_there_are_certificates(callers, tls_etcd):
    """As in etcdctl."""
    r = callers(tls_etcd).run("-q", "etcd:x", "echo", "ran",
                              env={"ETCDCTL_ENDPOINTS": tls_etcd.endpoint})
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r


def test_the_authority_is_another(callers, tls_etcd, certificates):
    refused(callers(tls_etcd), ETCDCTL_CACERT=certificates.wrong_ca,
            pattern=r"cannot verify the certificate of [^\n]*[^\n]*ETCDCTL_CACERT[^\n]*")


def test_the_authority_is_unknown(callers, tls_etcd):
    env = {k: v for k, v in tls_etcd.env.items() if k != "ETCDCTL_CACERT"}
    refused(callers(env),
            pattern=r"cannot verify the certificate of [^\n]*[^\n]*ETCDCTL_CACERT[^\n]*")


def test_the_server_has_the_certificate_of_another(callers, new_etcd, certificates):
    crt, key = certificates.elsewhere
    server = new_etcd(certificates=certificates, options=["--cert-file", crt, "--key-file", key])
    c = callers(server)
    refused(c, pattern=r"cannot verify the certificate of [^\n]*[^\n]*")
    r = c.run("-q", c.lock, "echo", "ran", env={"ETCDCTL_INSECURE_SKIP_TLS_VERIFY": "true"})
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r


def test_our_certificate_is_missing(callers, tls_etcd):
    env = {k: v for k, v in tls_etcd.env.items() if k not in ("ETCDCTL_CERT", "ETCDCTL_KEY")}
    refused(callers(env), pattern=r"[^\n]*certificate[^\n]*ETCDCTL_CERT[^\n]*")


def test_our_certificate_is_of_another_authority(callers, tls_etcd, certificates):
    crt, key = certificates.wrong_client
    refused(callers(tls_etcd), ETCDCTL_CERT=crt, ETCDCTL_KEY=key,
            pattern=r"[^\n]*certificate[^\n]*ETCDCTL_CERT[^\n]*")


@pytest.mark.parametrize("which", ["CACERT", "CERT", "KEY"])
def test_a_file_is_missing(callers, tls_etcd, which):
    refused(callers(tls_etcd), **{"ETCDCTL_" + which: "/nonexistent/file"},
            pattern=rf"ETCDCTL_{which}: /nonexistent/file: No such file or directory")


@pytest.mark.parametrize("which", ["CACERT", "CERT", "KEY"])
def test_a_file_is_no_certificate(callers, tls_etcd, tmp_path, which):
    (tmp_path / "file").write_text("a secret\n")
    refused(callers(tls_etcd), **{"ETCDCTL_" + which: str(tmp_path / "file")},
            pattern=r"[^\n]*ETCDCTL_[^\n]*")


@pytest.mark.parametrize("header", ["ENCRYPTED PRIVATE KEY-----\n",
                                    "EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"])
def test_an_encrypted_key(callers, gateway, tmp_path, header):
    """Nobody is asked for a pass phrase, and nothing is connected."""
    (tmp_path / "key").write_text(f"-----BEGIN {header}MIIB\n-----END PRIVATE KEY-----\n")
    (tmp_path / "crt").write_text("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
    refused(callers(gateway), ETCDCTL_KEY=str(tmp_path / "key"), ETCDCTL_CERT=str(tmp_path / "crt"),
            pattern=r"ETCDCTL_KEY: \S+ is encrypted, and me-only cannot ask for its pass phrase")
    assert gateway.requests == [] and not gateway.connections


def test_the_key_of_another_certificate(callers, tls_etcd, certificates):
    """The message names both files."""
    key = certificates.named_client[1]
    refused(callers(tls_etcd), ETCDCTL_KEY=key,
            pattern=rf"[^\n]*{re.escape(key)} does not belong to the certificate "
                    rf"{re.escape(tls_etcd.env['ETCDCTL_CERT'])}[^\n]*")


def test_a_certificate_without_its_key(callers, tls_etcd):
    env = {k: v for k, v in tls_etcd.env.items() if k != "ETCDCTL_KEY"}
    refused(callers(env), pattern=r"ETCDCTL_CERT and ETCDCTL_KEY belong together[^\n]*")


def test_http_to_a_port_of_https(callers, tls_etcd):
    refused(callers({"ETCDCTL_ENDPOINTS": f"http://{tls_etcd.endpoint}"}),
            pattern=r"[^\n]*(TLS|https)[^\n]*")


def test_https_to_a_port_of_http(callers, etcd):
    refused(callers({"ETCDCTL_ENDPOINTS": f"https://{etcd.endpoint}"}), pattern=r"[^\n]*TLS[^\n]*")


# ---- users ----

def test_user_and_password(callers, auth_etcd, allowed):
    c = callers(auth_etcd)
    r = c.run("-q", allowed, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")
    both = {"ETCDCTL_ENDPOINTS": auth_etcd.endpoint, "ETCDCTL_USER": f"{USER}:{PASSWORD}"}
    r = callers(both).run("-q", allowed, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_the_password_is_wrong(callers, auth_etcd, allowed):
    refused(callers(auth_etcd), allowed, ETCDCTL_PASSWORD="a secret",
            pattern=r"[^\n]*refuses user 'mo': wrong name or password[^\n]*")
    refused(callers(auth_etcd), allowed, ETCDCTL_USER="nobody:another secret",
            pattern=r"[^\n]*refuses user 'nobody'[^\n]*")


def test_a_user_without_a_password(callers, auth_etcd, allowed):
    env = {k: v for k, v in auth_etcd.env.items() if k != "ETCDCTL_PASSWORD"}
    refused(callers(env), allowed,
            pattern=r"ETCDCTL_USER names 'mo', but there is no password[^\n]*")


def test_no_user(callers, auth_etcd, allowed):
    refused(callers({"ETCDCTL_ENDPOINTS": auth_etcd.endpoint}), allowed,
            pattern=r"[^\n]*ETCDCTL_USER[^\n]*")


def test_no_permission(callers, auth_etcd, lock):
    for options in ((), ("-w", "inf"), ("-s",), ("-j2",)):
        r = callers(auth_etcd).run("-q", *options, lock, "echo", "ran", env=QUICK)
        assert (r.returncode, r.stdout) == (3, b""), r
        assert re.fullmatch(rf"me-only: {lock}: [^\n]*'mo'[^\n]*permission[^\n]*\n", said(r)), r


def test_a_user_where_there_are_none(callers, etcd, lock):
    """The server knows no users: everybody may do everything."""
    r = callers({**etcd.env, "ETCDCTL_USER": USER, "ETCDCTL_PASSWORD": PASSWORD}).run(
        "-q", lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_tokens_expire(callers, auth_etcd, allowed):
    """While one holds it and one waits; both request new ones."""
    c = callers(auth_etcd)
    c.lock = allowed
    holder = c.hold("-q")
    p = c.start("-q", "-w", "inf", allowed, "echo", "mine")
    name = allowed.removeprefix("etcd:")
    root = auth_etcd.client()
    wait_for(lambda: len(root.entries(name + "/")) == 2, "it waits")
    lease = root.entries(name + "/")[0].lease
    # The server forgets a token that is not used for two seconds; the lock is renewed every five.
    least = [30]

    def renewed():
        left = root.time_left(lease)
        before, least[0] = least[0], left
        return left > before
    for _ in range(2):
        wait_for(renewed, "it is renewed")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE) == (b"mine\n", b"")


def test_users_are_changed_where_tokens_are_jwt(callers, new_etcd, allowed, workshop):
    """Then all tokens are of an old revision: of holders, waiters and streams."""
    directory = workshop.directory("jwt-")
    private, public = os.path.join(directory, "key"), os.path.join(directory, "pub")
    for argv in (["genrsa", "-out", private, "2048"],
                 ["rsa", "-in", private, "-pubout", "-out", public]):
        subprocess.run(["openssl", *argv], check=True, capture_output=True)
    server = new_etcd(auth=True, options=[
        "--auth-token", f"jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m"])
    c, prefix = callers(server), allowed.removeprefix("etcd:") + "/"
    holder = c.hold("-q", lock=allowed)
    p = c.start("-q", "-w", "inf", allowed, "cat", stdin=subprocess.PIPE)
    wait_for(lambda: len(server.client().entries(prefix)) == 2, "it waits")

    def change(user):
        server.client().post("auth/user/add", name=user, password="x")
    change("one")
    assert release(holder) == 0 and holder.stderr.read() == b""
    wait_for(lambda: [e.json()["st"] for e in server.client().entries(prefix)] == ["held"],
             "the waiter has it")
    change("two")
    assert p.communicate(timeout=DEADLINE) == (b"", b"") and p.returncode == 0
    assert server.client().entries(prefix) == []


def test_the_password_is_nowhere_to_be_seen(callers, auth_etcd, allowed):
    """Neither in the arguments of any process, nor in what the job gets, nor in the cluster."""
    c = callers(auth_etcd)
    c.lock = allowed
    holder, waiter = c.hold("-q"), c.start("-v", "-w", "inf", allowed, "env")
    helpers = [helper_of(p) for p in (holder, waiter)]

    def entries():
        return auth_etcd.client().entries(allowed.removeprefix("etcd:") + "/")
    wait_for(lambda: len(entries()) == 2, "it waits")
    for pid in (holder.pid, waiter.pid, *helpers, holder.job):
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            assert PASSWORD.encode() not in f.read()
    assert not [v for v in environment_of(holder.job).values() if PASSWORD in v]
    assert not [e for e in entries() if PASSWORD.encode() in e.value]
    assert release(holder) == 0
    out, err = waiter.communicate(timeout=DEADLINE)
    assert PASSWORD.encode() not in out + err


@pytest.fixture(scope="module")
def both_etcd(workshop, certificates):
    """A server with users that also requires certificates."""
    server = Server(workshop, certificates=certificates, auth=True)
    yield server
    server.close()


def test_users_and_certificates(callers, both_etcd, allowed):
    r = callers(both_etcd).run("-q", allowed, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_a_certificate_with_a_name_is_good_where_there_are_users(callers, both_etcd, certificates,
                                                                 allowed):
    """With a user and a password; and without, when the common name is the user."""
    crt, key = certificates.named_client
    env = {**both_etcd.env, "ETCDCTL_CERT": crt, "ETCDCTL_KEY": key}
    r = callers(env).run("-q", allowed, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")
    env = {k: v for k, v in env.items() if k not in ("ETCDCTL_USER", "ETCDCTL_PASSWORD")}
    r = callers(env).run("-q", allowed, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_a_certificate_with_a_name_is_good_where_there_are_no_users(
        callers, tls_etcd, certificates, lock):
    crt, key = certificates.named_client
    r = callers(tls_etcd).run("-q", lock, "echo", "ran",
                              env={"ETCDCTL_CERT": crt, "ETCDCTL_KEY": key})
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


# ---- servers that are not etcd ----

def test_the_gateway_is_switched_off(callers, new_etcd):
    """me-only does not need it."""
    server = new_etcd(options=["--enable-grpc-gateway=false"])
    r = callers(server).run("-q", "etcd:x", "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_a_port_that_speaks_something_else(callers, start):
    with socket.create_server(("127.0.0.1", 0)) as s:
        p = callers({"ETCDCTL_ENDPOINTS": f"127.0.0.1:{s.getsockname()[1]}",
                     **QUICK}).start("-q", "etcd:x", "echo", "ran")
        s.settimeout(0.1)
        while p.poll() is None:
            try:
                connection = s.accept()[0]
            except TimeoutError:
                continue
            with connection:
                try:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
                except OSError:
                    pass
        out, err = p.communicate(timeout=DEADLINE)
        assert (p.returncode, out) == (3, b"") and re.fullmatch(rb"me-only: etcd:x: [^\n]+\n",
                                                                err), err


def test_the_database_is_full(callers, new_etcd):
    """No new locks; those that are held continue, and are released."""
    server = new_etcd(options=["--quota-backend-bytes", "200000"])
    c, client = callers(server), server.client()
    holder = c.hold("-q", "--ttl", "10")
    kept = c.hold("-q", "--hold-for", "60", lock="etcd:kept")
    waiter = c.start("-q", "-w", "inf", c.lock, "echo", "mine")
    wait_for(lambda: len(client.entries(c.lock[5:] + "/")) == 2, "it waits")

    def fill():
        try:
            client.put("x", "x" * 50000)
        except Exception:  # pylint: disable=broad-except
            return True
        return False
    wait_for(fill, "it is full")
    other = "etcd:other"
    refused(c, other, pattern=r"[^\n]*full[^\n]*")
    lease = client.entries(c.lock[5:] + "/")[0].lease
    wait_renewed(client, lease)
    waiter.terminate()
    assert waiter.wait(DEADLINE) == -signal.SIGTERM
    assert release(holder) == 0 and holder.stderr.read() == b""
    assert client.entries(c.lock[5:] + "/") == []
    # Its time cannot be granted: it lasts for as long as its lease.
    assert release(kept) == 0
    assert re.fullmatch(rb"me-only: etcd:kept: cannot confirm that --hold-for keeps the lock: [^\n]* its "
                        rb"database is full [^\n]*\n", kept.stderr.read())
    assert len(client.entries("kept/")) == 1
