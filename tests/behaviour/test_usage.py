"""
Options: what they mean, what is refused before any lock is taken, and the message when the lock is
held.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from conftest import DEADLINE, ME_ONLY, address, forms, is_bound, process_state, refusal, release, \
    user, wait_for

OPTIONS = ["--wait", "--timeout", "--nonblock", "--nb", "--exclusive", "--no-fork",
           "--close", "--conflict-exit-code", "--exit-base",
           "--quiet", "--verbose",
           "--shared", "--slots", "--queue", "--replace", "--kill-after", "--ttl", "--hold-for",
           "--complain-after", "--held", "--who", "--list", "--json", "--help",
           "--version"]
LETTERS = ["-w", "-n", "-x", "-e", "-s", "-j", "-k", "-F", "-o", "-E", "-q", "-v", "-h", "-V"]

# What makes no sense, without LOCK and COMMAND after it.
WRONG_OPTIONS = [
    ["-Z"], ["--unknown"], ["-qZ"], ["---"], ["-é"],
    ["--wai=1"], ["--HELP"], ["-W", "1"], ["--no-fork=yes"], ["--quiet="], ["--help=x"],
    ["--held="],
    ["-w", ""], ["-w", "x"], ["-w", "-1"], ["-w", "+1"], ["-w", "1y"], ["-w", "1 s"], ["-w", " 1"],
    ["-w", "1 "], ["-w", "nan"],
    ["-w", "0x10"], ["-w", "1e3"], ["-w", "."], ["-w", "1..2"], ["-w", "1.2.3"], ["-w", "5ss"],
    ["-w", "ms"], ["-w", "1h2"], ["-w", "1h 2m"],
    ["-w", "1,5"], ["-w", "INF"], ["-w", "infinit"], ["-w", "1S"], ["-w", "1m\n"], ["-w", "-inf"],
    ["--wait="], ["--wait=x"],
    ["-E", ""], ["-E", "x"], ["-E", "-1"], ["-E", "+1"], ["-E", "256"], ["-E", "1.5"], ["-E", " 1"],
    ["-E", "1 "],
    ["-E", "0x1"], ["-E", "99999999999999999999"], ["-E", "4294967296"],
    ["-E", "18446744073709551617"],
    ["--conflict-exit-code="], ["--conflict-exit-code=256"],
    ["--exit-base="], ["--exit-base=x"], ["--exit-base=-1"], ["--exit-base=251"],
    ["--exit-base=4294967296"],
    ["-n", "-w", "1"], ["-w", "inf", "-n"], ["--nonblock", "--wait=0"], ["-nw1"],
    ["-F", "-o"], ["-oF"], ["--no-fork", "--close"], ["-o", "-q", "-F"],
    ["-k1"], ["-k", "5s"], ["--kill-after=5"], ["--replace", "-k", ""], ["--replace", "-k", "x"],
    ["--replace", "--kill-after=-1"],
    ["--replace", "-n"], ["--replace", "-w", "0"], ["--replace", "--wait=0ms"], ["--replace=yes"],
    ["--complain-after="],
    ["--complain-after=x"], ["-q", "--complain-after=1h"], ["--json"], ["--json", "--held"],
    ["--who"], ["--list"], ["--who=x"], ["--list=x"], ["--json=x", "--list"],
    ["-s"], ["--shared"], ["-qs"], ["--shared=yes"], ["-s", "-j2"], ["--ttl=10"], ["--hold-for=10"],
    ["--ttl=x"], ["--ttl="],
    ["--ttl=9.9"], ["--ttl=301"], ["--ttl=inf"], ["--ttl=-30"], ["--hold-for="], ["--hold-for=x"],
    ["--hold-for=0"], ["--hold-for=301"],
    ["--hold-for=inf"], ["--ttl", "30s", "-k", "5", "--replace"],
    ["-j", ""], ["-j", "x"], ["-j0"], ["-j", "-1"], ["-j", "+1"], ["-j1025"], ["-j", "1.5"],
    ["-j", " 1"], ["-j", "4294967297"],
    ["-j", "inf"], ["--slots="], ["--slots=0"], ["--slots=1025"],
    ["-w1", "--queue="], ["-w1", "--queue=0"], ["-w1", "--queue=x"], ["-w1", "--queue=-1"],
    ["-w1", "--queue=1025"],
    ["-w1", "--queue=inf"], ["--queue=1"], ["-n", "--queue=1"], ["-w0", "--queue=1"],
    ["-w", "0", "-j2", "--queue", "1"],
    ["--replace", "-j2"], ["-j", "1024", "--replace"], ["--replace", "--slots=2", "-w", "1"],
    ["-u"], ["-nu"], ["--unlock"], ["-c"], ["-c", "true"], ["--command", "true"], ["--exclusive=1"],
    ["--nb=1"], ["-xj2"], ["--timeout"], ["--timeout=x"], ["-n", "--timeout=1"], ["--e"],
]

# Command lines that end too early.
INCOMPLETE = [[], ["--"], ["-q"], ["-F"], ["-w"], ["-q", "-w"], ["--wait"], ["-E"], ["--exit-base"],
              ["-w", "1"],
              ["LOCK"], ["--", "LOCK"], ["-w", "1", "LOCK"], ["-q", "--", "LOCK"], ["--held"],
              ["--who"], ["--who", "--json"],
              ["--json"], ["-s"], ["-j"], ["-j", "2"], ["-j2", "LOCK"], ["--queue"],
              ["-w", "1", "--queue"],
              ["-w", "1", "--queue", "2"], ["file:"], ["file:LOCK"], ["--replace"],
              ["--replace", "-k"], ["--replace", "LOCK"], ["--complain-after"],
              ["--ttl"], ["--ttl", "30"], ["--ttl", "30", "etcd:LOCK"], ["--hold-for"],
              ["--hold-for=30", "etcd:LOCK"], ["etcd:"], ["etcd:LOCK"]]


def assert_usage_error(r, status=2):
    assert (r.returncode, r.stdout) == (status, b""), r
    assert re.fullmatch(r"me-only: [^\n]+; try 'me-only --help'\n", r.stderr.decode()), r.stderr


# --- usage errors ---

@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=lambda words: " ".join(words) or "''")
def test_wrong_options(run, lock, options):
    assert_usage_error(run(*options, lock, "echo", "ran"))


@pytest.mark.parametrize("words", INCOMPLETE, ids=lambda words: " ".join(words) or "nothing")
def test_incomplete_command_lines(run, words):
    assert_usage_error(run(*words))


def test_nothing_at_all_not_even_a_name_of_ours(call):
    """execve() with no arguments, as a careless caller may do. Some kernels add an empty one."""
    script = ("import ctypes, sys; none = (ctypes.c_char_p * 1)(None); "
              "ctypes.CDLL(None).execve(sys.argv[1].encode(), none, none)")
    assert_usage_error(call(sys.executable, "-c", script, ME_ONLY))


def test_the_message_says_what_is_wrong(run, lock):
    for options, word in [(["--bogus"], "--bogus"), (["-qZ"], "Z"),
                          (["-w", "5parsecs"], "5parsecs"), (["-E", "300"], "300"),
                          (["--exit-base=300"], "300"), (["-n", "-w", "1"], "-n"),
                          (["-n", "-w", "1"], "-w"),
                          (["-F", "-o"], "-F"), (["-F", "-o"], "-o"), (["-k", "1"], "--replace"),
                          (["--replace", "-n"], "-n"),
                          (["-q", "--complain-after=1"], "-q"), (["--complain-after=soon"], "soon"),
                          (["--json"], "--who"),
                          (["--list"], "--list"), (["--who"], "--who"), (["-s"], "-s"),
                          (["-s"], "file:PATH"), (["-j0"], "'0'"),
                          (["-j9999"], "from 1 to 1024"), (["--queue=1"], "-w"),
                          (["--queue=0", "-w1"], "'0'"),
                          (["--replace", "-j2"], "-j"), (["--replace", "-j2"], "--replace"),
                          (["-s"], "etcd:NAME"),
                          (["-k", "1"], "etcd:NAME"), (["--ttl=30"], "etcd:NAME"),
                          (["--hold-for=30"], "etcd:NAME"),
                          (["--ttl=soon"], "soon"), (["--ttl=1h"], "from 10s to 300s"),
                          (["--hold-for=1h"], "at most 300s")]:
        assert word in run(*options, lock, "true").stderr.decode()


@pytest.mark.parametrize("options, about", [
    (["-w", "x"], "-w"), (["-qwx"], "-w"), (["--wait=x"], "--wait"),
    (["--timeout", "x"], "--timeout"),
    (["-w"], "-w"), (["--replace", "-k", "x"], "-k"), (["--kill-after=1y"], "--kill-after"),
    (["-E", "256"], "-E"), (["-nE256"], "-E"), (["--conflict-exit-code="], "--conflict-exit-code"),
    (["--exit-base=251"], "--exit-base"), (["-j0"], "-j"), (["--slots=x"], "--slots"),
    (["--queue=0"], "--queue"), (["--ttl=9"], "--ttl"), (["--hold-for=1h"], "--hold-for"),
    (["--complain-after=soon"], "--complain-after"), (["--quiet=yes"], "--quiet"),
    (["--bogus=1"], "--bogus"), (["-qZv"], "-Z"), (["-é"], "-é"), (["-u"], "-u"),
    (["--unlock"], "--unlock"), (["-c", "true"], "-c")], ids=lambda o: " ".join(o)
    if isinstance(o, list) else "")
def test_a_usage_error_names_its_option(run, lock, options, about):
    words = [lock, "true"] if options != ["-w"] else []
    r = run(*options, *words)
    assert_usage_error(r)
    assert r.stderr.decode().startswith(f"me-only: {about}: ")


@pytest.mark.parametrize("option, meant", [
    ("--exlusive", "--exclusive"), ("--wiat", "--wait"), ("--wiat=5", "--wait"),
    ("--no-frok", "--no-fork"), ("--Quiet", "--quiet"), ("--time", "--timeout"),
    ("--killafter=5", "--kill-after"), ("-wait", "--wait"), ("-verbose", "--verbose")])
def test_a_typing_error_is_answered_by_a_guess(run, lock, option, meant):
    r = run(option, lock, "true")
    assert_usage_error(r)
    assert f"did you mean {meant}?" in r.stderr.decode()


def test_no_guess_where_nothing_is_alike(run, lock):
    for option in ("--bogus", "--unknown", "--x", "---", "-Z"):
        assert b"did you mean" not in run(option, lock, "true").stderr


# --- as users of flock type ---

@pytest.fixture(params=["", "host:", "file:"], ids=["name", "host", "file"])
def any_lock(request, lock, tmp_path):
    return f"file:{tmp_path}/lock" if request.param == "file:" else request.param + lock


@pytest.mark.parametrize("options", [["-x"], ["-e"], ["--exclusive"], ["-xn"], ["-en"], ["--nb"],
                                     ["-x", "--nb"], ["--timeout=5"], ["--timeout", "5s"],
                                     ["-xw", "5"], ["-xF"], ["-eo"], ["-x", "-E", "9"],
                                     ["-s", "-x"], ["-x", "-x"], ["-x", "--replace"]], ids=" ".join)
def test_options_of_flock(run, any_lock, options):
    r = run(*options, any_lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


def test_options_of_flock_against_a_holder(hold, run, lock):
    hold(lock)
    for options in (["-x"], ["-xn"], ["--nb"], ["--exclusive"], ["-ew", "0"]):
        assert "held by" in refusal(run, *options, lock)
    assert "gave up after 10ms: held by" in refusal(run, "--timeout=0.01", lock)


def test_exclusive_is_not_shared(hold, run, tmp_path):
    lock = f"file:{tmp_path}/lock"
    hold(lock, "-s")
    assert run("-s", lock, "true").returncode == 0
    assert run("-x", lock, "true").returncode == 4
    assert run("-s", "-x", lock, "true").returncode == 4, "the last one counts"
    assert run("-x", "-s", lock, "true").returncode == 0


def test_version_and_help_by_flocks_letters(run):
    assert run("-V").stdout == run("--version").stdout != b""
    assert run("-xV").returncode == 0
    assert run("-h").returncode == 0


@pytest.mark.parametrize("option", ["-c", "--command"])
@pytest.mark.parametrize("form", [[], ["-F"], ["-o"], ["-w", "5"], ["-xn"], ["--"]], ids=" ".join)
def test_a_command_line_for_the_shell(run, any_lock, form, option):
    r = run(*form, any_lock, option, "false || echo $# $ME_ONLY_LOCK; exit 7")
    assert (r.returncode, r.stdout, r.stderr) == (7, f"0 {any_lock}\n".encode(), b"")


def test_a_command_line_for_the_shell_is_run_under_the_lock(run, lock):
    line = f"{ME_ONLY} --held '{lock}' && echo held; {ME_ONLY} -q '{lock}' true; echo $?"
    assert run(lock, "-c", line).stdout == b"held\n4\n"


def test_the_shell_is_sh_whatever_the_users(run, lock):
    r = run(lock, "-c", "echo $0", env={"SHELL": "/bin/false", "PATH": "/nowhere"})
    assert (r.returncode, r.stdout) == (0, b"/bin/sh\n")


@pytest.mark.parametrize("words", [["-c"], ["--command"], ["-c", "true", "true"],
                                   ["--command=true"], ["-ctrue"]], ids=" ".join)
def test_one_command_line_follows(run, lock, words):
    r = run(lock, *words)
    assert_usage_error(r)
    assert r.stderr.decode().startswith("me-only: " + words[0].split("=")[0] + ": ")


HELD_LINE = 'me-only --held LOCK || exec me-only LOCK "$0" "$@"'


@pytest.mark.parametrize("words", [["-u", "9"], ["--unlock", "9"], ["-n", "9"], ["9"],
                                   ["-x", "200"], ["-s", "9"], ["-w", "10", "9"],
                                   ["-xnE", "7", "9"], ["-u", "LOCK"], ["--nb", "9"], ["--", "9"]], ids=" ".join)
def test_a_descriptor_is_refused_with_the_line_instead(call, words):
    r = call("sh", "-c", 'exec 9>/dev/null; exec "$@"', "sh", ME_ONLY, *words)
    assert_usage_error(r)
    assert HELD_LINE in r.stderr.decode()


@pytest.mark.parametrize("words", [["-w", "5", "CMD"], ["-n", "CMD"], ["--wait=5", "CMD"],
                                   ["--held"], ["--json"], ["-x"], ["--help"], ["--bogus", "CMD"],
                                   ["-"]], ids=" ".join)
def test_options_behind_the_lock(run, any_lock, words, tmp_path):
    r = run(any_lock, *["true" if w == "CMD" else w for w in words])
    assert_usage_error(r)
    option = words[0].split("=")[0]
    assert r.stderr.decode().startswith(f"me-only: {option}: options go before LOCK")
    assert os.listdir(tmp_path) == [], "no lock was taken"


def test_options_behind_the_lock_of_a_question(run, lock):
    for question in ("--who", "--held"):
        r = run(question, lock, "--json")
        assert_usage_error(r)
        assert b"--json: options go before LOCK" in r.stderr


def test_two_dashes_behind_the_lock_are_passed_over(run, any_lock, tmp_path):
    assert run(any_lock, "--", "echo", "--", "-x").stdout == b"-- -x\n"
    (tmp_path / "-c").write_text("#!/bin/sh\necho ran $1\n")
    (tmp_path / "-c").chmod(0o755)
    r = run(any_lock, "--", "-c", "x", env={**os.environ, "PATH": f"{tmp_path}:/bin:/usr/bin"})
    assert r.stdout == b"ran x\n"
    assert_usage_error(run(any_lock, "--"))


@forms
def test_one_word_with_blanks_gets_a_hint(run, lock, form):
    for word in ("echo hi", "/bin/sh -x", " echo\thi", "cd / && ls", "sh -c 'a\nb'",
                 "x" * 300 + " y"):
        r = run(*form, lock, word)
        assert (r.returncode, r.stdout) == (1, b"")
        assert b"sh -c" in r.stderr.split(b": ", 2)[2] and r.stderr.count(b"\n") == 1
    for word in ("me-only-no-such", "/nowhere/at all"):
        assert run(*form, lock, word).stderr.decode() == f"me-only: {word}: not found\n"


@pytest.mark.parametrize("name, said", [("/x/LOCK", True), ("LOCK/x", True), ("./LOCK", True),
                                        ("LOCK.lock", True), ("LOCK.pid", True),
                                        ("host:/LOCK", True),
                                        ("LOCK", False), ("host:LOCK", False), (".pid", False)])
def test_verbose_says_that_a_name_is_no_file(run, lock, name, said):
    text = run("-v", name.replace("LOCK", lock.replace("/", "")), "true").stderr.decode()
    assert (": a name of this host, no file" in text.splitlines()[1]) == said
    assert text.count("no file") == said


@forms
def test_only_verbose_says_so(run, lock, tmp_path, form):
    assert "no file" in run("-v", *form, lock, "true").stderr.decode()
    assert "no file" not in run("-v", *form, f"file:{tmp_path}/lock", "true").stderr.decode()
    assert run(*form, lock, "true").stderr == b""


@pytest.mark.parametrize("duration", ["10min", "1h30m", "infinity", "5sec", "2days", "1.5hr",
                                      "1day12hours", "90seconds", "1m30s", "250msec"])
def test_durations_as_others_write_them(run, lock, duration):
    for options in (["-w", duration], ["--timeout=" + duration], ["--complain-after", duration],
                    ["--replace", "-k", duration]):
        assert run(*options, lock, "echo", "ran").stdout == b"ran\n", options


def test_a_lock_on_a_file_has_no_slots(run, tmp_path):
    for options in (["-j2"], ["-j", "1"], ["--slots=2"], ["-w1", "-j2", "--queue=1"],
                    ["-s", "-j2"]):
        r = run(*options, f"file:{tmp_path}/lock", "echo", "ran")
        assert_usage_error(r)
        assert (b"-j is for host and etcd locks: write NAME, host:NAME or etcd:NAME "
                b"instead of 'file:") in r.stderr
    assert os.listdir(tmp_path) == []


# --- what is only for etcd locks, and what is incompatible with them ---

# Options, the rest of the line, and the message. LOCK stands for a lock that is not etcd's.
WRONG_FOR_A_LOCK = [
    (["--ttl=30"], ["LOCK"],
     "--ttl is for fleet locks, such as etcd:NAME, not for 'LOCK'"),
    (["--hold-for=30"], ["LOCK"],
     "--hold-for is for fleet locks, such as etcd:NAME, not for 'LOCK'"),
    (["-k", "1"], ["LOCK"],
     "-k is for --replace, and for locks that can be lost, such as etcd:NAME, not for 'LOCK'"),
    (["--kill-after=0", "-w", "1"], ["LOCK"],
     "-k is for --replace, and for locks that can be lost, such as etcd:NAME, not for 'LOCK'"),
    (["--ttl=30", "-k5", "--replace"], ["LOCK"],
     "--ttl is for fleet locks, such as etcd:NAME, not for 'LOCK'"),
]
WRONG_FOR_ETCD = [
    (["-F"],
     "-F is not for 'etcd:x': such a lock has to be renewed, and the command ended if that fails, "
     "so me-only has to stay"),
    (["-F", "-w", "inf", "--ttl=30"], "-F is not for 'etcd:x': "),
    (["--replace"],
     "--replace is not for 'etcd:x': the holder may be on another host; end it there (--who names "
     "host and pid)"),
    (["--replace", "-k", "1"], "--replace is not for 'etcd:x': "),
    (["-k", "15.1"],
     "--kill-after is more than half of --ttl for 'etcd:x': too little time to run would be left"),
    (["-k", "5.1", "--ttl=10"], "--kill-after is more than half of --ttl for 'etcd:x': "),
    (["-k", "inf", "--ttl=300"], "--kill-after is more than half of --ttl for 'etcd:x': "),
    (["--ttl=9"], "--ttl: the duration '9' is not from 10s to 300s"),
    (["--ttl=5.1m"], "--ttl: the duration '5.1m' is not from 10s to 300s"),
    (["--hold-for=0"], "--hold-for: the duration '0' is not more than 0 and at most 300s"),
    (["--hold-for=301"], "--hold-for: the duration '301' is not more than 0 and at most 300s"),
    (["-s", "-j2"], "-s and -j contradict each other: leave one out"),
    (["--queue=1"], "--queue is for those who wait: give -w, too"),
]


@pytest.mark.parametrize("kind", ["", "host:", "file:/nowhere/"])
@pytest.mark.parametrize("options, rest, said", WRONG_FOR_A_LOCK, ids=lambda o: " ".join(o)
                         if isinstance(o, list) else "")
def test_what_is_for_locks_of_etcd_only(run, lock, kind, options, rest, said):
    name = kind + lock
    r = run(*options, *[name if word == "LOCK" else word for word in rest], "echo", "ran")
    assert_usage_error(r)
    assert r.stderr.decode().startswith("me-only: " + said.replace("LOCK", name))
    assert_usage_error(run("--exit-base=90", *options, name, "echo", "ran"), 92)


@pytest.fixture
def nowhere(tmp_path):
    """An environment in which no helper can be found, and no cluster reached."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # and does not listen
        yield {**os.environ, "ETCDCTL_ENDPOINTS": "127.0.0.1:%d" % s.getsockname()[1],
               "ME_ONLY_EXEC_PATH": str(tmp_path)}


