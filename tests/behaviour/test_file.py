"""File locks: what they promise beyond what every lock promises (test_contract.py)."""
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile

import pytest

from conftest import (DEADLINE, ME_ONLY, children_of, forms, name_of, process_state, program,
                      read_line, release, user, wait_for)
from test_faults import STATUS, Trial, is_ours, many, wrong_report

RUSH, WITNESS = program("rush"), program("witness")
DYNAMIC = bool(os.environ.get("ME_ONLY_DYNAMIC"))

# A job that prints its PID and ends with its standard input.
JOB = ("sh", "-c", "echo $$; exec cat >/dev/null")

sharing = pytest.mark.parametrize("ours", [(), ("-s",)], ids=["alone", "shared"])
theirs = pytest.mark.parametrize("theirs", [(), ("-s",)], ids=["flock", "flock -s"])


@pytest.fixture
def path(tmp_path):
    """A file that does not exist yet."""
    return tmp_path / "lock"


def is_free(path):
    """As flock(1) sees it, through its own descriptor; the file exists."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def lines_about(path):
    """
    What the kernel's table lists for the file now. It comes in pieces of a page: changes by others
    between them can make a line appear twice, or not at all.
    """
    end = ":%d" % os.stat(path).st_ino
    with open("/proc/locks", encoding="ascii") as f:
        return [line for line in f if " FLOCK " in line and line.split()[-3].endswith(end)]


def table(path):
    """The same, once each: [(waits, pid)], in its order."""
    return list(dict.fromkeys((" -> " in line, int(line.split()[-4]))
                              for line in lines_about(path)))


def waiters(path):
    return [pid for waits, pid in table(path) if waits]


@pytest.fixture
def flock(start):
    """flock(OPTION..., PATH) starts flock(1) with a job, and returns when that runs: .job."""

    def flock_(*argv):
        p = start("flock", *argv, *JOB, stdin=subprocess.PIPE)
        p.job = int(read_line(p.stdout))
        wait_for(lambda: name_of(p.job) == "cat", "the job is what it will be")
        return p

    return flock_


@pytest.fixture
def waiter(me_only):
    """waiter(PATH, OPTION...) starts a waiter, and returns once the kernel lists it."""

    def waiter_(path, *options, command=("echo", "mine"), **kw):
        before = len(waiters(path))
        p = me_only("-q", "-w", "inf", *options, f"file:{path}", *command, **kw)
        wait_for(lambda: len(waiters(path)) > before, "it waits")
        return p

    return waiter_


def gets_it(p):
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


# ---- flock(1) ----

@sharing
@theirs
def test_flock_excludes_us(flock, run, path, ours, theirs):
    holder = flock(*theirs, path)
    r = run(*ours, f"file:{path}", "echo", "ran")
    if ours and theirs:
        assert (r.returncode, r.stdout) == (0, b"ran\n")
    else:
        assert (r.returncode, r.stdout) == (4, b"")
        held = rf"held by pid {holder.pid} \({user()}\) for at most \S+: flock [^\n]*\n"
        assert re.fullmatch(rf"me-only: file:{path}: {held}", r.stderr.decode())
    assert release(holder) == 0
    assert run(*ours, f"file:{path}", "echo", "ran").stdout == b"ran\n"


@forms
@sharing
@theirs
def test_we_exclude_flock(hold, call, path, form, ours, theirs):
    holder = hold(f"file:{path}", *form, *ours)
    r = call("flock", "-n", *theirs, path, "echo", "ran")
    assert (r.returncode, r.stdout) == ((0, b"ran\n") if ours and theirs else (1, b""))
    assert release(holder) == 0
    assert call("flock", "-n", *theirs, path, "echo", "ran").stdout == b"ran\n"


@pytest.mark.parametrize("ours, theirs", [((), ()), ((), ("-s",)), (("-s",), ())],
                         ids=["", "behind shared", "shared"])
def test_we_wait_for_flock(flock, waiter, path, ours, theirs):
    holder = flock(*theirs, path)
    p = waiter(path, *ours)
    assert p.poll() is None
    assert release(holder) == 0
    gets_it(p)


@pytest.mark.parametrize("ours, theirs", [((), ()), ((), ("-s",)), (("-s",), ())],
                         ids=["", "shared", "behind shared"])
def test_flock_waits_for_us(hold, start, path, ours, theirs):
    holder = hold(f"file:{path}", *ours)
    p = start("flock", *theirs, path, "echo", "theirs")
    wait_for(lambda: waiters(path) == [p.pid], "flock waits")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"theirs\n"


def test_several_share_it_and_one_alone_waits_for_all_of_them(hold, waiter, run, path):
    first, second = hold(f"file:{path}", "-s"), hold(f"file:{path}", "-s")
    p = waiter(path)
    assert release(first) == 0
    # Meanwhile the kernel has put it into the other one's line.
    wait_for(lambda: table(path) == [(False, second.pid), (True, p.pid)], "it waits for the second")
    assert p.poll() is None
    assert release(second) == 0
    gets_it(p)


def test_flock_and_we_wait_in_one_line(hold, waiter, start, path):
    holder = hold(f"file:{path}")
    reader, writer = os.pipe()
    crowd = []
    for n in range(10):
        if n % 2:
            crowd.append(start("flock", path, "echo", str(n), stdout=writer))
            wait_for(lambda: len(waiters(path)) > n, "flock waits")
        else:
            crowd.append(waiter(path, command=("echo", str(n)), stdout=writer))
    os.close(writer)
    assert release(holder) == 0
    with open(reader, encoding="ascii") as f:
        assert [int(line) for line in f] == list(range(10))
    assert {p.wait(DEADLINE) for p in crowd} == {0}


# ---- kinds of files ----

def make_fifo(path):
    os.mkfifo(path)


def make_block_device(path):
    name = sorted(os.listdir("/sys/class/block"))[0]
    with open(f"/sys/class/block/{name}/dev", encoding="ascii") as f:
        major, minor = map(int, f.read().split(":"))
    os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(major, minor))


def make_character_device(path):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))


KINDS = {
    "file": lambda path: path.write_text("content"),
    "empty file": lambda path: path.touch(),
    "read-only": lambda path: (path.write_text("content"), path.chmod(0o444)),
    "directory": lambda path: path.mkdir(),
    "read-only directory": lambda path: path.mkdir(mode=0o555),
    "FIFO": make_fifo,
    "link": lambda path: (path.with_name("target").write_text("content"),
                          path.symlink_to("target")),
    "link to a directory": lambda path: (path.with_name("target").mkdir(), path.symlink_to("target")),
}
ROOTS_KINDS = {"block device": make_block_device, "character device": make_character_device}
kinds = pytest.mark.parametrize("make",
                                [*KINDS.values(), *(pytest.param(m, marks=pytest.mark.root)
                                                    for m in ROOTS_KINDS.values())],
                                ids=[*KINDS, *ROOTS_KINDS])


def look(path):
    """Everything that must not change."""
    s = os.stat(path)
    return s.st_ino, s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_mtime_ns, \
        path.read_bytes() if stat.S_ISREG(s.st_mode) else None


@kinds
@forms
def test_a_file_of_any_kind_is_a_lock_and_stays_as_it_was(hold, run, path, make, form):
    """Even a FIFO: flock(1) would wait there for a writer."""
    make(path)
    before = look(path)
    holder = hold(f"file:{path}", *form)
    assert not is_free(path)
    r = run("-w", "0.05", f"file:{path}", "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"")
    assert release(holder) == 0
    assert is_free(path)
    assert look(path) == before


def test_a_socket_is_no_lock(run, path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        assert_failed(run(f"file:{path}", "echo", "ran"), path,
                      "cannot open the file: No such device or address")


def assert_failed(r, path, text):
    assert (r.returncode, r.stdout) == (3, b""), r
    assert r.stderr.decode() == f"me-only: file:{path}: {text}\n"


@pytest.mark.parametrize("mask, mode", [(0, 0o666), (0o022, 0o644), (0o077, 0o600), (0o133, 0o644),
                                        (0o222, 0o444), (0o444, 0o222)],
                         ids=lambda n: f"{n:03o}")
def test_a_missing_file_is_made_empty_with_the_umask(run, path, mask, mode):
    assert run(f"file:{path}", "echo", "ran", umask=mask).stdout == b"ran\n"
    s = os.lstat(path)
    assert (stat.S_ISREG(s.st_mode), stat.S_IMODE(s.st_mode), s.st_size,
            s.st_uid) == (True, mode, 0, os.geteuid())
    # And it is a lock again.
    assert run(f"file:{path}", "echo", "ran").stdout == b"ran\n"


def test_the_file_stays(hold, run, path):
    """After the end, after a refusal, after a kill: nothing deletes it."""
    path.write_text("content")
    before = look(path)
    holder = hold(f"file:{path}")
    assert run(f"file:{path}", "true").returncode == 4
    assert run("-w", "0.05", f"file:{path}", "true").returncode == 4
    os.kill(holder.pid, signal.SIGKILL)
    os.kill(holder.job, signal.SIGKILL)
    holder.wait(DEADLINE)
    wait_for(lambda: is_free(path), "the lock is free")
    assert run(f"file:{path}", "/nowhere/at/all").returncode == 1
    assert look(path) == before


# An ordinary user: another user if root, otherwise this one.

@pytest.fixture
def world():
    """A directory in which everybody may do everything, with a copy of the program."""
    directory = tempfile.mkdtemp(prefix="me-only-test-")
    os.chmod(directory, 0o777)
    shutil.copy(ME_ONLY, os.path.join(directory, "me-only"))
    yield directory
    subprocess.run(["chmod", "-R", "u+rwx", directory], check=True)
    shutil.rmtree(directory)


ORDINARY = {"user": "daemon", "group": "daemon", "extra_groups": [],
            "cwd": "/"} if os.geteuid() == 0 else {}


@pytest.fixture
def ordinary(call, world):
    """ordinary(ARGUMENT...) runs the program as an ordinary user."""
    return lambda *argv, prefix=(), **kw: call(*prefix, f"{world}/me-only", *argv, **ORDINARY, **kw)


@pytest.mark.parametrize("mode", [0o444, 0o222, 0o666], ids=lambda n: f"{n:03o}")
@pytest.mark.parametrize("kind", ["file", "FIFO"])
def test_a_file_that_may_only_be_read_or_only_be_written_is_a_lock(ordinary, world, mode, kind):
    path = f"{world}/lock"
    if kind == "file":
        open(path, "w", encoding="ascii").close()
    else:
        os.mkfifo(path)
    os.chmod(path, mode)
    r = ordinary(f"file:{path}", "echo", "ran")
    if kind == "FIFO" and mode == 0o222:
        # Only a reader could open it, or a process that would have to wait for a reader.
        assert_failed(r, path, "cannot open the file: No such device or address")
        return
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r


def test_a_file_that_may_only_be_written_excludes(ordinary, start, world):
    path = f"{world}/lock"
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    os.chmod(path, 0o222)
    holder = start(f"{world}/me-only", f"file:{path}", *JOB, stdin=subprocess.PIPE, **ORDINARY)
    job = int(read_line(holder.stdout))
    for options in ((), ("-s",), ("-w", "0.05")):
        r = ordinary(*options, f"file:{path}", "echo", "ran")
        assert (r.returncode, r.stdout) == (4, b"") and b"held by pid %d (" % job in r.stderr, r
    assert release(holder) == 0
    assert ordinary(f"file:{path}", "echo", "ran").stdout == b"ran\n"


# ---- what cannot be opened ----

def test_a_missing_directory(run, path):
    assert_failed(run(f"file:{path}/a/b", "echo", "ran"), f"{path}/a/b",
                  "cannot create the file: No such file or directory")
    assert not path.exists()


def test_a_file_for_a_directory(run, path):
    path.touch()
    assert_failed(run(f"file:{path}/b", "echo", "ran"), f"{path}/b",
                  "cannot open the file: Not a directory")


def test_a_link_in_circles(run, path):
    path.symlink_to(path)
    r = run(f"file:{path}", "echo", "ran")
    # Every libc words this differently.
    assert (r.returncode, r.stdout) == (3,
                                        b"") \
        and re.fullmatch(f"me-only: file:{path}: cannot open the file: [^\n]+\n",
                         r.stderr.decode()), r


# Has a lease on the file PATH for as long as its input lasts, and does not give it up when it is asked to.
LEASE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)
fcntl.fcntl(os.open(sys.argv[1], os.O_RDWR), fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("leased", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("options", [(), ("-w", "inf")], ids=["try", "wait"])
def test_a_file_that_another_process_has_a_lease_on(run, start, path, options):
    path.touch()
    owner = start(sys.executable, "-c", LEASE, path, stdin=subprocess.PIPE)
    assert read_line(owner.stdout) == b"leased\n"
    assert_failed(run(*options, f"file:{path}", "echo", "ran"), path,
                  "cannot open the file: another process holds a lease on it")
    assert release(owner) == 0
    assert run(f"file:{path}", "echo", "ran").stdout == b"ran\n"


def test_a_name_that_is_too_long(run, path):
    long = f"{path}{'x' * 300}"
    r = run(f"file:{long}", "echo", "ran")
    assert r.returncode == 3 and b"cannot open the file: " in r.stderr and r.stdout == b""


def test_no_permission(ordinary, world):
    for name, mode in (("closed", 0o000), ("others", 0o755)):
        os.mkdir(f"{world}/{name}")
        os.chmod(f"{world}/{name}", mode)
    if os.geteuid() != 0:
        os.chmod(f"{world}/others", 0o555)
    open(f"{world}/none", "w", encoding="ascii").close()
    os.chmod(f"{world}/none", 0)
    for name, text in (("closed/lock", "cannot open the file"), ("none", "cannot open the file"),
                       ("others/lock", "cannot create the file")):
        for options in ((), ("-w", "inf")):
            assert_failed(ordinary(*options, f"file:{world}/{name}", "echo", "ran"),
                          f"{world}/{name}", f"{text}: Permission denied")
    r = ordinary("--exit-base=90", f"file:{world}/none", "echo", "ran")
    assert r.returncode == 93


@pytest.mark.root
def test_a_file_system_that_is_read_only(call, tmp_path):
    (tmp_path / "there").touch()
    inside = ("unshare", "--mount", "sh", "-c",
              'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"',
              tmp_path, ME_ONLY)
    missing = f"{tmp_path}/missing"
    assert_failed(call(*inside, f"file:{missing}", "echo", "ran"), missing,
                  "cannot create the file: Read-only file system")
    # Whatever exists can be locked.
    assert call(*inside, f"file:{tmp_path}/there", "echo", "ran").stdout == b"ran\n"


@pytest.fixture
def injected(call, tmp_path):
    """
    injected(INJECTION, OPTION..., LOCK, COMMAND...) runs the program while system calls fail, and
    returns the outcome, with .trace.
    """

    def injected_(injection, *argv):
        trace = tmp_path / "trace"
        r = call("strace", "-qq", "-f", "-b", "execve", "-o", trace, "-e", f"inject={injection}",
                 ME_ONLY, *argv)
        r.trace = trace.read_text()
        assert "(INJECTED)" in r.trace
        return r

    return injected_


@pytest.mark.static
@pytest.mark.parametrize("error, text", [
    ("ENOLCK", "No locks available"), ("EINVAL", "Invalid argument"),
    ("ENOSYS", "Function not implemented"),
    ("EOPNOTSUPP", "Not supported"), ("EBADF", "Bad file descriptor"), ("EIO", "I/O error"),
    ("EACCES", "Permission denied")])
@pytest.mark.parametrize("options", [(), ("-w", "inf"), ("-s",)], ids=["now", "waiting", "shared"])
def test_what_cannot_be_locked(injected, path, error, text, options):
    r = injected(f"flock:error={error}", *options, f"file:{path}", "echo", "ran")
    assert_failed(r, path, f"cannot lock the file: {text}")


@pytest.mark.static
def test_what_cannot_be_locked_after_a_wait(hold, start, path):
    """Stopped and resumed, the wait starts again; but now the kernel refuses."""
    holder = hold(f"file:{path}")
    p = start("strace", "-qq", "-f", "-o", "/dev/null", "-e", "inject=flock:error=ENOLCK:when=2+",
              ME_ONLY, "-q", "-w", "inf",
              f"file:{path}", "echo", "ran")
    wait_for(lambda: waiters(path), "it waits")
    pid, = waiters(path)
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(process_state(int(t)) in ("t", "T")
                         for t in os.listdir(f"/proc/{pid}/task")), "it is stopped")
    os.kill(pid, signal.SIGCONT)
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out, err.decode()) == (3, b"",
                                                 f"me-only: file:{path}: cannot lock the file: No "
                                                 f"locks available\n")
    assert release(holder) == 0


@pytest.mark.static
@pytest.mark.parametrize("error", ["EBADF", "EIO"])
@pytest.mark.parametrize("options", [(), ("-w", "inf"), ("-F",)], ids=["now", "waiting", "no-fork"])
def test_as_on_nfs_a_descriptor_for_reading_will_not_do(injected, path, error, options):
    """
    There the kernel uses a record lock, which only a process with write access can hold
    exclusively.
    """
    path.write_text("content")
    before = look(path)
    r = injected(f"flock:error={error}:when=1", *options, f"file:{path}", "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")
    opened = re.findall(re.escape(f'"{path}"') + r", (O_\w+)", r.trace)
    assert opened[:2] == ["O_RDONLY", "O_RDWR"]
    assert look(path) == before


@pytest.mark.static
def test_as_on_nfs_a_file_that_may_not_be_written(call, world):
    path = f"{world}/lock"
    open(path, "w", encoding="ascii").close()
    os.chmod(path, 0o444)
    r = call("strace", "-qq", "-o", "/dev/null", "-e", "inject=flock:error=EBADF:when=1",
             f"{world}/me-only", f"file:{path}", "echo", "ran",
             **ORDINARY)
    assert_failed(r, path, "cannot open the file: Permission denied")


# ---- symbolic links ----

STRANGER = 1  # daemon


@pytest.fixture
def sticky(world):
    """A directory like /tmp."""
    directory = os.path.join(world, "sticky")
    os.mkdir(directory)
    os.chmod(directory, 0o1777)
    return directory


@pytest.mark.root
@pytest.mark.parametrize("target", ["there", "missing"])
@pytest.mark.parametrize("options", [(), ("-w", "inf"), ("-s",), ("-F",), ("-q",)], ids=" ".join)
def test_a_link_that_another_user_has_planted_is_refused(run, world, sticky, target, options):
    """The link's owner would choose which file of this user is created or locked."""
    victim, link = f"{world}/victim", f"{sticky}/lock"
    if target == "there":
        open(victim, "w", encoding="ascii").close()
    os.symlink(victim, link)
    os.lchown(link, STRANGER, STRANGER)
    r = run(*options, f"file:{link}", "echo", "ran")
    assert_failed(r, link,
                  "cannot open the file: another user placed a symbolic link there: Permission "
                  "denied")
    assert os.path.exists(victim) == (target == "there")
    assert os.path.islink(link)


