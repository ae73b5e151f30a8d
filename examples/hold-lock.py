#!/usr/bin/python3
"""Hold the host lock NAME until standard input ends: hold-lock.py NAME"""
import errno, hashlib, os, socket, sys
name = os.fsencode(sys.argv[1])
short = name[:44] + b"#" + hashlib.sha256(name).hexdigest()[:32].encode()
lock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
lock.set_inheritable(True)  # what the job starts keeps the lock as well
try:
    lock.bind(b"\0me-only:" + name if len(name) <= 77 else b"\0me-only#" + short)
    lock.listen(4096)
except OSError as error:
    sys.exit(4 if error.errno == errno.EADDRINUSE else 3)  # only this errno means held
print("alone", flush=True)
sys.stdin.read()  # the job goes here; the name is free when the last copy of the socket is closed
