"""Certificates and keys that are replaced under a running job, as the kubelet does it."""
import os
import shutil
import types

import pytest

from etcd_server import Authority
from fleet import DEADLINE, release, wait_for

NAMES = ("ca.crt", "client.crt", "client.key")


class Mounted:
    """A directory of links to ..data, a link to a directory with a time in its name."""

    def __init__(self, path, *files):
        self.path, self.number = str(path), 0
        os.mkdir(self.path)
        self.swap(*files)
        for name in NAMES:
            os.symlink(f"..data/{name}", os.path.join(self.path, name))
        self.env = dict(zip(("ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"),
                            (os.path.join(self.path, name) for name in NAMES)))

    def swap(self, *files):
        """The link leads to copies of FILES; those before are gone."""
        self.number += 1
        new, link = os.path.join(self.path, f"..{self.number}"), os.path.join(self.path, "..data")
        os.mkdir(new)
        for name, file in zip(NAMES, files):
            shutil.copy(file, os.path.join(new, name))
        os.symlink(f"..{self.number}", link + "_tmp")
        os.rename(link + "_tmp", link)
        shutil.rmtree(os.path.join(self.path, f"..{self.number - 1}"), ignore_errors=True)


@pytest.fixture(scope="module")
def successors(workshop):
    """What takes the place of the certificates of all, by another authority."""
    authority = Authority(workshop.directory("successors-"))
    return types.SimpleNamespace(
        ca=authority.ca, client=authority.sign("client", "/O=fleet", "clientAuth"),
        server=authority.sign("server", "/CN=etcd", "serverAuth,clientAuth"))


@pytest.fixture
def server(new_etcd, certificates):
    return new_etcd(certificates=certificates)


def restart(server, certificates):
    """Every connection breaks, and new ones need these CERTIFICATES."""
    server.kill()
    server.certificates = certificates
    server.start()


def entries_of(server, c):
    return server.client().entries(c.lock.removeprefix("etcd:") + "/")


def test_a_swapped_link(callers, server, certificates, successors, tmp_path):
    """The lock is handed over by new connections of both."""
    mounted = Mounted(tmp_path / "tls", certificates.ca, *certificates.client)
    c = callers({**server.env, **mounted.env})
    holder = c.hold("-q")
    waiter = c.start("-q", "-w", "inf", c.lock, "echo", "mine")
    wait_for(lambda: len(entries_of(server, c)) == 2, "it waits")
    held = entries_of(server, c)[0].key
    mounted.swap(successors.ca, *successors.client)
    restart(server, successors)
    assert release(holder) == 0
    assert held not in [entry.key for entry in entries_of(server, c)]
    assert waiter.communicate(timeout=DEADLINE) == (b"mine\n", b"") and waiter.returncode == 0


def test_half_a_replacement(callers, server, certificates, successors, tmp_path):
    """The certificate is there, its key not yet: those before are used as long as they are good."""
    mounted = Mounted(tmp_path / "tls", certificates.ca, *certificates.client)
    c = callers({**server.env, **mounted.env})
    holder = c.hold("-q")
    mounted.swap(certificates.ca, successors.client[0], certificates.client[1])
    restart(server, certificates)
    assert release(holder) == 0
    assert entries_of(server, c) == []
