"""
/etc/me-only/etcd.conf: the cluster for callers whose environment does not name one, whatever else
is in it.
"""
import os
import re
import shutil
import socket

import pytest

from etcd_server import PASSWORD, USER
from fleet import DEADLINE, ME_ONLY, environment

pytestmark = [pytest.mark.root, pytest.mark.local]

# /etc as it is, but with another directory me-only; in a mount namespace. "$0" is a directory that
# contains "me-only".
OTHER_ETC = """
mkdir "$0/etc" "$0/real" && mount --rbind /etc "$0/real" || exit 99
ln -s "$0"/real/* "$0/etc" && rm -f "$0/etc/me-only" && mkdir "$0/etc/me-only" &&
    mount --bind "$0/me-only" "$0/etc/me-only" && mount --rbind "$0/etc" /etc || exit 99
exec "$@"
"""


class Conf:
    """A caller whose /etc has the file that a test has written."""

    def __init__(self, start, lock, directory):
        self.start, self.lock, self.directory = start, lock, directory

    def write(self, text, mode=0o600, owner=0):
        path = os.path.join(self.directory, "me-only", "etcd.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        os.chown(path, owner, owner)

    def run(self, *argv, lock=None, by=(), **env):
        for leftover in ("etc", "real"):
            if os.path.isdir(os.path.join(self.directory, leftover)):
                shutil.rmtree(os.path.join(self.directory, leftover))
        p = self.start("unshare", "--mount", "sh", "-c", OTHER_ETC, self.directory, *by, ME_ONLY, "-q",
                       *argv, lock or self.lock, "sh", "-c",
                       "echo ran; env", env=environment(env))
        out, err = p.communicate(timeout=DEADLINE)
        p.out, p.err = out.decode(), err.decode()
        return p

    def assert_runs(self, **kw):
        p = self.run(**kw)
        assert (p.returncode, p.err) == (0, "") and p.out.startswith("ran\n"), (p.returncode, p.err)
        return p.out

    def assert_refused(self, pattern, **kw):
        p = self.run(**kw)
        assert (p.returncode, p.out) == (3, ""), (p.returncode, p.err)
        assert re.fullmatch(
            rf"me-only: {re.escape(kw.get('lock') or self.lock)}: [^\n]*{pattern}[^\n]*\n",
            p.err), p.err
        assert "a secret" not in p.err and PASSWORD not in p.err
        return p.err


@pytest.fixture
def conf(start, lock, tmp_path):
    directory = tmp_path / "place"
    (directory / "me-only").mkdir(parents=True)
    os.chmod(directory, 0o755)
    return Conf(start, lock, str(directory))


def test_endpoints(conf, etcd):
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\n", mode=0o644)
    conf.assert_runs()


@pytest.mark.parametrize("text", ["# a comment\n\nETCDCTL_ENDPOINTS={}\n", "  ETCDCTL_ENDPOINTS={}",
                                  'ETCDCTL_ENDPOINTS="{}"\n', "ETCDCTL_ENDPOINTS='{}'\n",
                                  "export ETCDCTL_ENDPOINTS={}\n",
                                  "ETCDCTL_API=3\nETCDCTL_ENDPOINTS={}\n",
                                  "ETCDCTL_ENDPOINTS=127.0.0.1:1,http://{}/\n"])
def test_ways_to_write_it(conf, etcd, text):
    conf.write(text.format(etcd.endpoint))
    conf.assert_runs()


def test_user_and_password(conf, auth_etcd, allowed):
    conf.write(
        f"ETCDCTL_ENDPOINTS={auth_etcd.endpoint}\nETCDCTL_USER={USER}\n"
        f"ETCDCTL_PASSWORD={PASSWORD}\n")
    out = conf.assert_runs(lock=allowed)
    assert "ETCDCTL_" not in out and PASSWORD not in out


def test_certificates(conf, tls_etcd):
    conf.write("".join(f"{k}={v}\n" for k, v in tls_etcd.env.items()))
    conf.assert_runs()


@pytest.mark.parametrize("mode", [0o644, 0o604])
@pytest.mark.parametrize("secret", ["ETCDCTL_PASSWORD=a secret", "ETCDCTL_USER=mo:a secret",
                                    'export ETCDCTL_PASSWORD="a secret"'])
def test_others_can_read_a_password(conf, etcd, mode, secret):
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\nETCDCTL_USER=mo\n{secret}\n", mode=mode)
    conf.assert_refused("password, and others can read it")


UNSAFE = r"refusing to read /etc/me-only/etcd\.conf: it or its directory is writable by others"


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_others_can_write_it(conf, etcd, mode):
    """They would decide where the locks are: even without a password the file is of no use."""
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\n", mode=mode)
    conf.assert_refused(UNSAFE)


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_others_can_replace_it(conf, etcd, mode):
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\n")
    os.chmod(os.path.join(conf.directory, "me-only"), mode)
    conf.assert_refused(UNSAFE)


def test_it_belongs_to_another_user(conf, etcd):
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\n", owner=12345)
    conf.assert_refused(UNSAFE)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_with_a_password_may_be_readable_for_its_group(conf, etcd, mode):
    conf.write(
        f"ETCDCTL_ENDPOINTS={etcd.endpoint}\nETCDCTL_USER={USER}\nETCDCTL_PASSWORD={PASSWORD}\n",
        mode=mode)
    conf.assert_runs()


VARIABLES = ["ENDPOINTS", "CACERT", "CERT", "KEY", "USER", "PASSWORD", "INSECURE_SKIP_TLS_VERIFY",
             "INSECURE_TRANSPORT", "DIAL_TIMEOUT", "COMMAND_TIMEOUT", "DISCOVERY_SRV"]


def test_empty_variables_are_none(conf, etcd):
    """Another cluster would be another lock: two jobs at once."""
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\n")
    conf.assert_runs(**{f"ETCDCTL_{name}": "" for name in VARIABLES})


@pytest.mark.parametrize("name, value", [("DIAL_TIMEOUT", "1s"), ("USER", "mo:a secret")])
def test_other_variables_lead_to_no_other_cluster(conf, etcd, name, value):
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\n")
    conf.assert_runs(**{f"ETCDCTL_{name}": value})


def test_a_variable_replaces_that_of_the_file(conf, auth_etcd, allowed):
    conf.write(f"ETCDCTL_ENDPOINTS={auth_etcd.endpoint}\nETCDCTL_USER={USER}\n"
               "ETCDCTL_PASSWORD=a secret\n")
    conf.assert_refused("wrong name or password", lock=allowed)
    conf.assert_runs(lock=allowed, ETCDCTL_PASSWORD=PASSWORD)
    conf.assert_refused("there is no password", lock=allowed, ETCDCTL_USER=USER)


def test_with_other_endpoints_it_is_not_read(conf, etcd):
    conf.write("ETCDCTL_ENDPOINTS=127.0.0.1:1\nETCDCTL_COMMAND_TIMEOUT=no time\n", mode=0o666)
    conf.assert_runs(ETCDCTL_ENDPOINTS=etcd.endpoint)


@pytest.fixture
def dead():
    """An endpoint where nothing listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{s.getsockname()[1]}"


def test_messages_say_where_the_endpoints_come_from(conf, dead):
    conf.write(f"ETCDCTL_ENDPOINTS={dead}\n")
    quick = {"ETCDCTL_COMMAND_TIMEOUT": "100ms"}
    conf.assert_refused(rf"{dead} [^\n]*\(endpoints from /etc/me-only/etcd\.conf\)", **quick)
    conf.assert_refused(rf"{dead} [^\n]*\(endpoints from ETCDCTL_ENDPOINTS\)",
                        ETCDCTL_ENDPOINTS=dead, **quick)
    conf.write(f"ETCDCTL_ENDPOINTS={dead}:x\n")
    conf.assert_refused(r"/etc/me-only/etcd\.conf: ETCDCTL_ENDPOINTS: neither HOST nor HOST:PORT")


@pytest.mark.parametrize("line", ["ETCDCTL_ENDPOINTS 127.0.0.1:1", "x", "=x",
                                  "ETCDCTL_PASSWORD a secret",
                                  "mo:a secret"])
def test_what_is_not_understood(conf, line):
    conf.write(line + "\n")
    conf.assert_refused(r"etcd\.conf")


def test_a_directory_instead(conf):
    os.mkdir(os.path.join(conf.directory, "me-only", "etcd.conf"))
    conf.assert_refused(r"etcd\.conf")


def test_unreadable_file_is_reported(conf, etcd):
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\n", mode=0o600)
    os.chmod(conf.directory, 0o755)
    conf.assert_refused(r"etcd\.conf: Permission denied",
                        by=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"))


def test_no_file_at_all(conf):
    """Then etcd is where etcdctl would look for it. There is none, or another program's."""
    p = conf.run(ETCDCTL_COMMAND_TIMEOUT="1s")
    assert p.returncode in (0, 3)
    assert p.returncode == 0 or re.search(r"127\.0\.0\.1:2379 .*\(the default endpoint\)$", p.err)
