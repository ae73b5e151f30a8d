"""The experiments with fleet locks: a laboratory with an etcd server of its own, and the
columns.
"""
import os
import signal
import socket
import subprocess
import time

from experiments import TWO_RUN
from laboratory import Laboratory, Unexpected, children, registry, wait_for
from tools import LOCK, ME_ONLY, Tool

TTL = 10
TABLES = {}
column = registry(TABLES)
HEADING = "Does a second job wait while the first one runs?"
OTHER = "The command and its callers"


def etcdctl(name, package, program="etcdctl"):
    form = (program, "lock", f"--ttl={TTL}", LOCK, "--")
    return Tool(name, package, (), form)


def tools(unpacked):
    options = (f"--ttl={TTL}s", "-k", "2s", "etcd:" + LOCK)
    found = [
        Tool("me-only etcd:", "me-only", (ME_ONLY, *options), (ME_ONLY, "-w", "inf", *options)),
        etcdctl("etcdctl lock 3.4", "etcd-client"),
    ]
    newer = os.path.join(unpacked, "etcd-client-trixie", "usr/bin/etcdctl")
    if os.path.exists(newer):
        found.append(etcdctl("etcdctl lock 3.5", "etcd-client-trixie", newer))
    return found


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Fleet(Laboratory):
    def __init__(self, tool):
        clients, peers = (f"http://127.0.0.1:{port}" for port in free_ports(2))
        super().__init__(tool, {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": clients})
        self.server = subprocess.Popen(
            [
                "etcd",
                "--data-dir",
                self.make("data"),
                "--listen-client-urls",
                clients,
                "--advertise-client-urls",
                clients,
                "--listen-peer-urls",
                peers,
                "--initial-advertise-peer-urls",
                peers,
                "--initial-cluster",
                f"default={peers}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if not wait_for(lambda: self.etcdctl("endpoint", "health").returncode == 0):
            raise Unexpected("no etcd server")

    def etcdctl(self, *arguments):
        return subprocess.run(
            ["etcdctl", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def keys(self):
        """How many hold the lock or wait for it."""
        return len(self.etcdctl("get", "--prefix", "--keys-only", self.lock).stdout.split())

    def hold(self, form="wait", **options):
        return super().hold(form, **options)

    def next_runs(self):
        """A second one waits. What has become of the first job when its job starts?"""
        first = self.jobs[0]
        self.start("wait")
        job = self.accept(3 * TTL)
        if not job:
            return "it waits" if first.lives() else "**no job**"
        return TWO_RUN if first.lives() else "the job is ended"


@column(HEADING, "tool killed")
def killed(lab):
    """SIGKILL ends the process that the caller started."""
    process, _ = lab.hold()
    process.kill()
    process.wait()
    return lab.next_runs()


@column(HEADING, "tool stopped")
def stopped(lab):
    """SIGSTOP stops the process that the caller started."""
    process, _ = lab.hold()
    process.send_signal(signal.SIGSTOP)
    return lab.next_runs()


@column(HEADING, "all stopped")
def all_stopped(lab):
    """SIGSTOP stops all processes of the tool, but not the job."""
    before = set(children())
    _, job = lab.hold()
    for pid in set(children()) - before - {job.pid}:
        os.kill(pid, signal.SIGSTOP)
    return lab.next_runs()


@column(HEADING, "server away")
def away(lab):
    """The server is stopped for longer than the lease, and then resumes."""
    lab.hold()
    lab.server.send_signal(signal.SIGSTOP)
    time.sleep(TTL + 5)
    lab.server.send_signal(signal.SIGCONT)
    return lab.next_runs()


@column(HEADING, "waiter's lease ended")
def waiter_late(lab):
    """A waiter's processes are stopped until its lease has ended, and then continued. The first
    job ends, and the waiter's job runs. Does a third job run beside it?"""
    _, first = lab.hold()
    before = set(children())
    lab.start("wait")
    if not wait_for(lambda: lab.keys() == 2):
        raise Unexpected("it does not wait")
    waiter = set(children()) - before
    for pid in waiter:
        os.kill(pid, signal.SIGSTOP)
    if not wait_for(lambda: lab.keys() == 1, 3 * TTL):
        raise Unexpected("its lease does not end")
    for pid in waiter:
        os.kill(pid, signal.SIGCONT)
    first.end()
    if not lab.accept():
        return "gives up"
    lab.jobs.pop(0)
    return lab.next_runs()


@column(OTHER, "SIGTERM to the tool")
def terminated(lab):
    """Does the job get it?"""
    process, job = lab.hold()
    process.terminate()
    return "the job gets it" if wait_for(lambda: job.ask("terms"), 3) else "not passed on"


@column(OTHER, "stdin")
def standard_input(lab):
    """Does the job get what is written to the tool's standard input?"""
    process, job = lab.hold(stdin=subprocess.PIPE)
    process.stdin.write(b"some words")
    process.stdin.close()
    return "the job gets it" if job.ask("read") == "some words" else "lost"


@column(OTHER, "job exits with 7")
def seven(lab):
    """The tool's exit status."""
    process, job = lab.hold()
    job.end(7)
    return lab.status(process)


@column(OTHER, "held, no waiting")
def held(lab):
    """The tool's exit status when the lock is held."""
    if not lab.tool.try_:
        return "cannot"
    lab.hold()
    return lab.status(lab.start())


@column(OTHER, "names it")
def names_holder(lab):
    """Does a second tool print the PID of the first tool or of its job, within three seconds?"""
    process, job = lab.hold()
    path = os.path.join(lab.home, "said")
    with open(path, "wb") as said:
        lab.start("try_" if lab.tool.try_ else "wait", stdout=said, stderr=said)
    return (
        "yes"
        if wait_for(lambda: {str(process.pid), str(job.pid)} & set(read(path).split()), 3)
        else "no"
    )


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


@column(OTHER, "fencing token")
def token(lab):
    """A holder and two waiters: does `ETCD_LOCK_REV` (`ME_ONLY_TOKEN`) grow from job to job?"""
    lab.hold()
    for number in (2, 3):
        lab.start("wait")
        if not wait_for(lambda count=number: lab.keys() == count):
            raise Unexpected("it does not wait")
    tokens = []
    for number in range(3):
        job = lab.jobs[number]
        tokens.append(int(job.variables.get("ME_ONLY_TOKEN") or job.variables["ETCD_LOCK_REV"]))
        job.end()
        if number < 2 and not lab.accept():
            raise Unexpected("the next one does not run")
    return "grows" if tokens == sorted(set(tokens)) else "**does not grow**"
