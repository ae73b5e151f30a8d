"""Small clients with the command line of me-only, for tests of the harness: one with the right rule, two with bad ones.

usage: model.py --rule full|naive|receive --ttl N [-k N] [-w inf] [-s | -j N] etcd:NAME COMMAND [ARGUMENT]...

  full      the deadline counts from the sending of a renewal, which is a keepalive and a read of the own key in one term;
            acquires by a write; ends the command at the deadline; waits a while after a predecessor that expired
  naive     renews and never looks at the answers; acquires by a read; the command is never ended
  receive   the deadline counts from the receipt of a keepalive's answer, nobody reads the own key; acquires by a read

The bad rules are those of well-known tools. The checker must find what they do.
"""
import argparse
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from clock import SECOND, now
from etcd import Client, EtcdError, after, b64, unb64

LOST = 5
LOCK_DELAY = 2.0
PR_SET_CHILD_SUBREAPER = 36
libc = ctypes.CDLL(None, use_errno=True)


class Lost(Exception):
    """The key or its lease is gone."""


class Contender:
    """One entry in the queue of a lock, and what keeps it alive."""

    def __init__(self, options, name):
        self.options, self.name = options, name
        self.mode = "s" if options.shared else "n" if options.slots else "x"
        endpoints = os.environ.get("ETCDCTL_ENDPOINTS", "127.0.0.1:2379").split(",")
        user, _, password = os.environ.get("ETCDCTL_USER", "").partition(":")
        # One for each of the two threads: the renewals never wait for a question of the other.
        self.client, self.renewer = (Client(endpoints, user or None, password) for _ in range(2))
        self.full = options.rule == "full"
        self.mutex = threading.Lock()

    # --- requests ---

    @property
    def prefix(self):
        return self.name + "/"

    def patiently(self, path, body):
        """Until an answer comes: all of these requests can be repeated."""
        while True:
            self.still_alive()
            try:
                return self.client.call(path, body, timeout=1.0)
            except EtcdError as e:
                if e.code == 5:
                    raise Lost("requested lease not found") from None
                if e.code is not None and e.code not in (1, 2, 4, 8, 13, 14, 16):
                    raise
                time.sleep(0.1)

    def enter(self):
        """A lease, a key, a place in the queue."""
        self.lease = random.getrandbits(62) | 1
        self.key = f"{self.prefix}{self.lease:x}"
        self.lost, self.passed, self.create = None, False, None
        self.deadline = now() + 600 * SECOND  # until there is a lease
        sent = now()
        while True:
            try:
                self.client.call("/v3/lease/grant", {"TTL": self.options.ttl, "ID": str(self.lease)}, timeout=1.0)
                break
            except EtcdError as e:
                if e.code == 9:
                    break
                time.sleep(0.1)
        self.deadline = sent + self.lifetime()
        value = f"{self.mode}{self.options.slots or ''}"
        answer = self.patiently("/v3/kv/txn", {
            "compare": [{"target": "CREATE", "key": b64(self.key), "result": "EQUAL", "create_revision": "0"}],
            "success": [{"request_put": {"key": b64(self.key), "value": b64(value), "lease": str(self.lease)}}],
            "failure": [{"request_range": {"key": b64(self.key)}}]})
        if answer.get("succeeded"):
            self.create = int(answer["header"]["revision"])
        else:
            self.create = int(answer["responses"][0]["response_range"]["kvs"][0]["create_revision"])

    def lifetime(self):
        margin = SECOND + self.options.ttl * SECOND // 50 if self.full else 0
        return self.options.ttl * SECOND - margin

    def in_front(self):
        """The entries older than ours, and the revision at which that was so."""
        answer = self.patiently("/v3/kv/range", {
            "key": b64(self.prefix), "range_end": b64(after(self.prefix)), "sort_order": "ASCEND", "sort_target": "CREATE",
            "max_create_revision": str(self.create - 1)})
        return answer.get("kvs", []), int(answer["header"]["revision"])

    def must_wait_for(self, front):
        """Those of the entries in front that keep us out."""
        modes = [unb64(entry.get("value")) or "x" for entry in front]
        if self.mode == "s":
            return [e for e, mode in zip(front, modes) if mode != "s"]
        if self.mode == "n" and all(mode.startswith("n") for mode in modes):
            return front if len(front) >= min([self.options.slots] + [int(mode[1:]) for mode in modes]) else []
        return front

    def expired(self, entry):
        lease = unb64(entry["key"]).rsplit("/", 1)[1]
        answer = self.patiently("/v3/lease/timetolive", {"ID": str(int(lease, 16))})
        return int(answer.get("TTL", 0)) <= 0

    def acquire(self, again):
        """Waits for our turn; returns the token."""
        before = None
        while True:
            self.still_alive()
            front, revision = self.in_front()
            blocking = self.must_wait_for(front)
            if not blocking:
                break
            before = blocking[-1]
            time.sleep(0.05)
        if not self.full:
            return revision
        # A waiter that lost its place may have been behind a holder that lost its own then.
        if again or (before and self.expired(before)):
            time.sleep(LOCK_DELAY)
        compare = [{"target": "CREATE", "key": b64(self.key), "result": "EQUAL", "create_revision": str(self.create)}]
        if self.mode == "x":
            compare.append({"target": "CREATE", "key": b64(self.prefix), "range_end": b64(after(self.prefix)),
                            "result": "GREATER", "create_revision": str(self.create - 1)})
        value = f"{self.mode}{self.options.slots or ''}"
        answer = self.patiently("/v3/kv/txn", {
            "compare": compare,
            "success": [{"request_put": {"key": b64(self.key), "value": b64(value), "ignore_lease": True}}],
            "failure": [{"request_range": {"key": b64(self.key)}}]})
        if not answer.get("succeeded"):
            raise Lost("the key is gone")
        return int(answer["header"]["revision"])

    def leave(self):
        """Bounded: the lease ends by itself."""
        end = time.monotonic() + 3
        while time.monotonic() < end:
            try:
                self.client.call("/v3/kv/deleterange", {"key": b64(self.key)}, timeout=1.0)
                return
            except EtcdError:
                time.sleep(0.2)

    # --- renewals ---

    def still_alive(self):
        with self.mutex:
            if self.options.rule == "naive":
                return
            self.passed = self.passed or now() >= self.deadline
            if self.lost or (self.passed and self.full):
                raise Lost(self.lost or "not renewed in time")

    def renew_at(self, endpoint):
        sent = now()
        answer = self.renewer.call_at(endpoint, "/v3/lease/keepalive", {"ID": str(self.lease)}, timeout=1.0)
        if int(answer.get("TTL", 0)) <= 0:
            return "the lease has ended", 0
        if not self.full:
            return None, now() + self.lifetime()
        read = self.renewer.call_at(endpoint, "/v3/kv/range", {"key": b64(self.key)}, timeout=1.0)
        if self.create and not any(int(e["create_revision"]) == self.create for e in read.get("kvs", [])):
            return "the key is gone", 0
        if read["header"]["raft_term"] != answer["header"]["raft_term"]:
            raise EtcdError(None, "the term changed")
        return None, sent + self.lifetime()

    def keep_alive(self):
        """The thread of renewals."""
        while True:
            lease = self.lease
            for endpoint in list(self.renewer.endpoints):
                try:
                    lost, deadline = self.renew_at(endpoint)
                except EtcdError:
                    self.renewer.endpoints.append(self.renewer.endpoints.pop(0))
                    continue
                with self.mutex:
                    self.passed = self.passed or (self.full and now() >= self.deadline)  # a passed deadline is final
                    if lease == self.lease and not self.passed:
                        self.lost = self.lost or lost
                        self.deadline = max(self.deadline, deadline)
                break
            time.sleep(self.options.ttl / 6)

    def ends_at(self):
        """When the command must have been asked to end, and when it must have ended; a loss that is known counts from now."""
        with self.mutex:
            if self.lost:
                at = min(self.deadline, now())
                return at, min(at + min(self.options.kill_after, 2) * SECOND, self.deadline)
            return self.deadline - self.options.kill_after * SECOND, self.deadline


