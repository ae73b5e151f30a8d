"""
What all behaviour tests share: the program under test, a lock name for each test, and processes
that never outlive the test.

The program is $ME_ONLY (default: build/me-only of this tree); test programs in C are in
$ME_ONLY_TEST_PROGRAMS (default: build/tests/programs). Tests wait for events with wait_for(), never
for time.
"""
import collections
import contextlib
import ctypes
import os
import pwd
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid

import pytest

from terminal import Terminal

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("ME_ONLY_BUILD", os.path.join(ROOT, "build"))
ME_ONLY = os.path.abspath(os.environ.get("ME_ONLY", os.path.join(BUILD, "me-only")))
PROGRAMS = os.path.abspath(os.environ.get("ME_ONLY_TEST_PROGRAMS",
                                          os.path.join(BUILD, "tests", "programs")))
# seconds after which an event that did not happen fails the test; generous on purpose
DEADLINE = 60

PR_SET_CHILD_SUBREAPER = 36

# As at a terminal: nohup, and a shell behind whose & this runs, have tests ignore some.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_number, signal.SIG_DFL)

# Every way to hold a lock: parametrizes a test with the options of each as "form".
forms = pytest.mark.parametrize("form", [(), ("-F",), ("-o",)], ids=["default", "no-fork", "close"])


# Every test runs with the static program as root. These files also run in a pass where their
# subject can differ.
PASSES = {
    # An ordinary user: what it may see and do.
    "user": {"test_file", "test_file_proof", "test_relative", "test_self_locking", "test_inherit", "test_limits", "test_list",
             "test_nested", "test_queue",
             "test_who", "test_etcd_conf", "test_etcd_run", "test_etcd_who"},
    # The system's libc: processes, signals, threads, descriptors.
    "libc": {"test_descriptors", "test_exit_status", "test_file", "test_signals"},
    # Another release of Debian: other shells, another libc, another etcd.
    "contract": {"test_contract", "test_completions", "test_documents", "test_exit_status", "test_schedulers",
                 "test_systemd", "test_tab", "test_etcd_run", "test_etcd_refused", "test_etcd_who"},
    # Another machine, by qemu-user.
    "emulated": {"test_contract", "test_exit_status"},
    # Sanitizers: the contract, and all input from other processes.
    "sanitized": {"test_contract", "test_names", "test_strangers", "test_usage",
                  "test_etcd_answers", "test_etcd_conf",
                  "test_etcd_helper", "test_etcd_protocol", "test_etcd_shapes"},
    # Another version of etcd: only tests with this mark.
    "etcd": set(),
}


# Why qemu-user cannot run some tests (scripts/check cross).
NO_KEEPER = "it cannot start a keeper, which shares descriptors (CLONE_FILES)"
NO_SOCKET_TABLE = "it does not know NETLINK_SOCK_DIAG"
NO_PROOF = "it does not know NETLINK_SOCK_DIAG and SO_PEERPIDFD, so --replace has no proof"
REAL_TIME_SIGNALS = "it needs some real-time signals itself and renumbers the others"
NEEDS_DESCRIPTORS = "it needs descriptors itself"
COPIED_MEMORY = "its vfork copies memory, so the reason stays in the child"


def not_emulated(item):
    """Why qemu-user cannot run the test; None: it can."""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    for marker in item.iter_markers("native"):
        if marker.kwargs.get("form") in (None, params.get("form")):
            return marker.args[0]
    return NO_KEEPER if params.get("form") == ("-o",) else None