@pytest.mark.root
def test_a_planted_link_is_refused_in_the_working_directory(run, world, sticky):
    os.symlink(f"{world}/victim", f"{sticky}/lock")
    os.lchown(f"{sticky}/lock", STRANGER, STRANGER)
    r = run("file:lock", "echo", "ran", cwd=sticky)
    assert (r.returncode, r.stdout) == (3, b"")
    assert b"another user placed a symbolic link there" in r.stderr
    assert not os.path.exists(f"{world}/victim")


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o777, 0o1755, 0o755], ids=lambda n: f"{n:04o}")
def test_elsewhere_the_links_of_others_are_followed(run, world, mode):
    directory = f"{world}/directory"
    os.mkdir(directory)
    os.symlink(f"{world}/target", f"{directory}/lock")
    os.lchown(f"{directory}/lock", STRANGER, STRANGER)
    os.chmod(directory, mode)
    assert run(f"file:{directory}/lock", "echo", "ran").stdout == b"ran\n"
    assert os.path.isfile(f"{world}/target")


@pytest.mark.root
def test_the_links_of_the_directories_owner_are_followed(run, world, sticky):
    """Its owner controls everything in it."""
    os.chown(sticky, STRANGER, STRANGER)
    os.symlink(f"{world}/target", f"{sticky}/lock")
    os.lchown(f"{sticky}/lock", STRANGER, STRANGER)
    assert run(f"file:{sticky}/lock", "echo", "ran").stdout == b"ran\n"


