"""
The lock lasts exactly as long as the command, whatever is killed, and whatever the command closes
(rule 3).
"""
import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest

from conftest import (DEADLINE, ME_ONLY, address, children_of, forms, has_children, is_bound,
                      process_state, processor_time, program, read_line, refusal, release, user,
                      wait_for)

# A job that reports that it runs, and ends with its standard input; and one that first closes what
# it inherited.
JOB = ("sh", "-c", "echo $$; exec cat >/dev/null")
CLOSING_JOB = ("caller", "-C", "3", *JOB)

# How many runs follow each other at once; a sanitized or dynamically linked program starts more
# slowly.
MANY = 1_000 if os.environ.get("ME_ONLY_DYNAMIC") else 3_000

forking = pytest.mark.parametrize("form", [(), ("-o",)], ids=["default", "close"])


def comm(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read().rstrip("\n")
    except OSError:
        return None


def keeper_of(wrapper):
    """The keeper that the me-only process has started; waits until there is one."""
    return wait_for(lambda: next((p for p in children_of(wrapper) if comm(p) == "me-only keeper"),
                                 None), "a keeper")


def socket_of(name):
    """What /proc/PID/fd shows for the listening socket of the lock NAME."""
    shown = address(name).replace(b"\0", b"@")
    with open("/proc/net/unix", "rb") as f:
        for line in f:
            fields = line.split(None, 7)
            # __SO_ACCEPTCON: it listens
            if fields[-1].rstrip(b"\n") == shown and int(fields[3], 16) & 0x10000:
                return f"socket:[{int(fields[6])}]"
    pytest.fail(f"{name} is not listed")


def descriptors(pid):
    """The open descriptors of PID and what they are."""
    found = {}
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[int(fd)] = os.readlink(f"/proc/{pid}/fd/{fd}")
    return found


@pytest.fixture
def begin(me_only):
    """begin(ARGUMENT...) starts me-only with a job that first prints a PID: the result's .job."""

    def begin_(*argv, **kw):
        argv = [program(a) if a == "caller" else a for a in argv]
        p = me_only(*argv, stdin=subprocess.PIPE, **kw)
        line = p.stdout.readline()
        assert line, p.stderr.read()
        p.job = int(line)
        return p

    return begin_


def kill_wrapper(p):
    os.kill(p.pid, signal.SIGKILL)
    assert p.wait(DEADLINE) == -signal.SIGKILL


def end_job(p):
    """Let the job end when no process waits for it any more."""
    p.stdin.close()
    wait_for(lambda: process_state(p.job) in ("Z", None), "the job's end")


def assert_held_until_the_job_ends(p, run, lock):
    """
    The wrapper is gone, the job lives: no other gets the lock, and the message names the job; then
    it is free.
    """
    assert is_bound(address(lock))
    assert f"held by pid {p.job} (" in refusal(run, lock)
    end_job(p)
    wait_for(lambda: not is_bound(address(lock)), "the lock is free after the job's end")


# --- me-only is killed, the job lives ---

@forking
def test_killing_me_only_leaves_the_lock_with_the_job(begin, run, lock, form):
    p = begin(*form, lock, *JOB)
    kill_wrapper(p)
    assert_held_until_the_job_ends(p, run, lock)


@forking
def test_a_command_whose_first_act_is_to_kill_me_only_has_the_lock(begin, run, lock, form):
    p = begin(*form, lock, "sh", "-c", "kill -KILL $PPID; echo $$; exec cat >/dev/null")
    assert p.wait(DEADLINE) == -signal.SIGKILL
    assert_held_until_the_job_ends(p, run, lock)


def test_with_F_the_command_is_all_there_is(begin, run, lock):
    p = begin("-F", lock, *JOB)
    assert p.job == p.pid
    assert children_of(p.pid) == []
    assert f"held by pid {p.job} (" in refusal(run, lock)
    assert release(p) == 0
    assert not is_bound(address(lock))
    assert not has_children()


@forms
@pytest.mark.parametrize("job", [JOB, CLOSING_JOB], ids=["job", "closing"])
def test_killing_the_job_frees_the_lock_at_once(begin, run, lock, form, job):
    p = begin(*form, lock, *job)
    os.kill(p.job, signal.SIGKILL)
    assert p.wait(DEADLINE) == -signal.SIGKILL
    assert not is_bound(address(lock))
    assert run(lock, "true").returncode == 0
    assert not has_children()


@forking
def test_killing_both_frees_the_lock(begin, lock, form):
    p = begin(*form, lock, *JOB)
    os.kill(p.pid, signal.SIGKILL)
    os.kill(p.job, signal.SIGKILL)
    assert p.wait(DEADLINE) == -signal.SIGKILL
    wait_for(lambda: not is_bound(address(lock)), "the lock is free")
    wait_for(lambda: children_of(os.getpid()) == [], "no keeper is left")


# --- the job closes what it inherited ---

@forking
def test_a_job_that_closes_every_descriptor_keeps_the_lock(begin, run, lock, form):
    p = begin(*form, lock, *CLOSING_JOB)
    assert socket_of(lock) not in descriptors(p.job).values()
    assert f"held by pid {p.job} (" in refusal(run, lock)
    assert release(p) == 0
    assert not is_bound(address(lock))


@forking
def test_both_at_once_from_one_second_on(begin, run, lock, form):
    """Neither the killed me-only nor the job has the socket: the keeper has it."""
    p = begin(*form, lock, *CLOSING_JOB)
    keeper = keeper_of(p.pid)
    kill_wrapper(p)
    assert_held_until_the_job_ends(p, run, lock)
    wait_for(lambda: process_state(keeper) in ("Z", None), "the keeper ends with the job")


def test_with_o_the_keeper_is_there_before_the_command(begin, run, lock):
    p = begin("-o", lock, "caller", "-C", "3", "sh", "-c",
              "kill -KILL $PPID; echo $$; exec cat >/dev/null")
    assert p.wait(DEADLINE) == -signal.SIGKILL
    assert_held_until_the_job_ends(p, run, lock)


@forking
def test_the_keeper_has_the_lock_and_nothing_else(begin, lock, form):
    p = begin(*form, lock, *JOB, start_new_session=True)
    keeper = keeper_of(p.pid)
    the_socket = socket_of(lock)

    def settled():
        return set(descriptors(keeper).values()) - {"anon_inode:[pidfd]"} == {the_socket}

    # It shares me-only's descriptors as long as me-only lives.
    assert descriptors(keeper) == descriptors(p.pid)
    p.kill()
    p.wait(DEADLINE)
    wait_for(settled, f"the keeper has the socket alone, of {descriptors(keeper)}")
    assert min(descriptors(keeper)) > 2
    wait_for(lambda: os.getsid(keeper) == keeper, "the keeper has a session of its own")
    with open(f"/proc/{keeper}/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    blocked = int(status["SigBlk"], 16)
    assert blocked | 1 << signal.SIGKILL - 1 | 1 << signal.SIGSTOP - 1 == (1 << 64) - 1
    assert release(p) == -signal.SIGKILL
    wait_for(lambda: process_state(keeper) in (None, "Z"), "the keeper ends")


@pytest.mark.parametrize("errno", ["ENOSYS", "EPERM"])
def test_the_keeper_closes_what_is_open_not_what_could_be(start, lock, tmp_path, errno):
    """Before Linux 5.9, and where a filter forbids close_range(2): the limit can be a million."""
    trace = tmp_path / "trace"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    holder = start("strace", "-D", "-q", "-f", "-b", "execve", "-o", trace,
                   "-e", "trace=close,close_range,poll", "-e", f"inject=close_range:error={errno}",
                   ME_ONLY, "-o", lock, *JOB, stdin=subprocess.PIPE,
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard)))
    assert hard > 500
    assert read_line(holder.stdout)
    keeper = keeper_of(holder.pid)
    holder.kill()
    holder.wait(DEADLINE)
    wait_for(lambda: set(descriptors(keeper).values()) == {"anon_inode:[pidfd]", socket_of(lock)},
             "the keeper has the lock and the command's pidfd")
    calls = [line for line in trace.read_text().splitlines() if line.split()[0] == str(keeper)]
    assert any("INJECTED" in line for line in calls) and len(calls) < 50
    assert release(holder) == -signal.SIGKILL
    wait_for(lambda: process_state(keeper) in (None, "Z"), "the keeper ends")