def pytest_configure(config):
    # Workers inherit it.
    os.environ.setdefault("ME_ONLY_ORDER", str(random.randrange(1 << 32)))
    config.addinivalue_line("markers", "root: needs root (other users, namespaces, limits)")
    config.addinivalue_line("markers", "native(why, form): qemu-user cannot run it (with that form)")
    config.addinivalue_line("markers",
                            "static: needs the static program (no /proc, chroot, tiny limits)")
    # A sanitizer sets handlers and limits of its own, and the command would inherit that instead of
    # the caller's. Looking for leaks takes a process and ptrace, which tests forbid; the program
    # never allocates.
    for flag in ("handle_segv=0", "handle_sigbus=0", "handle_sigfpe=0", "handle_sigill=0",
                 "disable_coredump=0", "detect_leaks=0"):
        os.environ["ASAN_OPTIONS"] = os.environ.get("ASAN_OPTIONS", "") + ":" + flag
    # Orphans of a test are reparented to the worker instead of process 1, so that it can find and
    # end them.
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_collection_modifyitems(config, items):
    """
    Deselect, never skip: what a pass cannot run is not counted in that pass, and the root pass runs
    everything. The order is random, to find tests that depend on traces of others, and to spread
    the slow ones of a file over the workers.
    """
    unfit = set()
    if os.geteuid() != 0:
        unfit.add("root")
    if os.environ.get("ME_ONLY_DYNAMIC"):
        unfit.add("static")
    only = os.environ.get("ME_ONLY_PASS", "all")
    fit = [i for i in items if not any(i.get_closest_marker(m) for m in unfit)
           and (only == "all" or i.path.stem in PASSES[only] or i.get_closest_marker(only))]
    if os.environ.get("ME_ONLY_EMULATED"):
        config.not_emulated = collections.Counter(filter(None, map(not_emulated, fit)))
        fit = [i for i in fit if not not_emulated(i)]
    chosen = set(fit)
    config.hook.pytest_deselected(items=[i for i in items if i not in chosen])
    random.Random(os.environ["ME_ONLY_ORDER"]).shuffle(fit)
    items[:] = fit


def pytest_terminal_summary(terminalreporter, config):
    for why, count in sorted(getattr(config, "not_emulated", {}).items()):
        terminalreporter.write_line(f"not under qemu-user: {count} tests: {why}")


def pytest_report_header(config):
    return f"ME_ONLY_ORDER={os.environ['ME_ONLY_ORDER']}"


def wait_for(predicate, what, timeout=DEADLINE):
    """Return predicate()'s first true value; fail the test if it does not come."""
    end = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"did not happen within {timeout} s: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def address(name, suffix=b""):
    """
    The abstract address of the host lock NAME (at most 77 bytes long: longer names use a digest).
    """
    name = name if isinstance(name, bytes) else os.fsencode(name)
    return b"\0me-only:" + name + suffix


def is_bound(addr):
    """
    Whether the address is in use. If it is not, this binds it for an instant: use it only when no
    other process tries.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        try:
            s.bind(addr)
        except OSError:
            return True
        return False


def is_listed(addr):
    """Whether /proc/net/unix lists the address; unlike is_bound(), this disturbs no process."""
    shown = addr.replace(b"\0", b"@")
    with open("/proc/net/unix", "rb") as f:
        return any(line.rstrip(b"\n").endswith(b" " + shown) for line in f)


def queue_of(name):
    """The address of the queue in which this user waits for the lock NAME."""
    return address(name, b"\0queue\0%d" % os.geteuid())


def sockets_named(addr):
    """
    How many sockets have the address. While others come and go, one reading of the kernel's table
    can list a socket twice, which its number shows, or omit one.
    """
    shown = b" " + addr.replace(b"\0", b"@") + b"\n"
    with open("/proc/net/unix", "rb") as f:
        before = f.read().split(shown)[:-1]
    numbers = [text[text.rfind(b"\n") + 1:][:16] for text in before]
    # Where the kernel does not show the numbers, they are all 0.
    return len(numbers) if b"0" * 16 in numbers else len(set(numbers))


def waiters_of(name, slots=1):
    """
    How many processes of this user wait for NAME, or for one of SLOTS slots of it: the front's
    listening socket, and one connection to it for each of the others. Only until a front has left,
    or taken the lock: its successors are connected otherwise.
    """
    return sockets_named(queue_of(name) + (b"\0%d" % slots if slots > 1 else b""))


def processor_time(pid):
    """Seconds for which PID has had a processor, exact to the nanosecond."""
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0]) / 1e9


def sleeps(pid):
    """How often PID has gone to sleep."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", f.read(), re.M)[1])


