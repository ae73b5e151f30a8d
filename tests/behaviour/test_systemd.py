"""
The recipes' units under a real systemd: process 1 of its own namespaces, with nothing but these
units.
"""
import os
import re
import socket
import subprocess

import pytest

from conftest import (BUILD, DEADLINE, ME_ONLY, children_of, control_group, name_of, read_line,
                      wait_for)
# "place" is a fixture.
from test_documents import ended, place, recipe
from test_services import SERVICE

pytestmark = pytest.mark.root

# Becomes systemd, with the units in $0/units, in the control group $1; the programs are in $2.
# Whatever belongs to the host is replaced or mounted read-only. It has its own network namespace,
# and so its own locks.
BOOT = r"""
set -e
echo 0 >"$1/cgroup.procs"
exec unshare --cgroup --mount --uts --ipc --net --pid --fork --kill-child sh -ec '
    mount -t proc proc /proc
    mount --bind /proc/sys /proc/sys
    mount -o remount,bind,ro /proc/sys
    mount -t tmpfs tmpfs /run
    mkdir /run/dev
    for node in null zero full random urandom tty; do
        touch "/run/dev/$node"
        mount --bind "/dev/$node" "/run/dev/$node"
    done
    touch /run/dev/console
    mount --bind /dev/null /run/dev/console
    mount --rbind /run/dev /dev
    mount -t sysfs -o ro sysfs /sys
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir /run/path /run/programs
    mount --bind "$0" /run/path
    mount --bind "$1" /run/programs
    mount -t tmpfs tmpfs /tmp
    mount -t tmpfs tmpfs /var/tmp
    mkdir -p "$0" "$1"
    mount --move /run/path "$0"
    mount --move /run/programs "$1"
    exec env -i container=test PATH="$PATH" SYSTEMD_UNIT_PATH="$0/units" SYSTEMD_GENERATOR_PATH= \
        SYSTEMD_ENVIRONMENT_GENERATOR_PATH= /lib/systemd/systemd' "$0" "$2"
"""

# Targets that start nothing at boot.
TARGETS = ("basic", "default", "shutdown", "sockets", "sysinit", "timers")


@pytest.fixture
def group(lock):
    """A control group (v2) for systemd."""
    with control_group("me-only-test-" + lock.rsplit("/", 1)[1]) as directory:
        yield directory


class Manager:
    """A systemd that has booted."""

    def __init__(self, place, group):
        self.place, self.units = place, place.path / "units"
        self.units.mkdir()
        for name in TARGETS:
            self.unit(f"{name}.target", "[Unit]\nDefaultDependencies=no\n")
        process = place.start("sh", "-c", BOOT, place.path, group, BUILD)

        def booting():
            assert process.poll() is None, process.stderr.read()
            return [kid for kid in children_of(process.pid) if name_of(kid) == "systemd"]
        self.pid, = wait_for(booting, "systemd runs")
        wait_for(lambda: os.path.exists(f"/proc/{self.pid}/root/run/systemd/private")
                 and self.systemctl("show", "--property=Version")[0] == 0, "it answers")

    def unit(self, name, text):
        (self.units / name).write_text(text)

    def install(self, name, lock, *more, replace=()):
        """Installs a recipe with the test's programs and lock, and MORE lines for a service.
        Returns the name of the unit."""
        text = self.place.ours(recipe(name), *lock)
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        file = re.match(r"# /etc/systemd/system/([\w.]+)\n", text)[1]
        self.unit(file, text)
        drop_in = self.units / (file + ".d")
        if file.endswith(".service"):
            drop_in.mkdir(exist_ok=True)
            variables = f"LOG={self.place.log} BLOCK={self.place.block}"
            (drop_in / "test.conf").write_text("\n".join(
                ["[Service]", f"Environment={variables}", *more, ""]))
        return file

    def inside(self, *words, **kw):
        return self.place.start("nsenter", f"--target={self.pid}", "--mount", "--pid", "--net",
                                *words, **kw)

    def systemctl(self, *words):
        p = self.inside("systemctl", "--no-pager", *words)
        out, err = p.communicate(timeout=DEADLINE)
        return p.returncode, out.decode(), err.decode()

    def show(self, unit, *properties):
        status, out, err = self.systemctl("show", "--property=" + ",".join(properties), unit)
        assert (status, err) == (0, "")
        values = dict(line.split("=", 1) for line in out.splitlines())
        return tuple(values[name] for name in properties)

    def hold(self, lock):
        p = self.inside(ME_ONLY, lock, "sh", "-c", "echo; exec cat", stdin=subprocess.PIPE)
        assert read_line(p.stdout) == b"\n"
        return p


@pytest.fixture
def manager(place, group):
    return Manager(place, group)


