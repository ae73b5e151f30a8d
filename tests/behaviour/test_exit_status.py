"""
The command's status passes through, and a signal that ended it also ends me-only; 1 to 4 are
me-only's own, and nothing stays locked.
"""
import os
import re
import resource
import signal
import subprocess

import pytest

from conftest import COPIED_MEMORY, DEADLINE, ME_ONLY, NEEDS_DESCRIPTORS, REAL_TIME_SIGNALS, \
    address, children_of, forms, has_children, is_bound, process_state, program, wait_for

HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
            signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
# 32 and 33, which the C library hides, and real-time signals
DEADLY = [n for n in range(1, 65) if n not in HARMLESS]
CORE_DUMPING = [signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS,
                signal.SIGFPE, signal.SIGSEGV, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGSYS]


def finish(p):
    out, err = p.communicate(timeout=DEADLINE)
    return p.returncode, out, err.decode(errors="surrogateescape")


# --- the command's own ---

@forms
def test_all_256_statuses_pass_through(run, lock, form):
    seen = [run(*form, lock, "sh", "-c", f"exit {n}").returncode for n in range(256)]
    assert seen == list(range(256))


def test_exit_base_leaves_the_commands_status_alone(run, lock):
    for n in (0, 1, 2, 3, 4, 5, 101, 255):
        assert run("--exit-base=100", "-E", "9", lock, "sh", "-c", f"exit {n}").returncode == n


def test_standard_streams_belong_to_the_command(run, lock):
    r = run(lock, "sh", "-c", "cat; echo error >&2", stdin=None, input=b"one\ntwo\n")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"one\ntwo\n", b"error\n")


@pytest.mark.native(REAL_TIME_SIGNALS)
@forms
def test_the_signal_that_ended_the_command_ends_us(run, lock, form):
    seen = {n: run(*form, lock, program("die"), str(n)).returncode for n in DEADLY}
    assert seen == {n: -n for n in DEADLY}


@pytest.mark.native(REAL_TIME_SIGNALS)
@pytest.mark.parametrize("how", ["-i", "-b"], ids=["ignored", "blocked"])
def test_we_end_by_that_signal_though_our_caller_kept_it_away(call, lock, how):
    for n in (1, 2, 3, 13, 15, 17, 32, 33, 34, 64):
        deadly = n if n != 17 else 15
        r = call(program("caller"), how, str(n), ME_ONLY, lock, program("die"), str(deadly))
        assert r.returncode == -deadly


def test_a_signal_that_ended_only_a_child_of_the_command_is_none_of_ours(run, lock):
    assert run(lock, "sh", "-c", "sh -c 'kill -TERM $$'; exit 3").returncode == 3


