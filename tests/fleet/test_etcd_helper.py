"""
me-only does not depend on its helper: one that lies, hangs, dies or does not exist
(src/helper/PROTOCOL.md).
"""
import os
import re
import shlex
import shutil
import signal
import sys

import pytest

from fleet import DEADLINE, BUILD, LATE, ME_ONLY, Ticks, boottime, children_of, environment, is_alive, \
    release, said, wait_for

# A helper as a script: "say" sends a packet, "hear" receives one; BOOTTIME is now, in nanoseconds.
# A helper has to be a binary: this one is Python's, and its first argument, the version of the
# protocol, is the name of the script.
FRAME = """
import ctypes, os, signal, socket, struct, sys, time
os.dup2(os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC), 2)
s = socket.socket(fileno=0)
say = lambda text: s.send(text if isinstance(text, bytes) else text.encode())
hear = lambda: s.recv(65536).decode()
now = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME)
SECOND = 1000000000
def held(seconds, **more):
    say("held\\ntoken 7\\nuntil %d\\nkey k/1" % (now() + seconds * SECOND)
        + "".join("\\n%s %s" % kv for kv in more.items()))
def until(seconds):
    say("until\\nuntil %d\\nat %d" % (now() + seconds * SECOND, now()))
def set_timer(seconds):
    when = now() + seconds * SECOND
    at = struct.pack("@qqqq", 0, 0, when // SECOND, when % SECOND)
    assert ctypes.CDLL(None).timerfd_settime(4, 1, at, None) == 0
def rest():
    while True:
        time.sleep(1000)
{script}
"""


@pytest.fixture
def helper(start, tmp_path, lock):
    """helper(SCRIPT, OPTION..., job=) starts a me-only whose helper is the script."""
    directory = tmp_path / "helpers"
    directory.mkdir(mode=0o755)

    def helper_(script, *options, job=("echo", "ran"), before=(), under=(), **kw):
        shutil.copy(os.path.realpath(sys.executable), directory / "etcd")
        shutil.copy(os.path.join(BUILD, "libexec", "me-only", "list"), directory)
        (directory / "1").write_text(FRAME.replace("{script}", script))
        # BEFORE: what the process that becomes me-only has started. UNDER: a program that runs
        # me-only.
        first = ("bash", "-c", f'{shlex.join(before)} >/dev/null 2>&1 & exec "$@"',
                 "bash") if before else ()
        return start(*first, *under, ME_ONLY, *options, lock, *job, cwd=directory,
                     env=environment(ME_ONLY_EXEC_PATH=str(directory), PYTHONHOME=sys.prefix), **kw)

    return helper_


def ended(p):
    out, err = p.communicate(timeout=DEADLINE)
    return p.returncode, out, err.decode()


REFUSING = {
    "it fails": 'say("failed\\ntext a reason")',
    "it fails without a word": 'say("failed")',
    "it ends": "pass",
    "it ends with a status": "sys.exit(7)",
    "it is killed": "os.kill(os.getpid(), 9)",
    "it closes the socket": "s.close(); os.close(1)\nrest()",
    "it fails with control characters": 'say("failed\\ntext a \\x1b[31m\\x07reason")',
    "it fails at length": 'say("failed\\ntext " + "x" * 4000)',
    "the lock is over already": "held(-5); rest()",
    "the lock has no time": 'say("held\\ntoken 7")\nrest()',
    "the lock was over in the past century": 'say("held\\ntoken 7\\nuntil -1")\nrest()',
}


@pytest.mark.parametrize("script", REFUSING.values(), ids=REFUSING.keys())
def test_nothing_is_run(helper, lock, script):
    p = helper(script)
    status, out, err = ended(p)
    assert out == b"" and status in (3, 5), (status, out, err)
    assert re.fullmatch(rf"me-only: {lock}: [^\n]+\n", err) and "\x1b" not in err \
        and "\x07" not in err, err


def test_its_reason_is_told(helper, lock):
    assert ended(helper(REFUSING["it fails"])) == (3, b"", f"me-only: {lock}: a reason\n")