@pytest.mark.parametrize("options, said", WRONG_FOR_ETCD, ids=lambda o: " ".join(o)
                         if isinstance(o, list) else "")
def test_what_is_not_for_locks_of_etcd(run, nowhere, options, said):
    """This is found before looking for a helper."""
    r = run(*options, "etcd:x", "echo", "ran", env=nowhere)
    assert_usage_error(r)
    assert r.stderr.decode().startswith("me-only: " + said)
    assert_usage_error(run("--exit-base=90", *options, "etcd:x", "echo", "ran", env=nowhere), 92)


@pytest.mark.parametrize("options", [[], ["-k", "15"], ["-k0"], ["--ttl=10", "-k5"],
                                     ["--ttl=5m", "-k150"], ["--hold-for=300"], ["-s"], ["-j1024"],
                                     ["-w1", "--queue=2"], ["-o"], ["-n"], ["--complain-after=1h"],
                                     ["-q"]], ids=" ".join)
def test_what_makes_sense_for_locks_of_etcd(run, nowhere, tmp_path, options):
    """It gets as far as the helper, which does not exist; nothing is run."""
    r = run(*options, "etcd:x", "echo", "ran", env=nowhere)
    assert (r.returncode, r.stdout) == (3, b"")
    assert r.stderr.decode() == \
        f"me-only: {tmp_path}/etcd: the helper is missing; it is built with libnghttp2\n"


