"""
The recipes of the README and of docs/recipes.md that need a cluster, run; the others are in
tests/behaviour/test_documents.py.
"""
import os
import re
import socket

import pytest

from etcd_server import free_port
from fleet import DEADLINE, ME_ONLY, behaviour, environment, said, wait_for

ROOT = behaviour.ROOT
SHELLS = ["dash", "bash", "zsh"]

# It reports that it runs, and ends when the file is gone.
JOB = """#!/bin/sh
echo "${0##*/} $*: begin" >>"$LOG"
while [ -e "$BLOCK" ]; do sleep 0.02; done
echo "${0##*/} $*: end" >>"$LOG"
"""


def recipe(name):
    """
    The block of docs/recipes.md, which has all of the README's, that is marked with
    <!-- recipe: NAME -->.
    """
    with open(os.path.join(ROOT, "docs", "recipes.md"), encoding="utf-8") as f:
        found = re.findall(rf"<!-- recipe: {name} -->\n```\w+\n(.*?)```\n", f.read(), re.S)
    assert len(found) == 1, f"one recipe named {name}"
    return found[0]


class Place:
    """A directory with the programs that the recipes name, on a host that knows the cluster."""

    def __init__(self, path, start, server):
        self.path, self.start = path, start
        self.log, self.block, self.bin = path / "log", path / "block", path / "bin"
        self.bin.mkdir()
        self.log.touch()
        os.symlink(ME_ONLY, self.bin / "me-only")
        for name in ("backup.sh", "deploy.sh", "nightly.sh"):
            self.program(name, JOB)
        self.env = environment(server.env, PATH=f"{self.bin}:{os.environ['PATH']}",
                               LOG=str(self.log), BLOCK=str(self.block), ETCDCTL_API="3")

    def program(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def shell(self, shell, text, **env):
        return self.start(*([shell, "-f"] if shell == "zsh" else [shell]), "-c",
                          text.replace("/usr/local/bin/", f"{self.bin}/"),
                          env=self.env | env)

    def lines(self):
        return self.log.read_text().splitlines()

    def running(self, n=1):
        wait_for(lambda: len(self.lines()) == n, "the job runs")


@pytest.fixture
def place(tmp_path, start, etcd):
    return Place(tmp_path, start, etcd)


def ended(p):
    out, err = p.communicate(timeout=DEADLINE)
    return p.returncode, out.decode(), said(err)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_server_to_try_it_with(shell, tmp_path, start):
    text = recipe("fleet-try")
    assert text.count("12379") == 3 and text.count("12380") == 1
    for port in ("12379", "12380"):
        text = text.replace(port, str(free_port()))
    (tmp_path / "bin").mkdir()
    (tmp_path / "tmp").mkdir()
    os.symlink(ME_ONLY, tmp_path / "bin" / "me-only")
    # The five seconds for a start are enough for a server, but not on a machine that is busy with
    # tests.
    p = start(*([shell, "-f"] if shell == "zsh" else [shell]), "-c", text,
              env=environment(PATH=f"{tmp_path}/bin:{os.environ['PATH']}",
                              TMPDIR=str(tmp_path / "tmp"), ETCDCTL_COMMAND_TIMEOUT="60s"))
    status, out, err = ended(p)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "the only one, with token 2", "the first write of a new server"
    assert lines[1].split()[:3] == ["LOCK", "STATE", "PID"] \
        and lines[2].split()[:2] == ["etcd:locks/try", "held"]
    assert len(lines) == 3 and os.listdir(tmp_path / "tmp") == [], "nothing is left"


def test_the_only_instance_on_all_hosts(place, lock, c):
    text = recipe("fleet").replace("etcd:locks/shop", lock)
    assert f"me-only -w 10m {lock} deploy.sh" in text
    place.block.touch()
    first = place.shell("dash", text)
    place.running()
    assert re.fullmatch(rf"me-only: {lock}: held by pid \d+ \(\S+\) on \S+ for \S+: deploy\.sh\n",
                        said(c.run(lock, "true"))), "as it is shown"
    second = place.shell("dash", text)
    wait_for(lambda: " waiting " in c.run("--who", lock).stdout.decode(), "the second one waits")
    place.block.unlink()
    assert ended(first)[:2] == ended(second)[:2] == (0, "")
    assert place.lines() == ["deploy.sh : begin", "deploy.sh : end"] * 2


def test_the_same_crontab_on_all_hosts(place, lock, c):
    line = recipe("fleet-cron").rstrip("\n")
    command = re.fullmatch(r"(?:[-*/,\d]+\s+){5}(\S.*)",
                           line)[1].replace("etcd:locks/nightly", lock)
    assert "%" not in command, "cron ends the line there"
    assert " --hold-for=2m " in command and lock in command
    assert ended(place.shell("/bin/sh", command, PATH="/usr/bin:/bin")) == (0, "", "")
    assert place.lines() == ["nightly.sh : begin", "nightly.sh : end"]
    # The host with the clock that is behind.
    assert ended(place.shell("/bin/sh", command, PATH="/usr/bin:/bin")) == (0, "", ""), "no mail"
    assert len(place.lines()) == 2, "it did not run again"
    assert ", whose command has ended (--hold-for), " in said(c.run(lock, "true"))


def test_refuse_late_writes(place, lock):
    store = place.path / "report.csv"
    text = recipe("fleet-fence").replace("etcd:locks/report",
                                         lock).replace("/srv/data/report.csv", str(store))
    assert lock in text and str(store) in text
    place.program("make-report", "#!/bin/sh\necho \"a report of $ME_ONLY_TOKEN\"\n")
    path = f"{place.bin}:{os.path.join(ROOT, 'examples')}:{os.environ['PATH']}"
    for _ in range(2):
        assert ended(place.shell("dash", text, PATH=path)) == (0, "", "")
    token = int(re.fullmatch(r"a report of (\d+)\n", store.read_text())[1])
    # A host that was frozen since the first of them, and does not know that another holds its lock.
    late = re.search(r"'(.*)'", text)[1]
    status, _, err = ended(place.shell("dash", late, PATH=path, ME_ONLY_LOCK=lock,
                                       ME_ONLY_TOKEN=str(token - 1)))
    assert (status, err) == (10,
                             f"fenced-file.sh: {store}: refused: token {token - 1} is older than "
                             f"{token}\n")
    assert store.read_text() == f"a report of {token}\n"


def test_scripts_that_already_use_etcdctl_lock(place, lock, name, c):
    old, new = recipe("etcdctl").replace("etcd:locks/backup",
                                         lock).replace("locks/backup", name).splitlines()
    assert f"etcdctl lock {name} -- " in old and f" {lock} " in new
    for n, (first, second) in enumerate(((old, new), (new, old))):
        place.block.touch()
        a = place.shell("dash", first)
        place.running(4 * n + 1)
        b = place.shell("dash", second)
        wait_for(lambda: c.run("--who", lock).stdout.count(b"\n") == 4, "the other one is in line")
        assert len(place.lines()) == 4 * n + 1, "and waits"
        place.block.unlink()
        assert ended(a)[0] == ended(b)[0] == 0
    assert place.lines() == ["backup.sh --full: begin", "backup.sh --full: end"] * 4


def test_the_configuration_file():
    """Its content is in the manual page; tests/fleet/test_etcd_conf.py reads such files."""
    lines = recipe("fleet-conf").splitlines()
    with open(os.path.join(ROOT, "man", "me-only-etcd.7"), encoding="utf-8") as f:
        page = f.read()
    names = [re.fullmatch(r"(ETCDCTL_[A-Z]+)=\S+", line)[1] for line in lines]
    assert names and all(re.search(rf"^\.It Ev .*\b{name}\b", page, re.M) for name in names)


# --- what docs/recipes.md says of proxies ---

def test_http_proxies_are_ignored(c, lock):
    nowhere = {name: "http://127.0.0.1:1" for name in
               ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY")}
    r = c.run(lock, "echo", "ran", env=c.env | nowhere)
    assert (r.returncode, r.stdout, said(r)) == (0, b"ran\n", "")


def test_through_a_grpc_proxy(etcd, lock, c, start):
    """The proxy passes on all calls and streams."""
    port = free_port()
    proxy = start("etcd", "grpc-proxy", "start", f"--endpoints=127.0.0.1:{etcd.port}",
                  f"--listen-addr=127.0.0.1:{port}", env=environment(etcd.env))

    def answers():
        assert proxy.poll() is None
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    wait_for(answers, "it listens")
    r = c.run("-q", lock, "echo", "ran", env=c.env | {"ETCDCTL_ENDPOINTS": f"127.0.0.1:{port}"})
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")
