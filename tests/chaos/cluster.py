"""Three real etcd members on loopback addresses of a network namespace, and a network that can be cut.

Every member and every contender has a user id of its own. Connections are marked in the kernel's table with the id of who
opened them, so a rule can name both ends and both directions of one.
"""
import os
import signal
import subprocess
import threading
import time

from etcd import Client, EtcdError, post

FIRST_UID = 64101  # of the members; far from real users
FIRST_CONTENDER_UID = 64201
CONTENDERS = 64  # how many ids of contenders the network knows


class Member:
    """One etcd process with its directory."""

    def __init__(self, number, directory):
        self.name = f"m{number}"
        self.uid = FIRST_UID + number - 1
        self.address = f"127.0.0.1{number}"
        self.endpoint = f"{self.address}:2379"
        self.directory = os.path.join(directory, self.name)
        self.process = None
        os.mkdir(self.directory, 0o700)
        os.chown(self.directory, self.uid, self.uid)
        self.log = open(os.path.join(directory, self.name + ".log"), "ab")

    def start(self, initial_cluster, options):
        self.process = subprocess.Popen(
            ["etcd", "--name", self.name, "--data-dir", os.path.join(self.directory, "data"),
             "--listen-client-urls", f"http://{self.endpoint}", "--advertise-client-urls", f"http://{self.endpoint}",
             "--listen-peer-urls", f"http://{self.address}:2380", "--initial-advertise-peer-urls", f"http://{self.address}:2380",
             "--initial-cluster", initial_cluster, "--logger", "zap", "--log-level", "warn", *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, cwd=self.directory,
            user=self.uid, group=self.uid, extra_groups=[], start_new_session=True)

    def send(self, number):
        self.process.send_signal(number)

    def kill(self, number=signal.SIGKILL):
        """Ends the member and waits until it is gone, and its ports with it."""
        self.send(number)
        self.send(signal.SIGCONT)
        self.process.wait()


class Network:
    """What is dropped. A rule is a line of nft; the chain is replaced as a whole, so a change is all or nothing, and one comes after the other:
    else the rules of a cut that has ended could be put there again by somebody who has read them before."""

    OPENED = ["table inet chaos {", " chain opened { type filter hook output priority -150;"]
    LOST = ["table inet chaos {", " chain lost { type filter hook output priority 0;"]

    def __init__(self):
        self.rules, self.changes = {}, threading.Lock()
        uids = [FIRST_UID + n for n in range(3)] + [FIRST_CONTENDER_UID + n for n in range(CONTENDERS)]
        marks = ", ".join(f"{uid} : {uid}" for uid in uids)
        self._nft([*self.OPENED, f"ct direction original ct mark set meta skuid map {{ {marks} }}", " }", "}",
                   *self.LOST, " }", "}"])

    @staticmethod
    def _nft(lines):
        subprocess.run(["nft", "-f", "-"], input="\n".join(lines) + "\n", text=True, check=True)

    def _apply(self):
        rules = [rule for rules in self.rules.values() for rule in rules]
        self._nft(["flush chain inet chaos lost", *self.LOST, *rules, " }", "}"])

    def cut(self, name, rules):
        with self.changes:
            self.rules[name] = rules
            self._apply()

    def heal(self, name=None):
        """Ends one cut, or all of them."""
        with self.changes:
            if name is None:
                self.rules.clear()
            else:
                self.rules.pop(name, None)
            self._apply()


def member_rules(member):
    """The member hears nothing of the others and they nothing of him; clients reach him."""
    return [f"ct mark {member.uid} tcp dport 2380 drop", f"ct mark {member.uid} tcp sport 2380 drop",
            f"ip daddr {member.address} tcp dport 2380 drop", f"ip saddr {member.address} tcp sport 2380 drop"]


def contender_rules(uid, direction):
    """What a contender sends ("out"), what it would get ("in"), or both ("both") is lost on the way."""
    out, back = f"ct mark {uid} ct direction original drop", f"ct mark {uid} ct direction reply drop"
    return {"out": [out], "in": [back], "both": [out, back]}[direction]


class Cluster:
    """Three members; with a lifetime of tokens, users and passwords are wanted."""

    ROOT, USER, PASSWORD = "root", "fleet", "chaos"

    def __init__(self, directory, token_ttl=0):
        self.network = Network()
        self.members = [Member(number, directory) for number in (1, 2, 3)]
        self.initial = ",".join(f"{m.name}=http://{m.address}:2380" for m in self.members)
        self.options = ["--auth-token-ttl", str(token_ttl), "--bcrypt-cost", "4"] if token_ttl else []
        self.strace = None
        for member in self.members:
            self.start(member)
        self.wait_ready()
        if token_ttl:
            self._enable_auth()

    def revokes_early(self):
        """Whether the servers are older than the releases in which a leader that comes back ends no lease that lives."""
        answer = self.status(self.members[0])
        version = tuple(int(part) for part in answer["version"].split("."))
        return version < (3, 4, 31) or (3, 5) <= version < (3, 5, 13)

    @property
    def endpoints(self):
        return [member.endpoint for member in self.members]

    def client(self):
        """A client of the driver, who may do everything."""
        return Client(self.endpoints, *((self.ROOT, self.PASSWORD) if self.options else ()))

    def start(self, member):
        member.start(self.initial, self.options)

    def wait_ready(self, seconds=30):
        """Until every member answers with a leader known."""
        end = time.monotonic() + seconds
        while not all(self.status(member).get("leader", "0") != "0" for member in self.members):
            if time.monotonic() > end:
                raise RuntimeError("the cluster does not come up:\n" + self.describe())
            time.sleep(0.1)

    def status(self, member, timeout=1.0):
        try:
            return post(member.endpoint, "/v3/maintenance/status", {}, timeout)
        except EtcdError:
            return {}

    def _enable_auth(self):
        root = Client(self.endpoints)
        for path, body in (("user/add", {"name": self.ROOT, "password": self.PASSWORD}),
                           ("user/grant", {"user": self.ROOT, "role": "root"}),
                           ("role/add", {"name": "locks"}),
                           ("role/grant", {"name": "locks", "perm": {"permType": "READWRITE", "key": "Y2hhb3Mv",
                                                                     "range_end": "Y2hhb3Mw"}}),  # chaos/ to chaos0
                           ("user/add", {"name": self.USER, "password": self.PASSWORD}),
                           ("user/grant", {"user": self.USER, "role": "locks"}),
                           ("enable", {})):
            root.call("/v3/auth/" + path, body)

    def leader(self, seconds=20):
        """The member who leads, as most of those who answer say; waits until there is one."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answers = [self.status(member) for member in self.members]
            for member, own in zip(self.members, answers):
                own_id = own.get("header", {}).get("member_id")
                if own_id and sum(a.get("leader") == own_id for a in answers) >= 2:
                    return member
            time.sleep(0.2)
        raise RuntimeError("the cluster has no leader:\n" + self.describe())

    def describe(self):
        """What can be said of each member: whether it runs, what it answers, the end of its log."""
        words = []
        for member in self.members:
            words.append(f"{member.name}: process status {member.process.poll()}, answers {self.status(member)}")
            with open(member.log.name, errors="replace") as log:
                words += ["    " + line[:300] for line in log.read().splitlines()[-12:]]
        return "\n".join(words + [str(self.network.rules)])

    def stick_disk(self, member, seconds):
        """The next fdatasync of each thread of the member takes so long. Returns when strace is attached."""
        self.strace = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(member.process.pid), "-e", "trace=fdatasync,fsync",
             "-e", f"inject=fdatasync,fsync:delay_enter={seconds}s:when=1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        status = f"/proc/{member.process.pid}/status"
        end = time.monotonic() + 5
        while "TracerPid:\t0\n" in open(status).read() and time.monotonic() < end:
            time.sleep(0.02)

    def free_disk(self):
        if self.strace:
            self.strace.kill()
            self.strace.wait()
            self.strace = None

    def heal(self):
        """Everything runs and reaches everything again."""
        self.free_disk()
        self.network.heal()
        for member in self.members:
            if member.process.poll() is None:
                member.send(signal.SIGCONT)
            else:
                self.start(member)
        self.wait_ready()

    def stop(self):
        for member in self.members:
            if member.process.poll() is None:
                member.kill()