def test_how_it_has_ended_is_told(helper, lock):
    assert "by signal 9" in ended(helper(REFUSING["it is killed"]))[2]
    assert "with status 7" in ended(helper(REFUSING["it ends with a status"]))[2]


@pytest.mark.parametrize("word", ["busy", "nested"])
@pytest.mark.parametrize("who", ["", "\\npid 12\\nuser mo\\nhost h\\nsince 0\\ncommand c",
                                 "\\npid x\\nsince y\\ntrusted z",
                                 "\\npid -1\\nsince -99999999999999999999",
                                 "\\nother who\\x1b[31m",
                                 "\\npid 99999999999999999999\\nuser \\x1b[31m\\nhost "
                                 "\\x07\\ncommand \\x7f",
                                 "\\n\\n\\n", "\\npid", "\\npid "])
def test_a_holder_of_whom_anything_is_said(helper, lock, word, who):
    status, out, err = ended(helper(f'say("{word}{who}"); rest()'))
    assert (status, out) == (4, b"")
    assert re.fullmatch(rf"me-only: {lock}: [^\n]+\n",
                        err) and not re.search("[\0-\x09\x0b-\x1f\x7f]", err), err


@pytest.mark.parametrize("word", ["busy", "busy\\npid 12\\nuser mo\\ncommand c", "busy\\ntimeout 1",
                                  "nested",
                                  "full\\nwaiters 3"])
@pytest.mark.parametrize("question", ["--held", "--who", "--list"])
def test_a_helper_that_refuses_what_it_was_only_asked(helper, lock, question, word):
    p = helper(f'say("{word}"); rest()', question, job=())
    assert ended(p) == (3, b"", f"me-only: {lock}: the helper gave no valid answer\n")


@pytest.mark.parametrize("noise", ["", "a word that nobody knows", "held-not", "until",
                                   "lost and found", "\\0\\0", "\\n\\n", "x" * 4000, "kept\\nkept",
                                   "yes no"])
def test_what_is_not_understood_is_passed_over(helper, noise):
    p = helper(
        f'say("trying"); say("{noise}" or " "); held(60); hear(); say("{noise}" or " ")\nwhile not '
        f'hear().startswith("done"): pass\nsay("released")')
    assert ended(p) == (0, b"ran\n", "")


@pytest.mark.parametrize("script",
                         ['[say(os.urandom(100).replace(b"\\n", b"x") or b"x") for _ in '
                          'range(1000)]',
                          '[say("waiting\\npid %d" % n) for n in range(1, 1000)]',
                          '[say("note\\ntext n") for _ in range(10)]',
                          '[say("trying") for _ in range(1000)]'],
                         ids=["random", "waiting", "notes", "trying"])
def test_a_helper_that_talks_much(helper, script):
    p = helper(f'{script}; held(60)\nwhile not hear().startswith("done"): pass\nsay("released")',
               "-q", "-w", "inf")
    status, out, _ = ended(p)
    assert (status, out) == (0, b"ran\n")


@pytest.mark.parametrize("options, said_then", [((), "me-only: {}: a note\n"), (("-q",), "")],
                         ids=["plain", "quiet"])
def test_a_note_is_for_people(helper, lock, options, said_then):
    p = helper(
        'say("note\\ntext a note"); held(60)\nwhile not hear().startswith("done"): pass\n'
        'say("released")', *options)
    assert ended(p) == (0, b"ran\n", said_then.format(lock))


# A child of the helper hears me-only, also after me-only has killed the helper.
WITNESS = """
held(60)
if os.fork():
    rest()
heard = []
while not heard or heard[-1]:
    try:
        heard.append(hear().split(chr(10))[0])
    except ConnectionResetError:
        continue
    if heard[-1] in answers:
        say(answers[heard[-1]])
open("new", "w").write(" ".join(heard))
os.rename("new", "heard")
os._exit(0)
"""


@pytest.mark.parametrize("answers, job, status, words", [
    ({"done": "released"}, "true", 0, "job done"),
    ({"job": "lost\ntext gone"}, "sleep 1000", 5, "job ending done")], ids=["in good order", "lost"])