def test_a_helper_that_others_can_write_is_not_run(run, nowhere, tmp_path):
    (tmp_path / "etcd").write_text("#!/bin/sh\necho ran >&2\n")
    (tmp_path / "etcd").chmod(0o777)
    r = run("etcd:x", "echo", "ran", env=nowhere)
    assert (r.returncode, r.stdout) == (3, b"")
    assert r.stderr.decode() == \
        (f"me-only: {tmp_path}/etcd: refusing to run the helper: it or its directory is writable by "
         f"others\n")


def test_a_helper_that_ends_has_not_given_the_lock(run, nowhere, tmp_path):
    for program, status in (("true", 0), ("false", 1)):
        shutil.copy(shutil.which(program), tmp_path / "etcd")
        r = run("etcd:x", "echo", "ran", env=nowhere)
        assert (r.returncode, r.stdout) == (3, b"")
        assert r.stderr.decode() == \
            f"me-only: etcd:x: the helper exited with status {status}\n"


@forms
def test_usage_errors_come_before_the_lock(run, hold, lock, form):
    """
    A wrong command line is 2 even if the lock is held: it would also be wrong at another time.
    """
    hold(lock)
    assert_usage_error(run(*form, lock))
    assert_usage_error(run(*form, "--bogus", lock, "true"))
    assert_usage_error(run(*form, "--exit-base=100", "-n", "-w", "1", lock, "true"), 102)


