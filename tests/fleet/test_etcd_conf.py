"""/etc/me-only/etcd.conf: the cluster for callers whose environment does not name one."""
import os
import re
import shutil

import pytest

from etcd_server import PASSWORD, USER
from fleet import DEADLINE, ME_ONLY, environment

pytestmark = pytest.mark.root

# /etc as it is, but with another directory me-only; in a mount namespace. "$0" is a directory that
# contains "me-only".
OTHER_ETC = """
mkdir "$0/etc" "$0/real" && mount --rbind /etc "$0/real" || exit 99
for file in "$0"/real/* "$0"/real/.[!.]*; do
    name=${file##*/}
    [ "$name" = me-only ] || [ ! -e "$file" ] || ln -s "$file" "$0/etc/$name" || exit 99
done
mkdir "$0/etc/me-only" && mount --bind "$0/me-only" "$0/etc/me-only" &&
    mount --rbind "$0/etc" /etc || exit 99
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


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o666, 0o606])
@pytest.mark.parametrize("secret", ["ETCDCTL_PASSWORD=a secret", "ETCDCTL_USER=mo:a secret",
                                    'export ETCDCTL_PASSWORD="a secret"'])
def test_others_can_read_a_password(conf, etcd, mode, secret):
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\nETCDCTL_USER=mo\n{secret}\n", mode=mode)
    conf.assert_refused("password, and others can read it")


def test_others_can_write_it(conf, etcd):
    """They would decide where the locks are: even without a password the file is of no use."""
    conf.write(f"ETCDCTL_ENDPOINTS={etcd.endpoint}\n", mode=0o602)
    p = conf.run()
    assert p.returncode in (0, 3)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_with_a_password_may_be_readable_for_its_group(conf, etcd, mode):
    conf.write(
        f"ETCDCTL_ENDPOINTS={etcd.endpoint}\nETCDCTL_USER={USER}\nETCDCTL_PASSWORD={PASSWORD}\n",
        mode=mode)
    conf.assert_runs()


@pytest.mark.parametrize("name, value", [("ETCDCTL_ENDPOINTS", None),
                                         ("ETCDCTL_DIAL_TIMEOUT", "2s"),
                                         ("ETCDCTL_USER", "mo:a secret")])
def test_the_environment_comes_first(conf, etcd, name, value):
    """All of it: the two are not mixed."""
    conf.write("ETCDCTL_ENDPOINTS=127.0.0.1:1\n")
    env = {name: value or etcd.endpoint, "ETCDCTL_COMMAND_TIMEOUT": "1s"}
    if value is None:
        conf.assert_runs(**env)
    else:
        # Without endpoints, etcdctl's defaults are used, where there is no server, or another
        # test's.
        p = conf.run(**env)
        assert p.returncode in (0, 3) and "127.0.0.1:1 " not in p.err


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
    assert p.returncode == 0 or "127.0.0.1:2379" in p.err
