"""
A script with the line "me-only --held LOCK || exec me-only LOCK $0" at its top never starts itself
again and again: it runs under its lock, or is refused, and the reason is said.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

import pytest

from conftest import ME_ONLY, ROOT, address, forms, is_bound, name_of, wait_for
from test_limits import without_proc

# It counts its starts; the last start that is not a mistake is the second.
SCRIPT = """#!/bin/sh
echo start >>"$STARTS"
[ "$(wc -l <"$STARTS")" -lt 9 ] || exit 99
"$ME_ONLY" --held "$LOCK" || {before} "$ME_ONLY" {options} "$LOCK" "$0" || exit
echo "ran"
"""

OWN = {"exec": "exec", "child": ""}


@pytest.fixture
def folder():
    """A directory that others can enter; what is in it is theirs to open."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="me-only-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def script(folder, call):
    """script(LOCK, OPTIONS) runs such a script: (how often it started, its result)."""

    def script_(lock, options, before="exec", outside=(), me_only=ME_ONLY, **kw):
        path, starts = folder / "script", folder / "starts"
        path.write_text(SCRIPT.format(before=before, options=options))
        path.chmod(0o755)
        starts.touch()
        starts.chmod(0o666)
        env = {**os.environ, "ME_ONLY": me_only, "LOCK": lock, "STARTS": str(starts)}
        r = call(*outside, str(path), env=env, **kw)
        return len(starts.read_text().splitlines()), r

    return script_


@pytest.fixture
def public(folder):
    """A file that others can open."""
    path = folder / "lock"
    path.touch()
    path.chmod(0o644)
    return f"file:{path}"


def assert_refused(lock, starts, r):
    assert (starts, r.returncode, r.stdout) == (2, 4, b""), (starts, r)
    lines = r.stderr.decode().splitlines()
    assert len(lines) == 1 and re.fullmatch(
        rf"me-only: {lock}: this job already holds it, which --held cannot prove [^\n]*: held by pid \d+ [^\n]*", lines[0]), r


def assert_runs_once(starts, r, expected=2):
    assert (starts, r.returncode, r.stdout.splitlines()[0], r.stderr) == (expected, 0, b"ran", b""), (starts, r)


@pytest.mark.parametrize("before", OWN.values(), ids=OWN.keys())
@pytest.mark.parametrize("options", ["-s -F", "-F", "-s -F -w inf", "-F -w inf", "-s -F -q", "-s -F -E 0",
                                     "-s -F --queue=3 -w inf"])
def test_a_file_that_others_can_open(script, public, options, before):
    assert_refused(public, *script(public, options, before))


@pytest.mark.parametrize("options", ["-s -F", "-F"])
def test_where_the_variable_is_lost(script, public, options):
    assert_refused(public, *script(public, options, "exec env -u ME_ONLY_LOCK"))


@pytest.mark.parametrize("options", ["-s", "-s -o", "", "-o", "-s -w inf", "-j3", "-j3 -F", "-j3 -o", "-F"])
def test_what_can_be_proved_runs(script, public, lock, options):
    of_file = "-s" in options or options in ("", "-o")
    assert_runs_once(*script(public if of_file else lock, options))
    if not of_file:
        assert not is_bound(address(lock))


def test_a_file_that_nobody_else_can_open(script, public):
    os.chmod(public[5:], 0o600)
    assert_runs_once(*script(public, "-s -F"))


@forms
def test_a_share_under_a_proved_one_is_not_refused(run, public, form):
    assert run("-s", public, ME_ONLY, *form, "-s", public, "echo", "ran").stdout == b"ran\n"


def test_nor_one_under_flock(call, public):
    assert call("flock", "-s", public[5:], ME_ONLY, "-s", "-F", public, "echo", "ran").stdout == b"ran\n"


@pytest.mark.parametrize("options", ["-s", "-s -F"])
def test_with_flock_outside(script, public, options):
    """flock(1) proves nothing; what me-only took under it does."""
    starts, r = script(public, options, outside=("flock", "-s", public[5:]))
    assert_runs_once(starts, r) if options == "-s" else assert_refused(public, starts, r)