@pytest.mark.static
@pytest.mark.parametrize("words", [["-n", "-w", "1", "LOCK", "true"], ["-F", "-o", "LOCK", "true"], ["-w", "x", "LOCK", "true"],
                                   ["LOCK"], ["", "true"], ["etdc:x", "true"], ["--held", "LOCK", "true"], ["--who", "LOCK", "true"], ["--list", "LOCK"],
                                   ["-s", "LOCK", "true"], ["-j0", "LOCK", "true"], ["-j2", "file:/lock", "true"], ["file:", "true"],
                                   ["--queue=1", "LOCK", "true"], ["--replace", "-j2", "LOCK", "true"],
                                   ["--replace", "-n", "LOCK", "true"], ["-k", "1", "LOCK", "true"],
                                   ["--help"], ["-h"],
                                   ["--ttl=30", "LOCK", "true"], ["--hold-for=30", "LOCK", "true"], ["-F", "etcd:x", "true"],
                                   ["--replace", "etcd:x", "true"], ["-k", "20", "etcd:x", "true"], ["-s", "-j2", "etcd:x", "true"],
                                   ["--ttl=9", "etcd:x", "true"], ["--hold-for=0", "etcd:x", "true"], ["etcd:", "true"], ["etcd:x"],
                                   ["--held", "etcd:x", "true"], ["--who", "etcd:x", "true"], ["--list", "etcd:x", "true"],
                                   ["-u", "9"], ["-n", "9"], ["LOCK", "-w", "5", "true"], ["LOCK", "-c"], ["LOCK", "--"],
                                   ["etcd:x", "-n", "true"], ["file:/lock", "-c", "a", "b"],
                                   ["--version"]], ids=" ".join)