@pytest.mark.parametrize("target", ["there", "missing"])
def test_an_own_link_is_followed(run, hold, world, sticky, target):
    """If its target does not exist, the file is created there."""
    path, link = f"{world}/target", f"{sticky}/lock"
    if target == "there":
        open(path, "w", encoding="ascii").close()
    os.symlink(path, link)
    holder = hold(f"file:{link}")
    assert os.path.isfile(path) and not is_free(path)
    for name in (link, path):
        assert run(f"file:{name}", "true").returncode == 4
    assert release(holder) == 0
    assert os.path.islink(link) and os.stat(path).st_size == 0


# ---- fs.protected_regular ----

PROTECTED = "/proc/sys/fs/protected_regular"


@pytest.fixture
def protect():
    """protect(N) sets fs.protected_regular for this test alone: it is global to the host."""
    with open(PROTECTED, encoding="ascii") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        before = turn.read()

        def protect_(n):
            with open(PROTECTED, "w", encoding="ascii") as f:
                f.write(str(n))

        yield protect_
        protect_(before)


@pytest.mark.root
@pytest.mark.parametrize("value", [0, 1, 2])
@pytest.mark.parametrize("who", ["root", "another user"])
def test_the_files_of_others_where_the_kernel_protects_them(
        protect, run, ordinary, sticky, value, who):
    """There O_CREAT is refused for an existing file, even to root."""
    path = f"{sticky}/lock"
    open(path, "w", encoding="ascii").close()
    os.chmod(path, 0o666)
    os.chown(path, STRANGER + 1, STRANGER + 1)
    protect(value)
    with contextlib.nullcontext() if value == 0 else pytest.raises(PermissionError):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT))
    r = (run if who == "root" else ordinary)(f"file:{path}", "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")
    made = f"{sticky}/new"
    assert (run if who == "root" else ordinary)(f"file:{made}", "echo", "ran").stdout == b"ran\n"
    assert os.path.isfile(made)


