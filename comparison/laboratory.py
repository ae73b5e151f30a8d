"""One experiment's place: a directory of its own, a job that it talks to, and an end for all."""
import contextlib
import ctypes
import json
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

DEADLINE = 20  # for what must happen
UNTIL_SURE = 2  # until something is taken not to happen
NOBODY = "nobody"
PR_SET_CHILD_SUBREAPER = 36


class Unexpected(Exception):
    """The experiment did not come to a result."""


def registry(tables):
    """The decorator that puts an experiment into a table: {heading: {column: experiment}}."""

    def column(table, heading):
        def register(experiment):
            tables.setdefault(table, {})[heading] = experiment
            return experiment

        return register

    return column


def wait_for(predicate, timeout=DEADLINE):
    """The first true value of predicate(), or its last value."""
    end = time.monotonic() + timeout
    while not (value := predicate()) and time.monotonic() < end:
        time.sleep(0.005)
    return value


def children():
    """All living processes below this one; those that lost their parent are this one's children."""
    found, to_do = [], [os.getpid()]
    while to_do:
        pid = to_do.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as f:
                    below = [int(word) for word in f.read().split()]
                found += below
                to_do += below
    return found


def state(pid):
    """The process's state, one letter; X for none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


class Job:
    def __init__(self, connection):
        self.connection = connection
        connection.settimeout(DEADLINE)
        self.lines = connection.makefile("rw")
        hello = json.loads(self.lines.readline())
        self.pid, self.name, self.standard, self.variables = (
            hello[key] for key in ("pid", "name", "standard", "variables")
        )

    def ask(self, *request):
        print(json.dumps(request), file=self.lines, flush=True)
        answer = self.lines.readline()
        return json.loads(answer) if answer else None

    def end(self, status=0):
        self.ask("exit", status)
        self.gone()

    def die(self, number):
        self.ask("die", number)
        self.gone()

    def gone(self):
        """Wait for its end."""
        if not wait_for(lambda: state(self.pid) in "XZ"):
            raise Unexpected(f"the job {self.pid} does not end")

    def lives(self):
        return state(self.pid) not in "XZ"


class Laboratory:
    """Starts tools with a lock of its own, and sees which of them run their command."""

    def __init__(self, tool, environment=None):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.tool = tool
        self.directory = tempfile.mkdtemp(prefix="comparison-")
        os.chmod(self.directory, 0o755)
        self.place = self.make("place")
        self.home = self.make("home")
        self.lock = os.path.join(self.place, "lock")
        shutil.copy(os.path.join(os.path.dirname(__file__), "job.py"), self.directory)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(os.path.join(self.directory, "control"))
        os.chmod(os.path.join(self.directory, "control"), 0o777)
        self.listener.listen(1000)
        self.jobs = []  # a job lives as long as its connection
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": self.home,
            "SHELL": "/bin/sh",
            **(environment or {}),
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """End all that is still there. A process may have started another one when it is killed."""
        while pids := children():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.002)
        self.listener.close()
        shutil.rmtree(self.directory)

    def make(self, name, owner=None):
        path = os.path.join(self.directory, name)
        os.mkdir(path)
        if owner:
            shutil.chown(path, owner)
        return path

    def job(self, name="job"):
        """The command line of a job."""
        return [
            sys.executable,
            "-IS",
            os.path.join(self.directory, "job.py"),
            os.path.join(self.directory, "control"),
            name,
        ]

    def start(self, form="try_", command=None, tool=None, lock=None, user=None, **options):
        """Start the tool, with a job if no other command is given."""
        line = (tool or self.tool).line(form, lock or self.lock, command or self.job())
        environment = dict(self.environment)
        if user:
            home = os.path.join(self.directory, "home-" + user)
            if not os.path.exists(home):
                self.make("home-" + user, user)
            account = pwd.getpwnam(user)
            environment["HOME"] = home
            options.update(user=account.pw_uid, group=account.pw_gid, extra_groups=[])
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.DEVNULL)
        options.setdefault("stderr", subprocess.DEVNULL)
        return subprocess.Popen(line, cwd=self.place, env=environment, **options)

    def accept(self, timeout=DEADLINE):
        """The next job that has started, or None."""
        if not select.select([self.listener], [], [], timeout)[0]:
            return None
        self.jobs.append(Job(self.listener.accept()[0]))
        return self.jobs[-1]

    def outcome(self, process, timeout=DEADLINE):
        """The job that the tool has started, or None: the tool has ended without it, or waits."""
        fd = os.pidfd_open(process.pid)
        try:
            select.select([self.listener, fd], [], [], timeout)
        finally:
            os.close(fd)
        return self.accept(0)

    def hold(self, form="try_", **options):
        """Start the tool with a job: the process and its job."""
        process = self.start(form, **options)
        job = self.outcome(process)
        if not job:
            raise Unexpected(f"{process.args} does not run its job; status {process.poll()}")
        return process, job

    def second(self, form="try_", **options):
        """Whether a second job starts while the first one holds the lock."""
        process = self.start(form, **options)
        job = self.outcome(process, DEADLINE if form == "try_" else UNTIL_SURE)
        if job:
            job.end()
        return bool(job)

    def program(self, name):
        """The path of a program."""
        return shutil.which(name, path=self.environment["PATH"])

    def files(self):
        """What the tool has created."""
        return sorted(
            os.path.join(at, name)
            for top in (self.place, self.home)
            for at, _, names in os.walk(top)
            for name in names
        )

    def status(self, process):
        """How a process ended, in words."""
        try:
            status = process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            return "runs on"
        return signal.Signals(-status).name if status < 0 else str(status)