def test_no_socket_is_made_for_a_wrong_command_line(call, lock, tmp_path, words):
    trace = tmp_path / "trace"
    call("strace", "-o", trace, "-e", "trace=network,clone,fork,vfork", ME_ONLY,
         *[lock if w == "LOCK" else w for w in words])
    assert re.fullmatch(r"\+\+\+ exited with [02] \+\+\+\n", trace.read_text())


# --- where options end ---

def test_everything_after_the_lock_is_the_commands(run, lock):
    words = ["-w", "10", "--help", "--", "-F", "-o", "--version", "-E", "-c"]
    assert run(lock, "printf", "%s\n", *words).stdout.decode().split() == words
    assert run("--", lock, "printf", "%s\n", *words).stdout.decode().split() == words
    assert run("-q", "--", lock, "echo", "--").stdout == b"--\n"


def test_the_argument_of_wait_is_required(hold, run, lock):
    """-w 10 LOCK COMMAND never takes "10" for the lock."""
    assert run("-w", "10", lock, "printenv", "ME_ONLY_LOCK").stdout == lock.encode() + b"\n"
    assert run("--wait", "10", lock, "printenv", "ME_ONLY_LOCK").stdout == lock.encode() + b"\n"
    assert_usage_error(run("-w", lock, "10", "true"))


