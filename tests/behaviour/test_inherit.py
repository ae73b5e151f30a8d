"""
The command starts with what me-only was started with, plus the lock and ME_ONLY_LOCK, and nothing
else (rule 5).
"""
import os
import signal
import subprocess
import sys

import pytest

from conftest import DEADLINE, ME_ONLY, forms, is_listed, program, queue_of, release, wait_for

waiting = pytest.mark.parametrize("waits", [False, True], ids=["", "after waiting"])


def report_of(text, caller=None):
    """
    {key: values} of the output of the program "state", and how many descriptors are sockets. The
    PID of the process that was started reads "caller", since it differs from run to run.
    """
    report, sockets = {}, 0
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if value.startswith(" socket:["):
            sockets += 1
        else:
            value = value.strip()
            report.setdefault(key, []).append("caller" if value == str(caller) else value)
    return report, sockets


@pytest.fixture
def compare(start, hold, lock, tmp_path):
    """
    compare(FORM, WAITS, BEFORE, ...) runs "state" through BEFORE, without and then with me-only in
    between: both report the same.
    """

    def compare_(form, waits, before, **kw):
        reports = []
        kw.setdefault("stderr", subprocess.DEVNULL)
        for under in ([], [ME_ONLY, *form, *(("-w", "inf") if waits else ()), lock]):
            path = tmp_path / "report"
            path.write_bytes(b"")
            holder = hold(lock) if under and waits else None
            with open(path, "wb") as out:
                p = start(*before, *under, program("state"), path if "stdout" in kw else "-",
                          **{"stdout": out, **kw})
            if holder:
                wait_for(lambda: is_listed(queue_of(lock)), "it waits")
                assert release(holder) == 0
            assert p.wait(DEADLINE) == 0
            reports.append(report_of(path.read_text(), p.pid))
        (usual, sockets), (found, more) = reports
        assert found == usual
        assert more - sockets == (form != ("-o",))
        return usual

    return compare_


def caller(*options):
    return [program("caller"), *map(str, options)]


def each(option, signals):
    return [word for n in signals for word in (option, n)]


IGNORABLE = [n for n in range(1, 65) if n not in (signal.SIGKILL, signal.SIGSTOP)]

# What a caller may have set up, as a command that does it and then becomes the next one.
CALLERS = {
    "plain": [],
    "all signals blocked": caller("-b", "all"),
    "hidden signals blocked": caller("-b", 32, "-b", 33),
    "first real-time signal blocked": caller("-b", 34),
    "the end of children blocked": caller("-b", 17),
    "some blocked": caller("-b", 1, "-b", 15, "-b", 20, "-b", 64),
    "all signals ignored": caller(*each("-i", IGNORABLE)),
    "hidden signals ignored": caller("-i", 32, "-i", 33, "-i", 34),
    "the end of children ignored": caller("-i", 17),
    "as nohup": caller("-i", 1),
    "as a shell's background job": caller("-i", 2, "-i", 3),
    "broken pipes ignored": caller("-i", 13),
    "some blocked, others ignored": caller("-b", 2, "-b", 17, "-b", 33, "-i", 1, "-i", 17, "-i", 18,
                                           "-i", 20, "-i", 64),
    "umask 077": ["sh", "-c", 'umask 077; exec "$@"', "sh"],
    "umask 0": ["sh", "-c", 'umask 0; exec "$@"', "sh"],
    "limits": ["prlimit", "--core=0:0", "--nofile=80:100", "--fsize=1000000:2000000",
               "--cpu=100:200",
               "--stack=1000000:2000000", "--memlock=1000:1000", "--sigpending=50:60", "--"],
    "nice": ["nice", "-n", "7"],
    "batch": ["chrt", "--batch", "0"],
    "idle disk": ["ionice", "-c", "3"],
    "one processor": ["taskset", "-c", "0"],
    "out of memory score": ["choom", "-n", "500", "--"],
    "personality": ["setarch", "--addr-no-randomize"],
    "no new privileges": ["setpriv", "--no-new-privs"],
    "root directory": ["env", "-C", "/"],
    "removed directory": ["sh", "-c", 'd=$(mktemp -d) && cd "$d" && rmdir "$d" && exec "$@"', "sh"],
}


@forms
@waiting
@pytest.mark.parametrize("before", CALLERS.values(), ids=CALLERS.keys())
def test_the_command_starts_as_without_us(compare, before, form, waits):
    compare(form, waits, before)