def children_of(pid):
    """All living descendants of PID, without zombies, parents first."""
    kids = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as f:
                    state, ppid = f.read().rsplit(b")", 1)[1].split()[:2]
            except OSError:
                continue
            kids.setdefault(int(ppid), []).append((int(entry), state))
    found, todo = [], [pid]
    while todo:
        for kid, state in kids.get(todo.pop(0), []):
            todo.append(kid)
            if state != b"Z":
                found.append(kid)
    return found


def name_of(pid):
    """The name of PID's program, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().rstrip("\n")
    except OSError:
        return None


def process_state(pid):
    """The state letter of PID in /proc (S, T, Z, ...), or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rsplit(b")", 1)[1].split()[0].decode()
    except OSError:
        return None


def read_line(stream):
    """The next line of a pipe with no other reader, or what there is before its end."""
    end = time.monotonic() + DEADLINE
    line = b""
    while not line.endswith(b"\n"):
        if not select.select([stream], [], [], max(0, end - time.monotonic()))[0]:
            pytest.fail(f"no line within {DEADLINE} s, only {line!r}")
        byte = os.read(stream.fileno(), 1)
        if not byte:
            break
        line += byte
    return line


@contextlib.contextmanager
def control_group(name):
    """The directory of a new control group (v2). At the end, all that is in it is killed."""
    with open("/proc/mounts", encoding="utf-8") as f:
        directory = next(mount for _, mount, kind, *_ in map(str.split, f)
                         if kind == "cgroup2") + "/" + name
    os.mkdir(directory)
    yield directory
    with open(directory + "/cgroup.kill", "w", encoding="ascii") as f:
        f.write("1")

    def remove():
        try:
            for path, _, _ in os.walk(directory, topdown=False):
                os.rmdir(path)
        except OSError:
            return False
        return True
    wait_for(remove, "nobody is in it")


def has_children():
    """Whether this worker has a descendant of any kind: orphans come to it, zombies count."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def end_all():
    """End and reap every descendant of this worker."""
    while has_children():
        for pid in children_of(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()


def reap():
    """Reap orphans that were reparented to this process as their subreaper."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


@pytest.fixture(autouse=True)
def alone():
    """
    What an earlier test of this worker has left is not this test's, nor is the width that some
    versions of pytest set.
    """
    os.environ.pop("COLUMNS", None)
    end_all()


@pytest.fixture
def full_pipe():
    """The writing end of a pipe that nobody reads, and that is full. It blocks."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    yield writer
    assert os.get_blocking(writer), "the flag is others' as well"
    os.close(reader)
    os.close(writer)


@pytest.fixture
def lock():
    """A lock name that no other test has."""
    return "/test/" + uuid.uuid4().hex[:20]


# Becomes USER and then a command that holds a lock; a child of it stays root, and asks under that
# lock.
HAND_DOWN = """
import os, sys
user, split = int(sys.argv[1]), sys.argv.index("--ask")
ours, theirs = os.pipe()
if os.fork() == 0:
    os.close(theirs)
    os.read(ours, 1)
    print(os.spawnv(os.P_WAIT, sys.argv[split + 1], sys.argv[split + 1:]), flush=True)
    os._exit(0)