def test_a_dash_alone_is_a_name(run):
    assert run("-w", "60", "-", "printenv", "ME_ONLY_LOCK").stdout == b"-\n"


@pytest.mark.parametrize("options", [
    ["-n"], ["--nonblock"], ["-q"], ["--quiet"], ["-F"], ["--no-fork"], ["-o"], ["--close"],
    ["-nq"], ["-qF"], ["-qo"],
    ["-w0"], ["-w", "0"], ["-w1"], ["-w", "0.5"], ["-w", ".5"], ["-w", "5."], ["-w1ms"],
    ["-w", "1m"], ["-w", "2h"],
    ["-w", "3d"], ["-w", "0.0000000000000000000000001"],
    ["-w", "inf"], ["-winf"], ["--wait=inf"], ["--wait", "inf"],
    ["--wait=99999999999999999999999d"], ["-qw1"], ["-Fw1"],
    ["-w", "00001"], ["-w", "1", "-w", "2"], ["-q", "-q"], ["-F", "-F"],
    ["-E0"], ["-E", "0"], ["-E255"], ["-E", "255"], ["--conflict-exit-code=9"],
    ["--conflict-exit-code", "9"], ["-E", "007"],
    ["--replace"], ["--replace", "-k", "1"], ["--replace", "-k0"], ["-k", "inf", "--replace"],
    ["--kill-after=5s", "--replace"],
    ["--replace", "-w", "1"], ["--replace", "-F"], ["--replace", "-o", "-q"],
    ["--complain-after=1h"], ["--complain-after", "inf"],
    ["-j1"], ["-j", "1"], ["-j1024"], ["-j", "04"], ["--slots=2"], ["--slots", "2"], ["-qj2"],
    ["-j2", "-F"], ["-oj2"],
    ["-w1", "-j2"], ["-w", "1", "--queue=1"], ["-w", "inf", "--queue", "1024"],
    ["--queue=1", "-w1", "-j2"], ["-Fw1", "--queue=1"],
    ["--replace", "-j1"], ["--replace", "--queue=1"], ["-j2", "-j4"],
    ["-j2", "--complain-after=1h"],
    ["--exit-base=0"], ["--exit-base", "0"], ["--exit-base=250"], ["-nqFE9"], ["--"]], ids=" ".join)
def test_options_that_make_sense(run, lock, options):
    r = run(*options, lock, "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


@pytest.mark.parametrize("options", [
    ["-n"], ["-q"], ["-F"], ["-o"], ["-w0"], ["-w1"], ["-winf"], ["-E9"], ["--exit-base=100"],
    ["--replace"], ["--replace", "-k1"],
    ["--complain-after=1h"], ["-w1", "--queue=1"], ["-s"], ["--shared"], ["-sn"], ["-sF"], ["-so"],
    ["-s", "-w1"], ["-s", "-winf", "--queue=2"],
    ["-s", "--replace"], ["-qsE9"]], ids=" ".join)
def test_options_that_make_sense_for_a_lock_on_a_file(run, tmp_path, options):
    r = run(*options, f"file:{tmp_path}/lock", "echo", "ran")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")
    assert (tmp_path / "lock").read_bytes() == b""


# --- help and version ---

def test_help(run):
    r = run("--help")
    assert (r.returncode, r.stderr) == (0, b"")
    text = r.stdout.decode()
    for word in OPTIONS + LETTERS:
        assert re.search(rf"(^|\s){re.escape(word)}([\s,=]|$)", text, re.MULTILINE), word
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) == set(OPTIONS)
    assert max(map(len, text.splitlines())) <= 80


def test_short_help(run):
    """It fits a terminal of 24 lines and leaves room for the prompt."""
    r = run("-h")
    assert (r.returncode, r.stderr) == (0, b"")
    lines = r.stdout.decode().splitlines()
    assert len(lines) <= 23 and max(map(len, lines)) <= 80
    assert lines[0] == "Usage: me-only [OPTION]... LOCK COMMAND [ARGUMENT]..."
    shown = [line for line in lines if line.startswith("  ")]
    everything = set(run("--help").stdout.decode().splitlines())
    assert len(shown) >= 8 and set(shown) < everything, "the same rows"
    text = "\n".join(lines)
    for word in ("file:PATH", "etcd:NAME", "--wait=DURATION", "--quiet", "--who", "--help"):
        assert word in text
    assert re.findall(r"\b([1-5]) \w", text.split("Exit status:")[1]) == list("12345")


def test_the_last_help_counts(run):
    brief, everything = run("-h").stdout, run("--help").stdout
    assert brief != everything == run("-h", "--help").stdout
    assert brief == run("--help", "-h").stdout == run("-qh").stdout == run("-h", "-v").stdout


def test_version(run):
    r = run("--version")
    assert (r.returncode, r.stderr) == (0, b"")
    assert re.fullmatch(rb"me-only \d+\.\d+\.\d+\n", r.stdout)


def test_help_and_version_need_nothing_else(run, hold, lock):
    hold(lock)
    for option in ("-h", "--help", "--version"):
        assert run(option, lock, "true").returncode == 0
        assert run("-q", option).returncode == 0


def test_help_that_cannot_be_written_fails(run):
    for option in ("-h", "--help", "--version"):
        with open("/dev/full", "wb") as full:
            assert run(option, stdout=full).returncode != 0


# --- held: the status ---