def over(manager, unit, *properties):
    """A unit's properties once it no longer runs."""
    wait_for(lambda: manager.show(unit, "ActiveState")[0] in ("inactive", "failed"), "it has ended")
    return manager.show(unit, *properties)


RESULT = ("ActiveState", "Result", "ExecMainStatus")


def test_a_timer_and_a_run_by_hand(manager, place):
    backup = manager.install("service", ["/tmp/backup"])
    timer = manager.install("timer", [],
                            replace=[("OnCalendar=daily", "OnActiveSec=0\nAccuracySec=1us")])
    by_hand = manager.hold(place.lock)
    assert manager.systemctl("start", timer) == (0, "", "")
    wait_for(lambda: manager.show(backup, "ExecMainStatus") == ("204",), "the timer has started it")
    assert over(manager, backup, *RESULT) == ("inactive", "success", "204"), "skipped: no failure"
    assert manager.show(timer, "ActiveState") == ("active",)
    by_hand.stdin.close()
    assert by_hand.wait(DEADLINE) == 0 and place.lines() == []
    assert manager.systemctl("start", backup) == (0, "", "")
    assert place.lines() == ["backup.sh : begin", "backup.sh : end"]
    manager.install("service", ["/tmp/backup"], "Environment=JOB_STATUS=4")
    assert manager.systemctl("daemon-reload") == (0, "", "")
    assert manager.systemctl("start", backup)[0] == 1
    assert over(manager, backup, *RESULT) == ("failed", "exit-code", "4"), "its own status is one"


# Counts its signals, and ends when $BLOCK is gone.
TERM = """#!/bin/sh
trap 'echo term >>"$LOG"' TERM
echo begin >>"$LOG"
while [ -e "$BLOCK" ]; do sleep 0.01; done
"""


def test_a_service_that_is_stopped_gets_one_signal(manager, place):
    place.program("backup.sh", TERM)
    backup = manager.install("service", ["/tmp/backup"])
    place.block.touch()
    assert manager.systemctl("start", "--no-block", backup) == (0, "", "")
    place.running()
    assert manager.systemctl("stop", "--no-block", backup) == (0, "", "")
    wait_for(lambda: len(place.lines()) > 1, "the signal")
    place.block.unlink()
    over(manager, backup)
    assert place.lines() == ["begin", "term"]


@pytest.mark.parametrize("private, runs", [("PrivateTmp", False), ("PrivateNetwork", True)])
def test_a_service_with_something_private(manager, place, private, runs):
    """A lock's name belongs to a network namespace, even if it looks like a path."""
    backup = manager.install("service", ["/tmp/backup"], f"{private}=yes",
                             f"BindPaths={place.path} {BUILD}")
    manager.hold(place.lock)
    assert manager.systemctl("start", backup) == (0, "", "")
    assert place.lines() == ["backup.sh : begin", "backup.sh : end"] * runs


# Reports that it is ready, waits until systemd has handled that, and keeps running.
INDEXER = """#!/usr/bin/python3
import array, os, signal, socket
ours, theirs = os.pipe()
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.connect(os.environ["NOTIFY_SOCKET"])
    s.send(b"READY=1")
    s.sendmsg([b"BARRIER=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs]))])
os.close(theirs)
os.read(ours, 1)
with open(os.environ["LOG"], "a") as log:
    log.write("handled\\n")
signal.pause()
"""


@pytest.mark.parametrize("form, access, state", [
    ("", "all", "active"), ("", "main", "activating"), ("-F ", "main", "active"),
    ("-F ", "all", "active")])
def test_a_service_that_says_when_it_is_ready(manager, place, form, access, state):
    place.program("indexer", INDEXER)
    indexer = manager.install("service-notify", ["/run/indexer"], replace=[
        ("NotifyAccess=all", f"NotifyAccess={access}"), ("me-only ", f"me-only {form}")])
    assert manager.systemctl("start", "--no-block", indexer) == (0, "", "")
    place.running()
    assert manager.show(indexer, "ActiveState") == (state,)
    assert manager.systemctl("stop", indexer) == (0, "", "")
    assert manager.inside(ME_ONLY, place.lock, "true").wait(DEADLINE) == 0, "the lock is free"


@pytest.mark.parametrize("form", ["-F ", ""])
def test_a_service_that_its_socket_starts(manager, place, form):
    path = place.path / "web"
    place.program("web-server", "#!/usr/bin/python3" + SERVICE)
    socket_unit = manager.install("socket", [], replace=[("=8080", f"={path}")])
    web = manager.install("service-socket", ["/run/web"],
                          replace=[("me-only -F ", f"me-only {form}")])
    assert manager.systemctl("start", socket_unit) == (0, "", "")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(DEADLINE)
        s.connect(str(path))
        assert s.recv(100) == b"served"
    assert over(manager, web, *RESULT) == ("inactive", "success", "0")