@forking
def test_a_signal_to_the_whole_process_group_spares_the_keeper(begin, run, lock, form):
    p = begin(*form, lock, "setsid", *CLOSING_JOB, start_new_session=True)
    keeper = keeper_of(p.pid)
    wait_for(lambda: os.getsid(keeper) == keeper, "the keeper has a session of its own")
    os.killpg(p.pid, signal.SIGKILL)
    assert p.wait(DEADLINE) == -signal.SIGKILL
    assert_held_until_the_job_ends(p, run, lock)


@forking
def test_killing_the_keeper_loses_nothing(me_only, run, lock, form):
    p = me_only(*form, lock, program("caller"), "-C", "3", "sh", "-c", "echo; read line; exit 7",
                stdin=subprocess.PIPE)
    assert p.stdout.readline()
    keeper = keeper_of(p.pid)
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: process_state(keeper) in ("Z", None), "the keeper's end")
    refusal(run, lock)
    p.stdin.close()
    assert p.wait(DEADLINE) == 7
    assert not is_bound(address(lock))


@forms
@pytest.mark.parametrize("shell", ["dash", "bash", "zsh"])
def test_a_script_that_opens_its_own_descriptors_keeps_the_lock(
        start, run, lock, tmp_path, shell, form):
    """exec 3>log ... exec 9>log: what scripts use is never the lock."""
    script = "".join(f"exec {n}>{tmp_path}/log\n" for n in range(3, 10)) + "echo $$\nread line\n"
    p = start(ME_ONLY, *form, lock, shell, "-c", script, stdin=subprocess.PIPE)
    job = int(p.stdout.readline())
    assert (socket_of(lock) in descriptors(job).values()) == (form != ("-o",))
    refusal(run, lock)
    p.stdin.close()
    p.wait(DEADLINE)
    assert not is_bound(address(lock))