def test_the_end_of_a_command_is_announced_if_me_only_wants_it(
        helper, tmp_path, answers, job, status, words):
    """Otherwise it would release the lock while me-only still ends others."""
    p = helper(f"answers = {answers}{WITNESS}", job=job.split())
    assert ended(p)[0] == status
    heard = tmp_path / "helpers" / "heard"
    wait_for(heard.exists, "it has heard all")
    assert heard.read_text().split() == words.split()


# ---- the deadline ----

@pytest.fixture
def ticks(tmp_path):
    return Ticks(tmp_path / "ticks")


def assert_ended_by(p, ticks, lock, by):
    status, out, err = ended(p)
    assert (status, out) == (5, b""), err
    assert re.search(rf"me-only: {lock}: lost\b[^\n]*\n\Z", err), err
    assert ticks.last() < by + LATE and ticks.living() == set()


@pytest.mark.parametrize("words", [(), ("stubborn", "child", "daemon", "bare")],
                         ids=["plain", "family"])
def test_a_helper_that_falls_silent(helper, lock, ticks, words):
    before = boottime()
    p = helper("held(4); rest()", "-k", "0.5", job=ticks.job(*words))
    ticks.wait_for("job")
    assert_ended_by(p, ticks, lock, before + 4 + 2)


def test_a_time_that_has_passed_is_final(helper, lock, ticks):
    """Whatever the helper sends afterwards."""
    script = 'held(3)\nend = now() + 3 * SECOND\nwhile now() < end: time.sleep(0.001)\n' \
             'for n in range(1000):\n    until(20)\n    time.sleep(0.001)\nrest()'
    before = boottime()
    # A busy machine may take two seconds to start the job.
    p = helper(script, "-k", "0.2", job=ticks.job("stubborn"))
    ticks.wait_for("job")
    assert_ended_by(p, ticks, lock, before + 3 + 2)


# me-only is stopped before its time is over, and resumes afterwards.
STOPPED = """
parent, end = os.getppid(), now() + 4 * SECOND
held(4)
while not os.path.exists("{path}"): time.sleep(0.01)
os.kill(parent, signal.SIGSTOP)
{before}
while now() < end + SECOND // 10: time.sleep(0.001)
{after}
os.kill(parent, signal.SIGCONT)
while not hear().startswith("done"): pass
say("released")
"""


def test_a_time_that_has_passed_is_final_even_for_a_stopped_me_only(helper, lock, ticks):
    """A new one that the helper sends then does not come from a helper that has watched."""
    before = boottime()
    p = helper(STOPPED.format(path=ticks.path, before="", after="until(20)"), "-k", "1",
               job=ticks.job("stubborn"))
    assert_ended_by(p, ticks, lock, before + 4 + 10)


def test_what_was_said_in_time_while_it_was_stopped_is_believed(helper, ticks):
    p = helper(STOPPED.format(path=ticks.path, before="until(20)", after=""), "-k", "1",
               job=ticks.job())
    ticks.wait_for("job")
    end = boottime() + 5
    wait_for(lambda: boottime() > end, "the first time has passed")
    ticks.grow()
    p.terminate()
    assert p.wait(DEADLINE) == 0


FLOOD = (
    "until(9)\ns.setblocking(False)\ntry:\n    while True: until(3)\nexcept BlockingIOError: pass\n"
    "s.setblocking(True)\n")


def test_what_was_not_said_for_want_of_room_is_on_the_timer(helper, ticks):
    """
    me-only is stopped for so long that there is no room for more messages; its helper renews the
    lock all the time.
    """
    p = helper(STOPPED.format(path=ticks.path, before=FLOOD.replace("9", "4") + "set_timer(20)",
                              after=""), "-k", "1", job=ticks.job())
    ticks.wait_for("job")
    end = boottime() + 5
    wait_for(lambda: boottime() > end, "the first time has passed")
    ticks.grow()
    p.terminate()
    assert p.wait(DEADLINE) == 0


@pytest.mark.parametrize("timer", ["", "set_timer(1000)", "set_timer(0)", "set_timer(3)"],
                         ids=["none", "too long", "off", "over"])
