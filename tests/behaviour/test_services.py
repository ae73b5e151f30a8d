"""
What a service manager gives to the process that it starts is for the command: its sockets, the
watchdog, the right to say that it is ready.
"""
import configparser
import os
import re
import signal
import socket
import struct
import sys

import pytest

from conftest import DEADLINE, ME_ONLY, ROOT, address, children_of, forms, is_bound, wait_for

# Becomes argv[2:] with variables, of which some name its own process ("NAME=self", "NAME=id") or its
# parent.
ADDRESSED = """
import os, sys
ids = {"self": os.getpid(), "id": os.fstat(os.pidfd_open(os.getpid())).st_ino, "parent": os.getppid()}
for word in sys.argv[1].split():
    name, value = word.split("=")
    os.environ[name] = str(ids.get(value, value))
os.execv(sys.argv[2], sys.argv[2:])
"""

# Prints such variables, its own numbers as these words.
SHOW = """
import os
ids = {str(os.getpid()): "self", str(os.fstat(os.pidfd_open(os.getpid())).st_ino): "id", str(os.getppid()): "parent"}
print(*sorted(f"{k}={ids.get(v, v)}" for k, v in os.environ.items()
              if k.startswith(("LISTEN_", "WATCHDOG_", "SYSTEMD_", "MAIN"))))
"""


@pytest.fixture
def shown(call, lock):
    """shown(VARIABLES, OPTION...): what the command sees of them."""

    def shown_(variables, *options):
        r = call(sys.executable, "-c", ADDRESSED, variables, ME_ONLY, *options, lock, sys.executable,
                 "-c", SHOW)
        assert (r.returncode, r.stderr) == (0, b""), r
        return r.stdout.decode().rstrip("\n")

    return shown_


def words(text):
    return " ".join(sorted(text.split()))


@forms
@pytest.mark.parametrize("variables", [
    "LISTEN_PID=self LISTEN_FDS=2 LISTEN_FDNAMES=a:b",
    "LISTEN_PID=self LISTEN_FDS=1 LISTEN_PIDFDID=id",
    "WATCHDOG_PID=self WATCHDOG_USEC=1000",
    "SYSTEMD_EXEC_PID=self",
    "LISTEN_PID=self LISTEN_FDS=1 WATCHDOG_PID=self SYSTEMD_EXEC_PID=self"])
def test_what_names_me_only_names_the_command(shown, form, variables):
    assert shown(variables, *form) == words(variables)


@forms
@pytest.mark.parametrize("variables", [
    "LISTEN_PID=1 LISTEN_FDS=2 LISTEN_FDNAMES=a:b LISTEN_PIDFDID=5 WATCHDOG_PID=1 SYSTEMD_EXEC_PID=1",
    "LISTEN_PID= WATCHDOG_PID=x", "LISTEN_FDS=1", "LISTEN_PIDS=7 MAINPID=8"])
def test_what_names_another_stays(shown, form, variables):
    """Somebody else's, left over, or no number."""
    assert shown(variables, *form) == words(variables)


def test_by_way_of_two(call, lock):
    r = call(sys.executable, "-c", ADDRESSED, "LISTEN_PID=self LISTEN_FDS=1", ME_ONLY, lock, ME_ONLY,
             lock + "/2", sys.executable, "-c", SHOW)
    assert r.stdout == b"LISTEN_FDS=1 LISTEN_PID=self\n"