# --- what the command leaves running ---

def message_of_a_descendant(lock, pid, command):
    return (
        rf"me-only: {lock}: held by pid {pid} \({user()}\), left running by a command that has "
        rf"ended, "
        rf"for at most \S+: {command} \(with -o the lock ends with the command\)\n")


LEAVE_A_CHILD = ("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")


@pytest.mark.parametrize("form", [(), ("-F",)], ids=["default", "no-fork"])
def test_a_background_child_keeps_the_lock_and_is_named(run, lock, form):
    r = run(*form, lock, *LEAVE_A_CHILD)
    child = int(r.stdout)
    assert r.returncode == 0
    message = refusal(run, lock)
    assert re.fullmatch(message_of_a_descendant(lock, child, "sleep 1000"), message), message
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: not is_bound(address(lock)), "the lock is free")


def test_a_daemon_keeps_the_lock_and_is_named(run, lock):
    r = run(lock, "sh", "-c", "setsid sh -c 'echo $$; exec sleep 1000 >/dev/null 2>&1' &")
    assert r.returncode == 0
    daemon = int(r.stdout)
    wait_for(lambda: comm(daemon) == "sleep", "the daemon has started")
    message = refusal(run, lock)
    assert re.fullmatch(message_of_a_descendant(lock, daemon, "sleep 1000"), message), message


