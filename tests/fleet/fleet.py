"""What the tests of etcd: locks use, in addition to what all behaviour tests use."""
import importlib.util
import os
import re
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BEHAVIOUR = os.path.join(os.path.dirname(HERE), "behaviour")


def load(name, path):
    """A module under its own name: both directories have a conftest."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


sys.path.insert(0, BEHAVIOUR)
behaviour = load("behaviour", os.path.join(BEHAVIOUR, "conftest.py"))

# noqa: E402
from behaviour import (BUILD, DEADLINE, HAND_DOWN, ME_ONLY, Terminal, children_of,
                       control_group, name_of, process_state, processor_time, program,
                       read_line, release, wait_for)  # noqa: E402
from etcd_server import spared  # noqa: E402

__all__ = ["BUILD", "DEADLINE", "HAND_DOWN", "ME_ONLY", "Caller", "Terminal", "Ticks",
           "all_processes_of", "boottime", "children_of", "control_group", "die_with_me", "end_all",
           "environment", "environment_of", "helper_of", "is_alive", "name_of", "process_state", "processor_time",
           "program", "read_line", "release", "said", "spared", "user",
           "wait_for"]


def user():
    """
    This user as the cluster knows it: by name, since numbers differ between hosts; without a name,
    by something that is not one.
    """
    name = behaviour.user()
    return f"uid {name}" if name.isdigit() else name


# Debian 12 has a server with known bugs; every run without -q prints a warning about it.
OLD = re.compile(rb"me-only: [^\n]*: the server runs etcd 3\.4\.23, which has known lease bugs[^\n]*\n")


def said(r):
    """
    Standard error, as text and without the line about an old server. Of a CompletedProcess, or
    bytes.
    """
    return OLD.sub(b"", r if isinstance(r, bytes) else r.stderr).decode()


def environment(*parts, **more):
    """The environment of this process without etcdctl's variables, and with PARTS."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("ETCDCTL_", "ETCD_", "ME_ONLY_TOKEN", "ME_ONLY_LOCK",
                                "ME_ONLY_SLOT", "COLUMNS"))}
    for part in (*parts, more):
        env |= part
    return env


# ---- processes ----

