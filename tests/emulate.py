#!/usr/bin/python3
"""
Runs a command whose programs for another machine are run by qemu-user.

usage: emulate.py ELF-MACHINE QEMU COMMAND [ARGUMENT]...

ELF-MACHINE is the number of e_machine in their header. The command gets user and mount namespaces
with a binfmt_misc of their own (Linux 6.7), so that nothing changes for the rest of the host. All
users are mapped to themselves. Needs root.
"""
import ctypes
import os
import sys

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
BINFMT = "/proc/sys/fs/binfmt_misc"

libc = ctypes.CDLL(None, use_errno=True)


def fail(what):
    sys.exit(f"emulate.py: {what}: {os.strerror(ctypes.get_errno())}")


def escaped(data):
    return "".join(rf"\x{byte:02x}" for byte in data)


def register(machine, qemu):
    """Static or dynamic programs, 64 bits, little endian, any ABI."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + bytes([machine, 0])
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"
    if libc.mount(b"none", BINFMT.encode(), b"binfmt_misc", 0, None):
        fail("binfmt_misc in a user namespace")
    # P: the command line as it was. F: qemu is opened now, whatever root a test has.
    with open(f"{BINFMT}/register", "w", encoding="ascii") as file:
        file.write(f":emulated:M::{escaped(header)}:{escaped(mask)}:{qemu}:PF")


def main(machine, qemu, *command):
    entered, mapped = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(mapped[1])
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
            fail("unshare")
        os.write(entered[1], b"x")
        os.read(mapped[0], 1)
        register(int(machine), qemu)
        os.execvp(command[0], command)
    os.close(entered[1])
    if os.read(entered[0], 1):
        for kind in "uid", "gid":
            with open(f"/proc/{child}/{kind}_map", "w", encoding="ascii") as file:
                file.write("0 0 4294967295\n")
    os.close(mapped[1])
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main(*sys.argv[1:])