def test_after_me_only_was_killed_too_the_child_is_named(begin, run, lock):
    p = begin(lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!; exec cat >/dev/null")
    child = p.job
    job = next(k for k in children_of(p.pid) if k != child and comm(k) != "me-only keeper")
    keeper = keeper_of(p.pid)
    kill_wrapper(p)
    p.stdin.close()
    wait_for(lambda: process_state(job) in ("Z", None), "the job's end")
    wait_for(lambda: process_state(keeper) in ("Z", None), "the keeper's end")
    message = refusal(run, lock)
    assert re.fullmatch(message_of_a_descendant(lock, child, "sleep 1000"), message), message


def test_with_o_the_lock_ends_with_the_command(run, lock):
    r = run("-o", lock, *LEAVE_A_CHILD)
    assert r.returncode == 0
    assert not is_bound(address(lock))
    assert process_state(int(r.stdout)) not in (None, "Z")
    assert run("-o", lock, "true").returncode == 0


def test_with_o_the_lock_ends_with_a_killed_command(begin, lock):
    p = begin("-o", lock, "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $$; exec cat >/dev/null")
    os.kill(p.job, signal.SIGKILL)
    assert p.wait(DEADLINE) == -signal.SIGKILL
    assert not is_bound(address(lock))


def test_no_fork_and_close_are_refused_together(run, lock):
    r = run("-F", "-o", lock, "echo", "ran")
    assert (r.returncode, r.stdout) == (2, b"")


# --- commands that become another user ---

@pytest.mark.root
@forking
@pytest.mark.parametrize("command", [["sudo", "-n", "-u", "nobody", *JOB],
                                     ["su", "-s", "/bin/sh", "-c", JOB[2], "nobody"],
                                     ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                                      *JOB]],
                         ids=lambda c: c[0])
def test_the_lock_stays_under_a_command_that_changes_user(begin, run, lock, form, command):
    """
    The kernel clears death signals when a process changes its user: the lock must not depend on
    one.
    """
    p = begin(*form, lock, *command)
    keeper = keeper_of(p.pid)
    kill_wrapper(p)
    assert is_bound(address(lock))
    refusal(run, lock)
    end_job(p)
    wait_for(lambda: not is_bound(address(lock)), "the lock is free after the command's end")
    wait_for(lambda: process_state(keeper) in ("Z", None), "the keeper ends with the job")


# --- the real ssh client, which closes every descriptor that it inherits ---

SFTP_HELLO = b"\0\0\0\5\1\0\0\0\3"  # SSH_FXP_INIT, version 3


# What the server requires of the machine, in a mount namespace: its directory in /run, a root
# account that is not locked.
SSHD = '''mount -t tmpfs tmpfs /run && mkdir /run/sshd &&
          echo 'root:*:20000:0:99999:7:::' >/run/shadow &&
          mount --bind /run/shadow /etc/shadow && exec /usr/sbin/sshd -i -e -f "$1"'''


@pytest.fixture
def ssh_server(start):
    """
    A listener on a loopback port, throw-away keys, and the client's command line; .serve() accepts
    one client.
    """
    directory = tempfile.mkdtemp()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(DEADLINE)
    for key in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{directory}/{key}"],
                       check=True)
    with open(f"{directory}/config", "w") as f:
        f.write(
            f"HostKey {directory}/host\nAuthorizedKeysFile {directory}/client.pub\nPidFile none\nUsePAM "
            f"no\n"
            "StrictModes no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n")

    class Server:
        # A subsystem, not a command: it needs no login shell.
        command = ["ssh", "-F", "none", "-p", str(listener.getsockname()[1]), "-i",
                   f"{directory}/client",
                   "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o",
                   "StrictHostKeyChecking=no",
                   "-o", f"UserKnownHostsFile={directory}/known", "-s", "root@127.0.0.1", "sftp"]

        @staticmethod
        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.setblocking(True)
                return start("unshare", "--mount", "sh", "-c", SSHD, "sh", f"{directory}/config",
                             stdin=connection, stdout=connection)

    yield Server
    listener.close()
    shutil.rmtree(directory)