def test_the_comparison_can_fail(compare):
    """A signal that the caller has not blocked, a umask, a limit: each would be visible."""
    plain = compare((), False, CALLERS["plain"])
    for name, key in [("hidden signals blocked", "SigBlk"), ("hidden signals ignored", "SigIgn"),
                      ("umask 077", "Umask"),
                      ("limits", "limit 7"), ("nice", "nice"), ("batch", "scheduler"),
                      ("one processor", "processors"),
                      ("idle disk", "disk priority"), ("personality", "personality"),
                      ("root directory", "working directory"),
                      ("out of memory score", "/proc/self/oom_score_adj")]:
        assert compare((), False, CALLERS[name])[key] != plain[key]


@pytest.mark.root
@forms
@pytest.mark.parametrize("before", [["chrt", "--fifo", "1"], ["nice", "-n", "-5"],
                                    ["setpriv", "--groups=1,2,3"],
                                    ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=+chown",
                                     "--ambient-caps=+chown"]],
                         ids=["real-time", "urgent", "groups", "capabilities"])
def test_what_only_root_can_set(compare, before, form):
    compare(form, False, before)


@forms
def test_a_pending_signal_of_the_caller(start, lock, form):
    """
    With -F it is the command's, which is the same process; otherwise it was sent to me-only and is
    passed on.
    """
    p = start(*caller("-p", 15), ME_ONLY, *form, lock, sys.executable, "-c",
              "import signal; print(int(signal.sigwait([15])))")
    assert (p.communicate(timeout=DEADLINE)[0], p.returncode) == (b"15\n", 0)


@forms
@waiting
def test_process_group_session_and_terminal(compare, form, waits):
    """As the foreground job of a terminal."""
    leader, terminal = os.openpty()
    try:
        usual = compare(form, waits, caller("-t"), start_new_session=True, stdin=terminal,
                        stdout=terminal, stderr=terminal)
        assert usual["process group"] == usual["session"] == usual["foreground group"] == ["caller"]
        assert usual["terminal"] != ["0"]
    finally:
        os.close(terminal)
        os.close(leader)


@forms
def test_own_process_group_without_terminal(compare, form):
    usual = compare(form, False, [], start_new_session=True)
    assert (usual["process group"], usual["terminal"]) == (["caller"], ["0"])


# --- environment and arguments ---

def environment(stdout):
    return stdout.split(b"\0")[:-1]


@forms
def test_the_environment_is_the_callers_and_one_variable(call, run, lock, form):
    env = {**os.environb, b"WITH NEWLINE": b"a\nb", b"EMPTY": b"", b"BYTES": bytes(range(1, 256))}
    usual = environment(call("env", "-0", env=env).stdout)
    found = environment(run(*form, lock, "env", "-0", env=env).stdout)
    assert sorted(found) == sorted(usual + [b"ME_ONLY_LOCK=" + lock.encode()])


@forms
def test_an_empty_environment_gets_one_variable(call, lock, form):
    r = call("env", "-i", ME_ONLY, *form, lock, "/usr/bin/env", "-0")
    assert environment(r.stdout) == [b"ME_ONLY_LOCK=" + lock.encode()]


@forms
def test_the_variable_is_the_lock_as_given_and_there_once(run, lock, form):
    for given in (lock.encode(), b"host:" + lock.encode(), lock.encode() + b"\n\xff"):
        found = environment(run(*form, given, "env", "-0",
                                env={**os.environ, "ME_ONLY_LOCK": "another"}).stdout)
        assert [v for v in found if v.startswith(b"ME_ONLY_LOCK=")] == [b"ME_ONLY_LOCK=" + given]


@forms
def test_arguments_reach_the_command_untouched(run, lock, form):
    arguments = [b"", b" ", b"a b", b"--help", b"-F", b"--", b"-w", b"\n", b"*",
                 bytes(range(1, 256)), b"x" * 100_000]
    r = run(*form, lock, "printf", "%s\\0", *arguments)
    assert r.stdout.split(b"\0")[:-1] == arguments


@forms
def test_the_commands_name_is_as_given(run, lock, tmp_path, form):
    os.symlink("/bin/sh", tmp_path / "other-name")
    env = {**os.environ, "PATH": str(tmp_path)}
    assert run(*form, lock, "other-name", "-c", "echo $0", env=env).stdout == b"other-name\n"
    assert run(*form, lock, "./other-name", "-c", "echo $0",
               cwd=tmp_path).stdout == b"./other-name\n"


@forms
def test_standard_input_is_not_read_ahead(start, lock, form):
    """What the command leaves unread stays for the next reader."""
    reading, writing = os.pipe()
    p = start(ME_ONLY, *form, lock, "sh", "-c", "read line; echo $line", stdin=reading)
    os.write(writing, b"first\nsecond\n")
    assert p.communicate(timeout=DEADLINE)[0] == b"first\n"
    assert subprocess.run(["head", "-n", "1"], stdin=reading, stdout=subprocess.PIPE, check=True,
                          timeout=DEADLINE).stdout == b"second\n"
    os.close(reading)
    os.close(writing)