@pytest.mark.root
@pytest.mark.parametrize("options", ["-s", "-s -F"])
def test_below_a_strangers_share(script, public, public_me_only, options):
    """The stranger's does not count, ours does."""
    outside = (public_me_only, "-s", public, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    starts, r = script(public, options, outside=outside, me_only=public_me_only)
    if options == "-s":
        assert_runs_once(starts, r)
    else:
        assert (starts, r.returncode) == (1, 4) and b": this job already holds it, " in r.stderr


@pytest.mark.root
@pytest.mark.parametrize("form", ["-j9", "-j9 -F", "-j9 -o"])
def test_below_a_strangers_slot(script, lock, form):
    """As under a set-user-ID program that does not close what it inherits."""
    assert_runs_once(*script(lock, form, outside=("/usr/bin/python3", "-c", HANDED_DOWN, lock)))


# Takes the first slot as another user, becomes root again and then argv[2:].
HANDED_DOWN = """
import os, socket, sys
os.seteuid(4321)
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.bind(b"\\0me-only:" + os.fsencode(sys.argv[1]))
s.listen()
os.seteuid(0)
os.dup2(s.fileno(), 60, inheritable=True)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.root
@pytest.mark.parametrize("options", ["-s", "-s -o", "-s -F"])
def test_a_program_that_this_user_may_run_but_not_read(script, public, public_me_only, options):
    os.chmod(public_me_only, 0o711)
    outside = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert_refused(public, *script(public, options, outside=outside, me_only=public_me_only))


@pytest.mark.root
@pytest.mark.static
@pytest.mark.parametrize("options", ["-s", "-s -o", "-s -F"])
def test_without_proc(script, public, options):
    starts, r = script(public, options, outside=without_proc())
    assert (starts, r.returncode, r.stdout) == (2, 3, b"")
    assert r.stderr.decode() == f"me-only: {public}: cannot tell whether this job has it already: /proc does not show me-only\n"


@pytest.mark.parametrize("kind, options", [(kind, options) for kind in ("host", "file")
                                           for options in ("", "-o", "-F", "-w inf")]
                         + [("host", options) for options in ("-j9", "-j9 -o", "-j9 -F")])
def test_locks_where_all_users_look_the_same(script, lock, public, kind, options):
    """In an unmapped user namespace nobody is trusted, not even oneself. The reason is said."""
    starts, r = script(lock if kind == "host" else public, options, outside=("unshare", "--user"))
    assert (starts, r.returncode, r.stdout) == (2, 4, b"")
    reason = "after -F where others can open the file" if kind == "file" and options == "-F" \
        else "where all users look the same"
    assert f": this job already holds it, which --held cannot prove {reason}: " in r.stderr.decode()


@pytest.mark.parametrize("question", [[], ["-w", "0.01"], ["--who"]], ids=["try", "wait", "who"])
def test_a_holder_where_all_users_look_the_same(hold, call, lock, question):
    hold(lock)
    r = call("unshare", "--user", ME_ONLY, *question, lock, *([] if question == ["--who"] else ["true"]))
    said = (r.stdout or r.stderr).decode().splitlines()[0]
    assert r.returncode == 4 and re.search(r"held by pid \d+ \(\S+, where all users look the same\) for ", said), r


@pytest.mark.parametrize("options", ["-s", "-s -F", "-s -o"])
def test_shares_where_all_users_look_the_same(script, public, options):
    assert_refused(public, *script(public, options, outside=("unshare", "--user")))


# --- however it is started ---

# The line of the manual, and the one that people have.
LINES = {"sh": 'exec "$ME_ONLY" "$LOCK" sh "$0" "$@"', "old": 'exec "$ME_ONLY" "$LOCK" "$0" "$@"'}
lines = pytest.mark.parametrize("line", LINES)


@pytest.fixture
def started(folder, call, lock):
    """started(LINE, SHELL COMMAND) starts x.sh in the folder by that, and returns the result."""

    def started_(line, command, mode=0o755, rest=""):
        (folder / "x.sh").write_text(
            '#!/bin/sh\n"$ME_ONLY" --held "$LOCK" || ' + LINES[line] + '\necho "ran $*"\n' + rest)
        (folder / "x.sh").chmod(mode)
        return call("sh", "-c", command, cwd=folder, env={**os.environ, "ME_ONLY": ME_ONLY, "LOCK": lock})

    return started_


def test_the_manual_has_that_line():
    with open(os.path.join(ROOT, "man", "me-only.1"), encoding="utf-8") as f:
        assert 'me-only --held /tmp/backup || exec me-only /tmp/backup sh "$0" "$@"\n' in f.read()


@pytest.mark.parametrize("mode", [0o755, 0o644], ids=["", "not executable"])
@pytest.mark.parametrize("command", ["sh x.sh 'a b' c", "sh ./x.sh 'a b' c", 'sh "$PWD/x.sh" "a b" c',
                                     "sh <x.sh -s 'a b' c"])
def test_however_it_is_started_it_runs_or_says_why_not(started, command, mode):
    r = started("sh", command, mode)
    if "<" in command:
        assert r.returncode not in (0, 4) and r.stdout == b"" and r.stderr, r
    else:
        assert (r.returncode, r.stdout, r.stderr) == (0, b"ran a b c\n", b"")


@pytest.mark.parametrize("command", ["./x.sh 'a b' c", 'PATH="$PWD:$PATH"; x.sh "a b" c'])
@lines
def test_an_executable_script(started, command, line):
    r = started(line, command)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran a b c\n", b"")


@pytest.mark.parametrize("command, mode, message", [
    ("sh x.sh", 0o755, "x.sh: not found in PATH; for the one in this directory write ./x.sh"),
    ("sh ./x.sh", 0o644, "./x.sh: cannot be run: Permission denied; it is not executable: "
                         "write sh before it, if it is a script")])
def test_the_old_line_says_what_to_write(started, command, mode, message):
    r = started("old", command, mode)
    assert (r.returncode, r.stdout, r.stderr.decode()) == (1, b"", f"me-only: {message}\n")


NOTHING = "has nothing to read: a script that is piped to a shell cannot lock itself"


@pytest.mark.parametrize("command", ["cat x.sh | sh", "cat x.sh | dash", "cat x.sh | /bin/sh",
                                     "cat x.sh | sh -s", "dash <x.sh"])
@lines
def test_a_script_without_a_file_never_runs_nothing_without_a_word(started, command, line):
    r = started(line, command)
    if line == "old":
        shell = next(word for word in command.split() if word.endswith("sh") and word != "x.sh")
        assert (r.returncode, r.stdout, r.stderr.decode()) == (1, b"", f"me-only: {shell}: {NOTHING}\n")
    else:
        assert r.returncode not in (0, 4) and r.stdout == b"" and r.stderr, r


@forms
@pytest.mark.parametrize("more", [b"echo ran", b""])
def test_a_script_from_a_pipe_that_is_still_open(start, lock, form, more):
    """What comes decides, not when it comes."""
    p = start("dash", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
              env={**os.environ, "ME_ONLY": ME_ONLY, "LOCK": lock})
    os.write(p.stdin.fileno(), b'"$ME_ONLY" --held "$LOCK" || exec "$ME_ONLY" '
             + " ".join(form).encode() + b' "$LOCK" "$0"\n')
    wait_for(lambda: name_of(p.pid) == "me-only", "the shell has become me-only")
    assert not is_bound(address(lock))
    out, err = p.communicate(more)
    if more:
        assert (p.returncode, out, err) == (0, b"ran\n", b"")
    else:
        assert (p.returncode, out, err) == (1, b"", f"me-only: dash: {NOTHING}\n".encode())


@forms
@pytest.mark.parametrize("late", ["", 'while "$1" --who "$0" >&2; do :; done;'], ids=["", "once it holds the lock"])
def test_a_shell_that_gets_commands_runs_them(call, lock, form, late):
    r = call("sh", "-c", f"{{ {late} echo 'echo ran'; }} 2>/dev/null | \"$@\"", lock, ME_ONLY, *form, lock, "sh")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")


@forms
def test_a_shell_with_nothing_to_do_succeeds(call, lock, form):
    r = call("sh", "-c", ': | "$@"', "sh", ME_ONLY, *form, lock, "sh")
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b"")


@pytest.mark.parametrize("given", ["/dev/null", "file"])
def test_a_shell_without_a_pipe_is_not_asked_what_it_reads(call, lock, folder, given):
    (folder / "file").touch()
    r = call("sh", "-c", '"$@" <' + given, "sh", ME_ONLY, lock, "sh", cwd=folder)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b"")


def test_a_script_that_becomes_a_shell_with_commands(call, lock, folder):
    (folder / "commands").write_text("echo ran\n")
    r = call("sh", "-c", '/bin/true; exec "$@" <commands', "sh", ME_ONLY, lock, "sh", cwd=folder)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"ran\n", b"")