@forms
def test_held_is_4(hold, run, lock, form):
    hold(lock)
    r = run(*form, lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (4, b"")


@forms
@pytest.mark.parametrize("wait", [[], ["-n"], ["-w", "0"], ["-w", "0.01"]], ids=" ".join)
def test_the_conflict_status_can_be_chosen(hold, run, lock, form, wait):
    hold(lock)
    for n in (0, 1, 4, 75, 255):
        assert run(*form, *wait, "-E", str(n), lock, "true").returncode == n
        assert run(*form, *wait, "-E", str(n), "--exit-base=100", lock, "true").returncode == n


def test_exit_base_moves_our_own_statuses(hold, run, lock):
    hold(lock)
    for base in (0, 1, 100, 250):
        assert run(f"--exit-base={base}", lock, "true").returncode == base + 4
        assert run(f"--exit-base={base}", "-w", "0.01", lock, "true").returncode == base + 4
        assert run(f"--exit-base={base}", lock + "/free", "/nowhere/at/all").returncode == base + 1
        assert_usage_error(run(f"--exit-base={base}", "--bogus", lock, "true"), base + 2)


def test_the_conflict_status_is_for_conflicts_alone(run, lock):
    assert run("-E", "9", lock, "/nowhere/at/all").returncode == 1
    assert_usage_error(run("-E", "9", lock))
    assert run("-E", "9", lock, "sh", "-c", "exit 4").returncode == 4


# --- held: the message ---

AGE = r"(\d+ms|\d+(\.\d)?s|\d+m(\d+s)?|\d+h(\d+m)?|\d+d(\d+h)?)"


@pytest.fixture
def sleeper(start, lock):
    """sleeper(OPTION...) holds the lock with the command "sleep 1000"; the result is its pid."""

    def sleeper_(*options):
        p = start(ME_ONLY, *options, lock, "sh", "-c", "echo $$; exec sleep 1000")
        job = int(p.stdout.readline())
        wait_for(lambda: open(f"/proc/{job}/cmdline").read() == "sleep\0001000\0", "the job sleeps")
        return job

    return sleeper_


@pytest.mark.parametrize("form, age", [((), f"for {AGE}"), (("-o",), f"for {AGE}"),
                                       (("-F",), f"for at most {AGE}")],
                         ids=["default", "close", "no-fork"])
def test_the_message_names_lock_pid_user_age_and_command(sleeper, run, lock, form, age):
    pid = sleeper(*form)
    message = refusal(run, lock)
    assert re.fullmatch(rf"me-only: {lock}: held by pid {pid} \({user()}\) {age}: sleep 1000\n",
                        message), message


@pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])
def test_the_age_is_that_of_the_lock_not_of_the_process(start, hold, run, lock, form):
    """The holder has waited before: that time does not count."""
    first = hold(lock)
    p = start(ME_ONLY, *form, "-w", "inf", lock, "sh", "-c", "echo $$; exec sleep 1000")
    wait_for(lambda: age_of(p.pid) > 0.5, "it has waited for a while")
    released = time.monotonic()
    assert release(first) == 0
    assert p.stdout.readline()
    running = time.monotonic()
    wait_for(lambda: time.monotonic() - running > 0.2, "the lock has an age")
    low = time.monotonic() - running
    value, unit = re.search(r" for ([0-9.]+)(ms|s): ", refusal(run, lock)).groups()
    high = time.monotonic() - released
    assert low - 0.1 < float(value) / (1000 if unit == "ms" else 1) < high