@pytest.mark.root
@forking
def test_the_ssh_client_keeps_the_lock(me_only, run, lock, form, ssh_server):
    p = me_only(*form, lock, *ssh_server.command, stdin=subprocess.PIPE, bufsize=0)
    server = ssh_server.serve()
    p.stdin.write(SFTP_HELLO)
    # The session works: the answer, SSH_FXP_VERSION, has come through it.
    answer = p.stdout.read(5)
    assert answer[4:] == b"\2", (p.stderr.read(), server.stderr.read())
    ssh = next(k for k in children_of(p.pid) if comm(k) == "ssh")
    assert socket_of(lock) not in descriptors(ssh).values()
    assert f"held by pid {ssh} (" in refusal(run, lock)
    keeper_of(p.pid)
    kill_wrapper(p)
    assert f"held by pid {ssh} (" in refusal(run, lock)
    p.stdin.close()
    wait_for(lambda: process_state(ssh) in ("Z", None), "ssh's end")
    wait_for(lambda: not is_bound(address(lock)), "the lock is free")


# --- one run right after another ---

@pytest.mark.parametrize("form, runs", [((), MANY), (("-F",), MANY // 5), (("-o",), MANY // 2)],
                         ids=["default", "no-fork", "close"])
def test_back_to_back_runs_never_meet_a_lock_of_their_own_past(call, lock, form, runs):
    script = 'n=$1; shift; i=0; while [ $i -lt $n ]; do "$@" || exit; i=$((i + 1)); done; echo $i'
    r = call("dash", "-c", script, "sh", str(runs), ME_ONLY, *form, lock, "/bin/true",
             timeout=4 * DEADLINE)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"%d\n" % runs, b"")


@forking
def test_back_to_back_runs_of_killed_commands(call, lock, form):
    script = '''i=0; while [ $i -lt 300 ]; do
                  "$@" 2>/dev/null; s=$?; [ $s = 137 ] || exit $s; i=$((i + 1)); done; echo $i'''
    r = call("bash", "-c", script, "sh", ME_ONLY, *form, lock, program("die"), "9")
    assert (r.returncode, r.stdout) == (0, b"300\n"), r


def test_back_to_back_runs_that_have_a_keeper(start, lock):
    """
    Jobs that end as soon as they see their keeper, many locks side by side: the keeper is also gone
    before me-only ends.
    """
    job = "until ps -o comm= --ppid $PPID | grep -q keeper; do sleep 0.05; done"
    script = 'for i in 1 2 3; do "$@" || exit; done'
    loops = [start("dash", "-c", script, "sh", ME_ONLY, f"{lock}/{i}", "sh", "-c", job)
             for i in range(10)]
    for i, loop in enumerate(loops):
        out, err = loop.communicate(timeout=DEADLINE)
        assert (loop.returncode, out, err) == (0, b"", b"")
        assert not is_bound(address(f"{lock}/{i}"))


def test_a_crowd_that_asks_leaves_descriptors_for_the_keeper(begin, run, lock):
    """More connections than me-only has descriptors for: the keeper is started all the same."""
    p = begin(lock, *CLOSING_JOB,
              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80)))
    crowd = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(120)]
    for s in crowd:
        s.connect(address(lock))
    keeper_of(p.pid)
    kill_wrapper(p)
    for s in crowd:
        s.close()
    assert_held_until_the_job_ends(p, run, lock)


# The job shuts the lock's socket down, so nothing can connect to it any more.
SHUTTING_JOB = """
import os, socket, sys
s = socket.socket(fileno=60)
s.shutdown(socket.SHUT_RDWR)
s.detach()
print(os.getpid(), flush=True)
sys.stdin.read()
"""


def test_a_lock_that_was_shut_down_costs_nothing_and_is_held(begin, me_only, lock):
    p = begin(lock, "/usr/bin/python3", "-c", SHUTTING_JOB)
    before = processor_time(p.pid)
    # The measured time is this one's waiting.
    assert me_only("-w", "1s", lock, "true").wait(DEADLINE) == 4
    assert processor_time(p.pid) - before < 0.1
    assert release(p) == 0