@pytest.mark.native("it dumps core itself")
@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_only_the_command_leaves_a_core_file(start, lock, form, tmp_path):
    """The waiting parent did not crash: a second core file would hide the one that matters."""
    def ends_by(n, *argv):
        # The status of wait(2) itself: it shows whether a core was dumped, wherever this machine
        # sends it.
        p = start(*argv, program("die"), str(n), cwd=tmp_path)
        _, status = os.waitpid(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        assert p.returncode == -n
        return os.WCOREDUMP(status)

    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        for n in CORE_DUMPING:
            ends_by(n)
            usual = sorted(os.listdir(tmp_path))
            for name in usual:
                os.unlink(tmp_path / name)
            assert not ends_by(n, ME_ONLY, *form, lock)
            left = os.listdir(tmp_path)
            assert len(left) == len(usual), f"signal {n}: {left}, without us {usual}"
            for name in left:
                os.unlink(tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


AS_PROCESS_1 = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


@pytest.mark.native("its process 1 hangs in a signal that should end it")
@pytest.mark.root
def test_process_1_which_no_signal_ends_exits_128_plus_its_number(call, lock):
    seen = {n: call(*AS_PROCESS_1, ME_ONLY, lock, program("die"), str(n)).returncode
            for n in DEADLY}
    assert seen == {n: 128 + n for n in DEADLY}


@pytest.mark.root
@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_process_1_passes_statuses_through_and_has_its_own(call, lock, form):
    for n in (0, 1, 4, 77, 128, 255):
        assert call(*AS_PROCESS_1, ME_ONLY, *form, lock, "sh", "-c", f"exit {n}").returncode == n
    assert call(*AS_PROCESS_1, ME_ONLY, *form, lock, "/nowhere/at/all").returncode == 1
    assert call(*AS_PROCESS_1, ME_ONLY, *form, "", "true").returncode == 2


# --- 1: the command cannot be run ---

def executable(path, text, mode=0o755):
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def unrunnable(kind, directory):
    """A command that cannot be run, and the message about it."""
    if kind == "no such name":
        return "me-only-no-such-command", "not found"
    if kind == "no such path":
        return str(directory / "none"), "not found"
    if kind == "no name":
        return "", "not found"
    if kind == "not executable":
        return executable(directory / "plain", "exit 0\n", 0o644), "cannot be run: Permission denied"
    if kind == "directory":
        return str(directory), "cannot be run: .*([Pp]ermission denied|directory)"
    if kind == "missing interpreter":
        return executable(directory / "lost", "#!/no/such/interpreter\n"), \
            "cannot be run: .*interpreter"
    if kind == "interpreter with a carriage return":
        return executable(directory / "lost", "#!/bin/sh\r\n"), \
            r"cannot be run: .*interpreter .*/bin/sh\\x0d"
    if kind == "missing loader":
        with open(program("die"), "rb") as f:
            binary = re.sub(rb"/lib(?=[^\0/]*/ld-)", b"/bil", f.read())
        (directory / "lost").write_bytes(binary)
        (directory / "lost").chmod(0o755)
        return str(directory / "lost"), "cannot be run: .*(interpreter|loader)"
    if kind == "interpreter that is a directory":
        return executable(directory / "lost", f"#!{directory}\n"), "cannot be run: ."
    if kind == "below a file":
        return executable(directory / "plain", "") + "/x", "(not found|cannot be run: Not a directory)"
    if kind == "link to itself":
        os.symlink("circle", directory / "circle")
        return str(directory / "circle"), "cannot be run: .*[Ll]"
    if kind == "long name":
        return "x" * 5000, "(not found|cannot be run: .*name too long)"
    assert kind == "long path"
    return "/" + "x/" * 3000, "cannot be run: .*name too long"


KINDS = ["no such name", "no such path", "no name", "not executable", "directory",
         "missing interpreter",
         "interpreter with a carriage return", "missing loader", "interpreter that is a directory",
         "below a file",
         "link to itself", "long name", "long path"]


@pytest.mark.native(COPIED_MEMORY, form=())
@forms
@pytest.mark.parametrize("kind", [
    pytest.param(kind, marks=pytest.mark.native("qemu-user itself reports a missing loader"))
    if kind == "missing loader" else kind for kind in KINDS])
def test_a_command_that_cannot_be_run_is_1_with_the_reason_and_leaves_nothing_locked(
        run, lock, tmp_path, kind, form):
    command, reason = unrunnable(kind, tmp_path)
    r = run(*form, lock, command, "argument", env={**os.environ, "PATH": "/nowhere:/bin"})
    assert not is_bound(address(lock))
    assert not has_children()
    text = r.stderr.decode()
    assert (r.returncode, r.stdout) == (1, b"")
    assert re.fullmatch(rf"me-only: [^\n]*: {reason}[^\n]*\n", text), text
    assert "  " not in text
    if len(command) < 1000:
        assert text.startswith(f"me-only: {command or chr(39) * 2}: ")


@forms
def test_exit_base_moves_status_1(run, lock, form):
    assert run("--exit-base=100", *form, lock, "/nowhere/at/all").returncode == 101


@pytest.mark.native(COPIED_MEMORY, form=())
@forms
def test_a_file_open_for_writing_cannot_be_run(run, lock, tmp_path, form):
    path = tmp_path / "busy"
    path.write_bytes(open(program("die"), "rb").read())
    path.chmod(0o755)
    with open(path, "ab"):
        r = run(*form, lock, path)
    assert (r.returncode, r.stderr.decode()) == (
        1, f"me-only: {path}: cannot be run: Text file busy\n")
    assert not is_bound(address(lock))


@pytest.mark.native(COPIED_MEMORY, form=())
@forms
def test_arguments_that_no_longer_fit_cannot_be_run(start, lock, tmp_path, form):
    """
    What fits on me-only's command line may not fit on the job's: its environment has one more
    variable.
    """
    directory = tmp_path / ("long" * 50)
    directory.mkdir()
    os.symlink(program("die"), directory / "j")
    os.symlink(ME_ONLY, tmp_path / "m")
    env = {**os.environ, "PATH": str(directory)}

    def fits(size):
        # One argument has at most 100,000 bytes: the kernel's limit is 131,072.
        full, rest = divmod(size, 100_000)
        try:
            return start("m", *form, lock, "j", *["x" * 100_000] * full, "x" * rest,
                         executable="./m", cwd=tmp_path, env=env)
        except OSError:
            return None

    low, high = 0, 3_000_000
    while high - low > 1:
        size = (low + high) // 2
        p = fits(size)
        if p:
            low = size
            code, out, err = finish(p)
        else:
            high = size
    assert (code, out) == (1, b"")
    assert re.fullmatch(r"me-only: \S*j: cannot be run: Argument list too long\n", err), err
    assert not is_bound(address(lock))


# --- the command is looked up as execvp() does ---

@forms
@pytest.mark.parametrize("text, status", [('echo "$0:$#:$1:$2"; exit 7\n', 7), ("", 0)],
                         ids=["script", "empty"])
def test_a_script_without_interpreter_line_is_run_by_sh(call, run, lock, tmp_path, text,
                                                        status, form):
    path = executable(tmp_path / "script", text)
    by_path = run(*form, lock, path, "a b", "c")
    assert (by_path.returncode, by_path.stderr) == (status, b"")
    assert by_path.stdout == call("env", path, "a b", "c").stdout
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    by_name = run(*form, lock, "script", "a b", "c", env=env)
    assert (by_name.returncode, by_name.stdout) == (status, by_path.stdout)


@pytest.mark.native(COPIED_MEMORY, form=())
@forms
def test_path_is_searched_on_after_what_cannot_be_run(run, lock, tmp_path, form):
    for directory in ("first", "second", "third", "fourth"):
        (tmp_path / directory).mkdir()
    executable(tmp_path / "first" / "tool", "not for running", 0o644)
    (tmp_path / "second" / "tool").mkdir()
    executable(tmp_path / "third" / "tool", "#!/bin/sh\necho third\n")
    executable(tmp_path / "fourth" / "tool", "#!/bin/sh\necho fourth\n")
    executable(tmp_path / "file", "")
    path = [str(tmp_path / f) for f in ("none", "file", "first", "second", "third", "fourth")]
    r = run(*form, lock, "tool", env={**os.environ, "PATH": ":".join(path)})
    assert (r.returncode, r.stdout) == (0, b"third\n")
    r = run(*form, lock, "tool", env={**os.environ, "PATH": ":".join(path[:3])})
    assert r.returncode == 1
    assert re.fullmatch(r"me-only: (\S*/first/)?tool: cannot be run: Permission denied; it is not executable: [^\n]*\n",
                        r.stderr.decode()), r.stderr


@pytest.mark.native(COPIED_MEMORY, form=())
@forms
def test_path_that_is_unset_or_has_an_empty_part(run, lock, tmp_path, form):
    executable(tmp_path / "here", "#!/bin/sh\necho here\n")
    bare = {k: v for k, v in os.environ.items() if k != "PATH"}
    assert run(*form, lock, "true", env=bare).returncode == 0
    for path in (":/nowhere", "/nowhere:", "/nowhere::/nowhere"):
        r = run(*form, lock, "here", cwd=tmp_path, env={**bare, "PATH": path})
        assert (r.returncode, r.stdout) == (0, b"here\n")
    r = run(*form, lock, "here", cwd=tmp_path, env={**bare, "PATH": "/nowhere"})
    assert (r.returncode, r.stderr) \
        == (1, b"me-only: here: not found in PATH; for the one in this directory write ./here\n")


@pytest.mark.native(COPIED_MEMORY, form=())
@pytest.mark.root
@forms
def test_a_directory_in_path_that_cannot_be_searched_hides_nothing(
        call, lock, tmp_path, public_me_only, form):
    tmp_path.chmod(0o700)
    r = call("setpriv", "--reuid=65534", "--clear-groups", public_me_only, *form, lock,
             "me-only-no-such-command",
             env={**os.environ, "PATH": f"{tmp_path}:/bin"})
    assert (r.returncode, r.stderr) == (1, b"me-only: me-only-no-such-command: not found\n")


# --- 3: locking failed ---

SOCKET_ERRORS = ["EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EACCES", "EAFNOSUPPORT"]
BIND_ERRORS = ["EACCES", "EPERM", "ENOMEM", "ENOBUFS", "EINVAL", "EADDRNOTAVAIL", "ENOSYS"]


@pytest.mark.native("strace traces the emulator")
@pytest.mark.static
@forms
@pytest.mark.parametrize("name, error, what", [("socket", e, "cannot create a socket: .")
                                               for e in SOCKET_ERRORS] +
                                              [("bind", e, "cannot bind the name: .")
                                               for e in BIND_ERRORS])
def test_any_error_but_in_use_is_3_and_runs_nothing(call, lock, tmp_path, name, error, what, form):
    r = call("strace", "-o", str(tmp_path / "trace"), "-e", f"trace={name}", "-e",
             f"inject={name}:error={error}",
             ME_ONLY, "-E", "9", *form, lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (3, b"")
    assert re.fullmatch(rf"me-only: {lock}: {what}[^\n]*\n", r.stderr.decode()), r.stderr
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    assert not is_bound(address(lock))


@pytest.mark.native(NEEDS_DESCRIPTORS)
@pytest.mark.static
@forms
def test_no_descriptor_left_is_3(call, lock, form):
    r = call("prlimit", "--nofile=3", "--", ME_ONLY, *form, lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (3, b"")
    assert re.fullmatch(rf"me-only: {lock}: cannot create a socket: [^\n]+\n", r.stderr.decode()), \
        r.stderr
    r = call("prlimit", "--nofile=3", "--", ME_ONLY, "--exit-base=100", *form, lock, "echo", "ran")
    assert r.returncode == 103


# --- whatever else the caller has set up ---

@forms
@pytest.mark.parametrize("how", ["-i", "-b"], ids=["ignored", "blocked"])
def test_a_caller_that_ignores_or_blocks_the_end_of_children(call, lock, how, form):
    under = [program("caller"), how, "17", ME_ONLY, *form, lock]
    assert call(*under, "sh", "-c", "exit 7").returncode == 7
    assert call(*under, program("die"), "9").returncode == -9
    assert call(*under, "/nowhere/at/all").returncode == 1


# A shell that execs me-only leaves it its background children: one has ended, one ends when it
# reads a line from the fifo, one stays.
WITH_CHILDREN = (
    """(exit 3) & sh -c 'read line; exit 5' <"$FIFO" & export CHILD=$!; """
    """sleep 1000 >/dev/null 2>&1 & exec "$@" """)


@pytest.fixture
def call_with_children(call, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    return lambda *argv: call("sh", "-c", WITH_CHILDREN, "sh", *argv,
                              env={**os.environ, "FIFO": str(tmp_path / "fifo")})


@forms
def test_children_that_we_were_started_with_are_not_the_command(call_with_children, lock, form):
    r = call_with_children(ME_ONLY, *form, lock, "sh", "-c", 'echo >"$FIFO"; exit 7')
    assert r.returncode == 7
    wait_for(lambda: [process_state(p) for p in children_of(os.getpid())] == ["S"],
             "the third child, and nobody else, is left")


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_the_end_of_such_a_child_is_not_the_end_of_the_command(call_with_children, lock, form):
    """It is reaped, and the command keeps running."""
    r = call_with_children(ME_ONLY, *form, lock, "sh", "-c",
                           'echo >"$FIFO"; while kill -0 $CHILD 2>&-; do :; done; exit 7')
    assert r.returncode == 7


def test_what_happened_while_we_were_stopped_has_the_right_status(me_only, lock):
    """The command ends while me-only is stopped: its status is not lost."""
    p = me_only(lock, "sh", "-c", "echo $$; read x; exit 7", stdin=subprocess.PIPE)
    job = int(p.stdout.readline())
    os.kill(p.pid, signal.SIGSTOP)
    wait_for(lambda: process_state(p.pid) == "T", "me-only is stopped")
    p.stdin.close()
    wait_for(lambda: process_state(job) == "Z", "the job has ended")
    os.kill(p.pid, signal.SIGCONT)
    assert p.wait(DEADLINE) == 7


def test_signals_that_come_too_late_do_not_change_the_status(me_only, lock):
    """A signal has ended the command; another one, pending for me-only, must not take its place."""
    for late, deadly in ((35, 40), (signal.SIGTSTP, signal.SIGIO), (signal.SIGTERM, signal.SIGPWR)):
        p = me_only(lock, "sh", "-c", "echo $$; exec sleep 1000")
        job = int(p.stdout.readline())
        os.kill(p.pid, signal.SIGSTOP)
        wait_for(lambda: process_state(p.pid) == "T", "me-only is stopped")
        os.kill(job, deadly)
        wait_for(lambda: process_state(job) == "Z", "the job has ended")
        os.kill(p.pid, late)
        os.kill(p.pid, signal.SIGCONT)
        assert p.wait(DEADLINE) == -deadly
