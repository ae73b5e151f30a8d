"""A world of its own for a run: no network but its own loopback, its own processes, its own file system in memory.

Everything lives in namespaces that end with their first process, and that one ends with the process that was started, however
that ends: nothing has to be cleaned up, and nothing is left after a SIGKILL.
"""
import ctypes
import os
import signal
import subprocess

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """The kernel ends this process when the one that started it has ended."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def mount_point(*needed):
    """A directory to mount over that hides none of the paths that are needed."""
    for directory in ("/mnt", "/media", "/srv", "/opt", "/home"):
        if os.path.isdir(directory) and not any(os.path.realpath(path).startswith(directory + "/") for path in needed):
            return directory
    raise SystemExit("chaos: no directory to mount a file system on")


def _begin_world(directory):
    for command in (["mount", "--make-rprivate", "/"],
                    ["mount", "-t", "proc", "proc", "/proc"],
                    ["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", directory],
                    ["ip", "link", "set", "lo", "up"]):
        subprocess.run(command, check=True)


def _wait_for(pid):
    """The exit status of the child; what else has lost its parent is reaped on the way."""
    while True:
        child, status = os.waitpid(-1, 0)
        if child == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _forward(pid):
    """Signals to end are the child's affair; it may get one twice, as a terminal sends it to all of us."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os.kill(pid, number))


def run_inside(function, directory):
    """Calls function() in a process of a new world with an empty file system on the directory, and ends with what it returned.

    Three processes: this one waits; the first of the world reaps orphans; its child is the one that works.
    """
    if libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET) != 0:
        raise SystemExit("chaos: unshare: " + os.strerror(ctypes.get_errno()))
    first = os.fork()
    if first:
        _forward(first)
        raise SystemExit(_wait_for(first))
    die_with_parent()
    _begin_world(directory)
    worker = os.fork()
    if worker:
        _forward(worker)
        os._exit(_wait_for(worker))
    raise SystemExit(function())