def descendants(pid):
    """All processes below one."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in open(f"/proc/{pid}/task/{thread}/children").read().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass
    return found


def signal_all(number):
    for pid in descendants(os.getpid()):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            pass


def die_with_parent():
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)


def guard(contender, job):
    """Waits for the command and everything below it; returns whether it had to be ended."""
    asked = killed = None
    naive = contender.options.rule == "naive"
    while job.poll() is None or descendants(os.getpid()):
        if job.poll() is not None:
            try:
                os.waitpid(-1, os.WNOHANG)  # orphans that came to us
            except ChildProcessError:
                pass
        if not naive:
            if asked is None:
                term, kill = contender.ends_at()
            if asked is None and now() >= term:
                asked, killed = now(), kill
                signal_all(signal.SIGTERM)
            if asked and now() >= killed:
                signal_all(signal.SIGKILL)
        time.sleep(0.01)
    return asked is not None


def parse(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("--rule", choices=["full", "naive", "receive"], required=True)
    parser.add_argument("--ttl", type=int, default=30)
    parser.add_argument("-k", dest="kill_after", type=int, default=5)
    parser.add_argument("-w", dest="wait")
    parser.add_argument("-s", dest="shared", action="store_true")
    parser.add_argument("-j", dest="slots", type=int)
    parser.add_argument("lock")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    socket.setdefaulttimeout(2)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    contender = Contender(options, options.lock.removeprefix("etcd:"))
    renewals, again = None, False
    while True:
        try:
            contender.enter()
            if renewals is None:
                renewals = threading.Thread(target=contender.keep_alive, daemon=True)
                renewals.start()
            token = contender.acquire(again)
            break
        except Lost:
            again = True  # back to the end of the queue, with a new lease
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCDCTL_")}
    environment.update(ME_ONLY_TOKEN=str(token), ETCD_LOCK_KEY=contender.key, ETCD_LOCK_REV=str(token))
    job = subprocess.Popen(options.command, env=environment, preexec_fn=None if options.rule == "naive" else die_with_parent)
    if guard(contender, job):
        print(f"me-only: {options.lock}: lost: {contender.lost or 'not renewed in time'}; the command was ended",
              file=sys.stderr)
        return LOST
    contender.leave()
    return job.returncode if job.returncode >= 0 else 128 - job.returncode


if __name__ == "__main__":
    sys.exit(main())
