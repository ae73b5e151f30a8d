"""The job of the experiments: it connects to a socket, tells about itself, and obeys.

usage: job.py SOCKET NAME

The other side sends a line of JSON, [VERB, ARGUMENT...], and gets a line of JSON back. When it
hangs up, the job exits with 0.
"""
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys

terms = 0


def count_term(*_):
    global terms
    terms += 1


def target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return None


def close_descriptors(own):
    """What daemons and ssh do with what they have inherited."""
    os.closerange(3, own)
    os.closerange(own + 1, 65536)


def write(fd, words):
    try:
        return os.write(fd, words.encode())
    except OSError:
        return None


def background(path):
    """A child that the job leaves behind, with all that it has inherited."""
    subprocess.Popen([sys.executable, "-IS", __file__, path, "child"], close_fds=False)


def main(path, name):
    standard = [target(fd) for fd in range(3)]  # before a descriptor of our own takes a free place
    signal.signal(signal.SIGTERM, count_term)
    with socket.socket(socket.AF_UNIX) as low:
        control = socket.socket(fileno=fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 100))
    control.connect(path)
    lines = control.makefile("rw")

    def answer(value):
        print(json.dumps(value), file=lines, flush=True)

    answer({"pid": os.getpid(), "name": name, "standard": standard, "variables": dict(os.environ)})
    for line in lines:
        verb, *arguments = json.loads(line)
        if verb == "exit":
            os._exit(arguments[0])
        if verb == "die":
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), arguments[0])
        answer(
            {
                "close": lambda: close_descriptors(control.fileno()),
                "terms": lambda: terms,
                "background": lambda: background(path),
                "write": lambda: write(1, *arguments),
                "read": lambda: os.read(0, 100).decode(),
            }[verb]()
        )


main(*sys.argv[1:])
