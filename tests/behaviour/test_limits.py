"""
Small limits and restricted environments: few descriptors or processes, no /proc, namespaces, an
empty root, forbidden calls.

me-only works, or reports clearly why not; without /proc only the message is poorer. The command is
under-lock, which proves that it runs under its lock and needs nothing around it.
"""
import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

from conftest import DEADLINE, ME_ONLY, PROGRAMS, address, children_of, is_bound, release, \
    wait_for, without_time
from injection import Fault, injecting

UNDER_LOCK = os.path.join(PROGRAMS, "under-lock")
FORBID = os.path.join(PROGRAMS, "forbid")
ROOT = os.geteuid() == 0
STATUS = 7

FORMS = {"default": [], "no-fork": ["-F"], "close": ["-o"], "wait": ["-w", "20"]}


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.fixture
def directory():
    """A directory that every user can reach and write to."""
    path = tempfile.mkdtemp(prefix="me-only-test-")
    os.chmod(path, 0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def program(directory):
    """A copy of the program that every user can reach."""
    return shutil.copy(ME_ONLY, directory)


@pytest.fixture
def job(directory, lock):
    """
    job() is the command line of a command that reports what it saw; job.report() is that report.
    """

    program = shutil.copy(UNDER_LOCK, directory)

    def job_(milliseconds=0):
        return [program, os.path.join(directory, "report"), lock, str(STATUS), str(milliseconds)]

    def report():
        try:
            with open(os.path.join(directory, "report"), encoding="ascii") as f:
                return [line.split()[1] for line in f]
        except FileNotFoundError:
            return []

    job_.program = program
    job_.report = report
    return job_


@pytest.fixture
def finish(start):
    """
    finish(ARGUMENT...) runs any program to its end and returns the status and the lines of standard
    error.
    """

    def finish_(*argv, **kw):
        p = start(*argv, **kw)
        _, stderr = p.communicate(timeout=DEADLINE)
        return p.returncode, stderr.decode(errors="replace").splitlines()

    return finish_


def unshare(*flags):
    """The command that creates namespaces; without root, that needs a user namespace."""
    return ["unshare", *([] if ROOT else ["--user", "--map-root-user"]), *flags, "--"]


def without_proc(how="-t tmpfs none"):
    """The command that runs the rest of its arguments with something else mounted on /proc."""
    return [*unshare("--mount"), "sh", "-c", f'mount {how} /proc && exec "$@"', "sh"]


def limited(which, limit):
    """For preexec_fn: the limit is set before the program starts."""
    return lambda: resource.setrlimit(which, (limit, limit))


# The two C libraries word it differently.
TOO_MANY_FILES = ("Too many open files", "No file descriptors available")
NO_MEMORY = ("Cannot allocate memory", "Out of memory")


def says_one_of(line, words):
    return any(word in line for word in words)


def is_clear(lines):
    """One line, from me-only."""
    return len(lines) == 1 and lines[0].startswith("me-only: ")


def is_held_line(lines, lock):
    return is_clear(lines) and f"{lock}: held" in lines[0]


# --- few descriptors ---


@pytest.mark.static
@pytest.mark.parametrize("limit", range(3, 11))
def test_few_descriptors(finish, lock, job, form, limit):
    status, said = finish(ME_ONLY, *form, lock, *job(),
                          preexec_fn=limited(resource.RLIMIT_NOFILE, limit))
    if status == STATUS:
        assert job.report() == ["started", "held"] and said == []
    else:
        assert status in (1, 3) and limit < 8
        assert is_clear(said) and says_one_of(said[0], TOO_MANY_FILES)
        assert job.report() == []
    assert limit > 3 or status == 3
    assert not is_bound(address(lock))


@pytest.mark.static
@pytest.mark.parametrize("limit", range(3, 11))
def test_few_descriptors_and_the_lock_is_held(hold, finish, lock, job, form, limit):
    holder = hold(lock)
    options = ["-w", "0.1"] if form[:1] == ["-w"] else form
    status, said = finish(ME_ONLY, *options, lock, *job(),
                          preexec_fn=limited(resource.RLIMIT_NOFILE, limit))
    if status == 3:
        assert limit < 8 and is_clear(said) and says_one_of(said[0], TOO_MANY_FILES)
    else:
        assert status == 4 and is_clear(said) and ": held" in said[0]
    assert job.report() == []
    assert is_bound(address(lock))
    assert release(holder) == 0


@pytest.mark.static
@pytest.mark.parametrize("limit", range(4, 11))
@pytest.mark.parametrize("options", [[], ["-o"]], ids=["default", "close"])
def test_a_holder_with_few_descriptors(start, finish, lock, job, options, limit):
    """
    Callers that ask are answered or not, but the lock is held, and free when the command has ended.
    """
    p = start(ME_ONLY, *options, lock, *job(60000),
              preexec_fn=limited(resource.RLIMIT_NOFILE, limit))
    wait_for(lambda: job.report() or p.poll() is not None, "the command runs")
    if p.poll() is None:
        for _ in range(12):
            status, said = finish(ME_ONLY, lock, "true")
            assert status == 4 and is_held_line(said, lock)
        p.terminate()
        assert p.wait(DEADLINE) == -signal.SIGTERM
    else:
        assert p.returncode in (1, 3) and limit < 8
        assert is_clear(p.stderr.read().decode().splitlines())
    assert not is_bound(address(lock))


@pytest.mark.static
@pytest.mark.parametrize("limit", range(3, 11))
def test_a_waiter_with_few_descriptors(hold, start, lock, job, limit):
    holder = hold(lock)
    p = start(ME_ONLY, "-v", "-w", "20", lock, *job(),
              preexec_fn=limited(resource.RLIMIT_NOFILE, limit))
    first = p.stderr.readline().decode()
    assert without_time(first).startswith(f"me-only: {lock}: ") \
        or says_one_of(first, TOO_MANY_FILES)
    release(holder)
    _, rest = p.communicate(timeout=DEADLINE)
    if p.returncode == STATUS:
        assert ": waiting for " in first
        assert job.report() == ["started", "held"]
    else:
        assert p.returncode in (1, 3) and limit < 8
        assert says_one_of((first + rest.decode()).splitlines()[-1], TOO_MANY_FILES)
        assert job.report() == []
    assert not is_bound(address(lock))


@pytest.mark.static
@pytest.mark.parametrize("asks", [["--who"], ["--held"], ["-w", "1"], []],
                         ids=["who", "held", "wait", "default"])
@pytest.mark.parametrize("limit", range(4, 11))
def test_few_descriptors_for_a_helper(finish, limit, asks):
    """The helper for a fleet lock cannot even be started: the limit is named."""
    status, said = finish(ME_ONLY, *asks, "etcd:x", *([] if asks[:1] in (["--who"], ["--held"])
                                                      else ["true"]),
                          preexec_fn=limited(resource.RLIMIT_NOFILE, limit))
    assert status == 3 and is_clear(said)
    assert said[0].endswith(" (the limit is ulimit -n)")


# Each of these fails once, for want of something.
SHORTAGES = ["epoll_create1:EMFILE", "epoll_create1:ENFILE", "epoll_create1:ENOMEM",
             "epoll_ctl:ENOMEM", "accept4:EMFILE", "accept4:ENFILE", "accept4:ENOBUFS"]


@pytest.mark.static
@pytest.mark.parametrize("fault", SHORTAGES)
def test_a_holder_greets_again_after_a_shortage(start, finish, directory, lock, fault):
    """It looks away from those who ask, and looks again although none of them goes."""
    call, errno = fault.split(":")
    p = start(*injecting(os.path.join(directory, "trace"), Fault(call, 1, errno)),
              lock, "sh", "-c", "echo up; exec cat", stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"up\n"

    def is_greeted():
        status, said = finish(ME_ONLY, lock, "true")
        assert status == 4 and is_held_line(said, lock)
        # Without a greeting there is only the age of the process.
        return " for at most " not in said[0]

    assert not is_greeted()
    wait_for(is_greeted, "the holder greets")
    p.stdin.close()
    assert p.wait(DEADLINE) == 0


# --- a small stack ---

ALL_SLOTS = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
sockets = []
for n in range(1024):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.bind(b"\\0me-only:" + sys.argv[1].encode() + (b"\\0slot\\0%d" % n if n else b""))
    s.listen()
    sockets.append(s)
print("up", flush=True)
sys.stdin.readline()
sockets[0].close()  # the slot at which the job looks
sys.stdin.read()
"""


@pytest.mark.static
@pytest.mark.parametrize("options", [["-w", "20"], ["-v", "-w", "20"], ["--queue=2", "-w", "20"]],
                         ids=["wait", "verbose", "queue"])
def test_a_small_stack_for_a_free_slot(finish, lock, job, options):
    """What is kept for each of 1,024 slots is not on the stack."""
    status, _ = finish(ME_ONLY, "-j1024", *options, lock, *job(),
                       preexec_fn=limited(resource.RLIMIT_STACK, 48 << 10))
    assert (status, job.report()) == (STATUS, ["started", "held"])


@pytest.mark.static
def test_a_small_stack_for_slots_in_use(start, finish, lock, job):
    holder = start(sys.executable, "-ISc", ALL_SLOTS, lock, stdin=subprocess.PIPE)
    assert holder.stdout.readline() == b"up\n"
    small = {"preexec_fn": limited(resource.RLIMIT_STACK, 48 << 10)}
    status, said = finish(ME_ONLY, "-j1024", lock, *job(), **small)
    assert status == 4 and is_clear(said) and "all 1024 slots are in use" in said[0]
    p = start(ME_ONLY, "-j1024", "-v", "-w", "20", lock, *job(), **small)
    wait_for(lambda: b": waiting for " in p.stderr.readline(), "it waits")
    holder.stdin.write(b"\n")
    holder.stdin.flush()
    p.communicate(timeout=DEADLINE)
    assert (p.returncode, job.report()) == (STATUS, ["started", "held"])


# --- few processes ---


def few_processes(limit, uid):
    """A user with no other process, limited to LIMIT processes."""

    def prepare():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))

    return prepare


def is_no_process(lines, job):
    return (is_clear(lines) and lines[0].startswith(f"me-only: {job.program}: cannot be run: ")
            and "Resource temporarily unavailable" in lines[0])


@pytest.fixture
def lonely_uid():
    """A user ID without any process; other workers have other ones."""
    return 1000000 + os.getpid()


@pytest.mark.root
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_few_processes(finish, program, lock, job, form, limit, lonely_uid):
    status, said = finish(program, *form, lock, *job(), preexec_fn=few_processes(limit, lonely_uid))
    needed = {"-F": 1, "-o": 3}.get("".join(form[:1]), 2)
    if limit >= needed:
        assert (status, said, job.report()) == (STATUS, [], ["started", "held"])
    else:
        assert status == 1
        assert is_no_process(said, job)
        assert job.report() == []
    assert not is_bound(address(lock))


@pytest.mark.root
@pytest.mark.parametrize("options", [["-w", "20"], ["-w", "20", "-F"], ["-w", "20", "-q"],
                                     ["-w", "20", "-s"], ["--replace"]],
                         ids=["wait", "no-fork", "quiet", "shared", "replace"])
def test_no_process_left_for_the_wait_for_a_file(start, finish, program, directory, job, options,
                                                 lonely_uid):
    """A thread waits for it. Without one nothing is run, nobody ended, and the limit is named."""
    path = os.path.join(directory, "lock")
    holder = start("flock", path, "sh", "-c", "chmod 666 $0; echo up; exec cat", path,
                   stdin=subprocess.PIPE)
    assert holder.stdout.readline() == b"up\n"
    status, said = finish(program, *options, f"file:{path}", *job(),
                          preexec_fn=few_processes(1, lonely_uid))
    assert status == 3 and is_clear(said) and job.report() == []
    assert said[0].startswith(f"me-only: file:{path}: cannot wait: ")
    assert said[0].endswith(" (the limit is ulimit -u, or pids.max of the cgroup)")
    assert release(holder) == 0


@pytest.mark.root
def test_no_process_left_for_the_keeper(finish, program, lock, job, lonely_uid):
    """It cannot be started after the first second: the command and its lock are not affected."""
    status, said = finish(program, lock, *job(1500), preexec_fn=few_processes(2, lonely_uid))
    assert (status, job.report()) == (STATUS, ["started", "held"])
    assert said == [] or is_clear(said)
    assert not is_bound(address(lock))


def test_no_process_allowed(finish, program, lock, job):
    """The same for this user: the limit is below what is running already."""
    if ROOT:
        prepare = few_processes(1, 2000000 + os.getpid())
    else:
        prepare = limited(resource.RLIMIT_NPROC, 1)
    status, said = finish(program, lock, *job(), preexec_fn=prepare)
    assert status == 1
    assert is_no_process(said, job)
    assert not is_bound(address(lock))


# --- other limits ---


@pytest.mark.static
@pytest.mark.parametrize("which, limit", [(resource.RLIMIT_STACK, 65536),
                                          (resource.RLIMIT_SIGPENDING, 0),
                                          (resource.RLIMIT_MEMLOCK, 0),
                                          (resource.RLIMIT_AS, 4 << 20)],
                         ids=["stack", "pending-signals", "locked-memory", "address-space"])
def test_little_memory(finish, lock, form, which, limit):
    """
    The command gets the same limits, so it must need next to nothing: it is the program itself.
    """
    status, said = finish(ME_ONLY, *form, lock, ME_ONLY, "--held", lock,
                          preexec_fn=limited(which, limit))
    assert (status, said) == (0, [])
    assert not is_bound(address(lock))


def test_a_full_device_for_messages(hold, run, lock):
    """The line is lost, the status is not."""
    holder = hold(lock)
    with open("/dev/full", "wb") as full:
        p = run(lock, "true", stderr=full)
    assert p.returncode == 4
    assert release(holder) == 0


def test_a_working_directory_that_is_gone(finish, directory, lock, job, form):
    gone = os.path.join(directory, "gone")
    os.mkdir(gone)
    status, said = finish("sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", gone,
                          ME_ONLY, *form, lock, *job())
    assert (status, said, job.report()) == (STATUS, [], ["started", "held"])


# --- /proc is missing or unreadable ---

NO_PROC = {"missing": "-t tmpfs none", "unreadable": "-t tmpfs -o mode=000 none"}


@pytest.fixture(params=NO_PROC)
def no_proc(request):
    """
    The command that hides /proc from what it runs; where it is only unreadable, from an ordinary
    user.
    """
    # The mode stops even root of a user namespace if it has no capabilities.
    powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all",
                 "--"] if request.param == "unreadable" else []
    return without_proc(NO_PROC[request.param]) + powerless


@pytest.mark.static
def test_without_proc(finish, lock, job, form, no_proc):
    status, said = finish(*no_proc, ME_ONLY, *form, lock, *job())
    assert (status, said, job.report()) == (STATUS, [], ["started", "held"])
    assert not is_bound(address(lock))


@pytest.mark.static
@pytest.mark.parametrize("holder", [[], ["-F"], ["-o"]], ids=["default", "no-fork", "close"])
def test_refused_without_proc(hold, finish, lock, job, no_proc, holder):
    """The kernel tells who it is; only the command line is missing."""
    held = hold(lock, *holder)
    status, said = finish(*no_proc, ME_ONLY, lock, *job())
    assert status == 4 and is_held_line(said, lock)
    assert "-F" in holder or f"held by pid {held.job} (" in said[0]
    assert job.report() == []
    assert release(held) == 0


@pytest.mark.static
@pytest.mark.parametrize("holder", [[], ["-F"], ["-o"]], ids=["default", "no-fork", "close"])
def test_waiting_without_proc(hold, start, lock, job, no_proc, holder):
    held = hold(lock, *holder)
    p = start(*no_proc, ME_ONLY, "-v", "-w", "20", lock, *job())
    assert b": waiting for " in p.stderr.readline()
    release(held)
    p.communicate(timeout=DEADLINE)
    assert (p.returncode, job.report()) == (STATUS, ["started", "held"])


@pytest.mark.static
@pytest.mark.parametrize("options", [[], ["-w", "inf"]], ids=["default", "wait"])
def test_nested_without_proc(finish, lock, job, no_proc, options):
    """
    The job has inherited the lock's socket, which is proof enough: it does not wait for itself.
    """
    status, said = finish(*no_proc, ME_ONLY, lock, ME_ONLY, *options, lock, *job())
    assert status == 4 and is_clear(said) and "this job already holds it" in said[0]
    assert job.report() == []


def other_user(*command, uid=None):
    uid = uid or 3000000 + os.getpid()
    return ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--", *command]


@pytest.mark.root
@pytest.mark.parametrize("holder", [[], ["-F"], ["-o"]], ids=["default", "no-fork", "close"])
def test_hidepid(hold, finish, program, lock, job, holder):
    """Other users' processes are hidden: the holder is still named."""
    held = hold(lock, *holder)
    hidden = without_proc("-t proc -o hidepid=2 proc")
    assert finish(*hidden, *other_user("test", "-e", f"/proc/{held.job}"))[0] == 1, \
        "hidepid does not work here"
    status, said = finish(*hidden, *other_user(program, lock, *job()))
    assert status == 4 and is_held_line(said, lock)
    assert "(root" in said[0] or "hidden" in said[0]
    assert "cat" not in said[0]
    assert job.report() == []
    assert release(held) == 0


@pytest.mark.root
def test_hidepid_of_ones_own(start, finish, program, lock):
    """If only others are hidden, nothing is missing."""
    hidden = without_proc("-t proc -o hidepid=2 proc")
    held = start(*hidden, *other_user(program, lock, "sh", "-c", "echo $$; exec cat"),
                 stdin=subprocess.PIPE)
    pid = int(held.stdout.readline())
    status, said = finish(*hidden, *other_user(program, lock, "true"))
    assert status == 4 and is_held_line(said, lock)
    assert f"held by pid {pid} (" in said[0] and said[0].endswith(": cat")
    held.stdin.close()
    assert held.wait(DEADLINE) == 0


# --- who has the lock on a file, where not all of that can be seen ---

AS_OTHER_USER = ["setpriv", "--reuid", "3999999", "--regid", "3999999", "--clear-groups", "--"]
NO_TABLE = ["mount --bind /dev/null /proc/locks"]
HIDDEN = ["mount -t proc -o hidepid=2 proc /proc"]


def mounted(*how, as_other_user=False):
    """The command that runs the rest of its arguments with other mounts."""
    return [*unshare("--mount"), "sh", "-c", " && ".join([*how, 'exec "$@"']), "sh",
            *(AS_OTHER_USER if as_other_user else [])]


# From where --who is asked; the status if the lock is held, and if it is free; and the reason.
NO_LOCKS = "/proc/locks cannot be read"
OUTSIDE = "locks from outside this PID namespace are not shown"
VIEWS = {
    "pid-namespace": (unshare("--pid", "--fork", "--mount-proc"), 3, 3, OUTSIDE),
    "the-host's-proc": (unshare("--pid", "--fork"), 4, 3, OUTSIDE),
    "no-proc": (without_proc(), 3, 3, NO_LOCKS),
    # Without root, in a user namespace, others' descriptors are not seen.
    "no-table": (mounted(*NO_TABLE), 4 if ROOT else 3, 3, NO_LOCKS),
    **({"proc-of-processes": (mounted("mount -t proc -o subset=pid proc /proc"), 4, 3, NO_LOCKS),
        "hidepid": (mounted(*HIDDEN, as_other_user=True), 4, 0, ""),
        "hidepid-no-table": (mounted(*HIDDEN, *NO_TABLE, as_other_user=True), 3, 3, NO_LOCKS)}
       if ROOT else {}),
}


@pytest.fixture
def lists(directory):
    """A copy of the program with its list helper, which every user can reach: its environment."""
    helper = os.path.join(os.path.dirname(ME_ONLY), "libexec", "me-only", "list")
    shutil.copy(ME_ONLY, directory)
    shutil.copy(helper, directory)
    os.chmod(directory, 0o755)
    return {**os.environ, "ME_ONLY_EXEC_PATH": directory}


@pytest.fixture
def file_holder(start, directory):
    """A file that another program holds the lock on: its path."""
    path = os.path.join(directory, "lock")
    p = start("flock", path, "sh", "-c", "chmod 644 $0; echo up; exec cat", path,
              stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"up\n"
    return path


def is_reason(lines, path, reason):
    return lines == [f"me-only: file:{path}: it cannot be known whether it is held: {reason}"]


@pytest.mark.parametrize("view", VIEWS)
def test_not_known_is_not_free(call, directory, file_holder, lists, view):
    """--who says that a lock on a file is free only where it would see a holder."""
    prefix, held, free, reason = VIEWS[view]
    other = os.path.join(directory, "free")
    with open(other, "w", encoding="ascii"):
        pass
    for path, expected in (file_holder, held), (other, free):
        for form in [], ["--json"]:
            r = call(*prefix, os.path.join(directory, "me-only"), "--who", *form, f"file:{path}",
                     env=lists)
            said = r.stderr.decode().splitlines()
            assert r.returncode == expected, r
            assert (r.stdout == b"" and is_reason(said, path, reason)) if expected == 3 \
                else said == []


@pytest.mark.parametrize("view", VIEWS)
def test_the_list_says_what_it_cannot_see(call, directory, file_holder, lists, view):
    r = call(*VIEWS[view][0], os.path.join(directory, "me-only"), "--list", "--json", env=lists)
    said = r.stderr.decode().splitlines()
    assert r.returncode == 0 and r.stdout.startswith(b"{") and len(said) == 1
    assert said[0].startswith("me-only: some file locks may be missing: ")


@pytest.mark.parametrize("options", [["-q"], ["--complain-after=9h"], ["--replace", "-w", "9"]],
                         ids=["quiet", "complain-after", "replace"])
@pytest.mark.parametrize("view", ["pid-namespace", "no-proc",
                                  *(["hidepid-no-table"] if ROOT else [])])
def test_an_unknown_holder_of_a_file_is_told(finish, directory, file_holder, lists, view, options):
    """A holder that is not seen is not taken for harmless, nor for gone."""
    status, said = finish(*VIEWS[view][0], os.path.join(directory, "me-only"), *options,
                          f"file:{file_holder}", "true", env=lists)
    assert status == 4 and is_clear(said) and " hidden " in said[0]
    assert "--replace" not in options or ": not replaced, " in said[0]


@pytest.mark.root
def test_a_file_whose_device_has_two_numbers(call, directory, lists):
    """On overlayfs the kernel's table has another device than stat(2): other users see it, too."""
    lower = tempfile.mkdtemp(prefix="me-only-test-", dir="/dev/shm")
    try:
        os.chmod(lower, 0o755)
        for name in "upper", "work", "all":
            os.mkdir(os.path.join(directory, name))
        with open(os.path.join(lower, "lock"), "w", encoding="ascii"):
            pass
        path = os.path.join(directory, "all", "lock")
        mount = f"mount -t overlay o -o lowerdir={lower},upperdir={directory}/upper," \
                f"workdir={directory}/work {directory}/all"
        r = call(*mounted(mount), "flock", path, *AS_OTHER_USER, os.path.join(directory, "me-only"),
                 "--who", f"file:{path}", env=lists)
        assert r.returncode == 4 and b": held by pid " in r.stdout, r
    finally:
        shutil.rmtree(lower)


# --- namespaces ---

NAMESPACES = {"network": ["--net"], "mount": ["--mount"], "pid": ["--pid", "--fork"],
              "pid-and-proc": ["--pid", "--fork", "--mount-proc"],
              "ipc-and-uts": ["--ipc", "--uts"],
              "all": ["--net", "--ipc", "--uts", "--pid", "--fork", "--mount-proc"]}


@pytest.mark.parametrize("flags", NAMESPACES.values(), ids=NAMESPACES.keys())
def test_in_a_new_namespace(finish, lock, job, form, flags):
    status, said = finish(*unshare(*flags), ME_ONLY, *form, lock, *job())
    assert (status, said, job.report()) == (STATUS, [], ["started", "held"])


USERS = {"root": ["--map-root-user"], "same": ["--map-current-user"], "unmapped": []}


@pytest.fixture(params=USERS)
def user_namespace(request):
    return ["unshare", "--user", *USERS[request.param], "--"]


def test_in_a_new_user_namespace(finish, lock, job, form, user_namespace):
    status, said = finish(*user_namespace, ME_ONLY, *form, lock, *job())
    assert (status, said, job.report()) == (STATUS, [], ["started", "held"])
    assert not is_bound(address(lock))


@pytest.mark.parametrize("holder", [[], ["-F"]], ids=["default", "no-fork"])
def test_held_outside_of_a_user_namespace(hold, finish, start, lock, job, user_namespace, holder):
    held = hold(lock, *holder)
    status, said = finish(*user_namespace, ME_ONLY, lock, *job())
    assert status == 4 and is_held_line(said, lock)
    waiter = start(*user_namespace, ME_ONLY, "-v", "-w", "20", lock, *job())
    assert b": waiting for " in waiter.stderr.readline()
    assert release(held) == 0
    waiter.communicate(timeout=DEADLINE)
    assert (waiter.returncode, job.report()) == (STATUS, ["started", "held"])


def hold_inside(start, lock, *inside, options=()):
    """
    As the fixture hold, in namespaces: returns the process that was started, and its descendants at
    that moment.
    """
    p = start(*inside, ME_ONLY, *options, lock, "sh", "-c", "echo; exec cat >/dev/null",
              stdin=subprocess.PIPE)
    assert p.stdout.readline(), p.stderr.read()
    return p


def test_held_inside_of_a_user_namespace(start, run, lock, user_namespace):
    held = hold_inside(start, lock, *user_namespace)
    p = run(lock, "true")
    assert p.returncode == 4 and is_held_line(p.stderr.decode().splitlines(), lock)
    assert release(held) == 0


def test_each_network_namespace_has_its_own_names(hold, finish, lock, job):
    holder = hold(lock)
    status, said = finish(*unshare("--net"), ME_ONLY, lock, *job())
    assert (status, said, job.report()) == (STATUS, [], ["started", "held"])
    assert release(holder) == 0


PID_NAMESPACES = {"its-own-proc": ["--pid", "--fork", "--mount-proc"],
                  "the-host's-proc": ["--pid", "--fork"]}


@pytest.mark.parametrize("flags", PID_NAMESPACES.values(), ids=PID_NAMESPACES.keys())
@pytest.mark.parametrize("holder", [[], ["-F"], ["-o"]], ids=["default", "no-fork", "close"])
def test_held_outside_of_a_pid_namespace(hold, finish, start, lock, job, flags, holder):
    """The holder has no number inside: none is made up, least of all 0."""
    held = hold(lock, *holder)
    status, said = finish(*unshare(*flags), ME_ONLY, lock, *job())
    assert status == 4 and is_held_line(said, lock)
    named = re.search(r"pid (\d+)", said[0])
    assert named is None or int(named[1]) == held.job
    waiter = start(*unshare(*flags), ME_ONLY, "-v", "-w", "20", lock, *job())
    assert b": waiting for " in waiter.stderr.readline()
    assert release(held) == 0
    waiter.communicate(timeout=DEADLINE)
    assert (waiter.returncode, job.report()) == (STATUS, ["started", "held"])


@pytest.mark.parametrize("flags", PID_NAMESPACES.values(), ids=PID_NAMESPACES.keys())
@pytest.mark.parametrize("options", [[], ["-F"], ["-o"]], ids=["default", "no-fork", "close"])
def test_held_inside_of_a_pid_namespace(start, run, lock, options, flags):
    """
    A number inside means another process, or none, outside: only one that is right outside may be
    shown.
    """
    held = hold_inside(start, lock, *unshare(*flags), options=options)
    p = run(lock, "true")
    said = p.stderr.decode().splitlines()
    assert p.returncode == 4 and is_held_line(said, lock)
    named = re.search(r"pid (\d+)", said[0])
    assert named is None or int(named[1]) in [held.pid, *children_of(held.pid)]
    assert release(held) == 0


# --- process 1 ---

AS_PROCESS_1 = unshare("--pid", "--fork", "--kill-child", "--mount-proc")

# 200 orphans, then a look at all processes until no dead one is left.
MAKES_ORPHANS = """
    test $$ -gt 1 || exit 99
    i=0
    while [ $i -lt 200 ]; do (: &); i=$((i + 1)); done
    while grep -q '^State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done
    exit 7"""


@pytest.mark.parametrize("options", [[], ["-o"], ["-w", "20"]], ids=["default", "close", "wait"])
def test_process_1_reaps_orphans(finish, lock, options):
    assert finish(*AS_PROCESS_1, ME_ONLY, *options, lock, "sh", "-c", MAKES_ORPHANS) == (7, [])


def test_process_1_reaps_orphans_while_it_waits(start, lock):
    """
    A waiter can also be process 1: its orphans come from processes that entered its container.
    """
    held = hold_inside(start, lock)
    p = start(*AS_PROCESS_1, ME_ONLY, "-v", "-w", "20", lock, "sh", "-c", MAKES_ORPHANS)
    assert b": waiting for " in p.stderr.readline()
    release(held)
    p.communicate(timeout=DEADLINE)
    assert p.returncode == 7


def test_process_1_takes_no_orphans_status_for_the_commands(finish, lock):
    """An orphan exits with 9 while the command runs."""
    script = """
        mkfifo "$1"
        orphan=$( (sh -c 'echo $$; exec >&2; read line <"$0"; exit 9' "$1" &) )
        echo >"$1"
        while [ -d "/proc/$orphan" ]; do :; done
        exit 7"""
    fifo = tempfile.mktemp()
    try:
        assert finish(*AS_PROCESS_1, ME_ONLY, lock, "sh", "-c", script, "sh", fifo) == (7, [])
    finally:
        os.unlink(fifo)


@pytest.mark.parametrize("options", [[], ["-o"]], ids=["default", "close"])
def test_a_signal_to_process_1(start, lock, options):
    """
    The kernel gives process 1 no signal without a handler: the command must get it all the same.
    """
    p = hold_inside(start, lock, *AS_PROCESS_1, options=options)
    first = children_of(p.pid)[0]
    os.kill(first, signal.SIGTERM)
    assert p.wait(DEADLINE) == 128 + signal.SIGTERM
    assert not is_bound(address(lock))


def test_a_command_as_process_1(finish, lock, job):
    assert finish(*AS_PROCESS_1, ME_ONLY, "-F", lock, *job()) == (STATUS, [])
    assert job.report() == ["started", "held"]


# --- an empty root ---


@pytest.fixture
def empty_root(directory):
    """A directory with only the program and the command, and the command that enters it."""
    root = os.path.join(directory, "root")
    os.mkdir(root)
    shutil.copy(ME_ONLY, root)
    shutil.copy(UNDER_LOCK, root)
    enter = ["/usr/sbin/chroot"] if ROOT else ["unshare", "--user", "--map-root-user",
                                               "/usr/sbin/chroot"]
    return root, [*enter, root, "/" + os.path.basename(ME_ONLY)]


@pytest.fixture
def job_in_root(empty_root, lock):
    root, _ = empty_root

    def job_():
        return ["/under-lock", "/report", lock, str(STATUS), "0"]

    def report():
        with open(os.path.join(root, "report"), encoding="ascii") as f:
            return [line.split()[1] for line in f]

    job_.report = report
    return job_


@pytest.mark.static
def test_in_an_empty_root(finish, lock, empty_root, job_in_root, form):
    status, said = finish(*empty_root[1], *form, lock, *job_in_root())
    assert (status, said, job_in_root.report()) == (STATUS, [], ["started", "held"])
    assert not is_bound(address(lock))


@pytest.mark.static
@pytest.mark.parametrize("holder", [[], ["-F"], ["-o"]], ids=["default", "no-fork", "close"])
def test_refused_in_an_empty_root(hold, finish, lock, empty_root, job_in_root, holder):
    """
    The address is the host's, whatever the root is; the user is shown as a number instead of a
    name.
    """
    held = hold(lock, *holder)
    status, said = finish(*empty_root[1], lock, *job_in_root())
    assert status == 4 and is_held_line(said, lock)
    assert release(held) == 0


@pytest.mark.static
def test_not_found_in_an_empty_root(finish, lock, empty_root, form):
    status, said = finish(*empty_root[1], *form, lock, "true")
    assert (status, said) == (1, ["me-only: true: not found"])


# --- forbidden calls ---


def landlock_version():
    """The version of Landlock that the kernel has, at most 0 where it has none."""
    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)


NO_CONNECT = ["connect=EPERM", "connect=EACCES", *(["landlock"] if landlock_version() >= 6 else [])]


@pytest.mark.parametrize("forbidden", NO_CONNECT)
def test_connect_is_forbidden(finish, lock, job, form, forbidden):
    assert finish(FORBID, forbidden, ME_ONLY, *form, lock, *job()) == (STATUS, [])
    assert job.report() == ["started", "held"]
    assert not is_bound(address(lock))


@pytest.mark.parametrize("holder", [[], ["-F"], ["-o"]], ids=["default", "no-fork", "close"])
@pytest.mark.parametrize("forbidden", NO_CONNECT)
def test_refused_where_connect_is_forbidden(hold, finish, lock, job, forbidden, holder):
    held = hold(lock, *holder)
    status, said = finish(FORBID, forbidden, ME_ONLY, lock, *job())
    assert status == 4 and is_held_line(said, lock)
    named = re.search(r"pid (\d+)", said[0])
    assert int(named[1]) in [held.pid, *children_of(held.pid)] if named else "hidden" in said[0]
    assert job.report() == []
    assert release(held) == 0


@pytest.mark.parametrize("holder", [[], ["-F"], ["-o"]], ids=["default", "no-fork", "close"])
@pytest.mark.parametrize("forbidden", NO_CONNECT)
def test_waiting_where_connect_is_forbidden(hold, start, lock, job, forbidden, holder):
    held = hold(lock, *holder)
    p = start(FORBID, forbidden, ME_ONLY, "-v", "-w", "20", lock, *job())
    assert without_time(p.stderr.readline().decode()).startswith(f"me-only: {lock}: ")
    release(held)
    p.communicate(timeout=DEADLINE)
    assert (p.returncode, job.report()) == (STATUS, ["started", "held"])


@pytest.mark.parametrize("forbidden", NO_CONNECT)
def test_waiters_where_connect_is_forbidden(hold, start, lock, job, forbidden):
    """They all wait for the name alone; each gets its turn."""
    held = hold(lock)
    waiters = [start(FORBID, forbidden, ME_ONLY, "-v", "-w", "30", lock, *job(2)) for _ in range(4)]
    for p in waiters:
        assert without_time(p.stderr.readline().decode()).startswith(f"me-only: {lock}: ")
    release(held)
    for p in waiters:
        p.communicate(timeout=DEADLINE)
    assert [p.returncode for p in waiters] == [STATUS] * 4
    assert sorted(job.report()) == ["held"] * 4 + ["started"] * 4


@pytest.mark.parametrize("forbidden, what, reasons", [
    ("socket=EACCES", "cannot create a socket", ["Permission denied"]),
    ("socket=EPERM", "cannot create a socket", ["Operation not permitted"]),
    ("socket=EMFILE", "cannot create a socket", TOO_MANY_FILES),
    ("bind=EACCES", "cannot bind the name", ["Permission denied"]),
    ("bind=EPERM", "cannot bind the name", ["Operation not permitted"]),
    ("bind=ENOMEM", "cannot bind the name", NO_MEMORY)])
def test_no_socket_no_lock(finish, lock, job, form, forbidden, what, reasons):
    """Only "address in use" means held: everything else is 3, and nothing is run."""
    status, said = finish(FORBID, forbidden, ME_ONLY, *form, lock, *job())
    assert status == 3 and is_clear(said)
    assert f"{lock}: {what}: " in said[0] and says_one_of(said[0], reasons)
    assert job.report() == []


@pytest.mark.parametrize("forbidden", ["accept4=EPERM", "pidfd_open=ENOSYS", "pidfd_open=EPERM",
                                       "signalfd4=ENOSYS", "prctl=EPERM",
                                       "getsockopt=EPERM", "getsockopt=ENOPROTOOPT",
                                       "recvmsg=EPERM", "sendmsg=EPERM", "listen=EACCES",
                                       "clone=EPERM"])
def test_another_call_is_forbidden(hold, start, finish, lock, job, form, forbidden):
    """
    An older kernel, or a container's filter: it works, or reports clearly why not, if the lock is
    free, held, or waited for.
    """
    status, said = finish(FORBID, forbidden, ME_ONLY, *form, lock, *job())
    if status == STATUS:
        assert (said, job.report()) == ([], ["started", "held"])
    else:
        assert status in (1, 3) and is_clear(said)
        assert job.report() == []
    assert not is_bound(address(lock))

    before = len(job.report())
    held = hold(lock)
    status, said = finish(FORBID, forbidden, ME_ONLY, lock, *job())
    assert status in (3, 4) and is_clear(said)
    waiter = start(FORBID, forbidden, ME_ONLY, "-v", "-w", "20", lock, *job())
    assert waiter.stderr.readline().startswith(b"me-only: ")
    assert len(job.report()) == before
    release(held)
    waiter.communicate(timeout=DEADLINE)
    assert waiter.returncode in (1, 3, STATUS)
    assert job.report()[before:] == (["started", "held"] if waiter.returncode == STATUS else [])
    assert not is_bound(address(lock))