# ---- the file is replaced ----

@pytest.fixture
def late(start, path, tmp_path):
    """
    late(OPTION...) starts a run that has opened the file and not locked it yet: it does so two
    seconds later.
    """

    def late_(*options, command=("echo", "ran")):
        trace = tmp_path / "late"
        p = start("strace", "-qq", "-f", "-b", "execve", "-o", trace, "-e",
                  "inject=flock:delay_enter=2000000:when=1", ME_ONLY, *options,
                  f"file:{path}", *command)
        # strace writes the beginning of a call before it delays it.
        wait_for(lambda: trace.exists() and "flock(" in trace.read_text(),
                 "it is about to lock the file")
        return p

    return late_


@pytest.mark.static
@pytest.mark.parametrize("options", [(), ("-F",), ("-w", "0.2"), ("-s",)], ids=" ".join)
def test_a_file_that_is_replaced_before_it_is_locked_is_not_the_lock(late, hold, path, options):
    """The new file has a holder."""
    path.touch()
    p = late(*options)
    path.with_name("new").touch()
    os.rename(path.with_name("new"), path)
    holder = hold(f"file:{path}")
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (4, b"") and b"held by pid %d (" % holder.job in err, err
    assert release(holder) == 0


@pytest.mark.static
@pytest.mark.parametrize("options", [(), ("-F",), ("-w", "inf"), ("-s",)], ids=" ".join)
def test_a_file_that_is_deleted_before_it_is_locked_is_made_again(late, path, options):
    path.touch()
    p = late(*options, command=("sh", "-c", f"flock -n '{path}' true || echo ran"))
    path.unlink()
    assert p.communicate(timeout=DEADLINE)[0] == b"ran\n" and p.returncode == 0
    assert path.exists() and is_free(path)


@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped meanwhile"])
def test_waiter_for_a_replaced_file_does_not_run_beside_the_holder_of_the_new_one(
        hold, waiter, path, stopped):
    old = hold(f"file:{path}")
    p = waiter(path)
    if stopped:
        p.send_signal(signal.SIGSTOP)
        wait_for(lambda: process_state(p.pid) == "T", "it is stopped")
    path.with_name("new").touch()
    os.rename(path.with_name("new"), path)
    new = hold(f"file:{path}")
    assert release(old) == 0
    if stopped:
        p.send_signal(signal.SIGCONT)
    wait_for(lambda: waiters(path) == [p.pid], "it waits for the new one")
    assert p.poll() is None
    assert release(new) == 0
    gets_it(p)


def test_waiter_for_a_deleted_file_creates_it_again(hold, waiter, path):
    holder = hold(f"file:{path}")
    p = waiter(path, command=("sh", "-c", f"flock -n '{path}' true || echo mine"))
    path.unlink()
    assert release(holder) == 0
    gets_it(p)
    assert path.exists()


def test_a_file_that_is_replaced_again_and_again(hold, waiter, path):
    """Each time, the waiter has reached the new one."""
    path.touch()
    holder = hold(f"file:{path}")
    p = waiter(path)
    for _ in range(20):
        path.with_name("new").touch()
        os.rename(path.with_name("new"), path)
        holder, old = hold(f"file:{path}"), holder
        assert release(old) == 0
        wait_for(lambda: waiters(path) == [p.pid], "it waits for the new one")
    assert release(holder) == 0
    gets_it(p)


# ---- --who and --list ----

@pytest.fixture
def twice(tmp_path):
    """
    twice(PATH) starts a command that sees the present table, with each line about the file repeated
    in another piece.
    """

    def twice_(path):
        ours = "".join(wait_for(lambda: lines_about(path), "one reading has them"))
        others = "".join(f"{n}: FLOCK  ADVISORY  WRITE 1 00:00:{n} 0 EOF\n" for n in range(200))
        table_ = tmp_path / "table"
        table_.write_text(others + ours + others + ours)
        return ("unshare", "--mount", "sh", "-c", 'mount --bind "$0" /proc/locks && exec "$@"',
                str(table_))

    return twice_


@pytest.fixture
def who(call):
    """
    who(PATH) returns the rows of --who --json as [(role, pid)]; they agree with the exit status and
    the text.
    """

    def who_(path, *prefix, whole=False):
        r = call(*prefix, ME_ONLY, "--who", "--json", f"file:{path}")
        assert r.stderr == b"", r
        rows = json.loads(r.stdout)["who"]
        assert r.returncode == (4 if any(row["role"] != "waiter" for row in rows) else 0)
        assert all(row["lock"] == f"file:{path}" for row in rows)
        return rows if whole else [(row["role"], row["pid"]) for row in rows]

    return who_


@pytest.fixture
def listed(call):
    """listed(PATH) returns the row of --list --json for the file, or None."""

    def listed_(path, *prefix):
        r = call(*prefix, ME_ONLY, "--list", "--json")
        assert (r.returncode, r.stderr) == (0, b""), r
        return next((row for row in json.loads(r.stdout)["locks"] if row["lock"] == f"file:{path}"),
                    None)

    return listed_


def test_who_of_a_free_lock(call, path, who):
    """Asking creates no file."""
    r = call(ME_ONLY, "--who", f"file:{path}")
    assert (r.returncode, r.stdout, r.stderr) == (0, f"file:{path}: free\n".encode(), b"")
    assert who(path) == []
    assert not path.exists()
    path.touch()
    assert who(path) == []