def test_a_timer_that_says_nothing(helper, lock, ticks, timer):
    before = boottime()
    p = helper(STOPPED.format(path=ticks.path, before=FLOOD.replace("9", "4") + timer, after=""),
               "-k", "1", "--ttl", "10", job=ticks.job("stubborn"))
    assert_ended_by(p, ticks, lock, before + 4 + 10)


# strace stops me-only after the guard's last look, before it starts the command.
BETWEEN = """
held({seconds})
while not os.path.exists("{trace}") or "stopped by SIGSTOP" not in open("{trace}").read():
    time.sleep(0.01)
{then}
while True:
    os.kill(os.getppid(), signal.SIGCONT)
    time.sleep(0.05)
"""


@pytest.mark.static
@pytest.mark.parametrize("seconds, then",
                         [(4, "end = now() + 4 * SECOND\nwhile now() < end: time.sleep(0.01)"),
                          (60, 'say("lost\\ntext a reason")')], ids=["over", "lost"])
def test_a_lock_that_is_lost_between_the_last_look_and_the_command(
        helper, lock, tmp_path, seconds, then):
    """The new process checks once more, before it becomes the command."""
    trace, ran = tmp_path / "trace", tmp_path / "ran"
    strace = ("strace", "-D", "-o", trace, "-e", "trace=timerfd_settime", "-e",
              "inject=timerfd_settime:signal=SIGSTOP:when=1")
    p = helper(BETWEEN.format(seconds=seconds, trace=trace, then=then), "-k", "1",
               job=("touch", str(ran)), under=strace)
    assert ended(p) == (3, b"",
                        f"me-only: {lock}: lost before the command could be started; nothing was "
                        f"run\n")
    assert not ran.exists()


@pytest.mark.parametrize("until", ["until", "until x", "until ", "until -1", "until 0",
                                   "until 1", "x 9"])
def test_what_is_no_time_changes_nothing(helper, lock, ticks, until):
    before = boottime()
    p = helper(f'held(3); say("until\\n{until}"); rest()', "-k", "0.2", job=ticks.job("stubborn"))
    ticks.wait_for("job")
    assert_ended_by(p, ticks, lock, before + 3 + 10)    # the helper starts when it can


def test_that_the_lock_was_released_can_be_on_the_timer(helper):
    """There was no room to say it."""
    p = helper('held(60)\nwhile not hear().startswith("done"): pass\nset_timer(10 ** 8)')
    assert ended(p) == (0, b"ran\n", "")


def test_a_time_in_good_time_is_believed(helper, ticks):
    script = 'held(3); until(20)\nwhile not hear().startswith("done"): pass\nsay("released")'
    p = helper(script, "-k", "1", job=ticks.job())
    ticks.wait_for("job")
    end = boottime() + 4
    wait_for(lambda: boottime() > end, "the first time has passed")
    ticks.grow()
    p.terminate()
    assert p.wait(DEADLINE) == 0


@pytest.mark.parametrize("script", ['say("lost\\ntext a reason"); rest()',
                                    "os.kill(os.getpid(), 9)", "pass",
                                    "s.close(); os.close(1); rest()"],
                         ids=["lost", "killed", "ended", "closed"])
def test_a_lock_that_is_lost(helper, lock, ticks, script):
    p = helper(
        f'held(60)\nwhile not os.path.exists("{ticks.path}") or "daemon" not in '
        f'open("{ticks.path}").read(): time.sleep(0.01)\n{script}',
        job=ticks.job("stubborn", "daemon"))
    status, _, err = ended(p)
    assert status == 5 and ticks.living() == set()
    assert re.fullmatch(rf"me-only: {lock}: lost at [^\n]*; the command was ended by [^\n]*\n",
                        err), err
    assert ("a reason" in err) == ("a reason" in script)


@pytest.mark.parametrize("script", ["held(1000); rest()", "held(4); until(1000); rest()"],
                         ids=["held", "until"])