def stat_of(pid):
    """(name, state, ppid, session) of PID, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            name, rest = f.read().split(b"(", 1)[1].rsplit(b")", 1)
    except OSError:
        return None
    fields = rest.split()
    return name.decode(errors="replace"), fields[0].decode(), int(fields[1]), int(fields[3])


def descendants():
    """
    {pid: whether it is a child} for all processes below this one, including zombies; without
    servers and janitors.
    """
    stats = {int(n): s for n in os.listdir("/proc") if n.isdigit() and (s := stat_of(n))}
    kids = {}
    for pid, s in stats.items():
        kids.setdefault(s[2], []).append(pid)
    found, todo = {}, [os.getpid()]
    while todo:
        parent = todo.pop()
        for pid in kids.get(parent, []):
            if pid not in spared:
                found[pid] = parent == os.getpid()
                todo.append(pid)
    return found


def end_all():
    """End and reap every descendant of this worker, except servers."""
    while found := descendants():
        for pid, is_child in found.items():
            try:
                os.kill(pid, signal.SIGKILL)
                if is_child:
                    os.waitpid(pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def is_alive(pid):
    return process_state(pid) not in ("Z", "X", None)


def all_processes_of(lock):
    """
    The living processes whose environment shows that they run under LOCK; they need not descend
    from this process.
    """
    mark, found = b"\0ME_ONLY_LOCK=" + lock.encode() + b"\0", []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and is_alive(entry):
            try:
                with open(f"/proc/{entry}/environ", "rb") as f:
                    if mark in b"\0" + f.read() + b"\0":
                        found.append(int(entry))
            except OSError:
                continue
    return found


def helper_of(wrapper):
    """The helper that the me-only process has started; waits until there is one."""
    pid = getattr(wrapper, "pid", wrapper)

    def find():
        for kid in children_of(pid):
            try:
                if os.path.basename(os.readlink(f"/proc/{kid}/exe")) == "etcd":
                    return kid
            except OSError:
                continue
        return None
    return wait_for(find, "a helper")


def environment_of(pid):
    """The variables of PID. During an exec it has none yet."""
    def read():
        with open(f"/proc/{pid}/environ", "rb") as f:
            return f.read()
    return dict(v.split("=", 1) for v in os.fsdecode(wait_for(read, "an environment")).split("\0")
                if "=" in v)


def die_with_me():
    """For programs that are not me-only, and could outlive a worker that is killed."""
    return ["setpriv", "--pdeathsig", "KILL"]


# ---- callers ----

class Caller:
    """A user of one cluster's locks. .env: the variables for etcdctl."""

    def __init__(self, start, env, lock=None):
        self.start_, self.env, self.lock = start, dict(env), lock

    def with_env(self, **env):
        return Caller(self.start_, {**self.env, **env}, self.lock)

    def start(self, *argv, env=None, **kw):
        """Start me-only."""
        return self.start_(ME_ONLY, *argv, env=environment(self.env, env or {}), **kw)

    def run(self, *argv, input=None, timeout=DEADLINE, **kw):  # pylint: disable=redefined-builtin
        """Run me-only to its end."""
        if input is not None:
            kw["stdin"] = subprocess.PIPE
        p = self.start(*argv, **kw)
        out, err = p.communicate(input, timeout=timeout)
        return subprocess.CompletedProcess(p.args, p.returncode, out, err)

    def hold(self, *options, lock=None, command=("sh", "-c", "echo $$; exec cat >/dev/null"), **kw):
        """
        Start a holder whose job prints its PID and waits for the end of its input; returns once the
        job runs. See release().
        """
        p = self.start(*options, lock or self.lock, *command, stdin=subprocess.PIPE, **kw)
        line = read_line(p.stdout)
        assert line, f"the holder did not start: {p.stderr.read()!r}"
        p.job = int(line.split()[0])
        if str(command[-1]).endswith("exec cat >/dev/null"):
            wait_for(lambda: name_of(p.job) == "cat", "the job is what it will be")
        return p

    def etcdctl(self, *argv, **kw):
        """Start etcdctl."""
        return self.start_(*die_with_me(), "etcdctl", *argv,
                           env=environment(self.env, ETCDCTL_API="3"), **kw)


# Seconds that a busy machine may wake a process late. Another job waits for 3 s after a loss.
LATE = 2


class Ticks:
    """The output of ticker.py: which processes of a job live, and when each lived last."""

    def __init__(self, path):
        self.path = str(path)

    def job(self, *words):
        """The command that writes it."""
        return (sys.executable, "-ISs", os.path.join(HERE, "ticker.py"), self.path, *words)

    def lines(self):
        try:
            with open(self.path, encoding="ascii") as f:
                return [(who, int(pid), int(when) / 1e9)
                        for who, pid, when in (line.split() for line in f)]
        except FileNotFoundError:
            return []

    def seen(self):
        """The processes seen so far: {"job", "child", ...}."""
        return {who for who, _, _ in self.lines()}

    def wait_for(self, *who):
        """Wait until all of them live."""
        wait_for(lambda: set(who) <= self.seen(), f"{who} live")

    def grow(self):
        """Wait until one of them writes again."""
        before = os.stat(self.path).st_size
        wait_for(lambda: os.stat(self.path).st_size > before, "the job lives")

    def last(self):
        """When one of them lived last, in seconds of boottime()."""
        return max(when for _, _, when in self.lines())

    def living(self):
        """The processes that are still alive."""
        return {pid for _, pid, _ in self.lines() if is_alive(pid)
                and self.path in command_line(pid)}


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return os.fsdecode(f.read())
    except OSError:
        return ""


def boottime():
    return time.clock_gettime(time.CLOCK_BOOTTIME)