# As a service manager starts a service when somebody has connected to its socket, descriptor 3.
ACTIVATE = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen()
s.set_inheritable(True)
os.dup2(s.fileno(), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""

SERVICE = """
import os, socket
assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
print("ready", flush=True)
socket.socket(fileno=3).accept()[0].sendall(b"served")
"""


def is_served(p, path):
    """P is ready, serves one client at PATH, and exits."""
    assert p.stdout.readline() == b"ready\n", p.stderr.read()
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(DEADLINE)
        s.connect(path)
        assert s.recv(100) == b"served"
    assert p.wait(DEADLINE) == 0


@forms
def test_a_service_that_its_socket_starts(start, lock, tmp_path, form):
    path = str(tmp_path / "socket")
    p = start(sys.executable, "-c", ACTIVATE, path, ME_ONLY, *form, lock,
              sys.executable, "-c", SERVICE)
    is_served(p, path)


@forms
def test_a_service_that_systemd_socket_activate_starts(start, lock, tmp_path, form):
    path = str(tmp_path / "socket")
    p = start("systemd-socket-activate", f"--listen={path}", ME_ONLY, *form, lock,
              sys.executable, "-c", SERVICE)
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(DEADLINE)
        wait_for(lambda: s.connect_ex(path) == 0, "it listens")
        assert s.recv(100) == b"served"
    assert p.wait(DEADLINE) == 0


# --- the units in the manual ---


def units():
    """{the last word of ExecStart: the [Service] section}"""
    with open(os.path.join(ROOT, "man", "me-only.1"), encoding="utf-8") as f:
        text = f.read().split(".Sh EXAMPLES")[1].split("\n.Sh ")[0]
    found = {}
    for block in re.findall(r"^\.Bd [^\n]*\n(\[Service\]\n.*?)^\.Ed", text, re.M | re.S):
        parser = configparser.RawConfigParser(delimiters=("=",))
        parser.optionxform = str
        parser.read_string(block)
        found[parser["Service"]["ExecStart"].split("/")[-1].split()[-1]] = parser["Service"]
    return found


def command_of(unit, lock, *command):
    """The command line of the unit, without a shell, with our program, lock and command."""
    words = unit["ExecStart"].split()
    assert os.path.isabs(words[0])
    return [ME_ONLY, *words[1:-2], lock, *command]


def test_the_unit_that_is_started_by_its_socket(start, lock, tmp_path):
    unit, path = units()["shopd"], str(tmp_path / "socket")
    p = start(sys.executable, "-c", ACTIVATE, path,
              *command_of(unit, lock, sys.executable, "-c", SERVICE))
    is_served(p, path)


READY = """
import os, signal, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.sendall(b"READY=1")
signal.pause()
"""


@pytest.mark.parametrize("form", [(), ("-F",)], ids=["default", "no-fork"])
def test_the_unit_that_says_when_it_is_ready(start, lock, tmp_path, form):
    """systemd asks the kernel who has sent the message: with NotifyAccess=main only the main process may."""
    unit, path = units()["queued"], str(tmp_path / "notify")
    assert (unit["Type"], unit["NotifyAccess"], unit["TimeoutStartSec"]) == ("notify", "all", "infinity")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        s.settimeout(DEADLINE)
        argv = command_of(unit, lock, sys.executable, "-c", READY)
        p = start(argv[0], *form, *argv[1:], env={**os.environ, "NOTIFY_SOCKET": path})
        message, ancillary, _, _ = s.recvmsg(100, socket.CMSG_SPACE(struct.calcsize("3i")))
        sender = struct.unpack("3i", ancillary[0][2])[0]
        assert message == b"READY=1"
        assert sender == p.pid if form else sender in children_of(p.pid)
    # KillMode=mixed: only the main process gets the signal.
    assert unit["KillMode"] == "mixed"
    p.terminate()
    assert p.wait(DEADLINE) == -signal.SIGTERM
    wait_for(lambda: not is_bound(address(lock)), "the job has ended too")


def test_the_unit_for_a_timer(hold, call, lock):
    """A skipped run is no failure; that the command fails with our own status is one."""
    unit = units()["backup.sh"]
    success = {0, int(unit["SuccessExitStatus"])}
    assert call(*command_of(unit, lock, "sh", "-c", "exit 4")).returncode not in success
    assert call(*command_of(unit, lock, "/nowhere")).returncode not in success
    hold(lock)
    assert call(*command_of(unit, lock, "true")).returncode in success
