"""
A pseudo-terminal whose session a program leads, mostly an interactive bash: what a person at a
keyboard has.
"""
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

import pytest

DEADLINE = 60  # seconds


class Terminal:
    """
    The keyboard and the screen. The program starts with echo off, so that the screen shows only
    what programs write.
    """

    def __init__(self, start, *argv, **kw):
        self.master, slave = pty.openpty()
        mode = termios.tcgetattr(slave)
        mode[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        self.process = start("setsid", "--ctty", *argv, stdin=slave, stdout=slave, stderr=slave,
                             **kw)
        os.close(slave)
        self.screen = b""

    def type(self, text):
        os.write(self.master, text.encode())

    def enter(self, line):
        self.type(line + "\n")

    def wait_for(self, pattern):
        """
        Read until the screen matches the regular expression; forget the screen up to its end, and
        return the match.
        """
        end = time.monotonic() + DEADLINE
        while True:
            match = re.search(pattern.encode(), self.screen)
            if match:
                self.screen = self.screen[match.end():]
                return match
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                pytest.fail(f"the terminal did not show {pattern!r}, but: {self.screen!r}")
            try:
                self.screen += os.read(self.master, 65536)
            except OSError:
                pytest.fail(f"the terminal was closed before {pattern!r}, with: {self.screen!r}")

    def drain(self):
        """Read what is there, so that the program never waits for its terminal."""
        while select.select([self.master], [], [], 0)[0]:
            self.screen += os.read(self.master, 65536)

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def foreground(self):
        """The foreground process group, which gets what is typed."""
        return os.tcgetpgrp(self.master)

    def hang_up(self):
        if self.master >= 0:
            os.close(self.master)
            self.master = -1
