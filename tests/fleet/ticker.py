"""
A job that shows that it lives: ticker.py FILE [WORD]... appends "WHO PID BOOTTIME" to FILE every
10 ms.

    stubborn   ignores SIGTERM; otherwise it writes "term PID BOOTTIME" and ends
    child      has a child that does the same
    daemon     has a grandchild in its own session
    bare       the same, with all descriptors closed
    forks      has a new child every 10 ms, which lives for a tenth of a second
    leave      ends at once; what it has started lives on
"""
import os
import signal
import sys
import time

path, words = sys.argv[1], sys.argv[2:]
out = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def write(who):
    os.write(out, b"%s %d %d\n" % (who.encode(), os.getpid(),
                                   time.clock_gettime_ns(time.CLOCK_BOOTTIME)))


def on_term(_number, _frame):
    write("term")
    os._exit(0)


def live(who, seconds=600):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        write(who)
        time.sleep(0.01)
    os._exit(0)


signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in words else on_term)
if "child" in words and os.fork() == 0:
    live("child")
for kind in ("daemon", "bare"):
    if kind in words and os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        if kind == "bare":
            os.closerange(0, out)
            os.closerange(out + 1, 1024)
        live(kind)
if "leave" in words:
    os._exit(0)
if "forks" in words:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    stop = time.monotonic() + 600
    while time.monotonic() < stop:
        if os.fork() == 0:
            live("forked", 0.1)
        write("job")
        time.sleep(0.01)
live("job")