def test_a_time_that_cannot_be_is_not_believed(helper, lock, ticks, script):
    """No lock is confirmed for longer than --ttl."""
    before = boottime()
    p = helper(script, "--ttl", "10", "-k", "1", job=ticks.job("stubborn"))
    ticks.wait_for("job")
    assert_ended_by(p, ticks, lock, before + 10 + 5)


def test_a_lock_that_is_lost_leaves_little_time(helper, lock, ticks):
    """Whatever --kill-after is: the successor waits for no longer."""
    script = (
        f'held(300)\nwhile not os.path.exists("{ticks.path}"): time.sleep(0.01)\nsay("lost\\ntext '
        f'a reason"); rest()')
    p = helper(script, "--ttl", "300", "-k", "100", job=ticks.job("stubborn"))
    ticks.wait_for("job")
    assert_ended_by(p, ticks, lock, boottime() + 20)


def test_what_the_caller_had_started_before_is_none_of_the_commands(
        helper, start, lock, ticks, tmp_path):
    """A shell that becomes me-only still has its children."""
    elder = Ticks(tmp_path / "elder")
    script = (
        f'held(300)\nwhile not os.path.exists("{ticks.path}"): time.sleep(0.01)\nsay("lost\\ntext '
        f'a reason"); rest()')
    p = helper(script, job=ticks.job("stubborn"), before=elder.job())
    elder.wait_for("job")
    status, _, err = ended(p)
    assert status == 5 and ticks.living() == set(), err
    elder.grow()
    assert "term" not in elder.seen() and elder.living() != set()


def test_a_helper_that_never_gives_the_lock_back(helper):
    """me-only does not wait for it for ever."""
    p = helper("held(60); rest()", job=("sh", "-c", "exit 7"))
    assert p.wait(DEADLINE) == 7


def test_the_helper_has_nothing_of_the_callers(helper, tmp_path):
    """
    It has its own session, no descriptors but the protocol's and standard error, and no secret in
    its arguments.
    """
    script = (
        'open("{}", "w").write(repr((os.getsid(0) == os.getpid(), '
        'sorted(os.listdir("/proc/self/fd"), key=int), sys.argv)))\nsay("failed")')
    reader, writer = os.pipe()
    p = helper(script.format(tmp_path / "seen"), "-w", "3", "--ttl", "20", "-j2", pass_fds=[writer],
               job=("echo", "a secret"))
    ended(p)
    os.close(reader)
    os.close(writer)
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith("(True, ") and "secret" not in seen and "command=echo" in seen
    fds = re.search(r"\[([^]]*)\]", seen)[1].replace("'", "").split(", ")
    # Three more are the script's: its null device, its file, and the one that lists them.
    assert str(writer) not in fds and set(fds[:5]) == {"0", "1", "2", "3", "4"} and len(fds) <= 8, \
        fds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_there_is_an_answer(helper, number):
    p = helper("say('trying'); rest()", "-w", "inf")
    hidden = wait_for(lambda: children_of(p.pid), "a helper")
    p.send_signal(number)
    assert p.wait(DEADLINE) == -number
    # Its purpose is gone: a helper that hangs there is not left behind, or sees the end of its
    # socket.
    for pid in hidden:
        assert not is_alive(pid) or os.path.exists(f"/proc/{pid}")


# ---- no helper ----

def test_no_helper(start, lock, tmp_path):
    p = start(ME_ONLY, lock, "echo", "ran", env=environment(ME_ONLY_EXEC_PATH=str(tmp_path)))
    status, out, err = ended(p)
    assert (status, out) == (3,
                             b"") \
        and re.fullmatch(rf"me-only: (.*etcd|{lock}): the helper is missing[^\n]*\n", err), err


def test_a_helper_that_cannot_be_run(start, lock, tmp_path):
    (tmp_path / "etcd").write_bytes(b"\x7fELF nothing")
    (tmp_path / "etcd").chmod(0o755)
    p = start(ME_ONLY, lock, "echo", "ran", env=environment(ME_ONLY_EXEC_PATH=str(tmp_path)))
    status, out, err = ended(p)
    assert (status, out) == (3, b"") and err.startswith("me-only: ") and err.count("\n") == 1, err