os.close(ours)
os.dup2(theirs, 9)
os.setresgid(user, user, user)
os.setresuid(user, user, user)
os.execv(sys.argv[2], sys.argv[2:split])
"""


WAITING = re.compile(rb"^me-only: [^\n]*: waiting for [^\n]*\n", re.M)


class Process(subprocess.Popen):
    """
    After a second, a waiter reports which process it waits for. Tests do not depend on how long
    they take, so communicate() leaves that line out.
    """

    def communicate(self, *args, **kw):
        out, err = super().communicate(*args, **kw)
        return out, err and WAITING.sub(b"", err)


@contextlib.contextmanager
def processes(end_rest):
    """
    Starts any program; at the end, all started processes are ended, and end_rest() ends their
    descendants.
    """
    started = []

    def start_(*argv, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        p = Process(argv, **kw)
        started.append(p)
        return p

    yield start_
    for p in started:
        for stream in (p.stdin, p.stdout, p.stderr):
            if stream:
                try:
                    stream.close()
                except OSError:
                    pass
    # Popen objects reap their own child first, so that end_rest() does not take their status away.
    for p in started:
        if p.poll() is None:
            p.kill()
            p.wait()
    end_rest()


@pytest.fixture
def start():
    """
    start(PROGRAM, ARGUMENT...) starts any program; at the end of the test it and all its
    descendants are ended.
    """
    with processes(end_all) as start_:
        yield start_


@pytest.fixture
def me_only(start):
    """me_only(ARGUMENT...) starts the program under test."""
    return lambda *argv, **kw: start(ME_ONLY, *argv, **kw)


@pytest.fixture
def run():
    """
    run(ARGUMENT...) runs the program under test to its end and returns a CompletedProcess, with
    bytes in .stdout and .stderr.
    """

    def run_(*argv, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("timeout", DEADLINE)
        return subprocess.run([ME_ONLY, *argv], stdout=kw.pop("stdout", subprocess.PIPE),
                              stderr=kw.pop("stderr", subprocess.PIPE), **kw)

    yield run_
    end_all()


@pytest.fixture
def hold(me_only, start):
    """
    hold(LOCK, OPTION...) starts a holder whose job waits for the end of its standard input, and
    returns once the job runs. The result is the me-only process; .job is the PID of its command.
    release(holder) ends the job cleanly.
    """

    def hold_(name, *options, **kw):
        p = me_only(*options, name, "sh", "-c", "echo $$; exec cat >/dev/null",
                    stdin=subprocess.PIPE, **kw)
        line = p.stdout.readline()
        assert line, f"the holder did not start: {p.stderr.read()!r}"
        p.job = int(line)
        wait_for(lambda: name_of(p.job) == "cat", "the job is what it will be")
        return p

    return hold_


def release(holder):
    """Let the job of hold() end, and return the exit status of its me-only."""
    holder.stdin.close()
    return holder.wait(DEADLINE)


def user():
    """This user as messages name it: by number if it has no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def program(name):
    """The path of a test program in C."""
    return os.path.join(PROGRAMS, name)


def without_time(line):
    """
    A line of --verbose without its time: "me-only: 2026-11-23T16:45:19Z LOCK: ..." becomes
    "me-only: LOCK: ...".
    """
    return re.sub(r"^me-only: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", "me-only: ", line)


def refusal(run, *argv):
    """
    Ask for a held lock (options, then its name) and return the message; fail if the status is not 4
    or the command ran.
    """
    r = run(*argv, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b""), r
    return r.stderr.decode()


@pytest.fixture
def call():
    """
    call(PROGRAM, ARGUMENT...) runs any program to its end, as run() does with the program under
    test.
    """

    def call_(*argv, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("timeout", DEADLINE)
        return subprocess.run(argv, stdout=kw.pop("stdout", subprocess.PIPE),
                              stderr=kw.pop("stderr", subprocess.PIPE), **kw)

    yield call_
    end_all()


@pytest.fixture
def public_me_only():
    """The path of a copy of the program that every user can reach and run."""
    directory = tempfile.mkdtemp(prefix="me-only-test-")
    os.chmod(directory, 0o755)
    yield shutil.copy(ME_ONLY, directory)
    shutil.rmtree(directory)


@pytest.fixture
def terminal(start):
    """terminal(PROGRAM, ARGUMENT...) starts a program as the leader of a terminal's session."""
    opened = []

    def terminal_(*argv, **kw):
        opened.append(Terminal(start, *argv, **kw))
        return opened[-1]

    yield terminal_
    for t in opened:
        t.hang_up()


@pytest.fixture
def bash(terminal):
    """A terminal with an interactive bash that shows its prompt."""
    env = dict(os.environ, PS1="ready> ", PS2="", HISTFILE="/dev/null", TERM="dumb",
               INPUTRC="/dev/null")
    t = terminal("bash", "--norc", "--noprofile", "--noediting", "-i", env=env)
    t.wait_for("ready> ")
    return t
