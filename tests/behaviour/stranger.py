"""A hostile program: it holds an address, or connects to one, and does what no me-only would do.

usage: stranger.py ADDRESS WAY [BYTES]        ADDRESS and BYTES in hexadecimal

It writes "ready" when it is, and a line for each connection ("accepted") and for the descriptors that it was sent ("got N").
A line on standard input makes it close the address but keep its connections; the end of standard input ends it.
Tests give its text to python with -c: it also runs as users who cannot read this file.
"""
import array
import itertools
import os
import random
import resource
import select
import socket
import sys


def new(kind=socket.SOCK_SEQPACKET):
    return socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)


def send(peer, data, *descriptors):
    """Send what fits; a peer that has gone or does not read is no error here."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    try:
        peer.sendmsg([data], rights, socket.MSG_NOSIGNAL)
        return True
    except OSError:
        return False


def say(text):
    os.write(1, (text + "\n").encode())


def garbage(peer):
    for size in (0, 1, 2, 7, 64, 4096, 60000):
        send(peer, bytes(random.randrange(256) for _ in range(min(size, 64))) * (size // 64 or 1))
    while send(peer, b"\x1b[2J\n" * 50):
        pass


def words(peer):
    for _ in range(20):
        for word in b"?!=\0 ":
            send(peer, bytes([word]))


def descriptors(count):
    def way(peer):
        with open("/dev/null") as f:
            for word in (b"?", b"=", b"!", b"", b"hello"):
                for _ in range(20):
                    send(peer, word, *[f.fileno()] * count)
    return way


def give(*makers):
    """Ask as the front of a queue does, and give what is not the queue: to each connection the next of them."""
    turn = itertools.cycle(makers)

    def way(peer):
        thing = next(turn)()
        send(peer, b"?")
        send(peer, b"=", thing.fileno())
        send(peer, b"=", thing.fileno(), thing.fileno())
        thing.close()
    return way


def bound_elsewhere():
    s = new()
    s.bind(b"\0elsewhere" + os.urandom(8))
    s.listen()
    return s


def way_of(name, listener, data):
    """What is done to a new connection; None: connections are not even accepted."""
    return {
        "unheard": None, "deaf": None, "full": None,
        "mute": lambda peer: None,
        "early": lambda peer: peer.close(),
        "shut": lambda peer: peer.shutdown(socket.SHUT_RDWR),
        "garbage": garbage,
        "words": words,
        "one descriptor": descriptors(1),
        "many descriptors": descriptors(253),
        "itself": give(lambda: socket.socket(fileno=os.dup(listener.fileno()))),
        "wrong descriptors": give(bound_elsewhere, new, lambda: new(socket.SOCK_STREAM), lambda: new(socket.SOCK_DGRAM),
                                  lambda: open("/dev/null")),
        "replay": lambda peer: send(peer, data),
    }[name]


def received(peer):
    """How many descriptors came; -1 when the peer has gone."""
    try:
        data, rights, _, _ = peer.recvmsg(65536, socket.CMSG_SPACE(4 * 253))
    except BlockingIOError:
        return 0
    except OSError:
        return -1
    count = sum(len(r[2]) // 4 for r in rights)
    return count if data or count else -1


def serve(listener, way):
    """Accept and do; until the end of standard input."""
    peers = []
    while True:
        ready = select.select([0] + peers + ([listener] if way and listener.fileno() >= 0 else []), [], [])[0]
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
                count = received(r)
                if count > 0:
                    say(f"got {count}")
                elif count < 0:
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
    """Come as one who waits, or who asks who holds it, `count` times."""
    peers = []
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
            if got > 0:
                say(f"got {got}")
                if name == "words":
                    send(by_number[fd], b"!")
            elif got < 0:
                poll.unregister(fd)


def main():
    address, name = bytes.fromhex(sys.argv[1]), sys.argv[2]
    if name.startswith("connect "):
        _, count, how = name.split(" ", 2)
        connect(address, how, int(count))
    else:
        hold(address, name, bytes.fromhex(sys.argv[3]) if len(sys.argv) > 3 else b"")


main()