@forms
def test_who_of_each_form(hold, who, listed, call, path, form):
    holder = hold(f"file:{path}", *form)
    if form == ("-F",):
        expected = [("job", holder.job)]
    else:
        keeper = wait_for(lambda: next((p for p in children_of(holder.pid)
                                        if name_of(p) == "me-only keeper"), None), "a keeper")
        expected = [("job", holder.job), ("wrapper", holder.pid), ("keeper", keeper)]
    assert who(path) == expected
    row = listed(path)
    assert (row["state"], row["pid"], row["user"], row["uid"], row["slot"], row["waiters"],
            row["command"], row["at_most"]) == \
           ("held", holder.job, user(), os.geteuid(), 0, 0, "cat", True)
    text = call(ME_ONLY, "--who", f"file:{path}").stdout.decode()
    assert re.match(
        rf"file:{path}: held by pid {holder.job} \({user()}\) for at most \S+: cat\nROLE ", text)
    assert release(holder) == 0
    assert who(path) == [] and listed(path) is None


def test_who_says_what_the_message_says(hold, call, run, path):
    hold(f"file:{path}")

    def without_age(text):
        return re.sub(r"at most \S+:", "", text)

    first = call(ME_ONLY, "--who", f"file:{path}").stdout.decode().splitlines()[0]
    assert without_age("me-only: " + first + "\n") == without_age(
        run(f"file:{path}", "true").stderr.decode())


def test_who_of_flock(flock, who, listed, path):
    """--list leaves locks without a me-only to lslocks(8)."""
    holder = flock(path)
    assert who(path) == [("job", holder.pid), ("child", holder.job)]
    assert listed(path) is None


def test_a_lock_of_flock_for_which_a_me_only_waits_is_listed(flock, waiter, listed, path):
    holder = flock(path)
    waiter(path)
    row = listed(path)
    assert (row["state"], row["pid"], row["waiters"]) == ("held", holder.pid, 1)


@pytest.mark.parametrize("form", [(), ("-F",)], ids=["default", "no-fork"])
def test_who_of_a_dead_holder_whose_children_hold_it(run, who, listed, path, form):
    child = int(run(*form, f"file:{path}", "sh", "-c",
                    "sleep 1000 >/dev/null 2>&1 & echo $!").stdout)
    wait_for(lambda: name_of(child) == "sleep", "the child is what it will be")
    assert who(path) == [("child", child)]
    row = listed(path)
    assert (row["state"], row["pid"], row["command"]) == ("inherited", child, "sleep 1000")


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_who_of_a_job_whose_me_only_was_killed(hold, who, path, form):
    holder = hold(f"file:{path}", *form)
    keeper = wait_for(lambda: next((p for p in children_of(holder.pid)
                                    if name_of(p) == "me-only keeper"), None), "a keeper")
    holder.kill()
    holder.wait(DEADLINE)
    assert who(path) == [("job", holder.job), ("keeper", keeper)]


def test_who_of_a_shared_lock(hold, who, listed, call, path):
    holders = [hold(f"file:{path}", "-s") for _ in range(3)]
    rows = who(path)
    for p in holders:
        assert ("job", p.job) in rows and ("wrapper", p.pid) in rows
    assert call(ME_ONLY, "--who",
                f"file:{path}").stdout.decode().startswith(
                    f"file:{path}: shared by 3, held by pid ")
    assert listed(path)["pid"] in {p.job for p in holders}
    assert release(holders.pop()) == 0
    assert call(ME_ONLY, "--who",
                f"file:{path}").stdout.decode().startswith(
                    f"file:{path}: shared by 2, held by pid ")


def test_who_lists_waiters_in_order(hold, waiter, who, listed, call, path):
    hold(f"file:{path}")
    crowd = [waiter(path, *options) for options in ((), ("-F",), ("-o",), (), ("-s",), ())]
    # The process itself waits, without a child for it.
    wait_for(lambda: waiters(path) == [p.pid for p in crowd], "all wait in order")
    rows = [row for row in who(path, whole=True) if row["role"] == "waiter"]
    assert [(row["place"], row["pid"]) for row in rows] == [(n + 1, p.pid)
                                                            for n, p in enumerate(crowd)]
    assert all(row["user"] == user() and row["command"].startswith(ME_ONLY) for row in rows)
    assert listed(path)["waiters"] == len(crowd)
    crowd[2].kill()
    crowd[2].wait(DEADLINE)
    left = [p.pid for p in crowd if p is not crowd[2]]
    # If some are killed, the order is the kernel's.
    wait_for(lambda: sorted(waiters(path)) == sorted(left), "it waits no more")
    assert [pid for role, pid in who(path) if role == "waiter"] == waiters(path)


@pytest.mark.root
@pytest.mark.parametrize("form", [(), ("-s",)], ids=["alone", "shared"])
def test_who_where_the_table_tells_of_all_twice(hold, waiter, who, listed, call, twice, path, form):
    """
    It comes in pieces of a page: a process that takes a lock between two of them shifts what
    follows.
    """
    holder = hold(f"file:{path}", *form)
    crowd = [waiter(path).pid for _ in range(2)]
    rows = who(path, *twice(path))
    assert len(rows) == len(set(rows)) and ("job", holder.job) in rows
    assert sorted(pid for role, pid in rows if role == "waiter") == sorted(crowd)
    assert listed(path, *twice(path))["waiters"] == len(crowd)
    r = call(*twice(path), ME_ONLY, "--who", f"file:{path}")
    assert r.stdout.decode().startswith(f"file:{path}: held by pid {holder.job} ")


def test_a_relative_path_is_listed_whole(hold, who, listed, run, tmp_path):
    holder = hold("file:sub lock", cwd=tmp_path)
    row = listed(tmp_path / "sub lock")
    assert row["pid"] == holder.job
    assert run("file:sub lock", "true", cwd=tmp_path).returncode == 4
    assert run(f"file:{tmp_path}/sub lock", "true").returncode == 4
    assert who(tmp_path / "sub lock")[0] == ("job", holder.job)


NAMES = {"blank": (b"a lock", "a lock"), "newline": (b"a\nlock", r"a\x0alock"),
         "control": (b"a\x1b[2Jlock", r"a\x1b[2Jlock"),
         "not utf-8": (b"a\xff\xfelock", r"a\xff\xfelock"), "backslash": (b"a\\lock", r"a\\lock"),
         "utf-8": ("zürich".encode(), "zürich"),
         "deleted": (b"lock (deleted)", "lock (deleted)"), "colon": (b"host:lock", "host:lock"),
         "dash": (b"-w", "-w"),
         "every byte": (bytes(b for b in range(1, 256) if b != 47), None),
         "arrow": (b"-> FLOCK", "-> FLOCK")}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_exact_and_shown_so_that_no_terminal_obeys_them(hold, run, call, tmp_path, name):
    given, shown = NAMES[name]
    spec = b"file:" + os.fsencode(tmp_path) + b"/" + given
    holder = hold(spec)
    assert os.listdir(os.fsencode(tmp_path)) == [given]
    r = run(spec, "true")
    assert r.returncode == 4
    text = r.stderr.decode()
    assert text.endswith("\n") and text[:-1].isprintable()
    if shown:
        assert text.startswith(f"me-only: file:{tmp_path}/{shown}: held by pid {holder.job} (")
        assert [row["pid"] for row in json.loads(call(ME_ONLY, "--list", "--json").stdout)["locks"]
                if row["lock"] == f"file:{tmp_path}/{shown}"] == [holder.job]
    r = call(ME_ONLY, "--who", spec)
    assert r.returncode == 4 and r.stdout.decode().replace("\n", "").isprintable()