def age_of(pid):
    """Seconds since the process was started."""
    with open(f"/proc/{pid}/stat") as f:
        started = int(f.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
    with open("/proc/uptime") as f:
        return float(f.read().split()[0]) - started


@forms
def test_giving_up_says_so(sleeper, run, lock, form):
    pid = sleeper(*form)
    for duration, shown in (("0.3", "300ms"), ("300ms", "300ms"), ("0.05", "50ms")):
        message = refusal(run, "-w", duration, lock)
        assert re.fullmatch(
            rf"me-only: {lock}: gave up after {shown}: held by pid {pid} \({user()}\) [^\n]*: "
            rf"sleep 1000\n",
            message), message


def test_the_lock_is_named_as_given(sleeper, run, lock):
    sleeper()
    assert refusal(run, "host:" + lock).startswith(f"me-only: host:{lock}: held by pid ")


@forms
def test_quiet_says_nothing_when_the_lock_is_held(hold, run, lock, form):
    hold(lock, *form)
    for quiet in (["-q"], ["--quiet"], ["-q", "-w", "0.01"], ["-q", "-n"], ["-q", "-E", "9"]):
        r = run(*quiet, lock, "echo", "ran")
        assert (r.returncode, r.stdout, r.stderr) == (9 if "-E" in quiet else 4, b"", b"")


@pytest.mark.root
def test_quiet_is_quiet_about_root_too(hold, call, public_me_only, lock):
    holder = hold(lock)
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", public_me_only]
    r = call(*other, "-q", lock, "true")
    assert (r.returncode, r.stderr) == (4, b"")
    message = call(*other, lock, "true").stderr.decode()
    assert re.fullmatch(rf"me-only: {lock}: held by pid {holder.job} \(root\) for {AGE}: cat\n",
                        message), message


def test_quiet_is_not_about_other_failures(run, lock):
    assert_usage_error(run("-q", "--bogus", lock, "true"))
    assert run("-q", lock, "/nowhere/at/all").stderr == b"me-only: /nowhere/at/all: not found\n"


def test_without_a_conflict_nothing_is_said(run, lock):
    for options in ([], ["-w", "1"], ["-F"], ["-o"], ["-q"]):
        assert run(*options, lock, "true").stderr == b""


@forms
def test_verbose_says_what_happens_on_lines_of_its_own(run, lock, form):
    r = run("-v", *form, lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (0, b"ran\n")
    lines = r.stderr.decode().splitlines()
    assert lines and all(re.fullmatch(rf"me-only: [^\n]*{lock}: [^\n]+", line) for line in lines), \
        lines


def test_a_holder_that_listens_to_nobody_is_hidden(start, run, lock):
    p = start(sys.executable, "-c", "import socket, sys\n"
              "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(b'\\0me-only:' + "
              "sys.argv[1].encode())\n"
              "print(flush=True); sys.stdin.read()", lock, stdin=subprocess.PIPE)
    assert p.stdout.readline()
    message = refusal(run, lock)
    assert re.match(rf"me-only: {lock}: held by (a hidden process \([^\n]+\)|pid {p.pid} \()",
                    message), message
    assert message.count("\n") == 1


def test_a_holder_that_is_no_me_only_is_named(start, run, lock):
    p = start(sys.executable, "-c", "import socket, sys\n"
              "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.bind(b'\\0me-only:' + "
              "sys.argv[1].encode())\n"
              "s.listen(); print(flush=True); sys.stdin.read()", lock, stdin=subprocess.PIPE)
    assert p.stdout.readline()
    message = refusal(run, lock)
    whom = rf"held by pid {p.pid} \({user()}\)"
    assert re.match(rf"me-only: {lock}: {whom} for at most {AGE}: \S*python3 -c import",
                    message), message


def test_a_stopped_holder_is_named_without_its_help(hold, run, lock):
    holder = hold(lock)
    os.kill(holder.pid, signal.SIGSTOP)
    wait_for(lambda: process_state(holder.pid) == "T", "the holder is stopped")
    message = refusal(run, lock)
    assert re.match(rf"me-only: {lock}: held by pid {holder.job} \({user()}\) for at most {AGE}: ",
                    message), message
    os.kill(holder.pid, signal.SIGCONT)
    assert release(holder) == 0
    assert not is_bound(address(lock))


def test_many_refused_tries_cost_the_holder_nothing_that_lasts(hold, run, lock):
    holder = hold(lock)
    before = len(os.listdir(f"/proc/{holder.pid}/fd"))
    for _ in range(200):
        refusal(run, lock)
    # One more descriptor to watch connections, and two for the keeper that is started after a
    # second.
    wait_for(lambda: len(os.listdir(f"/proc/{holder.pid}/fd")) <= before + 3,
             "the connections of those who left are closed")
    assert release(holder) == 0


TO_RUN = [["-w", "1"], ["-n"], ["-F"], ["-o"], ["-E", "5"], ["--replace"], ["-k", "1"],
          ["--complain-after=1"], ["-s"], ["-j", "2"], ["--queue=1"], ["--ttl=30"],
          ["--hold-for=30"]]


# --who -j N asks about a try with -j N.
@pytest.mark.parametrize("question, options", [
    (question, options) for question in ("--held", "--who", "--list") for options in TO_RUN
    if (question, options[0]) != ("--who", "-j")], ids=lambda v: v if isinstance(v, str) else v[0])
def test_a_question_takes_no_option_that_says_how_to_run(run, lock, question, options):
    r = run(question, *options, *([] if question == "--list" else [lock]))
    assert_usage_error(r)
    assert r.stderr.startswith(b"me-only: --held, --who and --list run nothing: ")


@pytest.mark.parametrize("option", ["-q", "-v"])
def test_an_answer_cannot_be_quiet_or_verbose(run, lock, option):
    assert_usage_error(run("--who", option, lock))
    assert_usage_error(run(option, "--list"))
    assert run("--held", option, lock).returncode == 1


@pytest.mark.parametrize("question", ["--held", "--who", "--list"])
@pytest.mark.parametrize("options", [["--ttl=30"], ["--hold-for=30"], ["-k1"], ["-w1"]],
                         ids=lambda o: o[0])
def test_nor_does_a_question_to_a_cluster(run, nowhere, question, options):
    assert_usage_error(run(question, *options, "etcd:x", env=nowhere))


def test_who_is_for_one_lock_and_list_for_all(run, lock):
    for name in (lock, "host:etcd:x", "file:/x"):
        assert (f"--list is for all locks of this host, or for those of etcd:PREFIX; --who is for "
                f"one: '{name}'").encode() in run("--list", name).stderr
    assert_usage_error(run("--list", "etcd:x", "true"))
    assert_usage_error(run("--list", lock))
    assert_usage_error(run("--who", lock, "true"))
    assert_usage_error(run("--exit-base=100", "--list", lock), 102)
    assert_usage_error(run("--who", "etdc:x"))


def test_quiet_prints_nothing_about_a_holder_that_has_just_let_go(start, lock):
    for _ in range(60):
        crowd = [start(ME_ONLY, "-q", lock, "true") for _ in range(3)]
        for p in crowd:
            _, err = p.communicate(timeout=DEADLINE)
            assert (p.returncode in (0, 4), err) == (True, b"")


@pytest.mark.parametrize("modes", [("--who", "--held"), ("--held", "--who"), ("--list", "--who"),
                                   ("--who", "--list")], ids=" ".join)
def test_two_questions_at_once(run, lock, modes):
    r = run(*modes, lock)
    assert (r.returncode, r.stdout) == (2, b"")
    assert r.stderr.startswith(b"me-only: --held, --who and --list contradict each other: ")