@pytest.mark.static
@pytest.mark.parametrize("inject, said", [
    ("timerfd_create:error=ETIME:when=2", r"cannot fork: [^\n]+"),
    ("execveat:error=EPERM", "cannot run the helper: Operation not permitted"),
], ids=["no time", "not ours"])
def test_an_errno_is_not_taken_for_a_verdict_of_ours(helper, tmp_path, inject, said):
    """The guard's "no time is left", and "others can write the helper", are not errnos."""
    trace = tmp_path / "trace"
    p = helper("held(60); hear()", under=("strace", "-f", "-o", trace, "-e",
                                          "trace=" + inject.partition(":")[0],
                                          "-e", "inject=" + inject))
    status, out, err = ended(p)
    assert status in (1, 3) and out == b"" and "(INJECTED)" in trace.read_text()
    assert re.fullmatch(rf"me-only: [^\n]+: {said}\n", err), err


@pytest.mark.parametrize("limit", range(4, 11))
def test_no_descriptor_is_left(helper, limit):
    """The message names the call and the reason."""
    p = helper('say("failed")', under=("prlimit", f"--nofile={limit}"))
    status, out, err = ended(p)
    assert (status, out) == (3, b"")
    assert re.fullmatch(
        r"me-only: [^\n]+: (No file descriptors available|Too many open files)[^\n]*\n", err), err


@pytest.mark.root
@pytest.mark.parametrize("what", ["file", "directory"])
def test_root_runs_no_helper_that_others_can_write(start, lock, tmp_path, what):
    shutil.copy(os.path.join(BUILD, "libexec", "me-only", "etcd"), tmp_path / "etcd")
    os.chmod(tmp_path / "etcd" if what == "file" else tmp_path, 0o777)
    p = start(ME_ONLY, lock, "echo", "ran", env=environment(ME_ONLY_EXEC_PATH=str(tmp_path)))
    status, out, err = ended(p)
    assert (status, out) == (3, b"") and "writable by others" in err, err


@pytest.mark.root
@pytest.mark.parametrize("library_path", [False, True])
def test_root_loads_no_module_that_others_can_write(start, lock, tmp_path, library_path):
    """Nor a module from another directory."""
    for file in ("etcd", "etcd-tls.so"):
        shutil.copy(os.path.join(BUILD, "libexec", "me-only", file), tmp_path / file)
    env = {"ME_ONLY_EXEC_PATH": str(tmp_path), "ETCDCTL_ENDPOINTS": "https://127.0.0.1:1"}
    reason = "it or its directory is writable by others"
    if library_path:
        (tmp_path / "lib").mkdir()
        os.rename(tmp_path / "etcd-tls.so", tmp_path / "lib" / "etcd-tls.so")
        env["LD_LIBRARY_PATH"] = str(tmp_path / "lib")
        reason = "No such file or directory"
    else:
        os.chmod(tmp_path / "etcd-tls.so", 0o777)
    p = start(ME_ONLY, lock, "echo", "ran", env=environment(env))
    status, out, err = ended(p)
    assert (status, out) == (3, b"")
    assert f"TLS cannot be used: etcd-tls.so: {reason}" in err, err


@pytest.mark.parametrize("argv", [(), ("2", "take", "x"), ("1", "take"), ("1", "steal", "x"),
                                  ("1", "take", "x", "ttl=x"), ("1", "take", "x", "nonsense"),
                                  ("--help",)],
                         ids=" ".join)
def test_the_helper_alone_takes_nothing(call, argv, etcd):
    """A user who starts it by hand gets a message, or it ends."""
    before = etcd.client().leases()
    r = call(os.path.join(BUILD, "libexec", "me-only", "etcd"), *argv, env=environment(etcd.env))
    assert r.returncode != 0 or argv == ("--help",) or r.stdout or r.stderr, r
    assert etcd.client().entries("x/") == [] \
        and etcd.client().leases() <= before | etcd.client().leases()


def test_a_run_with_the_real_one(c):
    holder = c.hold("-q")
    assert release(holder) == 0 and said(holder.stderr.read()) == ""