# ---- containers ----

CONTAINER = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def in_container(start):
    """
    in_container(ARGUMENT...) starts the program in its own namespaces; it shares only the file with
    others.
    """
    return lambda *argv: start(*CONTAINER, ME_ONLY, *argv, stdin=subprocess.PIPE)


@pytest.mark.root
@forms
def test_containers_that_share_a_volume_exclude_each_other(in_container, run, path, form):
    holder = in_container(*form, f"file:{path}", *JOB)
    assert read_line(holder.stdout)
    p = in_container(f"file:{path}", "echo", "ran")
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (4, b"")
    assert err.decode() == \
        f"me-only: file:{path}: held by a hidden process (/proc does not show its process)\n"
    # The holder is visible from outside.
    assert "held by pid " in run(f"file:{path}", "true").stderr.decode()
    assert release(holder) == 0
    p = in_container(f"file:{path}", "echo", "ran")
    assert p.communicate(timeout=DEADLINE)[0] == b"ran\n"


@pytest.mark.root
def test_a_container_waits_for_another(in_container, path):
    holder = in_container(f"file:{path}", *JOB)
    assert read_line(holder.stdout)
    p = in_container("-w", "inf", f"file:{path}", "echo", "mine")
    wait_for(lambda: waiters(path), "it waits")
    assert release(holder) == 0
    assert p.communicate(timeout=DEADLINE)[0] == b"mine\n" and p.returncode == 0


@pytest.mark.root
@pytest.mark.parametrize("options", [("-q",), ("--complain-after=1h",)], ids=" ".join)
def test_a_holder_that_cannot_be_seen_is_not_believed_to_be_harmless(in_container, path, options):
    holder = in_container(f"file:{path}", *JOB)
    assert read_line(holder.stdout)
    p = in_container(*options, f"file:{path}", "echo", "ran")
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (4, b"")
    assert b": held by a hidden process (" in err


@pytest.mark.root
@pytest.mark.parametrize("form", [(), ("-F",), ("-o",)], ids=["default", "no-fork", "close"])
def test_a_container_does_not_replace_a_holder_that_cannot_be_seen(in_container, path, form):
    """It is refused at once."""
    holder = in_container(*form, f"file:{path}", *JOB)
    assert read_line(holder.stdout)
    p = in_container("--replace", "-k", "0", "-w", "20", f"file:{path}", "echo", "ran")
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (4, b"")
    assert b": not replaced, the holder cannot be verified: held by a hidden process (" in err
    assert release(holder) == 0


@pytest.mark.root
@forms
def test_in_a_container_of_ones_own_the_job_is_under_its_lock(in_container, path, form):
    os.close(os.open(path, os.O_CREAT, 0o600))  # so that --held can be sure of a job of -F
    script = '"$0" --held "$1"; echo $?; "$0" -w inf "$1" echo ran; echo $?'
    p = in_container(*form, f"file:{path}", "sh", "-c", script, ME_ONLY, f"file:{path}")
    out, err = p.communicate(timeout=DEADLINE)
    assert out == b"0\n4\n" and b"this job already holds it" in err


# ---- waiting costs nothing and leaves nothing ----

def switches(pid):
    """How often the threads of PID went to sleep or were preempted."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as f:
            found[thread] = [int(line.split()[1]) for line in f if "ctxt_switches" in line]
    return found


def test_waiter_sleeps_all_the_time(hold, waiter, me_only, path):
    """It is not woken up even once, and makes no system call."""
    holder = hold(f"file:{path}")
    crowd = [waiter(path) for _ in range(5)]
    for p in crowd:
        # At first it sleeps for an instant, until the other thread is in line.
        wait_for(lambda: len(switches(p.pid)) == 2 and switches(p.pid)[str(p.pid)][0] > 1,
                 "it has been woken up once")
        wait_for(lambda: all(process_state(int(t)) == "S" for t in switches(p.pid)),
                 "both threads sleep")
    before = [switches(p.pid) for p in crowd]
    # The measured time is this one's waiting.
    assert me_only("-q", "-w", "1.5", f"file:{path}", "true").wait(DEADLINE) == 4
    assert [switches(p.pid) for p in crowd] == before
    assert release(holder) == 0
    for p in crowd:
        gets_it(p)


@pytest.mark.parametrize("how", ["time", "SIGKILL", "SIGTERM"])
def test_those_who_give_up_leave_nothing(hold, waiter, me_only, path, how):
    holder = hold(f"file:{path}")
    if how == "time":
        crowd = [me_only("-q", "-w", "0.2", f"file:{path}", "true") for _ in range(20)]
    else:
        crowd = [waiter(path) for _ in range(20)]
        for p in crowd:
            p.send_signal(getattr(signal, how))
    assert {p.wait(DEADLINE) for p in crowd} == {4 if how == "time" else -getattr(signal, how)}
    wait_for(lambda: table(path) == [(False, holder.pid)], "nobody waits")
    assert release(holder) == 0
    assert table(path) == []


def test_killed_holders_and_waiters_one_after_the_other(hold, waiter, path):
    """Each holder is killed with all its processes, and the next one in line gets the lock."""
    holder = hold(f"file:{path}", "-F")
    crowd = [waiter(path, "-F", command=("sleep", "1000")) for _ in range(10)]
    while crowd:
        holder.kill()
        holder.wait(DEADLINE)
        wait_for(lambda: [pid for waits, pid in table(path) if not waits], "another has it")
        pid = next(pid for waits, pid in table(path) if not waits)
        holder = next(p for p in crowd if p.pid == pid)
        crowd.remove(holder)
    holder.kill()
    holder.wait(DEADLINE)
    assert is_free(path)


# ---- --replace ----

def replace(run, path, *options):
    return run("--replace", *options, f"file:{path}", "echo", "ran")


def assert_not_replaced(r, reason):
    assert (r.returncode, r.stdout) == (4, b""), r
    text = r.stderr.decode()
    assert re.fullmatch(rf"me-only: file:[^\n]*: not replaced, {re.escape(reason)}: [^\n]*\n",
                        text), text


@forms
@pytest.mark.parametrize("job, end", [("echo $$; exec sleep 1000", "TERM"),
                                      ("trap '' TERM; echo $$; exec sleep 1000", "KILL"),
                                      ("(echo $$; exec sleep 1000); true", "TERM")],
                         ids=["ordinary", "obstinate", "with a child"])
def test_replace_a_holder(me_only, run, path, form, job, end):
    holder = me_only(*form, f"file:{path}", "sh", "-c", job)
    assert read_line(holder.stdout)
    r = replace(run, path, "-k", "0.3")
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r
    assert holder.wait(DEADLINE) == -getattr(signal, "SIG" + end)


@pytest.mark.root
@forms
@pytest.mark.parametrize("options", [(), ("-s",)], ids=["alone", "shared"])
def test_replace_a_holder_of_whom_the_table_tells_twice(me_only, call, twice, path, form, options):
    """Both are one and the same."""
    holder = me_only(*form, *options, f"file:{path}", "sh", "-c",
                     "trap '' TERM; echo $$; exec sleep 1000")
    assert read_line(holder.stdout)
    r = call(*twice(path), ME_ONLY, "--replace", "-k", "0.3", f"file:{path}", "echo", "ran")
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r
    assert holder.wait(DEADLINE) == -signal.SIGKILL


def test_a_lock_that_comes_while_its_holder_is_looked_up(tmp_path, hold, start, path):
    """The holder seen then is the replacing process itself."""
    holder = hold(f"file:{path}")
    trace = tmp_path / "trace"
    trace.touch()
    p = start("strace", "-qq", "-f", "-o", trace, "-P", "/proc/locks", "-e",
              "inject=openat:delay_enter=2000000:when=2",
              ME_ONLY, "--replace", f"file:{path}", "echo", "ran")
    # The first look is about running under the lock itself. strace writes the beginning of a call
    # before it delays it.
    wait_for(lambda: trace.read_text().count("openat(") >= 2, "it looks")
    assert release(holder) == 0
    out, err = p.communicate(timeout=DEADLINE)
    assert (p.returncode, out) == (0, b"ran\n"), err


def test_replace_flock(flock, run, path):
    """It does not pass signals on: its command is asked to exit, and it ends with it."""
    holder = flock(path)
    r = replace(run, path, "-k", "5")
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r
    holder.wait(DEADLINE)
    wait_for(lambda: process_state(holder.job) in ("Z", None), "its command has ended")


def test_replace_flock_with_a_command_that_does_not_end(start, run, path):
    holder = start("flock", path, "sh", "-c", "trap '' TERM; echo $$; exec sleep 1000")
    job = int(read_line(holder.stdout))
    r = replace(run, path, "-k", "0.3")
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r
    wait_for(lambda: process_state(job) in ("Z", None), "its command has ended")


@pytest.mark.parametrize("before", ["", "trap '' TERM; "], ids=["ordinary", "obstinate"])
def test_replace_descendants(run, path, before):
    """A process started with the lock's variable belongs to it."""
    job = before + "setsid sleep 1000 >/dev/null 2>&1 & echo $!"
    child = int(run(f"file:{path}", "sh", "-c", job).stdout)
    r = replace(run, path, "-k", "0.3")
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r
    wait_for(lambda: process_state(child) in ("Z", None), "it has ended")


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_replace_a_job_whose_me_only_was_killed(hold, run, path, form):
    holder = hold(f"file:{path}", *form)
    wait_for(lambda: any(name_of(p) == "me-only keeper" for p in children_of(holder.pid)),
             "a keeper")
    holder.kill()
    holder.wait(DEADLINE)
    r = replace(run, path, "-k", "0.3")
    assert (r.returncode, r.stdout) == (0, b"ran\n"), r
    wait_for(lambda: process_state(holder.job) in ("Z", None), "the job has ended")


