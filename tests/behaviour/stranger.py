"""A hostile program: it holds an address, or connects to one, and does what no me-only would do.

usage: stranger.py ADDRESS WAY [BYTES]        ADDRESS and BYTES in hexadecimal

It writes "ready" when it is, and a line for each connection ("accepted") and for the descriptors
that it was sent ("got N"). A line on standard input makes it close the address but keep its
connections; the end of standard input ends it. Tests pass its text to python -c, so it also runs as
users who cannot read this file.
"""
import array
import itertools
import os
import random
import resource
import select
import socket
import struct
import sys


def new(kind=socket.SOCK_SEQPACKET):
    return socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)


def send(peer, data, *descriptors):
    """Send what fits; a peer that has gone or does not read is not an error here."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
               array.array("i", descriptors))] if descriptors else []
    try:
        peer.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        return True
    except OSError:
        return False


def say(text):
    """The pipe may have no reader, and a full one must not stop this program."""
    try:
        os.write(1, (text + "\n").encode())
    except BlockingIOError:
        pass


def garbage(peer):
    for size in (0, 1, 2, 7, 64, 4096, 60000):
        send(peer, bytes(random.randrange(256) for _ in range(min(size, 64))) * (size // 64 or 1))
    while send(peer, b"\x1b[2J\n" * 50):
        pass


def word(letter, number=1):
    """A message between waiters: a word, which is a letter, and a number."""
    return struct.pack("=ii", ord(letter), number)


WORDS = [word(letter) for letter in "=+-?!\0"] + [b"=", b"+-", word("=") + b"=", b""]


def words(peer):
    for _ in range(20):
        for each in WORDS:
            send(peer, each)


def descriptors(count):
    def way(peer):
        with open("/dev/null") as f:
            for each in WORDS * 10:
                send(peer, each, *[f.fileno()] * count)
    return way


def give(*makers):
    """
    Give the queue to a successor, as its front does, but with something that is not the queue: to
    each connection the next of them.
    """
    turn = itertools.cycle(makers)

    def way(peer):
        thing = next(turn)()
        send(peer, word("="), thing.fileno())
        send(peer, word("="), thing.fileno(), thing.fileno())
        send(peer, word("+"), thing.fileno())
        send(peer, word("+", os.getpid()))
        thing.close()
    return way


def bound_elsewhere():
    s = new()
    s.bind(b"\0elsewhere" + os.urandom(8))
    s.listen()
    return s


def way_of(name, listener, data):
    """What to do with a new connection; None: connections are not even accepted."""
    return {
        "unheard": None, "deaf": None, "full": None,
        "mute": lambda peer: None,
        "thief": lambda peer: None,
        "early": lambda peer: peer.close(),
        "shut": lambda peer: peer.shutdown(socket.SHUT_RDWR),
        "garbage": garbage,
        "words": words,
        "one descriptor": descriptors(1),
        "many descriptors": descriptors(253),
        "itself": give(lambda: socket.socket(fileno=os.dup(listener.fileno()))),
        "wrong descriptors": give(bound_elsewhere,
                                  new, lambda: new(socket.SOCK_STREAM),
                                  lambda: new(socket.SOCK_DGRAM),
                                  lambda: open("/dev/null")),
        "replay": lambda peer: send(peer, data),
    }[name]


def received(peer):
    """The descriptors that arrived; None if the peer has gone."""
    try:
        data, rights, _, _ = peer.recvmsg(65536, socket.CMSG_SPACE(4 * 253))
    except BlockingIOError:
        return []
    except OSError:
        return None
    got = array.array("i")
    for level, kind, content in rights:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            got.frombytes(content[:len(content) // 4 * 4])
    return list(got) if data or got else None


def rob(queue, stolen):
    """Take all waiters out of a queue that this program was given."""
    try:
        s = socket.socket(fileno=os.dup(queue))
        s.setblocking(False)
        while True:
            stolen.append(s.accept()[0])
    except OSError:
        pass


def serve(listener, way):
    """Accept and act, until the end of standard input."""
    peers = []
    while True:
        ready = select.select([0] + peers + ([listener] if way and listener.fileno() >= 0 else []),
                              [], [])[0]
        for r in ready:
            if r == 0:
                if not os.read(0, 1):
                    return
                listener.close()
                say("closed")
            elif r is listener:
                if listener.fileno() >= 0:
                    peer = listener.accept()[0]
                    peer.setblocking(False)
                    say("accepted")
                    way(peer)
                    if peer.fileno() >= 0:
                        peers.append(peer)
            else:
                got = received(r)
                if got:
                    say(f"got {len(got)}")
                elif got is None:
                    peers.remove(r)


def hold(address, name, data):
    listener = new()
    listener.bind(address)
    if name != "unheard":
        listener.listen(0 if name == "full" else 4096)
    way = way_of(name, listener, data)
    own = []
    while name == "full":
        own.append(new())
        try:
            own[-1].connect(address)
        except BlockingIOError:
            break
    say("ready")
    serve(listener, way)


def connect(address, name, count):
    """Connect `count` times, as a waiter or as a caller that asks who holds the lock."""
    peers, stolen = [], []
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for _ in range(count):
        peer = new()
        try:
            peer.connect(address)
        except OSError:
            break
        if name == "early":
            peer.close()
            continue
        if name != "flood":
            way_of(name, peer, b"")(peer)
        peers.append(peer)
    say(f"ready {len(peers)}")
    poll = select.poll()
    poll.register(0)
    for p in peers:
        poll.register(p, select.POLLIN if name != "flood" else 0)
    by_number = {p.fileno(): p for p in peers}
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                return
            got = received(by_number[fd])
            if got:
                say(f"got {len(got)}")
                if name == "thief":
                    rob(got[0], stolen)
            elif got is None:
                poll.unregister(fd)


def main():
    os.set_blocking(1, False)
    address, name = bytes.fromhex(sys.argv[1]), sys.argv[2]
    if name.startswith("connect "):
        _, count, how = name.split(" ", 2)
        connect(address, how, int(count))
    else:
        hold(address, name, bytes.fromhex(sys.argv[3]) if len(sys.argv) > 3 else b"")


main()
