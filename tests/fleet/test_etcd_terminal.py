"""
A person at a terminal: Ctrl-C, Ctrl-Z and hanging up reach the command, and the lock is free
afterwards.
"""

import pytest

from fleet import ME_ONLY, Terminal, children_of, environment, name_of, process_state, \
    program, wait_for

pytestmark = pytest.mark.local


@pytest.fixture
def bash(start, etcd, lock):
    """An interactive bash that shows its prompt; $L is the lock, $M the program."""
    env = environment(etcd.env, PS1="ready> ", PS2="", HISTFILE="/dev/null", TERM="dumb",
                      INPUTRC="/dev/null", L=lock, M=ME_ONLY)
    t = Terminal(start, "bash", "--norc", "--noprofile", "--noediting", "-i", env=env)
    t.wait_for("ready> ")
    yield t
    t.hang_up()


def is_free(store, prefix):
    return lambda: store.entries(prefix) == []


@pytest.mark.parametrize("options", ["", "-o "])
def test_ctrl_c(bash, store, prefix, options):
    bash.enter(f"$M -q {options}$L sh -c 'echo up; exec sleep 1000'")
    bash.wait_for("up\r\n")
    bash.type("\x03")
    bash.wait_for("ready> ")
    assert store.entries(prefix) == []
    bash.enter("echo status $?")
    bash.wait_for("status 130")


def test_ctrl_c_is_heard_once(bash):
    """By the command: it has the terminal."""
    bash.enter(f"$M -q $L {program('hears')}")
    bash.wait_for(r"pid (\d+)\r\n")
    bash.type("\x03")
    bash.wait_for("\\A2\r\n")
    bash.type("\x1c")
    bash.wait_for("\\A3\r\n")


def test_ctrl_c_while_waiting(bash, c, store, prefix):
    c.hold("-q")
    bash.enter("$M -q -w inf $L true")
    wait_for(lambda: len(store.entries(prefix)) == 2, "it waits")
    bash.type("\x03")
    bash.wait_for("ready> ")
    wait_for(lambda: len(store.entries(prefix)) == 1, "it has left the line")


def test_ctrl_z_and_fg(bash, c, store, prefix):
    """The lock is kept meanwhile: its helper is in a session of its own."""
    bash.enter("$M -q $L sh -c 'echo up; cat'")
    bash.wait_for("up\r\n")
    bash.type("\x1a")
    bash.wait_for("ready> ")
    entry, = store.entries(prefix)
    wait_for(lambda: process_state(entry.json()["pid"]) == "T", "it is stopped")
    assert c.run("-q", c.lock, "true").returncode == 4
    bash.enter("fg")
    bash.enter("still here")
    bash.wait_for("still here\r\n")
    bash.type("\x04")
    bash.wait_for("ready> ")
    assert store.entries(prefix) == []


def test_hanging_up(bash, store, prefix):
    bash.enter("$M -q $L sh -c 'echo up; exec sleep 1000'")
    bash.wait_for("up\r\n")
    job = wait_for(lambda: [p for p in children_of(bash.process.pid) if name_of(p) == "sleep"],
                   "the job")
    bash.hang_up()
    wait_for(is_free(store, prefix), "the lock is free")
    assert not [p for p in job if process_state(p) not in ("Z", None)]


def test_the_command_has_the_terminal(bash):
    bash.enter("$M -q $L sh -c 'tty; stty size >/dev/null && echo good; read x; echo got $x'")
    bash.wait_for("/dev/pts/")
    bash.wait_for("good")
    bash.enter("line")
    bash.wait_for("got line")
    bash.wait_for("ready> ")