@pytest.mark.parametrize("options", [(), ("-q",), ("-E", "9"), ("-k", "0")], ids=" ".join)
def test_a_lock_that_several_share_is_not_replaced(hold, run, path, options):
    holders = [hold(f"file:{path}", "-s") for _ in range(2)]
    assert_not_replaced(replace(run, path, *options), "several processes share it")
    assert all(process_state(p.job) == "S" for p in holders)
    assert release(holders.pop()) == 0
    assert replace(run, path).stdout == b"ran\n"


@pytest.mark.root
@forms
@pytest.mark.parametrize("options", [(), ("-q",), ("-k", "0")], ids=" ".join)
def test_a_strangers_lock_is_not_replaced(start, run, world, form, options):
    path = f"{world}/lock"
    holder = start(f"{world}/me-only", *form, f"file:{path}", *JOB, stdin=subprocess.PIPE,
                   **ORDINARY)
    assert read_line(holder.stdout)
    assert_not_replaced(replace(run, path, *options), "the holder is neither this user nor root")
    assert release(holder) == 0


# Receives a descriptor and keeps it: a service.
SERVICE = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
s.bind(sys.argv[1])
s.listen()
print("ready", flush=True)
c, _ = s.accept()
kept = socket.recv_fds(c, 1, 10)[1]
print(len(kept), flush=True)
c.send(b"x")
sys.stdin.read()
"""

# A job that sends its lock to the service, and waits for the end of its standard input.
PLANT = """
import os, socket, sys
lock = [fd for fd in range(10, 100) if os.path.exists(f"/proc/self/fd/{fd}")
        and os.path.samefile(f"/proc/self/fd/{fd}", sys.argv[2])]
c = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
c.connect(sys.argv[1])
socket.send_fds(c, [b"x"], lock)
c.recv(1)
print("planted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def planted(start, me_only, path, request):
    """planted(BEFORE...) runs a job that sends its lock to a service, and returns both."""
    directory = tempfile.mkdtemp(prefix="me-only-test-")  # a short path, since it is a socket's
    request.addfinalizer(lambda: shutil.rmtree(directory))

    def planted_(*before):
        service = start(*before, sys.executable, "-ISc", SERVICE, f"{directory}/socket",
                        stdin=subprocess.PIPE)
        assert read_line(service.stdout) == b"ready\n"
        holder = me_only(f"file:{path}", sys.executable, "-ISc", PLANT, f"{directory}/socket", path,
                         stdin=subprocess.PIPE)
        assert read_line(service.stdout) == b"1\n"
        assert read_line(holder.stdout) == b"planted\n"
        return service, holder

    return planted_


planters = pytest.mark.parametrize("before", [(), ("setsid", "--wait")],
                                   ids=["same session", "its own session"])


@planters
def test_a_service_into_which_the_lock_was_planted_is_not_ended(planted, run, path, before):
    service, holder = planted(*before)
    assert release(holder) == 0
    assert not is_free(path)
    assert_not_replaced(replace(run, path, "-k", "0"),
                        "nothing proves that it was started under this lock")
    assert service.poll() is None


@planters
def test_nor_by_force_after_the_job(planted, run, path, before):
    service, holder = planted(*before)
    r = replace(run, path, "-q", "-w", "1.5", "-k", "0.2")
    assert (r.returncode, r.stdout) == (4, b"")
    assert holder.wait(DEADLINE) in (-signal.SIGTERM, -signal.SIGKILL)
    assert service.poll() is None


# ---- faults ----

# The command reports what it finds, through its own descriptor.
UNDER_LOCK = (
    'echo $$ started >>"$1"; if flock -n "$2" true; then echo $$ free; else echo $$ held; fi '
    '>>"$1"; sleep "$3"; exit "$4"')


class FileTrial(Trial):
    """One run under strace, with its own file."""

    def __init__(self, directory):
        super().__init__(directory, "")
        self.path = os.path.join(directory, f"lock-{self.number}")
        self.lock = f"file:{self.path}"
        open(self.path, "w", encoding="ascii").close()

    def command(self, milliseconds=0):
        return ["sh", "-c", UNDER_LOCK, "sh", self.report, self.path, str(milliseconds / 1000),
                str(STATUS)]

    def settle(self):
        wait_for(lambda: not os.path.exists(self.path) or is_free(self.path),
                 f"{self.path} is free")
        return self.reported()


@pytest.fixture
def trial(tmp_path, start):  # start: whatever is left over is ended
    return lambda: FileTrial(str(tmp_path))


def clean_calls(t, options):
    subprocess.run(t.argv(options, detached=False), stdin=subprocess.DEVNULL, check=False,
                   timeout=DEADLINE)
    assert [w for _, w in t.settle()] == ["started", "held"]
    calls = t.calls()
    assert sum(map(len, calls.values())) >= 5, "the trace shows no run"
    return calls


@pytest.mark.static
@pytest.mark.parametrize("options", [[], ["-F"], ["-o"], ["-w", "20"]],
                         ids=["default", "no-fork", "close", "wait"])
def test_sigkill_at_each_call(trial, options):
    """The command, if it was started, has the lock to its end, and then the lock is free."""
    calls = [c for c, _ in next(iter(clean_calls(trial(), options).values())) if is_ours(c)]

    def work(c):
        t = trial()
        run = t.run(options, f"{c.name}:signal={int(signal.SIGKILL)}:when={c.number}",
                    all_processes=False, milliseconds=20)
        report = t.settle()
        problems = list(wrong_report(report))
        if run.status not in (-signal.SIGKILL, STATUS):
            problems.append(f"status {run.status}: {run.stderr}")
        return problems

    many(work, calls)


# ---- never two at once ----

@pytest.fixture
def scratch(tmp_path):
    """The file that the witnesses lock, and in which they report."""
    return tmp_path / "scratch"


def overlaps(scratch):
    return scratch.read_text().splitlines() if scratch.exists() else []


@pytest.mark.parametrize("there", [True, False], ids=["", "missing"])
@pytest.mark.parametrize("options", [(), ("-F",), ("-o",)], ids=["default", "no-fork", "close"])
def test_of_many_that_start_in_the_same_instant_exactly_one_runs(
        start, path, scratch, options, there):
    """Even if all of them want to create the file."""
    if there:
        path.touch()
    rounds, width = (3, 50) if DYNAMIC else (10 if there else 1, 100)
    p = start(RUSH, str(rounds), str(width), ME_ONLY, "-q", *options, f"file:{path}", WITNESS,
              str(scratch), "-")
    out, err = p.communicate(timeout=DEADLINE * 5)
    assert p.returncode == 0, out + err
    assert overlaps(scratch) == []
    assert is_free(path)


@pytest.mark.parametrize("there", [True, False], ids=["", "missing"])
def test_of_many_that_wait_in_the_same_instant_each_runs_alone(start, path, scratch, there):
    if there:
        path.touch()
    gate, opener = os.pipe()
    # Held at the gate until all have arrived.
    ours = (ME_ONLY, "-q", "-w", "inf", f"file:{path}")
    crowd = [start("sh", "-c", 'read line; exec "$@"', "sh", *ours, WITNESS, str(scratch), "0",
                   stdin=gate) for _ in range(100)]
    os.close(gate)
    os.close(opener)
    assert {p.wait(DEADLINE) for p in crowd} == {0}
    assert overlaps(scratch) == []
    assert is_free(path)


def test_ours_and_those_of_flock_run_alone(start, path, scratch):
    gate, opener = os.pipe()
    kinds_of_lock = [(ME_ONLY, "-q", "-w", "inf", f"file:{path}"), ("flock", str(path))]
    crowd = [start("sh", "-c", 'read line; exec "$@"', "sh", *kinds_of_lock[n % 2], WITNESS,
                   str(scratch), "1", stdin=gate)
             for n in range(60)]
    os.close(gate)
    os.close(opener)
    assert {p.wait(DEADLINE) for p in crowd} == {0}
    assert overlaps(scratch) == []


# ---- usage ----

@pytest.mark.parametrize("argv, text", [
    (("-j2", "file:PATH"),
     "-j is for host and etcd locks: write NAME, host:NAME or etcd:NAME instead of "
     "'file:PATH'"),
    (("-j1", "file:PATH"),
     "-j is for host and etcd locks: write NAME, host:NAME or etcd:NAME instead of "
     "'file:PATH'"),
    (("-s", "NAME"),
     "-s is for file and etcd locks: write file:PATH or etcd:NAME instead of 'NAME'"),
    (("-s", "host:NAME"),
     "-s is for file and etcd locks: write file:PATH or etcd:NAME instead of 'host:NAME'"),
    (("file:",), "the name of the lock is empty"),
], ids=" ".join)
def test_what_goes_with_another_kind_of_lock_only(run, tmp_path, argv, text):
    argv = argv[0] if isinstance(argv[0], tuple) else argv
    r = run(*argv, "echo", "ran", cwd=tmp_path)
    assert (r.returncode, r.stdout, r.stderr.decode()) == (2, b"",
                                                           f"me-only: {text}; try 'me-only "
                                                           f"--help'\n")
    assert os.listdir(tmp_path) == []


def test_a_name_that_begins_with_a_slash_is_no_file(hold, run, path):
    hold(str(path))
    assert not path.exists()
    assert run(f"file:{path}", "echo", "ran").stdout == b"ran\n"


def test_a_shell_that_has_called_flock_has_no_descendants(start, run, path):
    """The process that took the lock has ended as it should: nothing was left running."""
    shell = start("sh", "-c", 'exec 9>"$0"; flock 9; echo $$; read line', path,
                  stdin=subprocess.PIPE)
    pid = int(read_line(shell.stdout))
    said = run(f"file:{path}", "true").stderr.decode()
    assert f": held by pid {pid} (" in said and "left running" not in said and "with -o" not in said
    assert release(shell) in (0, 1)


LIKE_ME_ONLY = """
import ctypes, fcntl, os, sys
lock = os.open(sys.argv[1], os.O_RDONLY | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
os.pidfd_open(int(sys.argv[2]))
ctypes.CDLL(None).prctl(15, b"me-only", 0, 0, 0)
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_pidfd_of_another_does_not_make_it_the_command(start, run, path):
    """
    With --replace, a process that is given the lock may still look at others; its command has not
    started yet.
    """
    other = start("cat", stdin=subprocess.PIPE)
    holder = start(sys.executable, "-c", LIKE_ME_ONLY, path, str(other.pid), stdin=subprocess.PIPE)
    assert read_line(holder.stdout) == b"ready\n"
    assert f": held by pid {holder.pid} (".encode() in run(f"file:{path}", "true").stderr
    release(holder)
    release(other)
